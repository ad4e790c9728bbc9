//! The only door between the routes and the rest: start an answer, attach to it, cancel it, look at it, erase it.
//!
//! Knows which streams run in this process; everything else it asks the store. Knows no HTTP and no wire language.

mod attach;
mod pass;
mod tend;

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use attach::{Attachment, Place, Reset, ResetReason};
use bytes::Bytes;
use bytesize::ByteSize;
use futures_util::FutureExt;
pub use pass::{PassError, Passage, Request, Response};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info};

use crate::{
    backend::{BackendError, ErrorKind},
    event::Begin,
    generation::{Budget, Generation, Live, Stop, Writer},
    id::{Cursor, NodeId, StreamId},
    prompt::Prompt,
    record::{Record, summary::Summary},
    route::{Router, Target},
    store::{Claim, ClaimKey, ClaimKind, Created, Meta, NewStream, Signal, Store},
    stream,
    telemetry::Metrics,
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
    /// How long an answer that its client does not want kept can be read after its end.
    #[serde(with = "crate::duration")]
    pub forget_after: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running_streams: 4096,
            stream_bytes: ByteSize::mib(16),
            stream_records: 262_144,
            forget_after: Duration::from_secs(60),
        }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The answer's stream.
    pub id: StreamId,
    /// It is the answer to the same request made before.
    pub again: bool,
    /// The members of the request that the upstream has no words for, and was not told.
    pub dropped: Vec<String>,
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
    /// The backend cannot be asked all of this, and less will not do.
    #[error("the upstream of this model has no words for `{}`", .0.join("`, `"))]
    Dropped(Vec<String>),
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

    /// A model of this name, listed or not.
    ///
    /// # Errors
    /// When the name leads nowhere, or its backend knows that it has no such model.
    pub fn model(&self, name: &str) -> Result<Listed, RouteError> {
        let target = self.router.resolve(Some(name))?;
        let checked = target.backend.check(&Prompt::default(), &target.upstream_model);
        match checked.err().and_then(|unfit| unknown(&target, &unfit)) {
            Some(unknown) => Err(unknown),
            None => Ok(Listed { name: target.model, backend: target.backend_name }),
        }
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
        let dropped = target.backend.check(&ask.prompt, &target.upstream_model);
        let dropped =
            dropped.map_err(|unfit| unknown(&target, &unfit).map_or(StartError::Unfit(unfit.message), Into::into))?;
        if ask.prompt.strict && !dropped.is_empty() {
            return Err(StartError::Dropped(dropped));
        }
        if let Some((key, fingerprint)) = &ask.idempotency
            && let Some(id) = self.find(&ask.owner, key, fingerprint).await?
        {
            return Ok(Started { id, again: true, dropped }); // a repeated request needs no free slot
        }
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| StartError::Busy(self.limits.running_streams))?;
        let this = self.clone();
        let created = self.tasks.spawn(async move { this.create(ask, target, slot).await });
        let (id, again) = created.await.unwrap_or(Err(StartError::Lost))?;
        Ok(Started { id, again, dropped })
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
    ) -> Result<(StreamId, bool), StartError> {
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
        let kept = if prompt.forget { Vec::new() } else { serde_json::to_vec(&prompt).expect("plain data") };
        let new = NewStream {
            id,
            created_at: unix_ms(),
            about: serde_json::to_vec(&begin).expect("plain data").into(),
            prompt: kept.into(),
            keep: prompt.forget.then_some(self.limits.forget_after),
            claims: claims.collect(),
            owner: owner.clone(),
        };
        // Known before it is created: who finds it in the store finds it here too.
        let live = Arc::new(Live::new(id, prompt.on_disconnect));
        let here = Here::register(&self, live.clone());
        while let Created::Held(_) = self.store.create(new.clone()).await? {
            let (key, fingerprint) = idempotency.as_ref().ok_or(StartError::Lost)?;
            if let Some(id) = self.find(&owner, key, fingerprint).await? {
                return Ok((id, true));
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
                drop(here);
                gateway.bury(id, Stop::Panicked).await;
            }
        }));
        Ok((id, false))
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

    /// What was asked; nothing if the client did not want it kept.
    ///
    /// # Errors
    /// As of [`Gateway::stream`].
    pub async fn prompt(&self, owner: &str, id: StreamId) -> Result<Option<Prompt>, StoreError> {
        self.stream(owner, id).await?;
        let prompt = self.store.prompt(id).await?;
        if prompt.is_empty() {
            return Ok(None);
        }
        let torn = |_| StoreError::Unavailable(format!("the prompt of stream {id} cannot be read"));
        serde_json::from_slice(&prompt).map(Some).map_err(torn)
    }

    /// Shows `each` the records of a stream behind `after` and up to `last`, in order, without waiting for more.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn records(
        &self,
        id: StreamId,
        after: Cursor,
        last: Cursor,
        mut each: impl FnMut(Cursor, &Record<'_>) + Send,
    ) -> Result<(), StoreError> {
        let shown = |cursor, record: &Record<'_>| {
            if cursor <= last {
                each(cursor, record)
            }
        };
        stream::fold(self.store.as_ref(), id, after, last, shown).await
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
    pub async fn remove(self: &Arc<Self>, owner: &str, id: StreamId) -> Result<(), StoreError> {
        let (this, owner) = (self.clone(), owner.to_owned());
        let removal = async move {
            this.cancel(&owner, id).await?;
            this.store.remove(id).await
        };
        // In a task of its own: who asks for it and goes away has asked all the same.
        let removed = self.tasks.spawn(removal).await;
        removed.unwrap_or_else(|_| Err(StoreError::Unavailable(format!("the removal of stream {id} was given up"))))
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
        // Whoever follows a log that is not closed here is sent to the store.
        self.live.tail.abandon();
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

/// The error of a name that leads to a backend without such a model.
fn unknown(target: &Target, unfit: &BackendError) -> Option<RouteError> {
    let unknown = || RouteError::UnknownModel { asked: target.model.clone(), remedy: unfit.message.clone() };
    (unfit.kind == ErrorKind::UnknownModel).then(unknown)
}

fn claim_key(owner: &str, key: &str) -> ClaimKey {
    ClaimKey { owner: owner.to_owned(), kind: ClaimKind::Idempotency, key: key.to_owned() }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
