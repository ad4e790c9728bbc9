//! Generators. A backend turns a prompt into events; what it speaks with its upstream is its own affair.
//!
//! One file a kind: `mock` says what it is told, `openai` asks any Chat Completions server, `responses` any of Responses,
//! `anthropic` any of Messages. The kinds that speak HTTP share one driver, `http`. A backend keeps no clock but the connect clock: the generation that reads it does.

pub mod anthropic;
pub mod http;
pub mod mock;
pub mod openai;
pub mod probe;
pub mod push;
pub mod relay;
pub mod responses;

use std::{
    borrow::Cow,
    future,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures_util::{future::BoxFuture, stream::BoxStream};
use serde::Deserialize;

use crate::{
    client::{Broken, Pieces},
    event::{Event, Failure, Json},
    prompt::{OnDisconnect, Prompt},
};

/// What a backend gives: the answer's events in order, then nothing more; or an error, and nothing after it.
///
/// The first event is an [`Event::Attempt`], given as soon as the upstream has taken the prompt. An end without an error says
/// that the answer is whole. Dropping the stream cancels the upstream call.
pub type Events = BoxStream<'static, Result<Event<'static>, BackendError>>;

/// Events that are one error: for what is known to fail before anybody is asked.
fn fails(error: BackendError) -> Events {
    Box::pin(futures_util::stream::iter([Err(error)]))
}

/// A request that is handed on: a body where it has one, in pieces.
pub type Request = ::http::Request<Option<Pieces<Broken>>>;

/// What came of it: any status; the body, in pieces, until it ends or breaks off.
pub type Response = ::http::Response<Pieces<BackendError>>;

/// The way by which requests are handed on to one path of an upstream. Dropping the future, or the body that it gave, gives the
/// request up.
pub type Way = Box<dyn FnOnce(Request) -> BoxFuture<'static, Result<Response, BackendError>> + Send>;

/// What came of a request that was relayed to an application of the user's own.
pub enum Opened {
    /// It answers in events: the head of its response, and they.
    Answer {
        /// Whole, as the one who asked is told it.
        head: ::http::HeaderMap,
        /// Without an [`Event::Begin`], as those of any backend.
        events: Events,
    },
    /// It answers something else, which goes through as it is.
    Other(Response),
}

/// The way by which requests are relayed. Dropping the future, or what it gave, gives the request up.
pub type Opening = Box<dyn FnOnce(Request) -> BoxFuture<'static, Result<Opened, BackendError>> + Send>;

/// What an operator says of an application whose requests go through here.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Relaying {
    /// What to do when the last reader of an answer leaves.
    pub on_disconnect: OnDisconnect,
    /// Whether who asks must show a credential of lastword's. Else the application looks at its own.
    pub needs_key: bool,
    /// By which cookies (`cookie:NAME`) and headers (`header:NAME`) one person is told from another.
    pub identify: Vec<String>,
    /// The request's headers that go along; all, where nothing is said.
    pub forward: Option<Vec<String>>,
    /// The cookies that go along, likewise.
    pub cookies: Option<Vec<String>>,
    /// The members of a request's body that name a chat, in this order.
    pub chat: Vec<String>,
}

/// Events that are there already, for one answer: of whom the backend is, they are the only thing it says.
pub struct Once {
    events: Mutex<Option<Events>>,
    clocks: Clocks,
}

impl Once {
    /// With the clocks of the backend that they came from.
    #[must_use]
    pub fn new(events: Events, clocks: Clocks) -> Self {
        Self { events: Mutex::new(Some(events)), clocks }
    }
}

impl Backend for Once {
    fn generate(&self, _: &Prompt, _: &str) -> Events {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner).take();
        events.unwrap_or_else(|| fails(BackendError::new(ErrorKind::Failed, "these events were told already")))
    }

    fn clocks(&self) -> &Clocks {
        &self.clocks
    }
}

/// A generator.
pub trait Backend: Send + Sync + 'static {
    /// Begins an answer. `model` is the upstream's own name for the model. Nothing happens before the stream is polled.
    fn generate(&self, prompt: &Prompt, model: &str) -> Events;

    /// Whether the prompt can be put to this backend at all, so that it can be refused before a stream exists. Gives back the
    /// members of the client's request that it has no words for, and that would be left out.
    ///
    /// # Errors
    /// [`ErrorKind::Unfit`] or [`ErrorKind::UnknownModel`], with the remedy. [`Backend::generate`] gives the same error to whoever did not ask.
    fn check(&self, _prompt: &Prompt, _model: &str) -> Result<Vec<String>, BackendError> {
        Ok(Vec::new())
    }

    /// How long to wait for what.
    fn clocks(&self) -> &Clocks;

    /// How many tokens a request of Messages has, as the upstream counts them: its answer. `body` is the client's, `headers` go along.
    /// Nothing where there is no such call. The caller keeps the clock.
    fn count_tokens(
        &self,
        _body: &Json,
        _model: &str,
        _headers: Vec<(String, String)>,
    ) -> Option<BoxFuture<'static, Result<Json, BackendError>>> {
        None
    }

    /// The way to this path of its upstream, below the base URL and with this query, if the operator lets requests go there
    /// unread. Nothing is kept of them.
    fn way(&self, _path: &str, _query: Option<&str>) -> Option<Way> {
        None
    }

    /// How a request to this path goes to an application of the user's own, if this backend relays it. The path is the client's, from its
    /// first slash on.
    fn relay(&self, _path: &str, _query: Option<&str>) -> Option<Opening> {
        None
    }

    /// What the operator says of requests to this path, if it relays them; and whether just this one is named, and not all below another.
    fn relays(&self, _path: &str) -> Option<(&Relaying, bool)> {
        None
    }

    /// Where the user's own code is the generator: how long nothing may come of it before it is taken for gone.
    fn lease(&self) -> Option<Duration> {
        None
    }

    /// The models it can be asked for, where it knows them by itself.
    fn models(&self) -> Vec<String> {
        Vec::new()
    }

    /// The models it has: those that its upstream lists, where there is a call for that. The caller keeps the clock.
    fn list_models(&self) -> BoxFuture<'static, Result<Vec<String>, BackendError>> {
        Box::pin(future::ready(Ok(self.models())))
    }
}

/// The five clocks of a backend.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clocks {
    /// Until the connection stands.
    #[serde(with = "crate::duration")]
    pub connect: Duration,
    /// Until the response's head.
    #[serde(with = "crate::duration")]
    pub head: Duration,
    /// Until the first content.
    #[serde(with = "crate::duration")]
    pub first: Duration,
    /// Between two pieces of content. An upstream that sends heartbeats meanwhile has five times as long.
    #[serde(with = "crate::duration")]
    pub silence: Duration,
    /// For the whole answer.
    #[serde(with = "crate::duration")]
    pub total: Duration,
}

/// Reasoning models are slow and healthy, so the defaults are patient.
impl Default for Clocks {
    fn default() -> Self {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Self {
            connect: Duration::from_secs(5),
            head: minutes(5),
            first: minutes(10),
            silence: minutes(2),
            total: minutes(60),
        }
    }
}

/// Why a backend could not go on. Its text reaches the reader, so it holds no credential.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct BackendError {
    /// What kind of failure; its `code` is stable.
    pub kind: ErrorKind,
    /// What failed, and what can be done.
    pub message: String,
    /// The upstream's HTTP status.
    pub status: Option<u16>,
    /// The upstream's own code or type.
    pub r#type: Option<String>,
    /// When the upstream asks to be tried again.
    pub retry_after: Option<Duration>,
    /// The upstream's name for the request that it refused, for its operator.
    pub request_id: Option<String>,
    /// Whether the upstream asks to be tried again (`x-should-retry`); without a word of it the kind and the status decide.
    pub should_retry: Option<bool>,
}

/// What kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection.
    Unreachable,
    /// An HTTP status other than success.
    Refused,
    /// An error in the middle of the answer.
    Failed,
    /// The answer ended without its terminal mark, or the connection broke.
    Truncated,
    /// Not the protocol it should speak.
    Malformed,
    /// One of the clocks ran out.
    Timeout,
    /// The user's own code, which is the generator, is not heard of any more.
    Gone,
    /// It has called the answer off.
    CalledOff,
    /// The prompt cannot be put to this backend.
    Unfit,
    /// The backend knows all its models, and this is none of them.
    UnknownModel,
}

impl ErrorKind {
    /// The stable code that readers see.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "upstream_unreachable",
            Self::Refused => "upstream_refused",
            Self::Failed => "upstream_failed",
            Self::Truncated => "upstream_truncated",
            Self::Malformed => "upstream_malformed",
            Self::Timeout => "upstream_timeout",
            Self::Gone => "producer_gone",
            Self::CalledOff => "called_off",
            Self::Unfit => "unfit_prompt",
            Self::UnknownModel => "unknown_model",
        }
    }
}

impl BackendError {
    /// A failure with nothing more known of it.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, message, status: None, r#type: None, retry_after: None, request_id: None, should_retry: None }
    }

    /// Whether the same prompt may well succeed later.
    #[must_use]
    pub fn retryable(&self) -> bool {
        if let Some(word) = self.should_retry {
            return word;
        }
        match self.kind {
            ErrorKind::Unfit | ErrorKind::UnknownModel | ErrorKind::CalledOff => false,
            ErrorKind::Refused | ErrorKind::Failed => {
                self.status.is_none_or(|status| matches!(status, 408 | 409 | 429 | 500..))
            }
            ErrorKind::Unreachable
            | ErrorKind::Truncated
            | ErrorKind::Malformed
            | ErrorKind::Timeout
            | ErrorKind::Gone => true,
        }
    }
}

/// A backend cannot be made from its section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct BadConfig {
    /// The key within the section.
    pub key: String,
    /// What is wrong with its value, and what to write instead.
    pub problem: String,
}

impl BadConfig {
    fn new(key: impl Into<String>, problem: impl ToString) -> Self {
        Self { key: key.into(), problem: problem.to_string() }
    }
}

/// As the terminal record tells it.
impl From<BackendError> for Failure {
    fn from(error: BackendError) -> Self {
        Self {
            code: Cow::Borrowed(error.kind.code()),
            retryable: error.retryable(),
            r#type: error.r#type,
            message: error.message,
            upstream_status: error.status,
            request_id: error.request_id,
            retry_after: error.retry_after.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}
