//! How an answer begins: what can be refused is refused, the stream is created, and a task of its own writes it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::SystemTime};

use bytes::Bytes;
use futures_util::FutureExt;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{error, info};

use super::{Gateway, Here, Limited, RouteError, StoreError, quota::Share, unknown};
use crate::{
    event::{Attempt, Begin},
    generation::{Budget, Generation, Live, Meter, Stop, Writer},
    id::StreamId,
    prompt::Prompt,
    record::summary::Summary,
    route::Target,
    store::{Claim, ClaimKey, ClaimKind, Created, NewStream},
};

/// What a client wants answered.
#[derive(Debug)]
pub struct Ask {
    /// Who asks; empty while authentication is off.
    pub owner: String,
    /// What. Its `model` may be empty: that is the default.
    pub prompt: Prompt,
    /// The client's key for this very request, with a fingerprint of its body.
    pub idempotency: Option<(String, Bytes)>,
    /// The chat it belongs to: while it runs, its answer is found by that.
    pub chat: Option<String>,
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

/// What an answer takes of what may run at once; given back when this is dropped.
pub(super) struct Room {
    share: Share,
    _slot: OwnedSemaphorePermit,
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
    /// The owner has as much as it may.
    #[error(transparent)]
    Limited(#[from] Limited),
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

impl Gateway {
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
        self.admit(&ask.owner)?;
        let asked = Some(ask.prompt.model.as_str()).filter(|model| !model.is_empty());
        let target = self.router().resolve(asked)?;
        ask.prompt.model.clone_from(&target.model);
        ask.prompt.forget |= self.limits.forget_all;
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
        let room = self.room(&ask.owner).await?;
        let this = self.clone();
        let created = self.tasks.spawn(async move { this.create(ask, target, Vec::new(), room).await });
        let (id, again) = created.await.unwrap_or(Err(StartError::Lost))?;
        Ok(Started { id, again, dropped })
    }

    /// Room for one more answer of this owner.
    pub(super) async fn room(&self, owner: &str) -> Result<Room, StartError> {
        let share = self.share(owner).await??;
        let slot = self.slots.clone().try_acquire_owned();
        let slot = slot.map_err(|_| StartError::Busy(self.limits.running_streams))?;
        Ok(Room { share, _slot: slot })
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

    /// The answer that runs in a chat: the newest one.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub async fn running_in(&self, owner: &str, chat: &str) -> Result<Option<StreamId>, StoreError> {
        let key = chat_key(owner, chat);
        // One that is about to begin is waited for: who reloads a page at once finds its answer.
        let opening = self.openings.of(&key);
        let running = self.store.holder(&key).await?;
        let Some(opening) = opening.filter(|_| running.is_none()) else { return Ok(running) };
        opening.cancelled().await;
        self.store.holder(&key).await
    }

    /// Creates the stream, and spawns its writer. `head` is what its readers are told in the head of a response.
    pub(super) async fn create(
        self: Arc<Self>,
        ask: Ask,
        target: Target,
        head: Vec<(String, String)>,
        room: Room,
    ) -> Result<(StreamId, bool), StartError> {
        let id = StreamId::new();
        let Ask { owner, prompt, idempotency, chat } = ask;
        let begin = Begin {
            model: target.model,
            backend: target.backend_name,
            protocol: prompt.protocol.clone(),
            metadata: prompt.metadata.clone(),
            chunking: prompt.chunking.or(target.chunking),
            head,
        };
        let claims = idempotency
            .iter()
            .map(|(key, fingerprint)| Claim { key: claim_key(&owner, key), fingerprint: fingerprint.clone() });
        let chat = chat.map(|chat| Claim { key: chat_key(&owner, &chat), fingerprint: Bytes::new() });
        let kept = if prompt.forget { Vec::new() } else { serde_json::to_vec(&prompt).expect("plain data") };
        let new = NewStream {
            id,
            created_at: unix_ms(),
            about: serde_json::to_vec(&begin).expect("plain data").into(),
            prompt: kept.into(),
            keep: prompt.forget.then_some(self.forget_at_most()),
            due: self.outbox.is_kept(),
            claims: claims.chain(chat).collect(),
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
        let writer = writer.metered(room.share.spent.clone().map(Meter::new));
        info!(%id, model = begin.model, backend = begin.backend, "stream started");
        let upstream_model = target.upstream_model;
        let backend = match target.backend.lease() {
            None => target.backend,
            // The user's own code is the generator.
            Some(lease) => {
                let (backend, model) = (begin.backend.clone(), upstream_model.clone());
                let attempt =
                    Attempt { n: 1, backend, model, protocol: super::feed::PROTOCOL.into(), ..Attempt::default() };
                self.feeds.open(id, attempt, lease, target.backend.clocks().clone())
            }
        };
        let (forget, readers) = (prompt.forget, live.clone());
        let generation = Generation { live, writer, backend, upstream_model, prompt, begin, metrics };
        drop(self.tasks.spawn(async move {
            let _taken = room;
            let gateway = here.gateway.clone();
            // The supervisor catches what its backend does; this catches the supervisor.
            let ran = AssertUnwindSafe(generation.run()).catch_unwind().await;
            gateway.feeds.close(id);
            gateway.outbox.news();
            if forget {
                gateway.fade(readers); // before `here` goes: its readers are counted all the time
            }
            if ran.is_err() {
                error!(%id, "the supervisor of a stream panicked");
                drop(here);
                gateway.bury(id, Stop::Panicked).await;
            }
        }));
        Ok((id, false))
    }
}

pub(super) fn chat_key(owner: &str, chat: &str) -> ClaimKey {
    ClaimKey { owner: owner.to_owned(), kind: ClaimKind::Chat, key: chat.to_owned() }
}

fn claim_key(owner: &str, key: &str) -> ClaimKey {
    ClaimKey { owner: owner.to_owned(), kind: ClaimKind::Idempotency, key: key.to_owned() }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
