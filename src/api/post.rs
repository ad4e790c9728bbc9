//! What every surface's POST has in common: which answer it is about, the head that names it, and, where a protocol binds the answer to
//! its request, how that is given: in events or whole.
//!
//! A POST asks for a new answer, unless its `Last-Event-ID` names the one it continues, or its `Idempotency-Key` was used for the
//! same body before. So a client that repeats its POST, for whatever reason, pays once.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::{
    Api, X_LASTWORD_DROPPED, X_STREAM_ID,
    auth::Caller,
    connection::Connection,
    error::Problem,
    events::{Heartbeat, Seat},
};
use crate::{
    event::{End, Status},
    gateway::{Ask, Place, Started, Stream},
    id::{Seen, StreamId},
    prompt::Prompt,
    protocol::Encode,
    record::Record,
};

/// The answer that a POST is about.
pub(super) struct Begun {
    /// Who asked.
    pub(super) caller: Caller,
    /// Its stream.
    pub(super) id: StreamId,
    /// What the client has seen of it.
    pub(super) seen: Option<Seen>,
    /// It was begun by an earlier POST with the same key.
    replayed: bool,
    /// What the upstream was not told.
    dropped: Vec<String>,
}

/// Starts the answer that this POST asks for, or finds the one that it continues. `surface` tells the same body on two surfaces
/// apart.
///
/// # Errors
/// When nothing was started and nothing was found.
pub(super) async fn begin(
    api: &Arc<Api>,
    caller: Caller,
    surface: &str,
    headers: &HeaderMap,
    body: &[u8],
    chat: Option<String>,
    prompt: impl AsyncFnOnce() -> Result<Prompt, Problem>,
) -> Result<Begun, Problem> {
    let seen = last_event_id(headers);
    if let Some(id) = seen.and_then(|seen| seen.stream()) {
        return Ok(Begun { caller, id, seen, replayed: false, dropped: Vec::new() });
    }
    let idempotency = idempotency(headers, surface, body)?;
    if seen.is_some() {
        let again = match &idempotency {
            Some((key, fingerprint)) => api.gateway.find(caller.owner(), key, fingerprint).await?,
            None => None,
        };
        let Some(id) = again else {
            let detail = "this POST continues an answer (it has a Last-Event-ID), and it is not known which one";
            return Err(Problem::new(StatusCode::CONFLICT, "which_stream", detail)
                .field("Last-Event-ID")
                .remedy("send the id as it was in the answer to the first POST, or the same Idempotency-Key, or read events_url"));
        };
        return Ok(Begun { caller, id, seen, replayed: false, dropped: Vec::new() });
    }
    // Before the prompt is made, for which it may need what is gone by now.
    if let Some((key, fingerprint)) = &idempotency
        && let Some(id) = api.gateway.find(caller.owner(), key, fingerprint).await?
    {
        return Ok(Begun { caller, id, seen: None, replayed: true, dropped: Vec::new() });
    }
    let prompt = Prompt { headers: going_along(headers), ..prompt().await? };
    let started = api.gateway.start(Ask { owner: caller.owner().to_owned(), prompt, idempotency, chat }).await?;
    let Started { id, again, dropped } = started;
    Ok(Begun { caller, id, seen: None, replayed: again, dropped })
}

impl Begun {
    /// The response with the stream's id and its place in its head.
    pub(super) fn head(&self, response: Response) -> Response {
        let mut response = named(self.id, response);
        let location = HeaderValue::from_str(&format!("/v1/streams/{}", self.id)).expect("a path of hex digits");
        response.headers_mut().insert(header::LOCATION, location);
        if self.replayed {
            response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        // Members have names of all sorts; those that no header can carry are not worth a failure.
        if let Some(dropped) = HeaderValue::try_from(self.dropped.join(", ")).ok().filter(|names| !names.is_empty()) {
            response.headers_mut().insert(X_LASTWORD_DROPPED, dropped);
        }
        response
    }
}

/// The answer as events of a protocol. The response's head waits for the first word, so that an upstream's refusal is a status.
///
/// # Errors
/// When the answer ended before it said anything, or cannot be read.
pub(super) async fn streamed<E: Encode + 'static>(
    api: &Arc<Api>,
    begun: &Begun,
    connection: Connection,
    heartbeat: Heartbeat,
    encoder: impl FnOnce(&Stream) -> E,
) -> Result<Response, Problem> {
    let seat = Seat::take(api, &begun.caller, begun.id, begun.seen, connection).await?;
    if seat.from == Place::Start
        && let Some(end) = seat.first_word::<E>(api.settings.commit_after).await?
        && end.status != Status::Completed
    {
        return Err(end.into());
    }
    let encoder = encoder(&seat.stream);
    Ok(seat.relay(api, encoder, |_, _| None, heartbeat).await?)
}

/// The answer when it is whole, from its beginning whatever the client has seen: a fold over the log, and the JSON it comes to.
///
/// # Errors
/// When the answer is not whole, or cannot be read.
pub(super) async fn whole<F>(
    api: &Arc<Api>,
    begun: &Begun,
    connection: Connection,
    fold: impl FnOnce(&Stream) -> F,
    take: impl Fn(&mut F, &Record<'_>) + Send + Sync,
    finish: impl FnOnce(F) -> Result<Vec<u8>, Box<End>>,
) -> Result<Response, Problem>
where
    F: Send,
{
    let seat = Seat::take(api, &begun.caller, begun.id, None, connection).await?;
    let mut answer = fold(&seat.stream);
    seat.read(|record| take(&mut answer, record)).await?;
    let json = finish(answer).map_err(|end| *end)?;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, json).into_response())
}

/// The response with the stream's id in its head.
pub(super) fn named(id: StreamId, mut response: Response) -> Response {
    response.headers_mut().insert(X_STREAM_ID, HeaderValue::from_str(&id.to_string()).expect("hex digits"));
    response
}

/// The header, if it is there and not empty (some clients send an empty one on the first request).
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<Seen> {
    // What is not ASCII was never one of our ids: that is told in-band.
    let text = headers.get("last-event-id")?.to_str().unwrap_or("\u{fffd}").trim();
    (!text.is_empty()).then(|| Seen::parse(text))
}

/// The headers by which a protocol's clients choose among its features. (Whose account it is says the operator's key, and so
/// `openai-organization` and `openai-project` stay here.)
pub(super) fn going_along(headers: &HeaderMap) -> Vec<(String, String)> {
    let known = ["anthropic-beta", "anthropic-version", "openai-beta"];
    let text = |name: &str| {
        let values: Vec<_> = headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        (!values.is_empty()).then(|| (name.to_owned(), values.join(",")))
    };
    known.into_iter().filter_map(text).collect()
}

/// The key of a POST, with a fingerprint of its body.
///
/// # Errors
/// When it can be no key.
pub(super) fn idempotency(headers: &HeaderMap, surface: &str, body: &[u8]) -> Result<Option<(String, Bytes)>, Problem> {
    Ok(idempotency_key(headers)?.map(|key| (key, fingerprint(surface, body))))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "bad_request",
            "`Idempotency-Key` is empty, too long or not ASCII",
        )
        .field("Idempotency-Key")
        .remedy("give 1 to 255 visible ASCII characters, such as a UUID")),
    }
}

fn fingerprint(surface: &str, body: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&Sha256::new().chain_update(surface).chain_update(" ").chain_update(body).finalize())
}

/// The stream that the path names. A segment that is not an id names none.
pub(super) struct Named(pub(super) StreamId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(Problem::no_stream("?"));
        };
        text.parse().map(Self).map_err(|_| Problem::no_stream(&text))
    }
}
