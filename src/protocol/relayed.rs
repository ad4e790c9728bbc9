//! The events of an application of the user's own, which go through as they came: name, data and id are recorded, and the bytes as they
//! stood on the wire where those are not what lastword would write.
//!
//! What the application speaks is recognised, so that the count of tokens is known, an answer that breaks off is not taken for whole, and
//! its readers are told so in words they know. They get ids of lastword's in place of the application's.

mod decode;
mod encode;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use decode::RelayDecode;
pub use encode::Relayed;

use super::{Decode, Dialect};
use crate::{
    event::{Event, Json, Opaque},
    record::{Kind, Record},
};

/// What this is called in a record.
pub const NAME: &str = "relay";

/// What is known of the application's answer beside its events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Note {
    /// What it speaks; before the first event.
    Speaks(Dialect),
    /// It has ended its answer itself: there is nothing to add.
    Ended,
}

impl Note {
    fn event(self) -> Event<'static> {
        let json = Json::of(&self).expect("plain data");
        Event::Opaque(Opaque { protocol: Cow::Borrowed(NAME), name: "note".to_owned(), json })
    }

    fn read(record: &Record<'_>) -> Option<Self> {
        if record.head.kind != Kind::Opaque {
            return None;
        }
        let Ok(Event::Opaque(opaque)) = record.event() else { return None };
        (opaque.protocol == NAME).then(|| serde_json::from_str(opaque.json.get()).ok()).flatten()
    }
}

/// What the application said, as far as it is understood.
#[derive(Default)]
pub struct Understood {
    decode: Option<Box<dyn Decode>>,
    events: Vec<Event<'static>>,
}

impl Understood {
    /// Takes in a record, and shows `each` what it means.
    pub fn take(&mut self, record: &Record<'_>, each: impl FnMut(&Event<'_>)) {
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
