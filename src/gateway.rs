//! The only door between the routes and the rest: start an answer, attach to it, cancel it, look at it, erase it.
//!
//! Knows which streams run in this process; everything else it asks the store. Knows no HTTP and no wire language.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::{FutureExt, StreamExt};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::{
    backend::ErrorKind,
    event::Begin,
    generation::{Budget, Generation, Live, Stop, Writer},
    id::{Cursor, NodeId, Seen, StreamId},
    prompt::Prompt,
    record::{Record, summary::Summary},
    route::{Router, Target},
    store::{Claim, ClaimKey, ClaimKind, Created, LEASE, Meta, NewStream, Signal, Store},
    stream::{self, Reader},
    telemetry::{Ended, Metrics},
};

// What the routes meet of the parts behind this door.
pub use crate::{
    generation::Attached,
    route::{Listed, RouteError},
    store::StoreError,
};

/// The section `[limits]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many answers may be generated at once.
    pub running_streams: usize,
    /// How many bytes of records one answer may have.
    pub stream_bytes: ByteSize,
    /// How many records one answer may have.
    pub stream_records: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { running_streams: 4096, stream_bytes: ByteSize::mib(16), stream_records: 262_144 }
    }
}

/// See the module.
pub struct Gateway {
    store: Arc<dyn Store>,
    router: Router,
    limits: Limits,
    metrics: Arc<Metrics>,
    node: NodeId,
    slots: Arc<Semaphore>,
    running: Mutex<HashMap<StreamId, Arc<Live>>>,
    tasks: TaskTracker,
    draining: AtomicBool,
    closing: CancellationToken,
}

/// What a client wants answered.
#[derive(Debug)]
pub struct Ask {
    /// Who asks; empty while authentication is off.
    pub owner: String,
    /// What. Its `model` may be empty: that is the default.
    pub prompt: Prompt,
    /// The client's key for this very request, with a fingerprint of its body.
    pub idempotency: Option<(String, Bytes)>,
}

/// What came of [`Gateway::start`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// A new answer is being generated.
    New(StreamId),
    /// The same request was made before: this is its answer.
    Again(StreamId),
}

impl Started {
    /// The stream's id.
    #[must_use]
    pub fn id(self) -> StreamId {
        match self {
            Self::New(id) | Self::Again(id) => id,
        }
    }
}

/// Why no answer was started. In each case nothing was created.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The model is not to be had.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The backend cannot be asked this.
    #[error("{0}")]
    Unfit(String),
    /// The key was used with another body.
    #[error("this Idempotency-Key was used before, with another body")]
    KeyReused(StreamId),
    /// As many answers run as may.
    #[error("{0} answers are being generated, as many as [limits] running_streams allows")]
    Busy(usize),
    /// This process is about to end.
    #[error("the server is shutting down")]
    Draining,
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task that creates the stream failed.
    #[error("the stream could not be created")]
    Lost,
}

/// A reader, and from where it reads.
pub struct Attachment {
    /// What is known of the stream.
    pub stream: Stream,
    /// Where it begins.
    pub from: Place,
    /// The records from there on.
    pub reader: Reader,
    /// Its presence, if the stream runs here: dropping it is leaving.
    pub attached: Option<Attached>,
}

/// Where a reader begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before the first record: it named no cursor.
    Start,
    /// Behind this record, as it asked.
    Cursor(Cursor),
    /// Elsewhere than it asked, which it must be told.
    Reset(Reset),
    /// It has seen the end.
    Ended,
}

/// The cursor that a reader gave cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Reset {
    /// Why.
    pub reason: ResetReason,
    /// The last record before it that is certain: the reader drops what it has beyond.
    pub after: Cursor,
}

/// Why a cursor cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// It cannot be read, belongs to another stream, or to a part of the log that was lost.
    Unknown,
    /// It is past the last record.
    Ahead,
}

impl ResetReason {
    /// As the wire and the metrics have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Ahead => "ahead",
        }
    }
}

/// What is known of a stream, its log unread.
#[derive(Clone, Debug)]
pub struct Stream {
    /// As the store has it.
    pub meta: Meta,
    /// What was asked of whom.
    pub begin: Begin,
    /// Of a stream that has ended: how.
    pub summary: Option<Summary>,
}

impl Gateway {
    /// A gateway over this store. [`Gateway::tend`] must be spawned too.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, router: Router, limits: Limits, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            store,
            router,
            metrics,
            node: NodeId::new(),
            slots: Arc::new(Semaphore::new(limits.running_streams.min(Semaphore::MAX_PERMITS))),
            limits,
            running: Mutex::default(),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            closing: CancellationToken::new(),
        })
    }

    /// Which models can be asked for.
    #[must_use]
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// Where everything is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Starts an answer, or finds the one that the same request started before.
    ///
    /// Cancel safe: a stream that was created has its writer, whether or not the caller is still there.
    ///
    /// # Errors
    /// When nothing was started; says why.
    pub async fn start(self: &Arc<Self>, mut ask: Ask) -> Result<Started, StartError> {
        if self.draining() {
            return Err(StartError::Draining);
        }
        let asked = Some(ask.prompt.model.as_str()).filter(|model| !model.is_empty());
        let target = self.router.resolve(asked)?;
        ask.prompt.model.clone_from(&target.model);
        target.backend.check(&ask.prompt, &target.upstream_model).map_err(|unfit| match unfit.kind {
            ErrorKind::UnknownModel => {
                RouteError::UnknownModel { asked: target.model.clone(), remedy: unfit.message }.into()
            }
            _ => StartError::Unfit(unfit.message),
        })?;
        if let Some((key, fingerprint)) = &ask.idempotency
            && let Some(id) = self.find(&ask.owner, key, fingerprint).await?
        {
            return Ok(Started::Again(id)); // a repeated request needs no free slot
        }
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| StartError::Busy(self.limits.running_streams))?;
        let this = self.clone();
        self.tasks.spawn(async move { this.create(ask, target, slot).await }).await.unwrap_or(Err(StartError::Lost))
    }

    /// The stream that the same request has started before.
    ///
    /// # Errors
    /// When the key was used with another body, or the store cannot be asked.
    pub async fn find(&self, owner: &str, key: &str, fingerprint: &[u8]) -> Result<Option<StreamId>, StartError> {
        let Some(id) = self.store.holder(&claim_key(owner, key)).await? else { return Ok(None) };
        match self.store.meta(id).await {
            Ok(meta) if meta.claims.iter().any(|claim| claim.fingerprint == fingerprint) => Ok(Some(id)),
            Ok(_) => Err(StartError::KeyReused(id)),
            Err(StoreError::Unknown(_) | StoreError::Expired(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn create(
        self: Arc<Self>,
        ask: Ask,
        target: Target,
        slot: OwnedSemaphorePermit,
    ) -> Result<Started, StartError> {
        let id = StreamId::new();
        let Ask { owner, prompt, idempotency } = ask;
        let begin = Begin {
            model: target.model,
            backend: target.backend_name,
            protocol: prompt.protocol.clone(),
            metadata: prompt.metadata.clone(),
        };
        let claims = idempotency
            .iter()
            .map(|(key, fingerprint)| Claim { key: claim_key(&owner, key), fingerprint: fingerprint.clone() });
        let new = NewStream {
            id,
            created_at: unix_ms(),
            about: serde_json::to_vec(&begin).expect("plain data").into(),
            prompt: serde_json::to_vec(&prompt).expect("plain data").into(),
            claims: claims.collect(),
            owner: owner.clone(),
        };
        // Known before it is created: who finds it in the store finds it here too.
        let live = Arc::new(Live::new(id, prompt.on_disconnect));
        let here = Here::register(&self, live.clone());
        while let Created::Held(_) = self.store.create(new.clone()).await? {
            let (key, fingerprint) = idempotency.as_ref().ok_or(StartError::Lost)?;
            if let Some(id) = self.find(&owner, key, fingerprint).await? {
                return Ok(Started::Again(id));
            }
            // The holder has given the key back since: it is ours if we are quick.
        }
        let lease = self.store.lease(id, self.node).await?;
        let budget = Budget { bytes: self.limits.stream_bytes.as_u64(), records: self.limits.stream_records };
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let writer = Writer::new(live.clone(), store, metrics.clone(), lease, budget, Summary::default());
        info!(%id, model = begin.model, backend = begin.backend, "stream started");
        let backend = target.backend;
        let upstream_model = target.upstream_model;
        let generation = Generation { live, writer, backend, upstream_model, prompt, begin, metrics };
        drop(self.tasks.spawn(async move {
            let _slot = slot;
            let gateway = here.gateway.clone();
            // The supervisor catches what its backend does; this catches the supervisor.
            if AssertUnwindSafe(generation.run()).catch_unwind().await.is_err() {
                error!(%id, "the supervisor of a stream panicked");
                here.live.tail.abandon();
                gateway.bury(id, Stop::Panicked).await;
            }
            drop(here);
        }));
        Ok(Started::New(id))
    }

    /// Attaches a reader behind what it has seen.
    ///
    /// # Errors
    /// When there is no such stream of this owner, or no longer, or the store cannot be read.
    pub async fn attach(&self, owner: &str, id: StreamId, seen: Option<Seen>) -> Result<Attachment, StoreError> {
        let stream = self.stream(owner, id).await?;
        // Looked up after the store: a stream that is neither closed there nor live here is written elsewhere, or by nobody.
        let live = self.live(id);
        let (last, closed) = match live.as_ref().map(|live| live.tail.head()) {
            Some(head) => (head.last, head.closed),
            None => (stream.meta.last, stream.meta.closed()),
        };
        let from = place(id, seen, last, closed, stream.meta.hole);
        let after = match from {
            Place::Start => Cursor::START,
            Place::Cursor(after) | Place::Reset(Reset { after, .. }) => after,
            Place::Ended => last,
        };
        match from {
            Place::Reset(reset) => self.metrics.reset(reset.reason.as_str()),
            Place::Cursor(after) => {
                self.metrics.resumes.inc();
                self.metrics.replayed_records.inc_by(last.0 - after.0);
            }
            Place::Start | Place::Ended => {}
        }
        let attached = live.clone().filter(|_| from != Place::Ended).map(Attached::new);
        let reader = Reader::new(id, self.store.clone(), live.map(|live| live.tail.clone()), after);
        Ok(Attachment { stream, from, reader, attached })
    }

    /// What is known of a stream.
    ///
    /// # Errors
    /// When there is no such stream of this owner, or no longer, or the store cannot be read.
    pub async fn stream(&self, owner: &str, id: StreamId) -> Result<Stream, StoreError> {
        let meta = self.store.meta(id).await?;
        match meta.owner == owner {
            true => Stream::read(meta),
            false => Err(StoreError::Unknown(id)),
        }
    }

    /// Shows `each` the records of a stream up to `last`, in order, without waiting for more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn records(
        &self,
        id: StreamId,
        last: Cursor,
        mut each: impl FnMut(Cursor, &Record<'_>) + Send,
    ) -> Result<(), StoreError> {
        let shown = |cursor, record: &Record<'_>| {
            if cursor <= last {
                each(cursor, record)
            }
        };
        stream::fold(self.store.as_ref(), id, last, shown).await
    }

    /// An owner's streams, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, owner: &str, before: Option<StreamId>, n: usize) -> Result<Vec<Stream>, StoreError> {
        self.store.list(owner, before, n).await?.into_iter().map(Stream::read).collect()
    }

    /// Stops a generation and waits until its log is closed. What was said stands. Of a stream that has ended, does nothing.
    ///
    /// # Errors
    /// As of [`Gateway::stream`].
    pub async fn cancel(&self, owner: &str, id: StreamId) -> Result<(), StoreError> {
        let stream = self.stream(owner, id).await?;
        match self.live(id) {
            Some(live) => {
                live.stop(Stop::Cancelled);
                live.ended().await;
            }
            None if !stream.meta.closed() => {
                self.store.signal(id, Signal::Cancel).await?;
                self.store.read(id, stream.meta.last, 1, Some(Duration::from_secs(1))).await?;
            }
            None => {}
        }
        Ok(())
    }

    /// Cancels a stream if it runs, then erases it.
    ///
    /// # Errors
    /// As of [`Gateway::stream`].
    pub async fn remove(&self, owner: &str, id: StreamId) -> Result<(), StoreError> {
        self.cancel(owner, id).await?;
        self.store.remove(id).await
    }

    /// Renews leases, closes the logs whose writer is gone, hears signals, lets retention work. Returns when told to close.
    pub async fn tend(self: Arc<Self>) {
        let mut signals = self.store.signals();
        let mut renewal = tokio::time::interval(LEASE / 3);
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                Some((id, Signal::Cancel)) = signals.next() => {
                    if let Some(live) = self.live(id) {
                        live.stop(Stop::Cancelled);
                    }
                }
                _ = renewal.tick() => self.renew().await,
                _ = sweep.tick() => match self.store.expire().await {
                    Ok(0) => _ = self.metrics.log_bytes.set(self.store.bytes().cast_signed()),
                    Ok(_) => sweep.reset_immediately(),
                    Err(error) => warn!(%error, "retention could not work"),
                },
            }
        }
    }

    async fn renew(&self) {
        if let Err(error) = self.store.renew(self.node).await {
            warn!(%error, "leases could not be renewed");
        }
        match self.store.orphans().await {
            Ok(orphans) => {
                for id in orphans {
                    self.bury(id, Stop::Interrupted).await;
                }
            }
            Err(error) => warn!(%error, "streams without a writer could not be listed"),
        }
    }

    /// Closes a log whose writer is gone.
    async fn bury(&self, id: StreamId, stop: Stop) {
        let live = Arc::new(Live::new(id, crate::prompt::OnDisconnect::Continue));
        let done = async {
            let begin = Stream::read(self.store.meta(id).await?)?.begin;
            let lease = self.store.lease(id, self.node).await?;
            let mut summary = Summary::default();
            let fold = |cursor, record: &Record<'_>| summary.take_record(cursor, record);
            stream::fold(self.store.as_ref(), id, lease.next.before(), fold).await?;
            let budget = Budget { bytes: u64::MAX, records: u64::MAX };
            let (store, metrics) = (self.store.clone(), self.metrics.clone());
            let mut writer = Writer::new(live, store, metrics, lease, budget, summary);
            let end = stop.end(writer.summary());
            let (protocol, backend) = (begin.protocol, begin.backend);
            self.metrics.ended(&Ended { status: end.status, reason: end.reason, protocol, backend });
            writer.end(end).await
        };
        match done.await {
            Ok(()) => info!(%id, "closed a stream whose writer was gone"),
            Err(error) => warn!(%id, %error, "a stream whose writer was gone could not be closed"),
        }
    }

    /// From now on nothing new is started.
    pub fn refuse_new(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until no answer is being generated, at most for `grace`; those that still are end as interrupted.
    pub async fn drain(&self, grace: Duration) {
        self.refuse_new();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            let running: Vec<_> = self.running().values().cloned().collect();
            info!(streams = running.len(), "interrupting what still runs");
            running.iter().for_each(|live| live.stop(Stop::Interrupted));
            let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        }
        self.closing.cancel();
    }

    /// Whether this process is about to end.
    #[must_use]
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Whether an answer could be started now; if not, why not.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn ready(&self) -> Result<(), String> {
        match self.draining() {
            true => Err(StartError::Draining.to_string()),
            false => self.store.ready().await.map_err(|error| error.to_string()),
        }
    }

    fn live(&self, id: StreamId) -> Option<Arc<Live>> {
        self.running().get(&id).cloned()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<StreamId, Arc<Live>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream's entry in the table of those that run here: dropping it takes it out.
struct Here {
    gateway: Arc<Gateway>,
    live: Arc<Live>,
}

impl Here {
    fn register(gateway: &Arc<Gateway>, live: Arc<Live>) -> Self {
        gateway.running().insert(live.id, live.clone());
        gateway.metrics.streams_running.inc();
        Self { gateway: gateway.clone(), live }
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        self.gateway.running().remove(&self.live.id);
        self.gateway.metrics.streams_running.dec();
    }
}

impl Stream {
    fn read(meta: Meta) -> Result<Self, StoreError> {
        let torn = |_| StoreError::Unavailable(format!("what the store says of stream {} cannot be read", meta.id));
        let begin = serde_json::from_slice(&meta.about).map_err(torn)?;
        let summary = meta.summary.as_deref().map(serde_json::from_slice).transpose().map_err(torn)?;
        Ok(Self { meta, begin, summary })
    }
}

/// Where a reader that has seen `seen` begins in a log that stands at `last`.
fn place(id: StreamId, seen: Option<Seen>, last: Cursor, closed: bool, hole: Option<(Cursor, Cursor)>) -> Place {
    // A reset lies before the end, so that the end is sent again.
    let newest = if closed { last.before() } else { last };
    let reset = |reason, after: Cursor| Place::Reset(Reset { reason, after: after.min(newest) });
    let cursor = match seen {
        None => return Place::Start,
        Some(Seen::Short(cursor)) => cursor,
        Some(Seen::Long(of, cursor)) if of == id => cursor,
        Some(Seen::Long(..) | Seen::Unreadable) => return reset(ResetReason::Unknown, Cursor::START),
    };
    match hole {
        Some((before, behind)) if cursor > before && cursor < behind => reset(ResetReason::Unknown, before),
        _ if cursor > last => reset(ResetReason::Ahead, last),
        _ if closed && cursor == last => Place::Ended,
        _ => Place::Cursor(cursor),
    }
}

fn claim_key(owner: &str, key: &str) -> ClaimKey {
    ClaimKey { owner: owner.to_owned(), kind: ClaimKind::Idempotency, key: key.to_owned() }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_served_or_answered_with_a_reset_before_the_end() {
        let id = StreamId::new();
        let at = |seen, closed| place(id, seen, Cursor(9), closed, Some((Cursor(3), Cursor(6))));
        let reset = |reason, after| Place::Reset(Reset { reason, after: Cursor(after) });
        use ResetReason::{Ahead, Unknown};
        assert_eq!(at(None, false), Place::Start);
        assert_eq!(at(Some(Seen::Short(Cursor(0))), false), Place::Cursor(Cursor(0)));
        assert_eq!(at(Some(Seen::Long(id, Cursor(7))), false), Place::Cursor(Cursor(7)));
        assert_eq!(at(Some(Seen::Short(Cursor(9))), false), Place::Cursor(Cursor(9)));
        assert_eq!(at(Some(Seen::Short(Cursor(9))), true), Place::Ended);
        assert_eq!(at(Some(Seen::Short(Cursor(10))), false), reset(Ahead, 9));
        assert_eq!(at(Some(Seen::Short(Cursor(10))), true), reset(Ahead, 8));
        assert_eq!(at(Some(Seen::Unreadable), true), reset(Unknown, 0));
        assert_eq!(at(Some(Seen::Long(StreamId::new(), Cursor(2))), true), reset(Unknown, 0));
        assert_eq!(at(Some(Seen::Short(Cursor(4))), true), reset(Unknown, 3));
        assert_eq!(at(Some(Seen::Short(Cursor(6))), true), Place::Cursor(Cursor(6)));
    }
}
