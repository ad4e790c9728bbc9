//! `/v1/messages`: Anthropic's Messages, for clients that know nothing of lastword but its URL.
//!
//! The head of a streamed answer is held until something was said, as that of a Chat Completions answer is; what fails later is told as an
//! `error` event.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use super::{
    Api, auth::Caller, body::Whole, connection::Connection, error::Problem, events::Heartbeat, openapi::words, post,
};
use crate::{
    event::{End, Failure, Status},
    gateway::Stream,
    protocol::messages::{self, Message, MessagesEncode},
};

/// `POST /v1/messages`: starts an answer and gives it, in events or whole. Repeated after a cut, it goes on as the native one does.
#[utoipa::path(post, path = "/v1/messages", tag = "anthropic", operation_id = "create_message", summary = "Start an answer, as Messages has it",
    params(words::Post, words::Seen), request_body(content = words::MessagesRequest, description = "As Anthropic describes it"),
    responses(
        (status = 200, description = "The message, or with `stream` its events", content((Object = "application/json"), (words::Told = "text/event-stream"))),
        (status = 204, description = "A repeated POST that has seen the end"),
        words::RefusedAnthropic,
    ))]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    connection: Connection,
    headers: HeaderMap,
    body: Result<Whole, Problem>,
) -> Result<Response, Problem> {
    let body = body?;
    let asked = messages::parse(&body.bytes)?;
    let begun = post::begin(&api, caller, "messages", &headers, &body.bytes, None, async || Ok(asked.prompt)).await?;
    drop(body); // its room is for others: from here on it can take long
    let answer = match asked.stream {
        true => post::streamed(&api, &begun, connection, Heartbeat::Ping, encoder).await,
        false => {
            let fold = |stream: &Stream| Message::new(stream.meta.id, &stream.begin.model);
            post::whole(&api, &begun, connection, fold, Message::take, Message::finish).await
        }
    };
    Ok(begun.head(answer.into_response()))
}

/// `POST /v1/messages/count_tokens`: how many tokens a request has, as the upstream counts them. Nothing is recorded.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "anthropic", operation_id = "count_message_tokens", summary = "Count a request's tokens",
    request_body(content = words::MessagesRequest, description = "As Anthropic describes it"),
    responses((status = 200, description = "As the upstream counts them", body = Object), words::RefusedAnthropic))]
pub(super) async fn count_tokens(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Result<Whole, Problem>,
) -> Result<Response, Problem> {
    let body = body?;
    let (json, model) = messages::model_of(&body.bytes)?;
    let target = api.gateway.router().resolve(model.as_deref().filter(|model| !model.is_empty()));
    let target = target.map_err(Problem::from)?;
    let counted = target.backend.count_tokens(&json, &target.upstream_model, post::going_along(&headers));
    let Some(counted) = counted else {
        let detail = format!("the upstream of `{}` counts no tokens", target.model);
        let remedy = "ask for a model of a backend of the kind `anthropic`";
        return Err(Problem::new(StatusCode::NOT_FOUND, "not_found", detail).field("model").remedy(remedy));
    };
    let patience = target.backend.clocks().head;
    let counted = timeout(patience, counted).await.map_err(|_| {
        let detail = format!("`{}` did not count within {}", target.backend_name, humantime::format_duration(patience));
        Problem::new(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", detail)
    })?;
    match counted {
        Ok(json) => Ok(([(header::CONTENT_TYPE, "application/json")], json.get().to_owned()).into_response()),
        Err(error) => {
            let error = Some(Failure::from(error));
            Err(End { status: Status::Failed, reason: None, usage: None, error }.into())
        }
    }
}

fn encoder(stream: &Stream) -> MessagesEncode {
    MessagesEncode::new(stream.meta.id, &stream.begin.model)
}
