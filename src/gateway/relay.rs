//! Requests to an application of the user's own: they go on as they came, and what is answered in events is an answer like any other.
//!
//! The application is asked before there is a stream, since most of what it may answer is no answer of a model's. The asking hangs on no
//! client: one that leaves meanwhile finds its answer when it comes back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{Gateway, PassError, Request, Response, StartError, Started, start::chat_key};
use crate::{
    backend::{BackendError, Clocks, ErrorKind, Once, Opened, Opening, Relaying},
    gateway::Ask,
    prompt::Prompt,
    route::Target,
    store::ClaimKey,
};

/// A request's way to an application.
pub struct Relayable {
    /// The backend's name in the configuration.
    backend: String,
    clocks: Clocks,
    open: Opening,
}

/// What the operator says of a path.
pub struct Known {
    /// The backend's name in the configuration.
    pub backend: String,
    /// What is said of it.
    pub relaying: Relaying,
    /// Just this path is named, and not all below another.
    pub named: bool,
}

/// A request to be relayed.
pub struct ToRelay {
    /// Who asks.
    pub owner: String,
    /// As it goes on.
    pub request: Request,
    /// What is kept of it.
    pub prompt: Prompt,
    /// The client's key for this very request, with a fingerprint of its body.
    pub idempotency: Option<(String, bytes::Bytes)>,
    /// The chat it belongs to.
    pub chat: Option<String>,
}

/// What the application answered.
pub enum Relayed {
    /// Events, which are recorded, and the head of its response.
    Stream(Started, ::http::HeaderMap),
    /// Something else.
    Other(Response),
}

/// The headers of a response that those are told, too, who come back to it.
fn is_told_again(name: &str) -> bool {
    name == "content-type" || name.starts_with("x-vercel-")
}

impl Gateway {
    /// The way of a request to the application behind this backend.
    #[must_use]
    pub fn relayable(&self, backend: &str, path: &str, query: Option<&str>) -> Option<Relayable> {
        let router = self.router();
        let there = router.backend(backend).ok()?;
        let (open, clocks) = (there.relay(path, query)?, there.clocks().clone());
        Some(Relayable { backend: backend.to_owned(), clocks, open })
    }

    /// What the operator says of the application that this path goes to, if it goes to one.
    #[must_use]
    pub fn relays(&self, path: &str) -> Option<Known> {
        let router = self.router();
        router.backends().find_map(|(name, backend)| {
            let (relaying, named) = backend.relays(path)?;
            Some(Known { backend: name.to_owned(), relaying: relaying.clone(), named })
        })
    }

    /// Relays a request, and waits for the head of what is answered. Cancel safe: an answer in events is recorded, whether or not the
    /// caller is still there.
    ///
    /// # Errors
    /// When nothing may be asked, or nothing was answered.
    pub async fn relay(self: &Arc<Self>, way: Relayable, asked: ToRelay) -> Result<Relayed, RelayError> {
        if self.draining() {
            return Err(StartError::Draining.into());
        }
        self.admit(&asked.owner).map_err(StartError::from)?;
        // What is no question takes no room of answers, unless it is answered like one.
        let room = match *asked.request.method() == ::http::Method::POST {
            true => Some(self.room(&asked.owner).await?),
            false => None,
        };
        let opening = asked.chat.as_deref().map(|chat| self.openings.begin(chat_key(&asked.owner, chat)));
        let this = self.clone();
        let relayed = self.tasks.spawn(async move {
            let _opening = opening;
            let ToRelay { owner, request, prompt, idempotency, chat } = asked;
            let Relayable { backend, clocks, open } = way;
            let opened = timeout(clocks.head, open(request)).await.unwrap_or_else(|_| {
                let after = humantime::format_duration(clocks.head);
                let message = format!("`{backend}` gave no answer: the `head` clock ran out after {after}");
                Err(BackendError::new(ErrorKind::Timeout, message))
            });
            let (head, events) = match opened.map_err(|error| PassError::Upstream(error.into()))? {
                Opened::Other(response) => return Ok(Relayed::Other(response)),
                Opened::Answer { head, events } => (head, events),
            };
            let room = match room {
                Some(room) => room,
                None => this.room(&owner).await?,
            };
            let told = head.iter().filter(|(name, _)| is_told_again(name.as_str()));
            let told = told.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())));
            let target = Target {
                model: backend.clone(),
                backend: Arc::new(Once::new(events, clocks)),
                backend_name: backend,
                upstream_model: String::new(),
                route: Vec::new(),
                chunking: None,
            };
            let ask = Ask { owner, prompt, idempotency, chat };
            let (id, again) = this.create(ask, target, told.collect(), room).await?;
            Ok(Relayed::Stream(Started { id, again, dropped: Vec::new() }, head))
        });
        relayed.await.unwrap_or(Err(StartError::Lost.into()))
    }
}

/// Why a request was not relayed, or came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// It may not be asked.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The application did not answer.
    #[error(transparent)]
    Pass(#[from] PassError),
}

/// The chats in which something is about to begin.
#[derive(Default)]
pub(super) struct Openings(Arc<Mutex<HashMap<ClaimKey, CancellationToken>>>);

/// While this lives, its chat is one of them.
struct AnOpening {
    all: Arc<Mutex<HashMap<ClaimKey, CancellationToken>>>,
    key: ClaimKey,
    over: CancellationToken,
}

impl Openings {
    fn begin(&self, key: ClaimKey) -> AnOpening {
        let over = CancellationToken::new();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), over.clone());
        AnOpening { all: self.0.clone(), key, over }
    }

    /// What is cancelled when it has begun, or not.
    pub(super) fn of(&self, key: &ClaimKey) -> Option<CancellationToken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

impl Drop for AnOpening {
    fn drop(&mut self) {
        self.over.cancel();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // A later one of the same chat has taken its place, maybe, and is not over.
        if all.get(&self.key).is_some_and(CancellationToken::is_cancelled) {
            all.remove(&self.key);
        }
    }
}
