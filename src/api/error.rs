//! Every error a client can get before its events begin, as RFC 9457 problem details with a stable `code`.
//!
//! The one place where errors become HTTP statuses. A problem names the field at fault and the remedy, where there is one.

use std::{borrow::Cow, time::Duration};

use axum::{
    extract::rejection::QueryRejection,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{
    event::{End, Status},
    gateway::{AttachError, Limited, PassError, RouteError, StartError, StoreError},
    id::Cursor,
    protocol::{BadRequest, Fault},
};

/// The header that names the backend to which a request is handed on.
pub(super) const X_LASTWORD_BACKEND: &str = "x-lastword-backend";

/// What to do about a stream that is not there.
const NO_STREAM: &str = "GET /v1/streams lists those there are; what is erased is gone";

/// See the module. Boxed, since every handler's `Result` has room for one.
#[derive(Clone, Debug)]
pub struct Problem(Box<Details>);

/// What is wrong, and what to do about it (RFC 9457).
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct Details {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    code: Cow<'static, str>,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    /// Whether trying again makes sense, where the status alone does not tell.
    #[serde(skip)]
    should_retry: Option<bool>,
    /// An upstream's name for the request, in place of ours.
    #[serde(skip)]
    request_id: Option<String>,
}

impl Problem {
    /// A problem; its title is that of its status.
    #[must_use]
    pub fn new(status: StatusCode, code: impl Into<Cow<'static, str>>, detail: impl Into<String>) -> Self {
        Self(Box::new(Details {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code: code.into(),
            detail: detail.into(),
            field: None,
            remedy: None,
            retry_after: None,
            should_retry: None,
            request_id: None,
        }))
    }

    /// Which member, parameter or header is at fault.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>) -> Self {
        self.0.field = Some(field.into());
        self
    }

    /// What to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// When it is worth trying again.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.retry_after = Some(wait);
        self
    }

    /// No such stream: it never was, was erased, or is somebody else's.
    #[must_use]
    pub fn no_stream(id: &str) -> Self {
        let known: String = id.chars().filter(char::is_ascii_graphic).take(64).collect();
        Self::new(StatusCode::NOT_FOUND, "stream_not_found", format!("there is no stream `{known}`")).remedy(NO_STREAM)
    }

    /// A cursor that cannot be served, told to a reader whose form has no word for it in-band.
    #[must_use]
    pub fn lost_its_place(certain: Cursor) -> Self {
        let detail = format!("what you have seen cannot be gone on from; what is certain of it ends at {certain}");
        Self::new(StatusCode::CONFLICT, "cursor_not_served", detail)
            .field("Last-Event-ID")
            .remedy("drop what you have beyond that, and read on behind it")
    }
}

/// What the shapes of other protocols are made of.
impl Problem {
    pub(super) fn status(&self) -> u16 {
        self.0.status
    }

    pub(super) fn code(&self) -> &str {
        &self.0.code
    }

    pub(super) fn is_unknown_model(&self) -> bool {
        self.0.code == "unknown_model"
    }

    pub(super) fn field_at_fault(&self) -> Option<&str> {
        self.0.field.as_deref()
    }

    /// What is wrong and what to do, in one sentence.
    pub(super) fn words(&self) -> String {
        match &self.0.remedy {
            Some(remedy) if !self.0.detail.contains(remedy) => format!("{}; {remedy}", self.0.detail),
            _ => self.0.detail.clone(),
        }
    }

    /// When it may be otherwise.
    pub(super) fn comes_later(&self) -> Option<Duration> {
        self.0.retry_after
    }

    pub(super) fn should_retry(&self) -> Option<bool> {
        self.0.should_retry
    }

    pub(super) fn request_id(&self) -> Option<&str> {
        self.0.request_id.as_deref()
    }
}

/// As the native API has it. The problem itself goes along, for [`surface`](super::surface) to say it in another shape.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.0).expect("a problem is plain data");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.0.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, seconds.max(1).into());
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// An answer that ended before it began, where that is told by a status.
impl From<End> for Problem {
    fn from(end: End) -> Self {
        let Fault { status, code, message } = Fault::of(&end).unwrap_or(Fault::TORN);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut problem = Self::new(status, code.to_owned(), message);
        let error = end.error.unwrap_or_default();
        problem.0.should_retry = Some(error.retryable);
        problem.0.retry_after = error.retry_after.map(Duration::from_millis);
        problem.0.request_id = error.request_id;
        problem
    }
}

/// A query string that cannot be read.
impl From<QueryRejection> for Problem {
    fn from(_: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", "the query string cannot be read")
            .field("query")
            .remedy("name each parameter once, and write it percent-encoded")
    }
}

impl From<BadRequest> for Problem {
    fn from(bad: BadRequest) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "bad_request", bad.detail).remedy(bad.remedy);
        problem.0.field = bad.field;
        problem
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let detail = error.to_string();
        match error {
            StoreError::Unknown(_) => Self::new(StatusCode::NOT_FOUND, "stream_not_found", detail).remedy(NO_STREAM),
            StoreError::Expired(_) => Self::new(StatusCode::GONE, "stream_expired", detail)
                .remedy("ask again; [store] retain says how long answers are kept"),
            StoreError::Full { .. } => Self::new(StatusCode::INSUFFICIENT_STORAGE, "store_full", detail)
                .remedy("wait until some answers have ended, or raise [store] max_bytes"),
            StoreError::Fenced | StoreError::Position { .. } | StoreError::Closed => {
                Self::new(StatusCode::CONFLICT, "stream_moved", detail).remedy("try again")
            }
            StoreError::Damaged(_) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "stream_damaged", detail)
                .remedy("ask again; the operator can remove the stream, or restore the store"),
            StoreError::Unavailable(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", detail)
                .retry_after(Duration::from_secs(5)),
        }
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        let detail = error.to_string();
        match error {
            StartError::Route(route) => route.into(),
            StartError::Unfit(_) => {
                let fields = ["backend_options", "`n`"];
                let field = fields.into_iter().find(|field| detail.contains(field)).unwrap_or("messages");
                Self::new(StatusCode::BAD_REQUEST, "unfit_prompt", detail)
                    .field(field.trim_matches('`'))
                    .remedy("change it, or ask another model")
            }
            StartError::Dropped(names) => Self::new(StatusCode::BAD_REQUEST, "unfit_prompt", detail)
                .field(names.first().cloned().unwrap_or_default())
                .remedy("leave it out, ask another model, or do without `strict`"),
            StartError::KeyReused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
                .field("Idempotency-Key")
                .remedy("use a new key for a new request, or send the same body again"),
            StartError::Busy(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail)
                .remedy("wait until some of them have ended, or raise the limit")
                .retry_after(Duration::from_secs(5)),
            StartError::Limited(limited) => limited.into(),
            StartError::Draining => Self::new(StatusCode::SERVICE_UNAVAILABLE, "draining", detail)
                .remedy("ask again: another server, or this one when it is back")
                .retry_after(Duration::from_secs(2)),
            StartError::Store(store) => store.into(),
            StartError::Lost => Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", detail),
        }
    }
}

impl From<Limited> for Problem {
    fn from(limited: Limited) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, limited.limit, limited.to_string())
            .remedy("wait as long as Retry-After says, or have [limits.per_key] or [limits.keys.NAME] raised")
            .retry_after(limited.retry_after)
    }
}

impl From<AttachError> for Problem {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Store(store) => store.into(),
            AttachError::Crowded(limited) => {
                let detail = limited.to_string();
                Self::new(StatusCode::TOO_MANY_REQUESTS, limited.limit, detail).retry_after(limited.retry_after)
            }
        }
    }
}

impl From<PassError> for Problem {
    fn from(error: PassError) -> Self {
        let detail = error.to_string();
        match error {
            PassError::NotAllowed { .. } => Self::new(StatusCode::NOT_FOUND, "not_found", detail),
            PassError::WhichBackend(_) => Self::new(StatusCode::BAD_REQUEST, "which_backend", detail)
                .field(X_LASTWORD_BACKEND)
                .remedy(format!("name one of them in the header {X_LASTWORD_BACKEND}")),
            PassError::Route(route) => route.into(),
            PassError::Draining => StartError::Draining.into(),
            PassError::Upstream(failure) => {
                End { status: Status::Failed, reason: None, usage: None, error: Some(failure) }.into()
            }
        }
    }
}

impl From<RouteError> for Problem {
    fn from(error: RouteError) -> Self {
        let detail = error.to_string();
        match error {
            RouteError::UnknownModel { remedy, .. } => {
                Self::new(StatusCode::BAD_REQUEST, "unknown_model", detail).field("model").remedy(remedy)
            }
            RouteError::UnknownBackend { remedy, .. } => {
                Self::new(StatusCode::BAD_REQUEST, "unknown_backend", detail).field(X_LASTWORD_BACKEND).remedy(remedy)
            }
            RouteError::NoDefault { choice } => Self::new(StatusCode::BAD_REQUEST, "no_default_model", detail)
                .field("model")
                .remedy(format!("name one of: {choice}")),
        }
    }
}
