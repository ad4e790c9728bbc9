//! One attached reader: a cursor and a wake-up. It catches up, follows, and ends with the log.
//!
//! There is no queue per reader. One that is slow finds its place in the tail gone and reads the store; one that is stuck holds
//! its place and nothing more.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};

use super::{Follower, Found, Tail};
use crate::{
    id::{Cursor, StreamId},
    store::{Page, Store, StoreError},
};

/// How long a reader without a tail lets the store wait for it. Between two waits it only asks again.
const WAIT: Duration = Duration::from_secs(20);
/// A reader that caught up once does not keep the room for all it caught up with.
const KEEP: usize = 8;

/// See the module.
pub struct Reader {
    id: StreamId,
    store: Arc<dyn Store>,
    tail: Option<Follower>,
    after: Cursor,
    ended: bool,
    page: Page,
    /// The store is being read. Behind a lock that is never taken, so that a reader can be looked at from anywhere.
    reading: Option<Mutex<Reading>>,
}

type Reading = BoxFuture<'static, Result<Page, StoreError>>;

/// A clone reads on from the same place, by itself.
impl Clone for Reader {
    fn clone(&self) -> Self {
        let Self { id, store, tail, after, ended, .. } = self;
        let (page, reading) = (Page::default(), None);
        Self { id: *id, store: store.clone(), tail: tail.clone(), after: *after, ended: *ended, page, reading }
    }
}

impl Reader {
    /// A reader of what is behind `after`. Without a tail (a finished log, or one written by another node) it reads the store.
    #[must_use]
    pub fn new(id: StreamId, store: Arc<dyn Store>, tail: Option<Arc<Tail>>, after: Cursor) -> Self {
        let tail = tail.map(Follower::new);
        Self { id, store, tail, after, ended: false, page: Page::default(), reading: None }
    }

    /// The last record behind which it reads.
    #[must_use]
    pub fn place(&self) -> Cursor {
        self.after
    }

    /// Moves it to the place behind this record, which exists.
    pub fn go_on_behind(&mut self, after: Cursor) {
        (self.after, self.reading) = (after, None);
    }

    /// The next records, at most about `max` bytes: at once while there are any, else when there are; nothing after the last.
    ///
    /// Cancel safe: the cursor moves only when the page is given back.
    ///
    /// # Errors
    /// When the store cannot be read, or the stream was erased under its reader.
    pub async fn next(&mut self, max: usize) -> Result<Option<&Page>, StoreError> {
        let more = poll_fn(|cx| self.poll(cx, max)).await?;
        Ok(more.then_some(&self.page))
    }

    /// As [`Reader::next`]: whether there are more, which are in its [`page`](Self::page) until it is polled again.
    ///
    /// # Errors
    /// As of [`Reader::next`].
    pub fn poll(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<bool, StoreError>> {
        if self.page.chunks.capacity() > KEEP {
            self.page.chunks = Vec::new();
        }
        self.page.chunks.clear();
        while self.page.chunks.is_empty() && !self.ended {
            if self.reading.is_some() || self.tail.is_none() {
                ready!(self.poll_store(cx, max))?;
                continue;
            }
            let Some(tail) = &mut self.tail else { continue };
            match ready!(tail.poll(cx, self.after, max, &mut self.page)) {
                Found::Records { end } => self.page.closed = end,
                Found::Earlier => self.read(max, None),
                Found::End => self.ended = true,
                Found::Lost => self.tail = None,
            }
        }
        let Some(last) = self.page.last() else { return Poll::Ready(Ok(false)) };
        (self.after, self.ended) = (last, self.page.closed);
        Poll::Ready(Ok(true))
    }

    /// What was read last.
    #[must_use]
    pub fn page(&self) -> &Page {
        &self.page
    }

    fn read(&mut self, max: usize, wait: Option<Duration>) {
        let (store, id, after) = (self.store.clone(), self.id, self.after);
        self.reading = Some(Mutex::new(async move { store.read(id, after, max, wait).await }.boxed()));
    }

    /// Takes what the store has; without a tail, as soon as it has something.
    #[cold]
    fn poll_store(&mut self, cx: &mut Context<'_>, max: usize) -> Poll<Result<(), StoreError>> {
        let Some(reading) = &mut self.reading else {
            self.read(max, Some(WAIT));
            return Poll::Ready(Ok(()));
        };
        let reading = reading.get_mut().unwrap_or_else(PoisonError::into_inner);
        let page = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        self.page = page?;
        if self.page.chunks.is_empty() && self.tail.is_some() {
            let (id, after) = (self.id, self.after);
            return Poll::Ready(Err(StoreError::Unavailable(format!(
                "stream {id}: records after {after} are missing"
            ))));
        }
        self.ended = self.page.chunks.is_empty() && self.page.closed;
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use super::*;
    use crate::{
        id::NodeId,
        store::{Batch, Last, NewStream, memory::Memory},
    };

    struct Log {
        id: StreamId,
        store: Arc<dyn Store>,
        tail: Arc<Tail>,
        lease: crate::store::Lease,
    }

    impl Log {
        async fn new() -> Self {
            let store: Arc<dyn Store> = Arc::new(Memory::new(Duration::MAX, u64::MAX));
            let id = StreamId::new();
            let empty = NewStream {
                id,
                owner: String::new(),
                created_at: 0,
                about: Default::default(),
                prompt: Default::default(),
                claims: vec![],
                due: false,
                keep: None,
            };
            store.create(empty).await.expect("created");
            let lease = store.lease(id, NodeId::new()).await.expect("leased");
            Self { id, store, tail: Arc::new(Tail::new(Cursor::START)), lease }
        }

        async fn write(&mut self, n: u64, closed: bool) {
            let at = self.lease.next;
            let batch: Batch = (at.0..at.0 + n).map(|n| n.to_string()).collect();
            let last = closed.then(Last::default);
            self.store.append(self.id, at, self.lease.epoch, batch.clone(), last).await.expect("appended");
            self.tail.publish(batch.at(at), closed);
            self.lease.next = at.plus(n);
        }

        fn reader(&self, after: u64) -> Reader {
            Reader::new(self.id, self.store.clone(), Some(self.tail.clone()), Cursor(after))
        }
    }

    async fn rest(mut reader: Reader) -> Vec<u64> {
        let mut seen = Vec::new();
        while let Some(page) = reader.next(1000).await.expect("readable") {
            seen.extend(page.records().map(|(cursor, record)| {
                assert_eq!(record, cursor.to_string().as_bytes());
                cursor.0
            }));
        }
        seen
    }

    #[tokio::test]
    async fn a_reader_catches_up_follows_and_ends() {
        let mut log = Log::new().await;
        log.write(3, false).await;
        let reading = tokio::spawn(rest(log.reader(1)));
        for n in [1, 1, 7, 1] {
            tokio::task::yield_now().await;
            log.write(n, false).await;
        }
        log.write(1, true).await;
        assert_eq!(reading.await.expect("ran"), (2..=14).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_slow_reader_falls_back_to_the_store() {
        let mut log = Log::new().await;
        let slow = log.reader(0);
        for _ in 0..2000 {
            log.write(1, false).await;
        }
        assert!(!log.tail.read(Cursor(5), 1000, &mut Page::default()), "the tail has moved on");
        log.write(1, true).await;
        assert_eq!(rest(slow).await, (1..=2001).collect::<Vec<_>>());
        assert_eq!(rest(log.reader(2001)).await, Vec::<u64>::new());
    }

    #[tokio::test]
    async fn without_a_tail_the_store_is_followed() {
        let mut log = Log::new().await;
        log.write(2, false).await;
        let reader = Reader::new(log.id, log.store.clone(), None, Cursor(0));
        let reading = tokio::spawn(rest(reader));
        tokio::task::yield_now().await;
        log.write(2, false).await;
        tokio::task::yield_now().await;
        log.write(1, true).await;
        assert_eq!(reading.await.expect("ran"), vec![1, 2, 3, 4, 5]);
    }

    #[tokio::test]
    async fn a_dropped_wait_moves_no_cursor() {
        let mut log = Log::new().await;
        let mut reader = log.reader(0);
        for _ in 0..3 {
            let mut next = std::pin::pin!(reader.next(1000));
            let waiting = std::future::poll_fn(|cx| std::task::Poll::Ready(next.as_mut().poll(cx).is_pending())).await;
            assert!(waiting);
        }
        log.write(2, true).await;
        assert_eq!(rest(reader).await, vec![1, 2]);
    }
}
