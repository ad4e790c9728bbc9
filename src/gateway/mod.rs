//! The only door between the routes and the rest: start an answer, attach to it, cancel it, look at it, erase it.
//!
//! Knows which streams run in this process; everything else it asks the store. Knows no HTTP and no wire language.

mod attach;
mod feed;
mod forget;
mod inspect;
mod outbox;
mod pass;
mod quota;
mod relay;
mod start;
mod tend;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use attach::{AttachError, Attachment, Place, Reset, ResetReason};
use bytesize::ByteSize;
pub use feed::{Append, AppendError, Fed};
pub use pass::{PassError, Passage, Request, Response};
pub use quota::{Limited, Quota};
pub use relay::{Known, RelayError, Relayable, Relayed, ToRelay};
use serde::{Deserialize, Serialize};
pub use start::{Ask, StartError, Started};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backend::{BackendError, ErrorKind},
    event::Begin,
    generation::{Live, Stop},
    id::{ById, Cursor, NodeId, StreamId},
    prompt::Prompt,
    record::{Record, summary::Summary},
    route::{Router, Target},
    store::{Meta, Signal, Store},
    stream::{self, Head},
    telemetry::Metrics,
};

// What the routes meet of the parts behind this door.
pub use crate::{
    backend::Relaying,
    generation::Attached,
    route::{Listed, RouteError},
    store::{Checked, ClaimKey, ClaimKind, Fault, Files, Stats, StoreError},
    stream::condense,
};

/// The section `[limits]`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// How many answers may be generated at once.
    pub running_streams: usize,
    /// How many bytes of records one answer may have.
    pub stream_bytes: ByteSize,
    /// How many records one answer may have.
    pub stream_records: u64,
    /// How many may read one running answer at once.
    pub stream_readers: usize,
    /// How long an answer that its client does not want kept can still be read when it has ended and nobody reads it.
    #[serde(with = "crate::duration")]
    pub forget_after: Duration,
    /// Whether every answer is taken for one that its client does not want kept.
    pub forget_all: bool,
    /// What each key may have.
    pub per_key: Quota,
    /// `[limits.keys.NAME]`: what this one may have instead.
    pub keys: BTreeMap<String, Quota>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            running_streams: 4096,
            stream_bytes: ByteSize::mib(16),
            stream_records: 262_144,
            stream_readers: 10_000,
            forget_after: Duration::from_secs(60),
            forget_all: false,
            per_key: Quota::default(),
            keys: BTreeMap::new(),
        }
    }
}

/// See the module.
pub struct Gateway {
    store: Arc<dyn Store>,
    /// Asked once for each request, by value: an answer keeps the backend that it began with.
    router: RwLock<Arc<Router>>,
    limits: Limits,
    metrics: Arc<Metrics>,
    node: NodeId,
    slots: Arc<Semaphore>,
    quotas: quota::Quotas,
    running: Mutex<ById<Arc<Live>>>,
    /// Those that have ended, and are to be forgotten.
    fading: Mutex<ById<forget::Fading>>,
    feeds: feed::Feeds,
    /// The chats in which a request is relayed, and whether it has an answer is not known yet.
    openings: relay::Openings,
    outbox: outbox::Outbox,
    tasks: TaskTracker,
    draining: AtomicBool,
    closing: CancellationToken,
}

/// What is known of a stream, its log unread.
#[derive(Clone, Debug)]
pub struct Stream {
    /// As the store has it.
    pub meta: Meta,
    /// Where its log stands as it was shown: readers may have been told an end that the store does not take yet.
    pub head: Head,
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
            router: RwLock::new(Arc::new(router)),
            metrics,
            node: NodeId::new(),
            slots: Arc::new(Semaphore::new(limits.running_streams.min(Semaphore::MAX_PERMITS))),
            quotas: quota::Quotas::new(limits.per_key, limits.keys.clone()),
            limits,
            running: Mutex::default(),
            fading: Mutex::default(),
            feeds: feed::Feeds::default(),
            openings: relay::Openings::default(),
            outbox: outbox::Outbox::default(),
            tasks: TaskTracker::new(),
            draining: AtomicBool::new(false),
            closing: CancellationToken::new(),
        })
    }

    /// Which models can be asked for.
    #[must_use]
    pub fn router(&self) -> Arc<Router> {
        self.router.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes another router from now on. What runs goes on as it began.
    pub fn route_by(&self, router: Router) {
        *self.router.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(router);
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
        let target = self.router().resolve(Some(name))?;
        let checked = target.backend.check(&Prompt::default(), &target.upstream_model);
        match checked.err().and_then(|unfit| unknown(&target, &unfit)) {
            Some(unknown) => Err(unknown),
            None => Ok(Listed { name: target.model, backend: target.backend_name }),
        }
    }

    /// What is known of a stream.
    ///
    /// # Errors
    /// When there is no such stream of this owner, or no longer, or the store cannot be read.
    pub async fn stream(&self, owner: &str, id: StreamId) -> Result<Stream, StoreError> {
        Ok(self.look(owner, id).await?.0)
    }

    /// Likewise, with its entry here if it runs here.
    async fn look(&self, owner: &str, id: StreamId) -> Result<(Stream, Option<Arc<Live>>), StoreError> {
        let meta = self.store.meta(id).await?;
        if meta.owner != owner {
            return Err(StoreError::Unknown(id));
        }
        let mut stream = Stream::read(meta)?;
        // Looked up after the store: a stream that is neither closed there nor live here is written elsewhere, or by nobody.
        let live = self.live(id);
        // The store can be a moment ahead of the tail, and who fell back to it has seen that; a tail whose end the store refuses is
        // ahead of the store. What either has was shown.
        if let Some(head) = live.as_ref().map(|live| live.tail.head()) {
            stream.head.last = stream.head.last.max(head.last);
            stream.head.closed |= head.closed;
        }
        Ok((stream, live))
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

    /// Shows `each` the beginning of a stream up to `last` in condensed form, as [`stream::skim`] does.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn skim(
        &self,
        id: StreamId,
        last: Cursor,
        each: impl FnMut(&[(Record<'_>, u32)]) -> bool + Send,
    ) -> Result<Cursor, StoreError> {
        stream::skim(self.store.as_ref(), id, last, each).await
    }

    /// Shows `each` the records of a stream behind `after` and up to `last`, in order, without waiting for more. What was shown and the
    /// store does not have yet is among them.
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
        let live = self.live(id);
        stream::fold(self.store.as_ref(), live.as_deref().map(|live| &*live.tail), id, after, last, shown).await
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

    /// Its entry here, while it runs or its readers are counted.
    fn live(&self, id: StreamId) -> Option<Arc<Live>> {
        let running = self.running().get(&id).cloned();
        running.or_else(|| self.faded(id))
    }

    fn running(&self) -> MutexGuard<'_, ById<Arc<Live>>> {
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
        let head = Head { last: meta.last, closed: meta.closed(), lost: false };
        Ok(Self { meta, head, begin, summary })
    }
}

/// The error of a name that leads to a backend without such a model.
fn unknown(target: &Target, unfit: &BackendError) -> Option<RouteError> {
    let unknown = || RouteError::UnknownModel { asked: target.model.clone(), remedy: unfit.message.clone() };
    (unfit.kind == ErrorKind::UnknownModel).then(unknown)
}
