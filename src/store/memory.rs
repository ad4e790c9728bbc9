//! Logs in this process's memory: the engine for trying things out, for tests, and for answers that must leave no trace.
//!
//! When the allowed bytes are used up, the oldest finished logs go. One lock guards each log and one the table of them; neither is
//! held across an await.

mod log;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::{StreamExt, stream::BoxStream};
use tokio::{sync::broadcast, time::Instant};

use super::{
    Batch, Claim, ClaimKey, ClaimKind, Created, LEASE, Last, Lease, Meta, NewStream, Page, RAISE, Signal, Store,
    StoreError, due::Due,
};
use crate::id::{ById, Cursor, Epoch, Ids, NodeId, StreamId};
use log::{ERASED, Log};

/// How many expired ids are remembered, so that `410` can be told from `404`.
const TOMBSTONES: usize = 100_000;
/// How many streams one call of `expire` drops at most.
const STEP: usize = 64;
/// What a log costs beside its records: its entry, its lock, its wake-up. An estimate, so that a million empty logs count.
const OVERHEAD: u64 = 1024;

/// See the module.
pub struct Memory {
    retain: Duration,
    max_bytes: u64,
    used: AtomicU64,
    table: RwLock<Table>,
    signals: broadcast::Sender<(StreamId, Signal)>,
}

#[derive(Default)]
struct Table {
    logs: ById<Arc<Log>>,
    owners: HashMap<String, BTreeSet<StreamId>>,
    claims: HashMap<ClaimKey, StreamId>,
    open: Ids,
    /// In the order in which they ended.
    finished: BTreeSet<(Instant, StreamId)>,
    /// Those of them that are erased at a time of their own.
    fleeting: BTreeSet<(Instant, StreamId)>,
    due: Due,
    tombstones: BTreeSet<StreamId>,
    nodes: HashMap<NodeId, Instant>,
}

impl Memory {
    /// An empty store that keeps finished logs for `retain`, and at most `max_bytes` in all.
    #[must_use]
    pub fn new(retain: Duration, max_bytes: u64) -> Self {
        Self {
            retain,
            max_bytes,
            used: AtomicU64::new(0),
            table: RwLock::default(),
            signals: broadcast::channel(1024).0,
        }
    }

    fn table(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn log(&self, id: StreamId) -> Result<Arc<Log>, StoreError> {
        let table = self.table();
        match table.logs.get(&id) {
            Some(log) => Ok(log.clone()),
            None if table.tombstones.contains(&id) => Err(StoreError::Expired(id)),
            None => Err(StoreError::Unknown(id)),
        }
    }

    /// Takes `more` bytes, if need be at the cost of the oldest finished logs.
    fn reserve(&self, more: u64) -> Result<(), StoreError> {
        if self.used.load(Ordering::Relaxed) + more > self.max_bytes {
            return self.make_room(&mut self.table_mut(), more);
        }
        self.used.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    fn make_room(&self, table: &mut Table, more: u64) -> Result<(), StoreError> {
        let used = || ByteSize(self.used.load(Ordering::Relaxed));
        let full = || StoreError::Full { used: used(), max: ByteSize(self.max_bytes), remedy: RAISE };
        if more > self.max_bytes {
            return Err(full()); // nothing that could be dropped would help
        }
        while self.used.load(Ordering::Relaxed) + more > self.max_bytes {
            let (_, id) = table.finished.pop_first().ok_or_else(full)?;
            self.bury(table, id);
        }
        self.used.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }

    /// Appends a batch, for which there is room.
    fn add(&self, log: &Log, at: Cursor, epoch: Epoch, batch: Batch, summary: Option<Bytes>) -> Result<(), StoreError> {
        let size = (batch.size() + summary.as_ref().map_or(0, Bytes::len)) as u64;
        let mut body = log.body();
        if let Some(error) = body.refuses(at, epoch) {
            self.used.fetch_sub(size, Ordering::Relaxed);
            return Err(error);
        }
        body.push(batch, at, size, summary);
        drop(body);
        log.news.notify_waiters();
        Ok(())
    }

    /// Appends a log's last batch.
    #[cold]
    fn close(&self, log: &Log, at: Cursor, epoch: Epoch, batch: Batch, last: Last) -> Result<(), StoreError> {
        // A last batch is a few hundred bytes and must not fail for want of them.
        self.used.fetch_add((batch.size() + last.summary.len()) as u64, Ordering::Relaxed);
        // Held over the end, so that who sees that a log is closed finds its claims freed.
        let mut table = self.table_mut();
        self.add(log, at, epoch, batch, Some(last.summary))?;
        release(&mut table, log, |kind| kind == ClaimKind::Chat || last.release);
        if table.open.remove(&log.new.id) {
            let now = Instant::now();
            log.body().ended = Some(now);
            table.finished.insert((now, log.new.id));
            log.new.keep.iter().for_each(|keep| _ = table.fleeting.insert((now + *keep, log.new.id)));
            if log.new.due {
                table.due.insert(log.new.id);
            }
        }
        Ok(())
    }

    /// Drops a log and remembers that it was there.
    fn bury(&self, table: &mut Table, id: StreamId) {
        if self.drop_log(table, id) {
            if table.tombstones.len() == TOMBSTONES {
                table.tombstones.pop_first();
            }
            table.tombstones.insert(id);
        }
    }

    fn drop_log(&self, table: &mut Table, id: StreamId) -> bool {
        let Some(log) = table.logs.remove(&id) else { return false };
        if let Some(streams) = table.owners.get_mut(&log.new.owner) {
            streams.remove(&id);
            if streams.is_empty() {
                table.owners.remove(&log.new.owner);
            }
        }
        table.open.remove(&id);
        table.due.remove(id);
        release(table, &log, |_| true);
        let mut body = log.body();
        if let Some(ended) = body.ended {
            table.finished.remove(&(ended, id));
            log.new.keep.iter().for_each(|keep| _ = table.fleeting.remove(&(ended + *keep, id)));
        }
        // Whoever still writes is told; whoever still reads keeps what it has.
        body.epoch = ERASED;
        self.used.fetch_sub(body.bytes, Ordering::Relaxed);
        drop(body);
        log.news.notify_waiters();
        true
    }
}

#[async_trait]
impl Store for Memory {
    async fn create(&self, new: NewStream) -> Result<Created, StoreError> {
        let bytes = (new.about.len() + new.prompt.len()) as u64 + OVERHEAD;
        let mut table = self.table_mut();
        let exclusive = |claim: &&Claim| claim.key.kind == ClaimKind::Idempotency;
        if let Some(id) = new.claims.iter().filter(exclusive).find_map(|claim| table.claims.get(&claim.key)) {
            return Ok(Created::Held(*id));
        }
        // Only now: a repeated request must not cost anybody a log, least of all the one it asks for.
        self.make_room(&mut table, bytes)?;
        for claim in &new.claims {
            table.claims.insert(claim.key.clone(), new.id);
        }
        table.owners.entry(new.owner.clone()).or_default().insert(new.id);
        let log = Log::new(new, bytes);
        table.open.insert(log.new.id);
        table.logs.insert(log.new.id, Arc::new(log));
        Ok(Created::New)
    }

    async fn append(
        &self,
        id: StreamId,
        at: Cursor,
        epoch: Epoch,
        batch: Batch,
        last: Option<Last>,
    ) -> Result<(), StoreError> {
        let log = self.log(id)?;
        match last {
            None => {
                self.reserve(batch.size() as u64)?;
                self.add(&log, at, epoch, batch, None)
            }
            Some(last) => self.close(&log, at, epoch, batch, last),
        }
    }

    async fn read(&self, id: StreamId, after: Cursor, max: usize, wait: Option<Duration>) -> Result<Page, StoreError> {
        let log = self.log(id)?;
        if let Some(wait) = wait {
            let _ = tokio::time::timeout(wait, log.reaches(after)).await;
            self.log(id)?; // it may have been erased meanwhile
        }
        let body = log.body();
        let mut page = Page::default();
        let from = body.chunks.partition_point(|chunk| chunk.last() <= after);
        page.fill(&body.chunks[from..], after, max);
        page.closed = body.summary.is_some() && page.last().unwrap_or(after) >= body.last;
        Ok(page)
    }

    async fn meta(&self, id: StreamId) -> Result<Meta, StoreError> {
        Ok(self.log(id)?.meta())
    }

    async fn prompt(&self, id: StreamId) -> Result<Bytes, StoreError> {
        Ok(self.log(id)?.new.prompt.clone())
    }

    async fn list(&self, owner: &str, before: Option<StreamId>, n: usize) -> Result<Vec<Meta>, StoreError> {
        let table = self.table();
        let Some(streams) = table.owners.get(owner) else { return Ok(Vec::new()) };
        let older: Box<dyn Iterator<Item = &StreamId> + Send> = match before {
            Some(before) => Box::new(streams.range(..before).rev()),
            None => Box::new(streams.iter().rev()),
        };
        let logs: Vec<_> = older.take(n).filter_map(|id| table.logs.get(id).cloned()).collect();
        drop(table);
        Ok(logs.iter().map(|log| log.meta()).collect())
    }

    async fn holder(&self, claim: &ClaimKey) -> Result<Option<StreamId>, StoreError> {
        Ok(self.table().claims.get(claim).copied())
    }

    async fn remove(&self, id: StreamId) -> Result<(), StoreError> {
        self.log(id)?;
        self.drop_log(&mut self.table_mut(), id);
        Ok(())
    }

    async fn expire(&self) -> Result<usize, StoreError> {
        let mut table = self.table_mut();
        let over = table.finished.iter().take_while(|(at, _)| at.elapsed() >= self.retain).map(|(_, id)| *id);
        let kept = |id: &StreamId| table.logs.get(id).is_some_and(|log| log.new.keep.is_none());
        let over: Vec<_> = over.filter(kept).take(STEP).collect();
        over.iter().for_each(|id| self.bury(&mut table, *id));
        let now = Instant::now();
        let erased: Vec<_> =
            table.fleeting.iter().take_while(|(at, _)| *at <= now).take(STEP).map(|(_, id)| *id).collect();
        erased.iter().for_each(|id| _ = self.drop_log(&mut table, *id));
        Ok(over.len() + erased.len())
    }

    async fn lease(&self, id: StreamId, node: NodeId) -> Result<Lease, StoreError> {
        let log = self.log(id)?;
        self.table_mut().nodes.insert(node, Instant::now());
        let mut body = log.body();
        match () {
            () if body.summary.is_some() => return Err(StoreError::Closed),
            () if body.epoch == ERASED => return Err(StoreError::Unknown(id)),
            () => {}
        }
        body.epoch = Epoch(body.epoch.0 + 1);
        body.node = Some(node);
        Ok(Lease { epoch: body.epoch, next: body.last.plus(1) })
    }

    async fn due(&self, after: u64, n: usize) -> Result<Vec<(u64, StreamId)>, StoreError> {
        Ok(self.table().due.page(after, n))
    }

    async fn told(&self, id: StreamId) -> Result<(), StoreError> {
        self.table_mut().due.remove(id);
        Ok(())
    }

    async fn renew(&self, node: NodeId) -> Result<(), StoreError> {
        self.table_mut().nodes.insert(node, Instant::now());
        Ok(())
    }

    async fn orphans(&self) -> Result<Vec<StreamId>, StoreError> {
        let mut table = self.table_mut();
        table.nodes.retain(|_, heard| heard.elapsed() < LEASE);
        let orphan = |log: &&Arc<Log>| match log.body().node {
            Some(node) => !table.nodes.contains_key(&node),
            None => log.created.elapsed() >= LEASE,
        };
        let open = table.open.iter().filter_map(|id| table.logs.get(id));
        Ok(open.filter(orphan).map(|log| log.new.id).collect())
    }

    async fn signal(&self, id: StreamId, signal: Signal) -> Result<(), StoreError> {
        let _ = self.signals.send((id, signal)); // nobody listening is nobody writing
        Ok(())
    }

    fn signals(&self) -> BoxStream<'static, (StreamId, Signal)> {
        let heard = self.signals.subscribe();
        futures_util::stream::unfold(heard, |mut heard| async move {
            loop {
                match heard.recv().await {
                    Ok(signal) => return Some((signal, heard)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
        .boxed()
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Frees those of a log's claims that `which` names and that it still holds.
fn release(table: &mut Table, log: &Log, which: impl Fn(ClaimKind) -> bool) {
    for claim in log.new.claims.iter().filter(|claim| which(claim.key.kind)) {
        if table.claims.get(&claim.key) == Some(&log.new.id) {
            table.claims.remove(&claim.key);
        }
    }
}
