//! `/v1/chat/completions`: OpenAI's Chat Completions, for clients that know nothing of lastword but its URL.
//!
//! The head of a streamed answer is held until something was said, so that an upstream's refusal is a status, which such clients
//! know what to do with; after that, and after `commit_after` at the latest, failures are told among the chunks.

use std::sync::Arc;

use axum::{
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};

use super::{
    Api, auth::Caller, body::Whole, connection::Connection, error::Problem, events::Heartbeat, openapi::words, post,
};
use crate::{
    gateway::Stream,
    protocol::chat::{self, ChatEncode, Completion, Envelope},
};

/// `POST /v1/chat/completions`: starts an answer and gives it, in chunks or whole. Repeated after a cut, it goes on as the native
/// one does.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "openai", operation_id = "create_chat_completion", summary = "Start an answer, as Chat Completions has it",
    params(words::Post, words::Seen), request_body(content = words::ChatRequest, description = "As OpenAI describes it"),
    responses(
        (status = 200, description = "The completion, or with `stream` its chunks", content((Object = "application/json"), (words::Told = "text/event-stream"))),
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
    let asked = chat::parse(&body.bytes)?;
    let begun = post::begin(&api, caller, "chat", &headers, &body.bytes, None, async || Ok(asked.prompt)).await?;
    drop(body); // its room is for others: from here on it can take long
    let answer = match asked.stream {
        true => {
            let encoder = |stream: &Stream| ChatEncode::new(envelope(stream), asked.include_usage);
            post::streamed(&api, &begun, connection, Heartbeat::default(), encoder).await
        }
        false => {
            let fold = |stream: &Stream| Completion::new(envelope(stream));
            post::whole(&api, &begun, connection, fold, Completion::take, Completion::finish).await
        }
    };
    Ok(begun.head(answer.into_response()))
}

fn envelope(stream: &Stream) -> Envelope {
    Envelope::new(stream.meta.id, stream.meta.created_at, &stream.begin.model)
}
