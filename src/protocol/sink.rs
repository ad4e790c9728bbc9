//! Where the frames of a record go: nowhere, to one reader, or into ropes that all readers share. The last one has the cursor as id.

use bytes::BytesMut;

use crate::{
    id::Cursor,
    wire::{
        Rope,
        sse::{EventId, begin_event, end_event},
    },
};

/// See the module.
pub(super) enum Sink<'a> {
    /// They are only counted.
    Nowhere,
    /// To a reader who has seen those before the number `muted`. `open`: one is begun.
    Reader { out: &'a mut BytesMut, muted: u64, open: bool },
    /// To all of them.
    Shared(Vec<Rope>),
}

impl<'a> Sink<'a> {
    pub(super) fn reader(out: &'a mut BytesMut, muted: u64) -> Self {
        Self::Reader { out, muted, open: false }
    }

    /// A frame that is rare: `fill` writes its data.
    pub(super) fn frame(&mut self, number: u64, name: Option<&str>, fill: impl FnOnce(&mut Rope)) {
        let mut rope = Rope::default();
        match self {
            Self::Nowhere => {}
            Self::Reader { .. } => {
                if let Some(out) = self.begin(number, name) {
                    fill(&mut rope);
                    out.extend_from_slice(&rope.to_vec());
                }
            }
            Self::Shared(frames) => {
                frames.last_mut().into_iter().for_each(|before| end_event(before.tail(), None));
                begin_event(rope.tail(), name);
                fill(&mut rope);
                frames.push(rope);
            }
        }
    }

    /// A frame of which there are thousands.
    pub(super) fn piece(&mut self, number: u64, name: Option<&str>, fill: impl FnOnce(&mut BytesMut)) {
        match self {
            Self::Shared(_) => self.frame(number, name, |rope| fill(rope.tail())),
            _ => _ = self.begin(number, name).map(fill),
        }
    }

    /// The record has no more frames.
    pub(super) fn end(self, stream: &str, cursor: Cursor) -> Vec<Rope> {
        let id = Some(EventId { prefix: Some(stream), n: cursor.0, within: 0 });
        match self {
            Self::Reader { out, open: true, .. } => end_event(out, id),
            Self::Shared(mut frames) => {
                frames.last_mut().into_iter().for_each(|last| end_event(last.tail(), id));
                return frames;
            }
            _ => {}
        }
        Vec::new()
    }

    /// Where a reader's frame is written, unless it has seen that.
    fn begin(&mut self, number: u64, name: Option<&str>) -> Option<&mut BytesMut> {
        let Self::Reader { out, muted, open } = self else { return None };
        if number < *muted {
            return None;
        }
        if std::mem::replace(open, true) {
            end_event(out, None);
        }
        begin_event(out, name);
        Some(out)
    }
}
