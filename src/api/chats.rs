//! Answers that are found by the chat in which they run, and gone on with by how many of their messages a client has: what pages with
//! the AI SDK do, on lastword's own path and on an application's.

use std::sync::Arc;

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderName, HeaderValue, StatusCode, request::Parts},
    response::Response,
};
use serde::Deserialize;

use super::{
    Api,
    auth::Caller,
    connection::Connection,
    error::Problem,
    events::{Heartbeat, Seat, numbered},
};
use crate::{gateway::Stream, id::StreamId, protocol::Numbered};

/// Where `WorkflowChatTransport` looks for what to ask for after a cut.
const RUN_ID: HeaderName = HeaderName::from_static("x-workflow-run-id");
/// Where assistant-ui does.
const RESUMABLE_ID: HeaderName = HeaderName::from_static("x-resumable-stream-id");
/// The last chunk's number, for a client that counts from the end.
const TAIL_INDEX: HeaderName = HeaderName::from_static("x-workflow-stream-tail-index");

/// From which chunk on.
#[derive(Debug, Deserialize)]
pub(super) struct From {
    #[serde(rename = "startIndex")]
    pub(super) start_index: Option<String>,
}

/// The answer that runs in a chat, or the one of this id.
pub(super) async fn find(api: &Api, caller: &Caller, chat: &str) -> Result<Option<StreamId>, Problem> {
    if let Some(id) = api.gateway.running_in(caller.owner(), chat).await? {
        return Ok(Some(id));
    }
    let Ok(id) = chat.parse() else { return Ok(None) };
    api.gateway.stream(caller.owner(), id).await?;
    Ok(Some(id))
}

/// The chunks from this number on; a negative one counts from the end of what there is.
pub(super) async fn behind<E: Numbered + 'static>(
    api: &Arc<Api>,
    caller: &Caller,
    stream: &Stream,
    mut encoder: E,
    index: &str,
    connection: Connection,
) -> Result<Response, Problem> {
    let bad = |detail: String| {
        let remedy = "give how many chunks you have, or -n for the last n";
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).field("startIndex").remedy(remedy)
    };
    let index: i64 = index.parse().map_err(|_| bad("`startIndex` is not a whole number".to_owned()))?;
    let mut tail = None;
    let seen = match u64::try_from(index) {
        Ok(seen) => seen,
        Err(_) => {
            let count = numbered::count(api, stream, encoder.clone()).await?;
            tail = Some(count.cast_signed() - 1);
            count.saturating_sub(index.unsigned_abs())
        }
    };
    let Some(seat) = Seat::behind(api, caller, stream, &mut encoder, seen, connection).await? else {
        return Err(bad(format!("`startIndex` is {seen}, and there are {} chunks so far", encoder.number())));
    };
    let mut answer = seat.go_on(api, encoder, None, Some(api.retry()), Heartbeat::default());
    if let Some(tail) = tail {
        answer.headers_mut().insert(TAIL_INDEX, tail.into());
    }
    Ok(answer)
}

/// The response with the ids by which its clients come back.
pub(super) fn resumable(id: StreamId, mut response: Response) -> Response {
    let value = HeaderValue::from_str(&id.to_string()).expect("hex digits");
    response.headers_mut().insert(RUN_ID, value.clone());
    response.headers_mut().insert(RESUMABLE_ID, value);
    response
}

/// What the path names: a chat, or an answer.
pub(super) struct Chat(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Chat {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, state).await;
        path.map(|Path(chat)| Self(chat)).map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the chat's id is not UTF-8").field("chat")
        })
    }
}
