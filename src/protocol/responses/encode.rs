//! Records to frames, for one reader. It knows which items are open and how many frames there were, and none of the words: frames
//! that repeat what was said, or asked, are made once for all readers by a [`ResponseObject`].

use bytes::BytesMut;

use super::{
    Envelope, ResponseObject,
    outline::{Outline, is_passed},
};
use crate::{
    event::Event,
    id::Cursor,
    protocol::{Encode, Numbered, Retell, sink::Sink},
    record::{Kind, Record},
};

/// Encodes one answer; see the module above.
#[derive(Clone, Debug)]
pub struct ResponsesEncode {
    envelope: Envelope,
    stream: String,
    outline: Outline,
    /// Frames before this number were seen.
    muted: u64,
}

impl ResponsesEncode {
    /// An encoder from the log's beginning.
    #[must_use]
    pub fn new(envelope: Envelope) -> Self {
        let stream = envelope.stream.to_string();
        Self { outline: Outline::new(envelope.stream, None), stream, envelope, muted: 0 }
    }
}

impl Encode for ResponsesEncode {
    const FOLDS: bool = true;

    /// Also an item that only this protocol has, such as a call of a tool of the upstream's own.
    fn is_said(record: &Record<'_>) -> bool {
        record.head.is_content() || matches!(record.event(), Ok(Event::Opaque(opaque)) if is_passed(&opaque))
    }

    fn skip(&mut self, record: &Record<'_>) {
        self.outline.take(record, &mut Sink::Nowhere);
    }

    fn skip_run(&mut self, record: &Record<'_>, times: u32) {
        // The first may begin an item; each that follows tells as much as the second.
        (0..times.min(2)).for_each(|n| {
            let before = self.outline.sequence;
            self.skip(record);
            if n == 1 {
                self.outline.sequence += (self.outline.sequence - before) * u64::from(times - 2);
            }
        });
    }

    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        debug_assert!(self.repeats(record).is_none(), "these frames are shared");
        let mut sink = Sink::reader(out, self.muted);
        self.outline.take(record, &mut sink);
        sink.end(&self.stream, cursor);
    }

    fn repeats(&self, record: &Record<'_>) -> Option<usize> {
        let seen = self.muted.saturating_sub(self.outline.sequence);
        self.outline.repeats(record).then(|| usize::try_from(seen).unwrap_or(usize::MAX))
    }

    fn retell(&self) -> Option<Box<dyn Retell>> {
        Some(Box::new(ResponseObject::new(self.envelope.clone())))
    }
}

impl Numbered for ResponsesEncode {
    fn number(&self) -> u64 {
        self.outline.sequence
    }

    fn mute(&mut self, before: u64) {
        self.muted = before;
    }

    fn skip_seen(&mut self, record: &Record<'_>) -> bool {
        // All that a piece of an open part changes is the count.
        let piece = record.head.kind == Kind::Delta && self.outline.knows(record.head.at);
        let before = (!piece).then(|| self.outline.clone());
        let sequence = self.outline.sequence;
        self.outline.take(record, &mut Sink::Nowhere);
        let seen = self.outline.sequence <= self.muted;
        if !seen {
            match before {
                Some(before) => self.outline = before,
                None => self.outline.sequence = sequence,
            }
        }
        seen
    }
}

#[cfg(test)]
mod tests;
