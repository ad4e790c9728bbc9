//! `/v1/streams`: the native API, route by route.

use std::{collections::HashMap, convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::{
    Api,
    auth::NOBODY,
    body::Whole,
    connection::Connection,
    error::Problem,
    events::{self, Heartbeat, Seat},
    post::{self, named},
    prompts,
};
use crate::{
    gateway::Stream,
    id::{Cursor, Seen, StreamId},
    prompt::Prompt,
    protocol::{
        chat::{ChatEncode, Envelope},
        messages::MessagesEncode,
        native::{self, Answer, Asked, Native, Start, events_url, rfc3339},
        responses::{self, ResponsesEncode},
    },
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
    body: Whole,
) -> Result<Response, Problem> {
    let surface = if is_text(&headers) { "native text" } else { "native json" };
    let begun =
        post::begin(&api, surface, &headers, &body.bytes, async || prompt(&api, &headers, &body.bytes).await).await?;
    let response = match begun.seen.is_some() || accepts_events(&headers) {
        true => {
            let seat = Seat::take(&api, begun.id, begun.seen, connection).await?;
            relay(&api, seat, Native::long(begun.id), Heartbeat::default()).await?
        }
        false => {
            let stream = api.gateway.stream(NOBODY, begun.id).await?;
            (StatusCode::CREATED, Json(state(stream, None))).into_response()
        }
    };
    Ok(begun.head(response))
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
    let Wishes { seen, heartbeat, format } = wishes(&headers, &query)?;
    let seat = Seat::take(&api, id, seen, connection).await?;
    match format {
        Format::Native => relay(&api, seat, Native::short(), heartbeat).await,
        Format::Chat { include_usage } => {
            let Stream { meta, begin, .. } = &seat.stream;
            let encoder = ChatEncode::new(Envelope::new(id, meta.created_at, &begin.model), include_usage);
            Ok(seat.relay(&api, encoder, |_, _| None, heartbeat).await?)
        }
        Format::Messages => {
            let encoder = MessagesEncode::new(id, &seat.stream.begin.model);
            let heartbeat = if heartbeat == Heartbeat::Comment { Heartbeat::Ping } else { heartbeat };
            Ok(seat.relay(&api, encoder, |_, _| None, heartbeat).await?)
        }
        Format::Responses => {
            let Stream { meta, begin, .. } = &seat.stream;
            let envelope = responses::Envelope::new(id, meta.created_at, &begin.model, begin.metadata.as_ref());
            Ok(seat.relay(&api, ResponsesEncode::new(envelope), |_, _| None, heartbeat).await?)
        }
    }
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

/// The events in the native protocol. What comes first, without a cursor, is made from what is known of the stream.
async fn relay(api: &Arc<Api>, seat: Seat, encoder: Native, heartbeat: Heartbeat) -> Result<Response, Problem> {
    let words = encoder.clone();
    let start = move |stream: &Stream, retry| {
        let (id, created_at) = (stream.meta.id, rfc3339(stream.meta.created_at));
        let start = Start { id, model: &stream.begin.model, created_at, events_url: events_url(id) };
        let mut out = BytesMut::new();
        words.start(&start, Some(retry), &mut out);
        Some(out.freeze())
    };
    Ok(seat.relay(api, encoder, start, heartbeat).await?)
}

async fn full_state(api: &Arc<Api>, id: StreamId) -> Result<Response, Problem> {
    let stream = api.gateway.stream(NOBODY, id).await?;
    let mut answer = Answer::default();
    let mut known = Summary::default();
    api.gateway
        .records(id, Cursor::START, stream.meta.last, |cursor, record| {
            answer.take(record);
            known.take_record(cursor, record);
        })
        .await?;
    let stream = Stream { summary: Some(known), ..stream };
    Ok(named(id, Json(state(stream, Some(answer))).into_response()))
}

/// Of a stream whose log was not read, what the store says: of one that runs, little more than that it does.
fn state(stream: Stream, answer: Option<Answer>) -> native::State {
    let Stream { meta, begin, summary, .. } = stream;
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

/// JSON, whatever its content type (`curl -d` sends none of its own making), unless it says it is plain text.
async fn prompt(api: &Api, headers: &HeaderMap, body: &[u8]) -> Result<Prompt, Problem> {
    if is_text(headers) {
        return Ok(native::on_text(body)?);
    }
    let Asked { prompt, template } = native::parse(body)?;
    match template {
        Some((name, variables)) => prompts::filled_in(api, prompt, name, variables).await,
        None => Ok(prompt),
    }
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

/// What a reader of the events asked for.
struct Wishes {
    seen: Option<Seen>,
    heartbeat: Heartbeat,
    format: Format,
}

/// The protocol in which a reader is told the events.
enum Format {
    Native,
    Chat { include_usage: bool },
    Messages,
    Responses,
}

/// For the cursor the header beats the query, since polyfills send both.
fn wishes(headers: &HeaderMap, query: &HashMap<String, String>) -> Result<Wishes, Problem> {
    let asked = ["after", "last_event_id", "lastEventId"].into_iter().filter_map(|name| query.get(name));
    let asked = asked.map(|text| text.trim()).find(|text| !text.is_empty());
    let seen = post::last_event_id(headers).or_else(|| asked.map(Seen::parse));
    let bad = |field: &str, value: &str, remedy: &str| {
        let detail = format!("`{field}` cannot be `{}`", value.chars().take(64).collect::<String>());
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).field(field).remedy(remedy)
    };
    let word = |name| query.get(name).map_or("", String::as_str);
    let heartbeat = match word("heartbeat") {
        "" | "comment" => Heartbeat::Comment,
        "event" => Heartbeat::Event,
        other => return Err(bad("heartbeat", other, "leave it out, or say `event`")),
    };
    let include_usage = match word("include_usage") {
        "" | "false" => false,
        "true" => true,
        other => return Err(bad("include_usage", other, "leave it out, or say `true`")),
    };
    let format = match word("format") {
        "" | "sse" => Format::Native,
        "chat" => Format::Chat { include_usage },
        "responses" => Format::Responses,
        "messages" => Format::Messages,
        other => return Err(bad("format", other, "leave it out, or say `sse`, `chat`, `responses` or `messages`")),
    };
    Ok(Wishes { seen, heartbeat, format })
}
