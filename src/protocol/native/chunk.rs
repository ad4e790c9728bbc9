//! Whole words or whole lines, whatever pieces the model said them in: a view of the log.
//!
//! Text is held until it is certain that a word or line is whole, and nothing is held when its part ends, however it does. An event
//! that ends within a record has that in its id, `{the record before}.{bytes of this one's text}`; so what a cursor means depends on
//! the log alone, and a reader may go on in another view. A reader that begins there skips these bytes. From a place between two
//! words on, words are cut the same whatever was before it, and so its events are the ones that it would have got.

mod cut;

use std::collections::VecDeque;

use bytes::BytesMut;

use super::{
    Native,
    encode::{Spot, said},
};
use crate::{
    event::{At, Chunking, Event, PartType},
    id::Cursor,
    protocol::Encode,
    record::{Kind, Record},
    wire::{Form, Frame},
};

/// The encoder of such a view.
#[derive(Clone, Debug, Default)]
pub struct Chunks<F> {
    native: Native<F>,
    how: Chunking,
    /// How much of the next record's text was told before.
    told: usize,
    held: Held,
}

/// Text of one part that was not told yet.
#[derive(Clone, Debug, Default)]
struct Held {
    at: At,
    text: String,
    /// Where in it the text of each record ends.
    ends: VecDeque<(usize, Cursor)>,
    /// How much of the first one's text was told before.
    told: usize,
    /// So much of it can be told.
    ready: usize,
}

impl<F: Frame> Chunks<F> {
    /// The events that `native` would tell, cut in this way.
    #[must_use]
    pub fn new(native: Native<F>, how: Chunking) -> Self {
        Self { native, how, told: 0, held: Held::default() }
    }

    /// Appends what must be told before this record, since it ends what is held: one event, or none.
    pub fn before(&mut self, record: &Record<'_>, out: &mut BytesMut) {
        if self.held.is_ended_by(record) {
            self.held.ready = self.held.text.len();
            self.show(out);
        }
    }

    /// Takes a record in; appends its event if that is not held.
    pub fn take(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        let told = std::mem::take(&mut self.told);
        let at = record.head.at;
        if record.head.kind != Kind::Delta || at.choice > 0 {
            return self.native.encode(cursor, record, out);
        }
        use PartType::{Reasoning, ReasoningSummary, Refusal, Text, ToolCall};
        if !matches!(at.of, Text | Refusal | Reasoning | ReasoningSummary | ToolCall) {
            return; // which nobody is told
        }
        let Ok(Event::Delta(_, delta)) = record.event() else { return };
        let Some(text) = delta.text.get(told..).filter(|text| !text.is_empty()) else { return };
        let held = &mut self.held;
        if held.text.is_empty() {
            held.at = at;
            held.told = told;
        }
        held.text.push_str(text);
        held.ends.push_back((held.text.len(), cursor));
        held.ready += match at.of {
            ToolCall => held.text.len() - held.ready, // which nobody reads before it is whole
            _ => cut::certain(self.how, &held.text[held.ready..]),
        };
    }

    /// Whether there are words to tell.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.held.ready > 0
    }

    /// How many bytes are held.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.text.len()
    }

    /// Appends the words that can be told, as one event, or none.
    pub fn show(&mut self, out: &mut BytesMut) {
        let held = &mut self.held;
        if held.ready == 0 {
            return;
        }
        let spot = held.spot(held.ready);
        let (name, data) = said(held.at, &held.text[..held.ready]);
        self.native.told(name, &data, spot, out);
        held.let_go(spot);
    }
}

impl Held {
    fn is_ended_by(&self, record: &Record<'_>) -> bool {
        use Kind::{Custom, Delta, End, Finish, Media, Notice, PartStart, PartStop};
        let head = &record.head;
        let ends = match head.kind {
            Delta => (head.at.part, head.at.of) != (self.at.part, self.at.of),
            PartStart | PartStop | Finish | Media | Notice | Custom | End => true,
            // What is said beside the words, and not shown.
            _ => false,
        };
        ends && head.at.choice == 0 && !self.text.is_empty()
    }

    /// What is told when all up to here is.
    fn spot(&self, here: usize) -> Spot {
        let (mut start, mut told) = (0, self.told);
        for &(end, cursor) in &self.ends {
            if end == here {
                return Spot { cursor, within: 0 };
            }
            if end > here {
                return Spot { cursor: cursor.before(), within: told + here - start };
            }
            (start, told) = (end, 0);
        }
        unreachable!("what is held is text of records")
    }

    /// Forgets what can be told, which ends at this spot.
    fn let_go(&mut self, spot: Spot) {
        let gone = std::mem::take(&mut self.ready);
        self.text.drain(..gone);
        self.ends.retain_mut(|(end, _)| {
            let stays = *end > gone;
            *end = end.saturating_sub(gone);
            stays
        });
        self.told = spot.within;
    }
}

impl<F: Frame> Encode for Chunks<F> {
    const FORM: Form = F::FORM;

    const FOLDS: bool = false;

    fn skip(&mut self, _: &Record<'_>) {}

    fn begin_within(&mut self, told: usize) -> bool {
        self.told = told;
        true
    }

    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        self.before(record, out);
        self.take(cursor, record, out);
        self.show(out);
    }

    fn place(&self, read: Cursor) -> (Cursor, usize) {
        match self.held.ends.front() {
            Some((_, first)) => (first.before(), self.held.told),
            None => (read, 0),
        }
    }

    fn broken(&self) -> bool {
        self.native.broken()
    }
}

#[cfg(test)]
mod tests;
