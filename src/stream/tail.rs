//! The newest part of a running log, in memory, and the wake-up that goes with it.
//!
//! One writer publishes; any number of followers look. A follower that finds nothing new registers for a wake-up under the lock under which it
//! looked, so what is published in between is never missed. The window is bounded; what has left it is in the store, where it was
//! before it came here.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

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
pub struct Tail(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    head: Head,
    window: Window,
    waiting: Waiting,
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
        Self(Mutex::new(Inner { head: Head { last, ..Head::default() }, ..Inner::default() }))
    }

    /// Shows a chunk to the readers: whoever calls this has stored it before. `closed` with the terminal record.
    pub fn publish(&self, chunk: Chunk, closed: bool) {
        self.change(|Inner { head, window, .. }| {
            *head = Head { last: chunk.last(), closed, lost: false };
            window.push(chunk);
        });
    }

    /// Takes back what was shown beyond `last`, for the store has something else there. What readers want of it they find in the
    /// store, until more is published.
    pub fn retract(&self, last: Cursor) {
        self.change(|Inner { head, window, .. }| {
            *head = Head { last, ..Head::default() };
            *window = Window::default();
        });
    }

    /// Lets go of what it holds, since the store has all of it: readers go on there.
    pub fn let_go(&self) {
        self.lock().window = Window::default();
    }

    /// Sends the readers to the store: this log has another writer now, or none, or was erased.
    pub fn abandon(&self) {
        self.change(|Inner { head, .. }| head.lost = !head.closed);
    }

    /// Where the log stands now.
    #[must_use]
    pub fn head(&self) -> Head {
        self.lock().head
    }

    /// Adds to `page` what is behind `after`, at most about `max` bytes; false if the window no longer reaches back that far.
    pub fn read(&self, after: Cursor, max: usize, page: &mut Page) -> bool {
        self.lock().window.read(after, max, page)
    }

    /// Makes a change, and wakes everybody who waits for one.
    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let (first, mut others) = {
            let mut inner = self.lock();
            change(&mut inner);
            inner.waiting.take()
        };
        // Without the lock, which those who are woken want.
        if let Some(first) = first {
            first.wake();
        }
        if !others.is_empty() {
            others.drain(..).flatten().for_each(Waker::wake);
            self.lock().waiting.give_back(others);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner) // it is whole between any two of its steps
    }
}

impl Window {
    fn push(&mut self, chunk: Chunk) {
        self.bytes += chunk.size();
        self.chunks.push_back(chunk);
        while self.chunks.len() > 1 && (self.bytes > WINDOW_BYTES || self.chunks.len() > WINDOW_CHUNKS) {
            let size = self.chunks.pop_front().map_or(0, |chunk| chunk.size());
            self.bytes -= size;
        }
    }

    fn read(&self, after: Cursor, max: usize, page: &mut Page) -> bool {
        // Who keeps up wants the newest chunk, and all of it.
        if let Some(newest) = self.chunks.back().filter(|newest| newest.first == after.plus(1) && newest.size() <= max)
        {
            page.chunks.push(newest.clone());
            return true;
        }
        let reaches = self.chunks.front().is_some_and(|oldest| oldest.first <= after.plus(1));
        if reaches {
            let from = self.chunks.partition_point(|chunk| chunk.last() <= after);
            page.fill(self.chunks.range(from..), after, max);
        }
        reaches
    }
}

/// What a follower finds behind a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Records, which are in its page now.
    Records {
        /// The last of them is the log's last.
        end: bool,
    },
    /// Records that the window no longer reaches back to: they are in the store.
    Earlier,
    /// Nothing, and nothing will come.
    End,
    /// Nothing, and the log's writer is not here.
    Lost,
}

/// Follows a tail: looks, and waits for what is published. A clone waits by itself.
#[derive(Debug)]
pub struct Follower {
    tail: Arc<Tail>,
    place: Option<Place>,
}

impl Follower {
    /// Of this tail.
    #[must_use]
    pub fn new(tail: Arc<Tail>) -> Self {
        Self { tail, place: None }
    }

    /// What is to be found behind `after`, once there is anything; records are added to `page`, at most about `max` bytes.
    pub fn poll(&mut self, cx: &mut Context<'_>, after: Cursor, max: usize, page: &mut Page) -> Poll<Found> {
        self.look(cx, |Inner { head, window, .. }| {
            if head.last > after {
                let reaches = window.read(after, max, page);
                let end = head.closed && page.last() == Some(head.last);
                return Some(if reaches { Found::Records { end } } else { Found::Earlier });
            }
            match head {
                Head { closed: true, .. } => Some(Found::End),
                Head { lost: true, .. } => Some(Found::Lost),
                _ => None,
            }
        })
    }

    /// Waits until the log is closed, or no longer written here.
    pub async fn ended(&mut self) {
        poll_fn(|cx| self.look(cx, |Inner { head, .. }| (head.closed || head.lost).then_some(()))).await;
    }

    /// Looks, and is woken by the next change if it did not find what it looks for.
    fn look<T>(&mut self, cx: &mut Context<'_>, find: impl FnOnce(&Inner) -> Option<T>) -> Poll<T> {
        let mut inner = self.tail.lock();
        match find(&inner) {
            Some(found) => Poll::Ready(found),
            None => {
                self.place = Some(inner.waiting.enter(self.place, cx.waker()));
                Poll::Pending
            }
        }
    }
}

impl Clone for Follower {
    fn clone(&self) -> Self {
        Self::new(self.tail.clone())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            let waker = self.tail.lock().waiting.leave(place);
            drop(waker); // without the lock: it may be the last that is left of a task
        }
    }
}

/// Who waits for the next change. Mostly that is one, who costs no memory of its own.
#[derive(Debug, Default)]
struct Waiting {
    /// How many changes there were: a place is good for one round.
    round: u64,
    first: Option<Waker>,
    others: Vec<Option<Waker>>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    round: u64,
    /// 0 is the first, behind it are the others.
    index: usize,
}

impl Waiting {
    /// Notes who is to be woken: at the place it has, if that is of this round.
    fn enter(&mut self, place: Option<Place>, waker: &Waker) -> Place {
        let round = self.round;
        let place = place.filter(|place| place.round == round).unwrap_or_else(|| {
            let alone = self.first.is_none() && self.others.is_empty();
            if !alone {
                self.others.push(None);
            }
            Place { round, index: self.others.len() }
        });
        match self.at(place.index) {
            Some(known) => known.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
        place
    }

    fn leave(&mut self, place: Place) -> Option<Waker> {
        let waker = if place.round == self.round { self.at(place.index).take() } else { None };
        while let Some(None) = self.others.last() {
            self.others.pop();
        }
        waker
    }

    fn at(&mut self, index: usize) -> &mut Option<Waker> {
        match index.checked_sub(1) {
            None => &mut self.first,
            Some(index) => &mut self.others[index],
        }
    }

    /// All of them; the next round begins.
    fn take(&mut self) -> (Option<Waker>, Vec<Option<Waker>>) {
        self.round += 1;
        let others = if self.others.is_empty() { Vec::new() } else { std::mem::take(&mut self.others) };
        (self.first.take(), others)
    }

    /// The room of a round before, which is not to be asked for once a token.
    fn give_back(&mut self, mut room: Vec<Option<Waker>>) {
        room.append(&mut self.others);
        self.others = room;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering::SeqCst},
        task::Wake,
    };

    use super::*;
    use crate::store::Batch;

    /// How often somebody was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    fn chunk(first: u64) -> Chunk {
        ["x"].into_iter().collect::<Batch>().at(Cursor(first))
    }

    /// Whether it finds something behind this.
    fn finds(follower: &mut Follower, after: u64, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(woken.clone());
        let mut page = Page::default();
        follower.poll(&mut Context::from_waker(&waker), Cursor(after), 1000, &mut page).is_ready()
    }

    fn registered(tail: &Tail) -> usize {
        let waiting = &tail.lock().waiting;
        waiting.first.iter().chain(waiting.others.iter().flatten()).count()
    }

    #[test]
    fn each_change_wakes_each_that_waits_once() {
        let tail = Arc::new(Tail::new(Cursor::START));
        let all: Vec<_> = (0..5).map(|_| Arc::<Woken>::default()).collect();
        let mut followers: Vec<_> = all.iter().map(|_| Follower::new(tail.clone())).collect();
        for n in 0..4 {
            for (follower, woken) in followers.iter_mut().zip(&all) {
                assert!(
                    !finds(follower, n, woken) && !finds(follower, n, woken),
                    "nothing yet, however often it looks"
                );
            }
            tail.publish(chunk(n + 1), false);
            assert!(all.iter().all(|woken| woken.0.load(SeqCst) == n as usize + 1));
            tail.let_go();
            assert!(all.iter().all(|woken| woken.0.load(SeqCst) == n as usize + 1), "no news");
        }
        assert!(!finds(&mut followers[0], 4, &all[0]));
        tail.abandon();
        assert_eq!(all.iter().map(|woken| woken.0.load(SeqCst)).collect::<Vec<_>>(), [5, 4, 4, 4, 4]);
    }

    #[test]
    fn who_leaves_takes_its_waker_along() {
        let tail = Arc::new(Tail::new(Cursor::START));
        let woken = Arc::<Woken>::default();
        let mut stays = Follower::new(tail.clone());
        let mut first = Follower::new(tail.clone());
        assert!(!finds(&mut first, 0, &woken) && !finds(&mut stays, 0, &woken));
        for leaver in (0..100).map(|_| first.clone()) {
            let mut leaver = leaver;
            assert!(!finds(&mut leaver, 0, &woken));
        }
        assert_eq!((registered(&tail), tail.lock().waiting.others.len()), (2, 1));
        drop(first);
        tail.publish(chunk(1), false);
        assert_eq!(woken.0.load(SeqCst), 1, "the one that stays");
        assert!(!finds(&mut stays, 1, &woken));
        let mut late = stays.clone();
        assert!(!finds(&mut late, 1, &woken));
        drop((stays, late));
        assert_eq!(registered(&tail), 0);
    }
}
