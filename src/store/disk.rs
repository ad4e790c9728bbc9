//! Logs in a folder: the engine whose answers outlive the process.
//!
//! An append is a frame of the write-ahead log (`disk/log.rs`), written before anybody is shown it, and a change of the table in
//! memory (`disk/table.rs`). What has changed goes into the base (`disk/base.rs`) every few seconds, by the keeper
//! (`disk/keeper.rs`); finished streams then leave the memory. One lock guards the log's end and the table, held for microseconds and
//! never across an await. How far a record must have come before it is shown is the operator's choice: [`Durability`].
//! A stream that nobody wants kept is in the table alone, and leaves no trace in the folder.

mod base;
mod changes;
mod code;
mod entry;
mod folder;
mod form;
mod keeper;
mod log;
mod look;
mod medium;
mod open;
mod shared;
mod shrink;
mod table;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use tokio::sync::broadcast;

pub use self::look::{is_held, is_there};
use self::{
    base::Base,
    code::{End, Op},
    keeper::Keeper,
    shared::{Inner, Shared},
    table::Found,
};
pub use self::{
    folder::Folder,
    medium::{LogFile, Medium, Room},
};
use super::{
    Batch, Checked, ClaimKey, ClaimKind, Created, Durability, Ends, LEASE, Last, Lease, Meta, NewStream, Page, Signal,
    Stats, Store, StoreError,
};
use crate::id::{Cursor, Epoch, NodeId, StreamId};

/// How many streams one call of `expire` drops at most.
const STEP: usize = 64;
/// How far the numbering leaps after a loss: further than any answer is long.
const LEAP: u64 = 1 << 20;

/// See the module. Dropping it closes it in order.
pub struct Disk {
    shared: Arc<Shared>,
    _keeper: Keeper,
}

impl Disk {
    /// Puts all that has changed where it stays, now: else it is done every few seconds. Blocks.
    ///
    /// # Errors
    /// When it could not be written. Nothing is lost: it is still in the log.
    pub fn checkpoint(&self) -> Result<(), StoreError> {
        keeper::checkpoint(&self.shared, false)
    }

    /// Looks into the base, on a thread that may block.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Base) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        let looked = tokio::task::spawn_blocking(move || look(&shared.base)).await;
        looked.unwrap_or_else(|_| Err(StoreError::Unavailable("a read of the store was given up".to_owned())))
    }

    /// Waits until a frame has come as far as it must before it is shown.
    async fn settled(&self, seq: u64) -> Result<(), StoreError> {
        if self.shared.durability != Durability::Disk {
            return Ok(());
        }
        let mut synced = self.shared.synced.subscribe();
        if synced.borrow().good < seq
            && let Some(syncer) = self.shared.syncer.get()
        {
            syncer.unpark();
        }
        let known = synced.wait_for(|synced| synced.good >= seq || synced.failed >= seq).await;
        match known.is_ok_and(|synced| synced.good >= seq) {
            true => Ok(()),
            false => {
                let why = self.shared.inner().broken.clone();
                let mended =
                    || StoreError::Unavailable("the store could not be synced; it is mended by now".to_owned());
                Err(why.unwrap_or_else(mended))
            }
        }
    }

    /// What a writer of this epoch is told of a stream that is not in the table: it is closed, has expired, or never was.
    async fn not_open(&self, id: StreamId, epoch: Option<Epoch>) -> StoreError {
        match self.look(move |base| base.row(id)?.map_or_else(|| Err(absent(base, id)), Ok)).await {
            Ok(row) if epoch.is_some_and(|epoch| epoch != row.epoch) => StoreError::Fenced,
            Ok(_) => StoreError::Closed,
            Err(error) => error,
        }
    }
}

#[async_trait]
impl Store for Disk {
    async fn create(&self, new: NewStream) -> Result<Created, StoreError> {
        let (seq, created) = {
            let mut inner = self.shared.inner();
            let exclusive = new.claims.iter().filter(|claim| claim.key.kind == ClaimKind::Idempotency);
            let mut held = None;
            for claim in exclusive {
                let (seq, holder) = inner.table.holder(&claim.key, &self.shared.base)?;
                held = held.or(holder.map(|id| (seq, Created::Held(id))));
            }
            match held {
                Some(held) => held,
                // Only now: a repeated request must not cost anybody a log, least of all the one it asks for.
                None => {
                    let mut ops = self.shared.room(&mut inner, table::size_of_new(&new), new.keep.is_some())?;
                    ops.push(Op::Create(Box::new(new)));
                    (self.shared.change(&mut inner, ops)?, Created::New)
                }
            }
        };
        self.settled(seq).await?;
        Ok(created)
    }

    async fn append(
        &self,
        id: StreamId,
        at: Cursor,
        epoch: Epoch,
        batch: Batch,
        last: Option<Last>,
    ) -> Result<(), StoreError> {
        let seq = {
            let mut inner = self.shared.inner();
            let (refused, fleeting) = match inner.table.find(id)? {
                Found::Entry(entry) => (Some(entry.refuses(at, epoch)), entry.keep.is_some()),
                Found::Base => (None, false),
            };
            match refused {
                Some(Some(refused)) => return Err(refused),
                Some(None) => {
                    let now = self.shared.clock.now();
                    let end = last.map(|Last { summary, release }| End { summary, release, at: now });
                    // A last batch is a few hundred bytes and must not fail for want of them.
                    let mut ops = match end {
                        Some(_) => Vec::with_capacity(1),
                        None => self.shared.room(&mut inner, batch.size() as u64, fleeting)?,
                    };
                    ops.push(Op::Append { id, at, batch, end });
                    Some(self.shared.change(&mut inner, ops)?)
                }
                None => None,
            }
        };
        match seq {
            Some(seq) => self.settled(seq).await,
            None => Err(self.not_open(id, Some(epoch)).await),
        }
    }

    async fn read(&self, id: StreamId, after: Cursor, max: usize, wait: Option<Duration>) -> Result<Page, StoreError> {
        if let Some(wait) = wait {
            let head = match self.shared.inner().table.find(id)? {
                Found::Entry(entry) => Some(entry.head.subscribe()),
                Found::Base => None,
            };
            if let Some(mut head) = head {
                let news = head.wait_for(|(last, closed)| *last > after || *closed);
                let _ = tokio::time::timeout(wait, news).await;
            }
        }
        let (here, known) = match self.shared.inner().table.find(id)? {
            Found::Entry(entry) => {
                let mut page = Page::default();
                if after >= entry.sealed {
                    let from = entry.chunks.partition_point(|chunk| chunk.last() <= after);
                    page.fill(&entry.chunks[from..], after, max);
                }
                let (last, ended) = (entry.row.last, entry.row.summary.is_some());
                page.closed = ended && page.last().unwrap_or(after) >= last;
                (Some(page).filter(|_| after >= entry.sealed), Some((entry.seq, last, ended)))
            }
            Found::Base => (None, None),
        };
        if let Some((seq, ..)) = known {
            self.settled(seq).await?;
        }
        if let Some(page) = here {
            return Ok(page);
        }
        let page = self.look(move |base| base.page(id, after, max)?.map_or_else(|| Err(absent(base, id)), Ok)).await;
        if self.shared.inner().table.is_gone(id) {
            self.shared.inner().table.find(id)?;
        }
        let mut page = page?;
        match known {
            Some((_, last, ended)) => page.closed = ended && page.last().unwrap_or(after) >= last,
            // Whoever waited for it to go on would wait for ever: an open stream is in the table.
            None if page.chunks.is_empty() && !page.closed => return Err(StoreError::Damaged(id)),
            None => {}
        }
        Ok(page)
    }

    async fn condensed(&self, id: StreamId, last: Cursor) -> Result<Vec<(Cursor, Bytes)>, StoreError> {
        // Of a stream that is in memory whole there is nothing in the base, and nothing to look for.
        if let Found::Entry(entry) = self.shared.inner().table.find(id)?
            && entry.sealed == Cursor::START
        {
            return Ok(Vec::new());
        }
        self.look(move |base| base.condensed(id, last)).await
    }

    async fn meta(&self, id: StreamId) -> Result<Meta, StoreError> {
        let here = match self.shared.inner().table.find(id)? {
            Found::Entry(entry) => Some((entry.seq, entry.row.meta(id))),
            Found::Base => None,
        };
        match here {
            Some((seq, meta)) => self.settled(seq).await.map(|()| meta),
            None => {
                self.look(move |base| base.row(id)?.map_or_else(|| Err(absent(base, id)), |row| Ok(row.meta(id)))).await
            }
        }
    }

    async fn prompt(&self, id: StreamId) -> Result<Bytes, StoreError> {
        let here = match self.shared.inner().table.find(id)? {
            Found::Entry(entry) => entry.prompt.clone(),
            Found::Base => None,
        };
        match here {
            Some(prompt) => Ok(prompt),
            None => self.look(move |base| base.prompt(id)?.map_or_else(|| Err(absent(base, id)), Ok)).await,
        }
    }

    async fn list(&self, owner: &str, before: Option<StreamId>, n: usize) -> Result<Vec<Meta>, StoreError> {
        self.listed(Some(owner), before, n).await
    }

    async fn holder(&self, claim: &ClaimKey) -> Result<Option<StreamId>, StoreError> {
        let (seq, holder) = self.shared.inner().table.holder(claim, &self.shared.base)?;
        self.settled(seq).await?;
        Ok(holder)
    }

    async fn remove(&self, id: StreamId) -> Result<(), StoreError> {
        if matches!(self.shared.inner().table.find(id)?, Found::Base) {
            let there = move |base: &Base| match base.row(id) {
                Ok(Some(_)) | Err(StoreError::Damaged(_)) => Ok(()),
                Ok(None) => Err(absent(base, id)),
                Err(error) => Err(error),
            };
            self.look(there).await?;
        }
        let seq = self.shared.change(&mut self.shared.inner(), vec![Op::Drop { id, expired: false }])?;
        self.settled(seq).await
    }

    async fn expire(&self) -> Result<usize, StoreError> {
        let retain = u64::try_from(self.shared.retain.as_millis()).unwrap_or(u64::MAX);
        let over = self.shared.clock.now().saturating_sub(retain);
        let mut inner = self.shared.inner();
        let mut left = if retain <= self.shared.clock.now() { STEP } else { 0 };
        let old = inner.table.oldest(&self.shared.base, |at, _| {
            let wanted = at <= over && left > 0;
            left -= usize::from(wanted);
            wanted
        })?;
        let over = inner.table.over(self.shared.clock.now(), STEP);
        let over = over.into_iter().map(|id| Op::Drop { id, expired: false });
        let ops: Vec<_> = over.chain(old.iter().map(|id| Op::Drop { id: *id, expired: true })).collect();
        let n = ops.len();
        if n > 0 {
            self.shared.change(&mut inner, ops)?;
        }
        Ok(n)
    }

    async fn lease(&self, id: StreamId, node: NodeId) -> Result<Lease, StoreError> {
        let leased = {
            let mut inner = self.shared.inner();
            inner.table.find(id)?;
            inner.table.heard(node);
            inner.table.entry_mut(id).map(|entry| entry.lease(node))
        };
        match leased {
            Some(leased) => leased,
            None => Err(self.not_open(id, None).await),
        }
    }

    async fn due(&self, after: u64, n: usize) -> Result<Vec<(u64, StreamId)>, StoreError> {
        let (page, seq) = {
            let table = &self.shared.inner().table;
            let page = table.due.page(after, n);
            let seq = page.iter().filter_map(|(_, id)| table.entry(*id)).map(|entry| entry.seq).max();
            (page, seq.unwrap_or_default())
        };
        self.settled(seq).await?;
        Ok(page)
    }

    async fn told(&self, id: StreamId) -> Result<(), StoreError> {
        let seq = {
            let mut inner = self.shared.inner();
            if !inner.table.due.has(id) {
                return Ok(());
            }
            self.shared.change(&mut inner, vec![Op::Told { id }])?
        };
        self.settled(seq).await
    }

    async fn renew(&self, node: NodeId) -> Result<(), StoreError> {
        self.shared.inner().table.heard(node);
        Ok(())
    }

    async fn orphans(&self) -> Result<Vec<StreamId>, StoreError> {
        Ok(self.shared.inner().table.orphans(LEASE))
    }

    async fn signal(&self, id: StreamId, signal: Signal) -> Result<(), StoreError> {
        let _ = self.shared.signals.send((id, signal)); // nobody listening is nobody writing
        Ok(())
    }

    fn signals(&self) -> BoxStream<'static, (StreamId, Signal)> {
        let heard = self.shared.signals.subscribe();
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
        let broken = self.shared.inner().broken.clone();
        broken.or_else(|| self.shared.base.ails()).map_or(Ok(()), Err)
    }

    fn bytes(&self) -> u64 {
        let Inner { table, .. } = &*self.shared.inner();
        table.used + table.held
    }

    async fn all(&self, open: bool, before: Option<StreamId>, n: usize) -> Result<Vec<Meta>, StoreError> {
        match open {
            true => self.running(before, n).await,
            false => self.listed(None, before, n).await,
        }
    }

    async fn stats(&self) -> Result<Stats, StoreError> {
        self.counted().await
    }

    async fn check(&self, ends: Ends) -> Result<Checked, StoreError> {
        self.checked(ends).await
    }
}

/// Says of a stream that is nowhere whether it ever was.
fn absent(base: &Base, id: StreamId) -> StoreError {
    match base.remembers(id) {
        Ok(true) => StoreError::Expired(id),
        Ok(false) => StoreError::Unknown(id),
        Err(error) => error,
    }
}
