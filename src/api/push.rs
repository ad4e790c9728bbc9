//! `POST /v1/streams/{id}/events`: the user's own code appends events to an answer that it generates itself (a model of a backend of the
//! kind `push`), one event a line, in one request or in many, as long as they like.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, BodyDataStream},
    extract::{Query, Request, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use bytes::{Buf, BytesMut};
use futures_util::StreamExt;
use memchr::memchr;
use serde::{Deserialize, Serialize};

use super::{Api, auth::Caller, error::Problem, openapi::words, post::Named};
use crate::{
    event::Status,
    gateway::{Append, AppendError, Fed},
    id::StreamId,
    protocol::native::{PushDecode, Pushed},
};

/// Where a producer's events belong, and who it is.
#[derive(Debug, Deserialize)]
pub(super) struct Where {
    at: Option<String>,
    producer: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Appended {
    /// How many events the stream has of its producer: the place of the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<u64>,
    /// Of the stream: `running`, or how it ended.
    status: &'static str,
}

/// `POST /v1/streams/{id}/events`: see the module.
#[utoipa::path(post, path = "/v1/streams/{id}/events", tag = "streams", operation_id = "append_events", summary = "Append to an answer that your own code generates",
    params(words::Id, words::Where), request_body(content((String = "text/plain"), (String = "application/x-ndjson")), description = "One event a line: `{\"text\":\"…\"}`, or `{\"event\":\"NAME\",\"data\":{…}}`; `end` ends the answer. An empty line is a sign of life"),
    responses((status = 200, description = "They are appended", body = Appended), words::Refused))]
pub(super) async fn append(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named,
    query: Result<Query<Where>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(Where { at, producer }) = query?;
    let at = at.map(|at| at.parse::<u64>()).transpose().map_err(|_| {
        let remedy = "give the place of the first event in this request, counted from 0 over all of them";
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", "`at` is not a number").field("at").remedy(remedy)
    })?;
    let mut right = match api.gateway.append_to::<PushDecode>(caller.owner(), id, producer.as_deref()).await {
        Ok(right) => right,
        // Of a request that is repeated because its response was lost, all was taken.
        Err(AppendError::Ended) if at.is_some() => return ended(&api, &caller, id).await,
        Err(error) => return Err(error.into()),
    };
    let known = right.known(at)?;
    let most = usize::try_from(api.settings.max_body.as_u64()).unwrap_or(usize::MAX);
    match read(request.into_body(), most, &mut right, known).await {
        Ok(false) => Ok(Json(Appended { next: Some(right.next()), status: "running" }).into_response()),
        Ok(true) | Err(Fault::Ended) => {
            drop(right);
            ended(&api, &caller, id).await
        }
        Err(Fault::Problem(problem)) => Err(problem),
    }
}

/// Why a request was not taken to its end.
enum Fault {
    Problem(Problem),
    Ended,
}

impl From<AppendError> for Fault {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Ended => Self::Ended,
            error => Self::Problem(error.into()),
        }
    }
}

/// Appends what comes, leaving out the first `known` events. Says whether the answer's end was among it.
async fn read(body: Body, most: usize, right: &mut Append, mut known: u64) -> Result<bool, Fault> {
    let mut body: BodyDataStream = body.into_data_stream();
    let mut kept = BytesMut::new();
    loop {
        let piece = tokio::select! {
            piece = body.next() => piece,
            () = right.ended() => return Err(Fault::Ended),
            () = right.superseded.cancelled() => return Err(Fault::from(AppendError::Fenced)),
        };
        let last = piece.is_none();
        match piece {
            Some(Ok(bytes)) => kept.extend_from_slice(&bytes),
            // The producer sends again what it does not know the fate of.
            Some(Err(_)) => return Err(broke_off(right.next())),
            None => kept.extend_from_slice(b"\n"),
        }
        let before = right.next();
        while let Some(end) = memchr(b'\n', &kept) {
            let whole = line(&kept[..end], right, &mut known).await?;
            kept.advance(end + 1);
            if whole {
                return Ok(true);
            }
        }
        if last {
            return Ok(false);
        }
        if right.next() == before {
            right.alive(); // an empty line, a piece of a long one, what is there already
        }
        if kept.len() > most {
            let detail = format!("a line is longer than {most} bytes");
            let remedy = "say it in several events, or raise [server] max_body";
            let problem = Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail).remedy(remedy);
            return Err(Fault::Problem(problem));
        }
    }
}

/// Appends one line; says whether it was the end.
async fn line(bytes: &[u8], right: &mut Append, known: &mut u64) -> Result<bool, Fault> {
    if *known > 0 {
        *known -= u64::from(!bytes.trim_ascii().is_empty());
        return Ok(false);
    }
    // Before it is read: who is cut off here has said nothing yet.
    let room = right.room().await?;
    let next = right.next();
    let Some(decode) = right.state::<PushDecode>() else { return Ok(false) };
    let pushed = decode.line(bytes).map_err(|mut bad| {
        bad.detail = format!("event {next}: {}; those before it are appended", bad.detail);
        Fault::Problem(bad.into())
    })?;
    let (events, end) = match pushed {
        Pushed::Nothing => return Ok(false),
        Pushed::Events(events) => (events, None),
        Pushed::End(events, status, wrong) => (events, Some((status, wrong))),
    };
    let mut fed: Vec<_> = events.into_iter().map(Fed::Event).collect();
    let whole = end.is_some();
    match end {
        Some((Status::Completed, _)) => fed.push(Fed::Done),
        Some((status, wrong)) => {
            let wrong = wrong.unwrap_or_default();
            fed.push(Fed::failed(status, wrong.message, wrong.code));
        }
        None => {}
    }
    right.push(room, fed);
    Ok(whole)
}

/// What became of a stream that has ended, or is about to.
async fn ended(api: &Arc<Api>, caller: &Caller, id: StreamId) -> Result<Response, Problem> {
    let status = api.gateway.ended(caller.owner(), id).await?;
    Ok(Json(Appended { next: None, status: status.map_or("running", Status::as_str) }).into_response())
}

fn broke_off(next: u64) -> Fault {
    let detail = format!("the body broke off; {next} events are appended");
    let remedy = "send the rest, with `at`";
    Fault::Problem(Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).remedy(remedy))
}

impl From<AppendError> for Problem {
    fn from(error: AppendError) -> Self {
        let detail = error.to_string();
        let conflict = |code, remedy: String| Self::new(StatusCode::CONFLICT, code, detail.clone()).remedy(remedy);
        match &error {
            AppendError::Store(store) => store.clone().into(),
            AppendError::NotFed => {
                conflict("not_pushed", "create a stream with a model of a backend of the kind `push`".to_owned())
            }
            AppendError::Ended => conflict("stream_ended", "GET the stream to see how".to_owned()),
            AppendError::Fenced => conflict(
                "other_producer",
                "one producer appends to a stream; give the `producer` that began, if you are that one".to_owned(),
            ),
            AppendError::Gap { next, .. } => {
                conflict("events_missing", format!("send them from {next} on, with `at={next}`")).field("at")
            }
        }
    }
}
