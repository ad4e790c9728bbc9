//! `/v1/responses`: OpenAI's Responses, for clients that know nothing of lastword but its URL.
//!
//! A response is a stream, its id `resp_` and the stream's; so every answer can be retrieved, resumed and cancelled here, whatever
//! protocol began it. In the foreground a failure before the first word is a status; in the background the response is there at once.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use super::{
    Api,
    auth::Caller,
    body::Whole,
    connection::Connection,
    error::Problem,
    events::{self, Heartbeat, Seat},
    openapi::words,
    post::{self, Begun, named},
};
use crate::{
    event::{self, Status},
    gateway::{Place, StoreError, Stream},
    id::{Cursor, StreamId},
    protocol::{
        Numbered,
        responses::{self, Asked, Envelope, ResponseObject, ResponsesEncode},
    },
    wire::Form,
};

/// `POST /v1/responses`: starts an answer and gives it, in events or whole; in the background, what is known of it.
#[utoipa::path(post, path = "/v1/responses", tag = "openai", operation_id = "create_response", summary = "Start an answer, as Responses has it",
    params(words::Post, words::Seen), request_body(content = words::ResponsesRequest, description = "As OpenAI describes it"),
    responses(
        (status = 200, description = "The response, or with `stream` its events", content((Object = "application/json"), (words::Told = "text/event-stream"))),
        (status = 204, description = "A repeated POST that has seen the end"),
        words::RefusedOpenAi,
    ))]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    connection: Connection,
    headers: HeaderMap,
    body: Result<Whole, Problem>,
) -> Result<Response, Problem> {
    let body = body?;
    let mut asked = responses::parse(&body.bytes)?;
    if asked.background && !asked.store {
        let detail = "an answer in the background is kept until somebody reads it, and `store` is false";
        return Err(bad("store", detail, "leave out one of the two"));
    }
    let (stream, background) = (asked.stream, asked.background);
    let prompt = async || {
        if let Some(previous) = asked.previous.take() {
            continues(&api, &caller, &previous, &mut asked).await?;
        }
        Ok(asked.prompt)
    };
    let begun = post::begin(&api, caller.clone(), "responses", &headers, &body.bytes, None, prompt).await?;
    drop(body); // its room is for others: from here on it can take long
    let answer = match (stream, background) {
        (true, _) => told(&api, &begun, background, connection).await,
        (false, true) => started(&api, &begun, connection).await,
        (false, false) => whole(&api, &begun, connection).await,
    };
    Ok(begun.head(answer.into_response()))
}

/// `GET /v1/responses/{id}`: the response as it stands; with `stream=true` its events, those after `starting_after`.
#[utoipa::path(get, path = "/v1/responses/{id}", tag = "openai", operation_id = "get_response", summary = "A response, or the rest of its events",
    params(words::ResponseId, words::Seen, words::Retrieve),
    responses(
        (status = 200, description = "The response, or with `stream` its events", content((Object = "application/json"), (words::Told = "text/event-stream"))),
        (status = 204, description = "The end was seen: there is nothing behind it"),
        words::RefusedOpenAi,
    ))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    connection: Connection,
    Named(id): Named,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let word = |name| query.get(name).map_or("", String::as_str);
    match word("stream") {
        "" | "false" => return object(&api, &caller, id).await,
        "true" => {}
        _ => return Err(bad("stream", "`stream` is neither `true` nor `false`", "leave it out, or say `true`")),
    }
    let seen = post::last_event_id(&headers);
    match word("starting_after") {
        number if seen.is_none() && !number.is_empty() => {
            let remedy = "give the `sequence_number` of the last event you have";
            let number =
                number.parse().map_err(|_| bad("starting_after", "`starting_after` is not a number", remedy))?;
            behind(&api, &caller, id, number, connection).await
        }
        _ => {
            let seat = Seat::take(&api, &caller, id, seen, connection).await?;
            let encoder = ResponsesEncode::new(envelope(&seat.stream));
            Ok(seat.relay(&api, encoder, |_, _| None, Heartbeat::default()).await?)
        }
    }
}

/// `POST /v1/responses/{id}/cancel`: stops the generation; what was said stands.
#[utoipa::path(post, path = "/v1/responses/{id}/cancel", tag = "openai", operation_id = "cancel_response", summary = "Stop a response",
    params(words::ResponseId), responses((status = 200, description = "The response", body = Object), words::RefusedOpenAi))]
pub(super) async fn cancel(State(api): State<Arc<Api>>, caller: Caller, Named(id): Named) -> Result<Response, Problem> {
    api.gateway.cancel(caller.owner(), id).await?;
    object(&api, &caller, id).await
}

/// `DELETE /v1/responses/{id}`: cancels it if it runs, then erases it.
#[utoipa::path(delete, path = "/v1/responses/{id}", tag = "openai", operation_id = "delete_response", summary = "Erase a response",
    params(words::ResponseId), responses((status = 200, description = "It is gone", body = Object), words::RefusedOpenAi))]
pub(super) async fn remove(State(api): State<Arc<Api>>, caller: Caller, Named(id): Named) -> Result<Response, Problem> {
    api.gateway.remove(caller.owner(), id).await?;
    let deleted = json!({ "id": format!("resp_{id}"), "object": "response", "deleted": true });
    Ok(named(id, Json(deleted).into_response()))
}

/// A page of what was asked. (Not a JSON value made on the way: items are kept to the letter.)
#[derive(Debug, Serialize)]
struct Items {
    object: &'static str,
    data: Vec<event::Json>,
    first_id: Option<String>,
    last_id: Option<String>,
    has_more: bool,
}

/// `GET /v1/responses/{id}/input_items`: what was asked, item by item, the last one first.
#[utoipa::path(get, path = "/v1/responses/{id}/input_items", tag = "openai", operation_id = "list_input_items", summary = "What a response was asked",
    params(words::ResponseId, words::ItemsSlice), responses((status = 200, description = "A page", body = Object), words::RefusedOpenAi))]
pub(super) async fn input_items(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let word = |name| query.get(name).map_or("", String::as_str);
    let limit = match (word("limit"), word("limit").parse()) {
        ("", _) => 20,
        (_, Ok(limit @ 1..=100)) => limit,
        _ => return Err(bad("limit", "`limit` is not a number from 1 to 100", "leave it out for 20")),
    };
    let prompt = api.gateway.prompt(caller.owner(), id).await?.unwrap_or_default();
    let mut items = responses::input_items(&prompt, id);
    match word("order") {
        "asc" => {}
        "" | "desc" => items.reverse(),
        _ => return Err(bad("order", "`order` is neither `asc` nor `desc`", "leave it out for `desc`")),
    }
    if let Some(after) = query.get("after").filter(|after| !after.is_empty()) {
        let at = items.iter().position(|item| responses::id_of(item).as_ref() == Some(after));
        let at = at.ok_or_else(|| bad("after", "`after` names none of these items", "give the `last_id` of a page"))?;
        items.drain(..=at);
    }
    let has_more = items.len() > limit;
    items.truncate(limit);
    let [first_id, last_id] = [items.first(), items.last()].map(|item| item.and_then(responses::id_of));
    Ok(named(id, Json(Items { object: "list", data: items, first_id, last_id, has_more }).into_response()))
}

/// Puts the response that this request names before what it asks.
async fn continues(api: &Arc<Api>, caller: &Caller, previous: &str, asked: &mut Asked) -> Result<(), Problem> {
    let unknown = || {
        let known: String = previous.chars().filter(char::is_ascii_graphic).take(64).collect();
        let detail = format!("there is no response `{known}`, or its input was not kept");
        Problem::new(StatusCode::BAD_REQUEST, "previous_response_not_found", detail)
            .field("previous_response_id")
            .remedy("give the whole conversation as `input`")
    };
    let id = id(previous).ok_or_else(unknown)?;
    let gone = |error| match error {
        StoreError::Unknown(_) | StoreError::Expired(_) => unknown(),
        error => error.into(),
    };
    let stream = api.gateway.stream(caller.owner(), id).await.map_err(gone)?;
    if !stream.meta.closed() {
        let detail = "the response that this one continues has not ended";
        return Err(bad("previous_response_id", detail, "wait until it has, or cancel it"));
    }
    let prompt = api.gateway.prompt(caller.owner(), id).await.map_err(gone)?.ok_or_else(unknown)?;
    let answer = read(api, &stream).await.map_err(gone)?;
    Ok(responses::expand(&prompt, answer.output(), answer.stored(), api.settings.max_body, asked)?)
}

async fn told(api: &Arc<Api>, begun: &Begun, background: bool, connection: Connection) -> Result<Response, Problem> {
    let seat = Seat::take(api, &begun.caller, begun.id, begun.seen, connection).await?;
    if seat.from == Place::Start
        && !background
        && let Some(end) = seat.first_word::<ResponsesEncode>(api.settings.commit_after).await?
        && end.status != Status::Completed
    {
        return Err(end.into());
    }
    let encoder = ResponsesEncode::new(envelope(&seat.stream));
    Ok(seat.relay(api, encoder, |_, _| None, Heartbeat::default()).await?)
}

/// The response when it is whole, from its beginning whatever the client has seen.
async fn whole(api: &Arc<Api>, begun: &Begun, connection: Connection) -> Result<Response, Problem> {
    let seat = Seat::take(api, &begun.caller, begun.id, None, connection).await?;
    let mut object = ResponseObject::new(envelope(&seat.stream));
    seat.read(|record| object.fold(record)).await?;
    Ok(json_body(object.finish().map_err(|end| *end)?))
}

/// The response as soon as there is one.
async fn started(api: &Arc<Api>, begun: &Begun, connection: Connection) -> Result<Response, Problem> {
    let seat = Seat::take(api, &begun.caller, begun.id, None, connection).await?;
    seat.first_record().await?;
    object(api, &begun.caller, begun.id).await
}

async fn object(api: &Arc<Api>, caller: &Caller, id: StreamId) -> Result<Response, Problem> {
    let stream = api.gateway.stream(caller.owner(), id).await?;
    Ok(named(id, json_body(read(api, &stream).await?.json())))
}

async fn read(api: &Arc<Api>, stream: &Stream) -> Result<ResponseObject, StoreError> {
    let mut object = ResponseObject::new(envelope(stream));
    let Stream { meta, .. } = stream;
    api.gateway.records(meta.id, Cursor::START, meta.last, |_, record| object.fold(record)).await?;
    Ok(object)
}

/// The events after this number.
async fn behind(
    api: &Arc<Api>,
    caller: &Caller,
    id: StreamId,
    number: u64,
    connection: Connection,
) -> Result<Response, Problem> {
    let stream = api.gateway.stream(caller.owner(), id).await?;
    let mut encoder = ResponsesEncode::new(envelope(&stream));
    let seen = number.saturating_add(1);
    let Some(seat) = Seat::behind(api, caller, &stream, &mut encoder, seen, connection).await? else {
        let detail = match encoder.number() {
            0 => "`starting_after` is a number, and there is no event yet".to_owned(),
            next => format!("`starting_after` is {number}, and the last event so far is {}", next - 1),
        };
        return Err(bad("starting_after", detail, "give the `sequence_number` of the last event you have"));
    };
    if seat.from == Place::Ended {
        return Ok(events::head(StatusCode::OK, id, Form::Sse, Body::empty()));
    }
    Ok(seat.go_on(api, encoder, None, Some(api.retry()), Heartbeat::default()))
}

fn envelope(stream: &Stream) -> Envelope {
    let Stream { meta, begin, .. } = stream;
    Envelope::new(meta.id, meta.created_at, &begin.model, begin.metadata.as_ref())
}

fn json_body(json: Vec<u8>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, json).into_response()
}

fn bad(field: &str, detail: impl Into<String>, remedy: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).field(field).remedy(remedy)
}

/// The stream of a response's id; its own id is understood too.
fn id(text: &str) -> Option<StreamId> {
    text.strip_prefix("resp_").unwrap_or(text).parse().ok()
}

/// The response that the path names.
pub(super) struct Named(StreamId);

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(Path(text)) = Path::<String>::from_request_parts(parts, state).await else {
            return Err(Problem::no_stream("?"));
        };
        id(&text).map(Self).ok_or_else(|| Problem::no_stream(&text))
    }
}
