//! The newest part of a running log, in memory, and the wake-up that goes with it.
//!
//! One writer publishes; any number of readers look. The wake-up is a level, not an edge: a reader takes the [`Head`] first and
//! then looks, so what is published in between wakes it again, and nothing is lost. The window is bounded; what has left it is
//! in the store, where it was before it came here.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

use crate::{
    id::Cursor,
    store::{Chunk, Page},
};

/// How much a tail holds. A reader further behind than this reads the store.
const WINDOW_BYTES: usize = 64 * 1024;
/// In how many batches: each costs its handle, whatever its size.
const WINDOW_CHUNKS: usize = 128;

/// Where a log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The last record that may be shown.
    pub last: Cursor,
    /// It is the terminal one.
    pub closed: bool,
    /// The writer here is gone and the log is not closed: whoever reads on must ask the store.
    pub lost: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Tail {
    window: Mutex<Window>,
    head: watch::Sender<Head>,
}

#[derive(Debug, Default)]
struct Window {
    chunks: VecDeque<Chunk>,
    bytes: usize,
}

impl Tail {
    /// A tail behind the record `last`.
    #[must_use]
    pub fn new(last: Cursor) -> Self {
        Self { window: Mutex::default(), head: watch::Sender::new(Head { last, ..Head::default() }) }
    }

    /// Shows a chunk to the readers: whoever calls this has stored it before. `closed` with the terminal record.
    pub fn publish(&self, chunk: Chunk, closed: bool) {
        let last = chunk.last();
        {
            let mut window = self.window();
            window.bytes += chunk.size();
            window.chunks.push_back(chunk);
            while window.chunks.len() > 1 && (window.bytes > WINDOW_BYTES || window.chunks.len() > WINDOW_CHUNKS) {
                let size = window.chunks.pop_front().map_or(0, |chunk| chunk.size());
                window.bytes -= size;
            }
        }
        self.head.send_replace(Head { last, closed, lost: false });
    }

    /// Takes back what was shown beyond `last`, for the store has something else there. What readers want of it they find in the
    /// store, until more is published.
    pub fn retract(&self, last: Cursor) {
        self.head.send_replace(Head { last, ..Head::default() });
        *self.window() = Window::default();
    }

    /// Lets go of what it holds, since the store has all of it: readers go on there.
    pub fn let_go(&self) {
        *self.window() = Window::default();
    }

    /// Sends the readers to the store: this log has another writer now, or none, or was erased.
    pub fn abandon(&self) {
        self.head.send_modify(|head| head.lost = !head.closed);
    }

    /// Where the log stands now.
    #[must_use]
    pub fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// To be woken when the log moves on.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Adds to `page` what is behind `after`, at most about `max` bytes; false if the window no longer reaches back that far.
    pub fn read(&self, after: Cursor, max: usize, page: &mut Page) -> bool {
        let window = self.window();
        let reaches = window.chunks.front().is_some_and(|oldest| oldest.first <= after.plus(1));
        if reaches {
            let from = window.chunks.partition_point(|chunk| chunk.last() <= after);
            page.fill(window.chunks.range(from..), after, max);
        }
        reaches
    }

    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner) // a window is whole between any two of its steps
    }
}
