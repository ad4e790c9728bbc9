//! What is known of a relayed answer beside its events: notes among its records, and what its events mean as far as that is understood.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Decode, Dialect};
use crate::{
    event::{Event, Json, Opaque},
    record::{Kind, Record},
};

/// What relaying is called in a record.
pub(super) const NAME: &str = "relay";

/// A note of lastword's among the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Note {
    /// What the application speaks; before the first event.
    Speaks(Dialect),
    /// It has ended its answer itself: there is nothing to add.
    Ended,
}

impl Note {
    pub(super) fn event(self) -> Event<'static> {
        let json = Json::of(&self).expect("plain data");
        Event::Opaque(Opaque { protocol: Cow::Borrowed(NAME), name: "note".to_owned(), json })
    }

    pub(super) fn read(record: &Record<'_>) -> Option<Self> {
        if record.head.kind != Kind::Opaque {
            return None;
        }
        let Ok(Event::Opaque(opaque)) = record.event() else { return None };
        (opaque.protocol == NAME).then(|| serde_json::from_str(opaque.json.get()).ok()).flatten()
    }
}

/// What the application said, as far as it is understood.
#[derive(Default)]
pub(super) struct Understood {
    decode: Option<Box<dyn Decode>>,
    events: Vec<Event<'static>>,
}

impl Understood {
    /// Takes in a record, and shows `each` what it means.
    pub(super) fn take(&mut self, record: &Record<'_>, each: impl FnMut(&Event<'_>)) {
        if let Some(Note::Speaks(dialect)) = Note::read(record) {
            self.decode = dialect.decoder();
        }
        let Some(decode) = self.decode.as_mut().filter(|_| record.head.kind == Kind::Custom) else { return };
        if let Ok(Event::Custom(custom)) = record.event() {
            let name = if custom.name.is_empty() { "message" } else { &custom.name };
            // What it complains of is the stream's end, and told there.
            let _ = decode.frame(name, &custom.data, &mut self.events);
            self.events.iter().for_each(each);
            self.events.clear();
        }
    }
}
