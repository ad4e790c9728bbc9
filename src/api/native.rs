//! `/v1/streams`: the native API, route by route.

mod wishes;

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use wishes::{Format, Wishes, Words, wishes};

use super::{
    Api,
    auth::Caller,
    body::Whole,
    connection::Connection,
    error::Problem,
    events::{self, Heartbeat, Seat},
    openapi::words,
    post::{self, Named, named},
    prompts,
};
use crate::{
    event::Chunking,
    gateway::{Place, Stream},
    id::{Cursor, StreamId},
    prompt::Prompt,
    protocol::{
        ai_sdk::AiSdkEncode,
        chat::{ChatEncode, Envelope},
        messages::MessagesEncode,
        native::{self, Asked, Chunks, Fold, Native, Start, Text, rfc3339},
        relayed::Relayed,
        responses::{self, ResponsesEncode},
    },
    record::summary::Summary,
    wire::{Form, Frame, ndjson::Ndjson},
};

/// `POST /v1/streams`: starts an answer. The response is its state, or, if the client takes events, the events themselves.
///
/// A client that repeats its POST after a cut (fetch-event-source does) says with `Last-Event-ID` what it has seen, and is
/// attached to that answer: never is a second one generated.
#[utoipa::path(post, path = "/v1/streams", tag = "streams", operation_id = "create_stream", summary = "Start an answer",
    params(words::Post, words::Seen, words::Form),
    request_body(content((native::Create = "application/json"), (String = "text/plain")), description = "What is asked. Exactly one of `prompt`, `messages` and `template`; plain text is the prompt itself"),
    responses(
        (status = 201, description = "It began: its state", body = native::State, headers(("Location" = String), ("x-stream-id" = String))),
        (status = 200, description = "Where a form of events is asked for: the events, from the beginning",
            content((words::Told = "text/event-stream"), (String = "application/x-ndjson"), (String = "text/plain"), (Object = "application/json"))),
        (status = 204, description = "A repeated POST that has seen the end"),
        words::Refused,
    ))]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    connection: Connection,
    query: Result<Query<Words>, QueryRejection>,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let wishes = wishes(&headers, &query)?;
    let surface = if is_text(&headers) { "native text" } else { "native json" };
    let begun = post::begin(&api, caller.clone(), surface, &headers, &body.bytes, None, async || {
        prompt(&api, &headers, &body.bytes).await
    })
    .await?;
    let response = match wishes.format.filter(|format| *format != Format::Json) {
        None if begun.seen.is_none() => {
            let stream = api.gateway.stream(caller.owner(), begun.id).await?;
            (StatusCode::CREATED, Json(state(&api, &caller, stream))).into_response()
        }
        // Who says what it has seen wants the rest, in whatever form.
        format => {
            let wishes = Wishes { format, ..wishes };
            let seat = Seat::take(&api, &caller, begun.id, begun.seen, connection).await?;
            told(&api, &caller, seat, Native::long(begun.id), wishes).await?
        }
    };
    Ok(begun.head(response))
}

/// `GET /v1/streams/{id}/events`: the events after the reader's cursor, then those that come, then the end.
#[utoipa::path(get, path = "/v1/streams/{id}/events", tag = "streams", operation_id = "read_events", summary = "Read an answer",
    params(words::Id, words::Seen, words::After, words::Form),
    responses(
        (status = 200, description = "The events, in the form that was asked for",
            content((words::Told = "text/event-stream"), (String = "application/x-ndjson"), (String = "text/plain"), (Object = "application/json"))),
        (status = 204, description = "The end was seen: there is nothing behind it"),
        words::Refused,
    ))]
pub(super) async fn events(
    State(api): State<Arc<Api>>,
    caller: Caller,
    connection: Connection,
    Named(id): Named,
    query: Result<Query<Words>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let wishes = wishes(&headers, &query)?;
    let seat = Seat::take(&api, &caller, id, wishes.seen, connection).await?;
    told(&api, &caller, seat, Native::short(), wishes).await
}

/// `HEAD /v1/streams/{id}/events`: whether there is something to read. Nobody is attached.
#[utoipa::path(head, path = "/v1/streams/{id}/events", tag = "streams", operation_id = "has_events", summary = "Is there something to read?",
    params(words::Id, words::Form),
    responses((status = 200, description = "There is"), (status = 404, description = "There is not"), (status = "default", description = "It cannot be told")))]
pub(super) async fn events_head(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named,
    query: Result<Query<Words>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let format = wishes(&headers, &query)?.format;
    api.gateway.stream(caller.owner(), id).await?;
    let form = match format {
        Some(Format::Ndjson) => Form::Ndjson,
        Some(Format::Text) => Form::Text,
        _ => Form::Sse,
    };
    // Of unknown length, as the events are: an empty body would be announced with a length.
    let nothing = Body::from_stream(stream::empty::<Result<Bytes, Infallible>>());
    let mut response = events::head(StatusCode::OK, id, form, nothing);
    if format == Some(Format::Json) {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    Ok(response)
}

/// `GET /v1/streams/{id}`: the state, with all that was said so far. To a client that asks for events, or says what it has seen of them,
/// the answer itself, in the protocol in which it was asked for: the `Location` of a POST is where it can be gone on with.
#[utoipa::path(get, path = "/v1/streams/{id}", tag = "streams", operation_id = "get_stream", summary = "The state of an answer, with all that was said so far",
    params(words::Id, words::Seen), responses((status = 200, description = "The state; the events, if they are asked for", content((native::State = "application/json"), (words::Told = "text/event-stream"))), words::Refused))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    connection: Connection,
    Named(id): Named,
    query: Result<Query<Words>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let seen = post::last_event_id(&headers);
    let wishes = wishes(&headers, &Words::new())?;
    if seen.is_none() && wishes.format != Some(Format::Sse) {
        return full_state(&api, &caller, id).await;
    }
    let Query(query) = query?;
    let stream = api.gateway.stream(caller.owner(), id).await?;
    let wishes = Wishes { seen, ..self::wishes(&headers, &query)? };
    let format = wishes.format.filter(|_| query.contains_key("format")).unwrap_or(Format::of(&stream.begin.protocol));
    let seat = Seat::take(&api, &caller, id, seen, connection).await?;
    told(&api, &caller, seat, Native::long(id), Wishes { format: Some(format), ..wishes }).await
}

/// How much of a list to show.
#[derive(Debug, Deserialize)]
pub(super) struct Slice {
    limit: Option<String>,
    before: Option<String>,
}

/// A page of a list. (Not a JSON value made on the way: that would round the numbers in somebody's metadata.)
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Listing {
    /// Newest first, without what was said in them.
    streams: Vec<native::State>,
    /// Where the next page is, if there is one.
    #[schema(required = true)]
    next: Option<String>,
}

/// `GET /v1/streams`: the caller's streams, newest first, without what was said in them.
#[utoipa::path(get, path = "/v1/streams", tag = "streams", operation_id = "list_streams", summary = "Your answers, newest first",
    params(words::Slice), responses((status = 200, description = "A page", body = Listing), words::Refused))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
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
    let mut streams = api.gateway.list(caller.owner(), before, limit + 1).await?;
    let more = streams.len() > limit;
    streams.truncate(limit);
    let next = streams.last().filter(|_| more).map(|last| format!("/v1/streams?limit={limit}&before={}", last.meta.id));
    let streams = streams.into_iter().map(|stream| state(&api, &caller, stream)).collect();
    Ok(Json(Listing { streams, next }).into_response())
}

/// `POST /v1/streams/{id}/cancel`: stops the generation; what was said stands. The response is the state.
#[utoipa::path(post, path = "/v1/streams/{id}/cancel", tag = "streams", operation_id = "cancel_stream", summary = "Stop an answer: what was said stands",
    params(words::Id), responses((status = 200, description = "The state", body = native::State), words::Refused))]
pub(super) async fn cancel(State(api): State<Arc<Api>>, caller: Caller, Named(id): Named) -> Result<Response, Problem> {
    api.gateway.cancel(caller.owner(), id).await?;
    full_state(&api, &caller, id).await
}

/// `DELETE /v1/streams/{id}`: cancels it if it runs, then erases it.
#[utoipa::path(delete, path = "/v1/streams/{id}", tag = "streams", operation_id = "delete_stream", summary = "Cancel an answer if it runs, then erase it",
    params(words::Id), responses((status = 204, description = "It is gone"), words::Refused))]
pub(super) async fn remove(State(api): State<Arc<Api>>, caller: Caller, Named(id): Named) -> Result<Response, Problem> {
    api.gateway.remove(caller.owner(), id).await?;
    Ok(named(id, StatusCode::NO_CONTENT.into_response()))
}

/// The events, as the reader wants to be told them. `native` knows how ids are written.
async fn told(
    api: &Arc<Api>,
    caller: &Caller,
    seat: Seat,
    native: Native,
    wishes: Wishes,
) -> Result<Response, Problem> {
    let heartbeat = wishes.heartbeat;
    let url = caller.events_url(api, seat.stream.meta.id);
    let Stream { meta, begin, .. } = &seat.stream;
    let (id, created_at) = (meta.id, meta.created_at);
    if matches!(wishes.format, None | Some(Format::Sse | Format::Ndjson)) {
        seat.comes_back();
    }
    let response = match wishes.format.unwrap_or(Format::Sse) {
        Format::Sse => relay(api, url, seat, native, wishes).await?,
        Format::Ndjson => relay(api, url, seat, native.written(Ndjson::default()), wishes).await?,
        Format::Text => {
            if let Place::Reset(reset) = seat.from {
                return Err(Problem::lost_its_place(reset.after));
            }
            // The words so far are words.
            relay(api, url, seat, native.written(Text::default()), Wishes { snapshot: false, ..wishes }).await?
        }
        Format::Json => {
            let mut native = native.written(Ndjson::list());
            let seat = so_far(api, seat, &mut native, wishes.snapshot).await?;
            let (chunks, first) = (Chunks::new(native.clone(), chunking(&seat, &wishes)), first(native, url));
            seat.poll(api, chunks, |stream| first(stream, 0), wishes.wait).await?
        }
        Format::Chat { include_usage } => {
            let encoder = ChatEncode::new(Envelope::new(id, created_at, &begin.model), include_usage);
            seat.relay(api, encoder, |_, _| None, heartbeat).await?
        }
        Format::Messages => {
            let encoder = MessagesEncode::new(id, &begin.model);
            let heartbeat = if heartbeat == Heartbeat::Comment { Heartbeat::Ping } else { heartbeat };
            seat.relay(api, encoder, |_, _| None, heartbeat).await?
        }
        Format::AiSdk => {
            let encoder = AiSdkEncode::new(id, api.settings.ai_sdk);
            seat.relay(api, encoder, |_, _| None, heartbeat).await?
        }
        Format::Relay => seat.relay(api, Relayed::new(id), |_, _| None, heartbeat).await?,
        Format::Responses => {
            let envelope = responses::Envelope::new(id, created_at, &begin.model, begin.metadata.as_ref());
            seat.relay(api, ResponsesEncode::new(envelope), |_, _| None, heartbeat).await?
        }
    };
    Ok(response)
}

/// The events in the native protocol, as the log has them or in other pieces.
async fn relay<F: Frame + Clone + 'static>(
    api: &Arc<Api>,
    url: String,
    seat: Seat,
    mut native: Native<F>,
    wishes: Wishes,
) -> Result<Response, Problem> {
    let seat = so_far(api, seat, &mut native, wishes.snapshot).await?;
    let (how, heartbeat) = (chunking(&seat, &wishes), wishes.heartbeat);
    let first = first(native.clone(), url);
    let first = move |stream: &Stream, retry| Some(first(stream, retry));
    let as_it_is = how == Chunking::Token && !matches!(seat.from, Place::Within(..));
    Ok(match wishes.pace {
        None if as_it_is => seat.relay(api, native, first, heartbeat).await?,
        None => seat.relay(api, Chunks::new(native, how), first, heartbeat).await?,
        Some(pace) => seat.relay_paced(api, Chunks::new(native, how), first, heartbeat, pace),
    })
}

/// In what pieces this reader is told the words: as it says itself, or the request did, or the model's entry.
fn chunking(seat: &Seat, wishes: &Wishes) -> Chunking {
    wishes.chunking.or(seat.stream.begin.chunking).unwrap_or_default()
}

/// The reader, told what was said so far if it wants that. Who has a cursor has that already.
async fn so_far<F: Frame>(
    api: &Arc<Api>,
    mut seat: Seat,
    native: &mut Native<F>,
    wanted: bool,
) -> Result<Seat, Problem> {
    if wanted && seat.from == Place::Start {
        seat.tell_so_far(api, |upto| native.snapshot(upto)).await?;
    }
    Ok(seat)
}

/// What comes first, without a cursor, is made from what is known of the stream.
fn first<F: Frame>(mut native: Native<F>, events_url: String) -> impl FnOnce(&Stream, u32) -> Bytes {
    move |stream, retry| {
        let (id, created_at) = (stream.meta.id, rfc3339(stream.meta.created_at));
        let start = Start { id, model: &stream.begin.model, created_at, events_url };
        let mut out = BytesMut::new();
        native.start(&start, retry, &mut out);
        out.freeze()
    }
}

async fn full_state(api: &Arc<Api>, caller: &Caller, id: StreamId) -> Result<Response, Problem> {
    let stream = api.gateway.stream(caller.owner(), id).await?;
    let mut fold = Fold::default();
    let last = stream.meta.last;
    api.gateway.records(id, Cursor::START, last, |cursor, record| fold.take(cursor, record)).await?;
    let events_url = caller.events_url(api, id);
    let state = native::State { events_url, ..fold.state(id, stream.meta.created_at, stream.begin) };
    Ok(named(id, Json(state).into_response()))
}

/// Of a stream whose log was not read, what the store says: of one that runs, little more than that it does.
fn state(api: &Api, caller: &Caller, stream: Stream) -> native::State {
    let Stream { meta, begin, summary, .. } = stream;
    let known = summary.unwrap_or_else(|| Summary { cursor: meta.last, ..Summary::default() });
    let events_url = caller.events_url(api, meta.id);
    native::State { events_url, ..native::State::new(meta.id, meta.created_at, begin, known, None) }
}

/// JSON, whatever its content type (`curl -d` sends none of its own making), unless it says it is plain text.
async fn prompt(api: &Api, headers: &HeaderMap, body: &[u8]) -> Result<Prompt, Problem> {
    if is_text(headers) {
        return Ok(native::on_text(body)?);
    }
    let Asked { prompt, template } = native::parse(body)?;
    match template {
        Some((name, variables)) => prompts::filled_in(api, prompt, name, variables).await,
        None if prompt.messages.is_empty() && !api.gateway.is_fed(&prompt.model) => Err(native::nothing_asked().into()),
        None => Ok(prompt),
    }
}

fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/plain"))
}
