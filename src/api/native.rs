//! `/v1/streams` and `/v1/models`: the native API, route by route.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{
        FromRequestParts, Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::{
    Api, X_STREAM_ID,
    auth::NOBODY,
    connection::Connection,
    error::Problem,
    events::{self, Heartbeat},
};
use crate::{
    gateway::{Ask, Listed, Started, Stream},
    id::{Seen, StreamId},
    prompt::Prompt,
    protocol::native::{self, Answer, Native},
    record::summary::Summary,
};

/// `POST /v1/streams`: starts an answer. The response is its state, or, if the client takes events, the events themselves.
///
/// A client that repeats its POST after a cut (fetch-event-source does) says with `Last-Event-ID` what it has seen, and is
/// attached to that answer: never is a second one generated.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    connection: Connection,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let body = whole(&api, body)?;
    let wants_events = accepts_events(&headers);
    let seen = last_event_id(&headers)?;
    if let Some(Seen::Long(id, _)) = seen {
        return follow(&api, id, seen, connection).await;
    }
    let idempotency = idempotency_key(&headers)?.map(|key| (key, fingerprint(&headers, &body)));
    if seen.is_some() {
        let again = match &idempotency {
            Some((key, fingerprint)) => api.gateway.find(NOBODY, key, fingerprint).await?,
            None => None,
        };
        let Some(id) = again else {
            let detail = "this POST continues an answer (it has a Last-Event-ID), and it is not known which one";
            return Err(Problem::new(StatusCode::CONFLICT, "which_stream", detail)
                .field("Last-Event-ID")
                .remedy("send the id as it was in the answer to the first POST, or the same Idempotency-Key, or read events_url"));
        };
        return follow(&api, id, seen, connection).await;
    }
    let prompt = prompt(&headers, &body)?;
    let started = api.gateway.start(Ask { owner: NOBODY.to_owned(), prompt, idempotency }).await?;
    let id = started.id();
    let mut response = match wants_events {
        true => follow(&api, id, None, connection).await?,
        false => {
            let stream = api.gateway.stream(NOBODY, id).await?;
            located(id, (StatusCode::CREATED, Json(state(stream, None))).into_response())
        }
    };
    if matches!(started, Started::Again(_)) {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    Ok(response)
}

/// `GET /v1/streams/{id}/events`: the events after the reader's cursor, then those that come, then the end.
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    connection: Connection,
    Named(id): Named,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let (seen, heartbeat) = wishes(&headers, &query)?;
    attach(&api, id, seen, Native::short(), heartbeat, connection).await
}

/// `HEAD /v1/streams/{id}/events`: whether there is something to read. Nobody is attached.
pub(super) async fn events_head(State(api): State<Arc<Api>>, Named(id): Named) -> Result<Response, Problem> {
    api.gateway.stream(NOBODY, id).await?;
    // Of unknown length, as the events are: an empty body would be announced with a length.
    Ok(events::head(StatusCode::OK, id, Body::from_stream(stream::empty::<Result<Bytes, Infallible>>())))
}

/// `GET /v1/streams/{id}`: the state, with all that was said so far.
pub(super) async fn show(State(api): State<Arc<Api>>, Named(id): Named) -> Result<Response, Problem> {
    full_state(&api, id).await
}

/// How much of a list to show.
#[derive(Debug, Deserialize)]
pub(super) struct Slice {
    limit: Option<String>,
    before: Option<String>,
}

/// A page of a list. (Not a JSON value made on the way: that would round the numbers in somebody's metadata.)
#[derive(Debug, Serialize)]
struct Listing {
    streams: Vec<native::State>,
    next: Option<String>,
}

/// `GET /v1/streams`: the caller's streams, newest first, without what was said in them.
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    slice: Result<Query<Slice>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(slice) = slice?;
    let bad = |field, detail: String, remedy| {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).field(field).remedy(remedy)
    };
    let limit = match slice.limit.as_deref().map(str::parse::<usize>) {
        None => 20,
        Some(Ok(limit @ 1..=100)) => limit,
        Some(_) => return Err(bad("limit", "`limit` is not a number from 1 to 100".into(), "leave it out for 20")),
    };
    let before = match slice.before.as_deref().filter(|before| !before.is_empty()).map(str::parse) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(error)) => {
            return Err(bad("before", format!("`before`: {error}"), "give the last id of the page before"));
        }
    };
    let mut streams = api.gateway.list(NOBODY, before, limit + 1).await?;
    let more = streams.len() > limit;
    streams.truncate(limit);
    let next = streams.last().filter(|_| more).map(|last| format!("/v1/streams?limit={limit}&before={}", last.meta.id));
    let streams = streams.into_iter().map(|stream| state(stream, None)).collect();
    Ok(Json(Listing { streams, next }).into_response())
}

/// `POST /v1/streams/{id}/cancel`: stops the generation; what was said stands. The response is the state.
pub(super) async fn cancel(State(api): State<Arc<Api>>, Named(id): Named) -> Result<Response, Problem> {
    api.gateway.cancel(NOBODY, id).await?;
    full_state(&api, id).await
}

/// `DELETE /v1/streams/{id}`: cancels it if it runs, then erases it.
pub(super) async fn remove(State(api): State<Arc<Api>>, Named(id): Named) -> Result<Response, Problem> {
    api.gateway.remove(NOBODY, id).await?;
    Ok(named(id, StatusCode::NO_CONTENT.into_response()))
}

/// `GET /v1/models`: what can be asked for.
pub(super) async fn models(State(api): State<Arc<Api>>) -> Response {
    let model = |model: Listed| json!({ "id": model.name, "object": "model", "created": 0, "owned_by": model.backend });
    let data: Vec<_> = api.gateway.router().models().into_iter().map(model).collect();
    Json(json!({ "object": "list", "data": data, "default": api.gateway.router().default_model() })).into_response()
}

/// The events as the answer to a POST.
async fn follow(api: &Arc<Api>, id: StreamId, seen: Option<Seen>, connection: Connection) -> Result<Response, Problem> {
    let events = attach(api, id, seen, Native::long(id), Heartbeat::default(), connection).await?;
    Ok(located(id, events))
}

async fn attach(
    api: &Arc<Api>,
    id: StreamId,
    seen: Option<Seen>,
    encoder: Native,
    heartbeat: Heartbeat,
    connection: Connection,
) -> Result<Response, Problem> {
    let attachment = api.gateway.attach(NOBODY, id, seen).await?;
    events::respond(api, attachment, encoder, heartbeat, connection).await
}

async fn full_state(api: &Arc<Api>, id: StreamId) -> Result<Response, Problem> {
    let stream = api.gateway.stream(NOBODY, id).await?;
    let mut answer = Answer::default();
    let mut known = Summary::default();
    api.gateway
        .records(id, stream.meta.last, |cursor, record| {
            answer.take(record);
            known.take_record(cursor, record);
        })
        .await?;
    let stream = Stream { summary: Some(known), ..stream };
    Ok(named(id, Json(state(stream, Some(answer))).into_response()))
}

/// Of a stream whose log was not read, what the store says: of one that runs, little more than that it does.
fn state(stream: Stream, answer: Option<Answer>) -> native::State {
    let Stream { meta, begin, summary } = stream;
    let known = summary.unwrap_or_else(|| Summary { cursor: meta.last, ..Summary::default() });
    native::State::new(meta.id, meta.created_at, begin, known, answer)
}

/// The stream that the path names. A segment that is not an id names none.
pub(super) struct Named(StreamId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(Problem::no_stream("?"));
        };
        text.parse().map(Self).map_err(|_| Problem::no_stream(&text))
    }
}

/// The response with the stream's id in its head.
fn named(id: StreamId, mut response: Response) -> Response {
    response.headers_mut().insert(X_STREAM_ID, HeaderValue::from_str(&id.to_string()).expect("hex digits"));
    response
}

/// The answer to a POST: with the stream's id and its place.
fn located(id: StreamId, response: Response) -> Response {
    let mut response = named(id, response);
    let location = HeaderValue::from_str(&format!("/v1/streams/{id}")).expect("a path of hex digits");
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn whole(api: &Api, body: Result<Bytes, BytesRejection>) -> Result<Bytes, Problem> {
    body.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => {
            let max = api.settings.max_body;
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", format!("the body is larger than {max}"))
                .remedy("send less, or raise [server] max_body")
        }
        status => Problem::new(status, "bad_request", "the body could not be read to its end").remedy("send it again"),
    })
}

/// JSON, whatever its content type (`curl -d` sends none of its own making), unless it says it is plain text.
fn prompt(headers: &HeaderMap, body: &[u8]) -> Result<Prompt, Problem> {
    Ok(match is_text(headers) {
        true => native::on_text(body)?,
        false => native::parse(body)?,
    })
}

fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepts = headers.get_all(header::ACCEPT).into_iter().filter_map(|accept| accept.to_str().ok());
    accepts
        .flat_map(|accept| accept.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream")))
}

/// The header, if it is there and not empty (some clients send an empty one on the first request).
fn last_event_id(headers: &HeaderMap) -> Result<Option<Seen>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    // What is not ASCII was never one of our ids: that is told in-band.
    let text = value.to_str().unwrap_or("\u{fffd}").trim();
    Ok((!text.is_empty()).then(|| Seen::parse(text)))
}

/// What a reader of the events asked for: the header beats the query, since polyfills send both.
fn wishes(headers: &HeaderMap, query: &HashMap<String, String>) -> Result<(Option<Seen>, Heartbeat), Problem> {
    let bad = |field: &str, value: &str, remedy: &str| {
        let detail = format!("`{field}` cannot be `{}`", value.chars().take(64).collect::<String>());
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).field(field).remedy(remedy)
    };
    let asked = ["after", "last_event_id", "lastEventId"].into_iter().filter_map(|name| query.get(name));
    let seen = match last_event_id(headers)? {
        None => asked.map(|text| text.trim()).find(|text| !text.is_empty()).map(Seen::parse),
        seen => seen,
    };
    match query.get("format").map(String::as_str) {
        None | Some("sse" | "") => {}
        Some(other) => return Err(bad("format", other, "leave it out, or say `sse`")),
    }
    let heartbeat = match query.get("heartbeat").map(String::as_str) {
        None | Some("comment" | "") => Heartbeat::Comment,
        Some("event") => Heartbeat::Event,
        Some(other) => return Err(bad("heartbeat", other, "leave it out, or say `event`")),
    };
    Ok((seen, heartbeat))
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

fn fingerprint(headers: &HeaderMap, body: &[u8]) -> Bytes {
    let surface: &[u8] = if is_text(headers) { b"native text " } else { b"native json " };
    Bytes::copy_from_slice(&Sha256::new().chain_update(surface).chain_update(body).finalize())
}
