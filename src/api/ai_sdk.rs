//! `/api/chat`: where `useChat` of Vercel's AI SDK asks if it is told nothing else, and where it looks for an answer that still runs.
//!
//! An answer is found by its chat's id while it runs, and by its own id (which the head of the POST tells) for as long as it is kept:
//! the first is what `resume` of `useChat` asks after a reload, the second what `WorkflowChatTransport` asks after a cut.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};

use super::{
    Api,
    auth::Caller,
    body::Whole,
    chats::{Chat, From, behind, find, resumable},
    connection::Connection,
    error::Problem,
    events::{Heartbeat, Seat},
    openapi::words,
    post::{self, named},
};
use crate::{
    gateway::Stream,
    id::StreamId,
    protocol::ai_sdk::{self, AiSdkEncode},
};

/// In every response of this protocol: which version of it.
const PROTOCOL: HeaderName = HeaderName::from_static("x-vercel-ai-ui-message-stream");

/// `POST /api/chat`: starts an answer, and gives it in chunks. It has begun when the head is sent; what fails then is told in it.
#[utoipa::path(post, path = "/api/chat", tag = "ai-sdk", operation_id = "create_ui_message", summary = "Start an answer, as the AI SDK's useChat has it",
    params(words::Post, words::Seen), request_body(content = words::UiMessages, description = "As `useChat` sends it"),
    responses(
        (status = 200, description = "The chunks of a UI message stream", content((words::Told = "text/event-stream"))),
        (status = 204, description = "A repeated POST that has seen the end"),
        words::Refused,
    ))]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    connection: Connection,
    headers: HeaderMap,
    body: Whole,
) -> Result<Response, Problem> {
    let asked = ai_sdk::parse(&body.bytes)?;
    let (prompt, chat) = (asked.prompt, asked.chat);
    let begun = post::begin(&api, caller, "ai_sdk", &headers, &body.bytes, chat, async || Ok(prompt)).await?;
    drop(body); // its room is for others: from here on it can take long
    let seat = Seat::take(&api, &begun.caller, begun.id, begun.seen, connection).await?;
    let encoder = encoder(&api, &seat.stream);
    let answer = seat.relay(&api, encoder, |_, _| None, Heartbeat::default()).await?;
    Ok(begun.head(in_this_protocol(begun.id, answer)))
}

/// `GET /api/chat/{chat}/stream`: the chunks of the answer that runs in a chat, from its beginning; or of the answer of this id.
#[utoipa::path(get, path = "/api/chat/{chat}/stream", tag = "ai-sdk", operation_id = "resume_ui_message", summary = "The answer that runs in a chat, if one does",
    params(words::Chat, words::Seen, words::StartIndex),
    responses(
        (status = 200, description = "Its chunks, from the beginning or behind those that were seen", content((words::Told = "text/event-stream"))),
        (status = 204, description = "Nothing runs"),
        words::Refused,
    ))]
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    caller: Caller,
    connection: Connection,
    Chat(chat): Chat,
    query: Result<Query<From>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let Query(From { start_index }) = query?;
    let Some(id) = find(&api, &caller, &chat).await? else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let seen = post::last_event_id(&headers);
    if let Some(index) = start_index.filter(|_| seen.is_none()) {
        let stream = api.gateway.stream(caller.owner(), id).await?;
        let encoder = encoder(&api, &stream);
        let answer = behind(&api, &caller, &stream, encoder, &index, connection).await?;
        return Ok(in_this_protocol(id, answer));
    }
    let seat = Seat::take(&api, &caller, id, seen, connection).await?;
    let encoder = encoder(&api, &seat.stream);
    Ok(in_this_protocol(id, seat.relay(&api, encoder, |_, _| None, Heartbeat::default()).await?))
}

/// `POST /api/chat/{chat}/stop`, also `DELETE …/stream`: stops the answer that runs; what was said stands. (`stop()` of `useChat` only
/// hangs up, and hanging up stops nothing.)
#[utoipa::path(post, path = "/api/chat/{chat}/stop", tag = "ai-sdk", operation_id = "stop_ui_message", summary = "Stop the answer that runs in a chat",
    params(words::Chat), responses((status = 204, description = "Nothing runs, or not any more"), words::Refused))]
pub(super) async fn stop(State(api): State<Arc<Api>>, caller: Caller, Chat(chat): Chat) -> Result<Response, Problem> {
    let Some(id) = find(&api, &caller, &chat).await? else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    api.gateway.cancel(caller.owner(), id).await?;
    Ok(named(id, StatusCode::NO_CONTENT.into_response()))
}

/// `POST /api/chat/{chat}/cancel`: the same, by its name elsewhere.
#[utoipa::path(post, path = "/api/chat/{chat}/cancel", tag = "ai-sdk", operation_id = "cancel_ui_message", summary = "Stop the answer that runs in a chat",
    params(words::Chat), responses((status = 204, description = "Nothing runs, or not any more"), words::Refused))]
pub(super) async fn cancel(api: State<Arc<Api>>, caller: Caller, chat: Chat) -> Result<Response, Problem> {
    stop(api, caller, chat).await
}

/// `DELETE /api/chat/{chat}/stream`: the same, by the path that is resumed from.
#[utoipa::path(delete, path = "/api/chat/{chat}/stream", tag = "ai-sdk", operation_id = "delete_ui_message", summary = "Stop the answer that runs in a chat",
    params(words::Chat), responses((status = 204, description = "Nothing runs, or not any more"), words::Refused))]
pub(super) async fn delete(api: State<Arc<Api>>, caller: Caller, chat: Chat) -> Result<Response, Problem> {
    stop(api, caller, chat).await
}

/// The response with what this protocol's clients look for in its head.
fn in_this_protocol(id: StreamId, mut response: Response) -> Response {
    response.headers_mut().insert(PROTOCOL, HeaderValue::from_static("v1"));
    resumable(id, response)
}

fn encoder(api: &Api, stream: &Stream) -> AiSdkEncode {
    AiSdkEncode::new(stream.meta.id, api.settings.ai_sdk)
}
