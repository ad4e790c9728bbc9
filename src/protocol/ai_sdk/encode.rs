//! Records to chunks, for one reader. It knows which parts are open and how many chunks there were, and none of the words.

use bytes::BytesMut;

use super::{Version, outline::Outline};
use crate::{
    id::{Cursor, StreamId},
    protocol::{Encode, Numbered, Retell, sink::Sink},
    record::{Kind, Record},
    wire::Rope,
};

/// Encodes one answer; see the module above.
#[derive(Clone, Debug)]
pub struct AiSdkEncode {
    stream: String,
    outline: Outline,
    /// Chunks before this number were seen.
    muted: u64,
}

impl AiSdkEncode {
    /// An encoder from the log's beginning.
    #[must_use]
    pub fn new(id: StreamId, version: Version) -> Self {
        Self { stream: id.to_string(), outline: Outline::new(id, version, false), muted: 0 }
    }
}

impl Encode for AiSdkEncode {
    const FOLDS: bool = true;

    fn skip(&mut self, record: &Record<'_>) {
        self.outline.take(record, &mut Sink::Nowhere);
    }

    fn skip_run(&mut self, record: &Record<'_>, times: u32) {
        // The first may begin a part; each that follows tells as much as the second.
        (0..times.min(2)).for_each(|n| {
            let before = self.outline.count;
            self.skip(record);
            if n == 1 {
                self.outline.count += (self.outline.count - before) * u64::from(times - 2);
            }
        });
    }

    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut) {
        debug_assert!(self.repeats(record).is_none(), "this chunk is shared");
        let mut sink = Sink::reader(out, self.muted);
        self.outline.take(record, &mut sink);
        sink.end(&self.stream, cursor);
    }

    fn repeats(&self, record: &Record<'_>) -> Option<usize> {
        let seen = self.muted > self.outline.count;
        self.outline.repeats(record).then(|| seen.into())
    }

    fn retell(&self) -> Option<Box<dyn Retell>> {
        Some(Box::new(Inputs { stream: self.stream.clone(), outline: self.outline.telling() }))
    }
}

impl Numbered for AiSdkEncode {
    fn number(&self) -> u64 {
        self.outline.count
    }

    fn mute(&mut self, before: u64) {
        self.muted = before;
    }

    fn skip_seen(&mut self, record: &Record<'_>) -> bool {
        // All that a piece of an open part changes is the count. The end has words behind its last chunk.
        let piece = record.head.kind == Kind::Delta && self.outline.knows(record.head.at);
        let before = (!piece).then(|| self.outline.clone());
        let count = self.outline.count;
        self.outline.take(record, &mut Sink::Nowhere);
        let count_now = self.outline.count;
        let seen = count_now < self.muted || (count_now == self.muted && !record.head.is_end());
        if !seen {
            match before {
                Some(before) => self.outline = before,
                None => self.outline.count = count,
            }
        }
        seen
    }
}

/// The inputs of calls when they are whole, made once for all readers.
struct Inputs {
    stream: String,
    outline: Outline,
}

impl Retell for Inputs {
    fn take(&mut self, cursor: Cursor, record: &Record<'_>) -> Option<Vec<Rope>> {
        if !self.outline.repeats(record) {
            self.outline.take(record, &mut Sink::Nowhere);
            return None;
        }
        let mut sink = Sink::Shared(Vec::new());
        self.outline.take(record, &mut sink);
        Some(sink.end(&self.stream, cursor))
    }

    fn anew(&self) -> Box<dyn Retell> {
        Box::new(Self { stream: self.stream.clone(), outline: self.outline.telling() })
    }
}

#[cfg(test)]
mod tests;
