//! A request's body, whole: bounded in its size, in its time, and in the memory of all bodies that are under way.

use std::sync::Arc;

use axum::{
    body::{HttpBody, to_bytes},
    extract::{FromRequest, Request},
    http::StatusCode,
};
use bytes::Bytes;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use super::{Api, error::Problem};

/// How much all bodies under way may take, in KiB. A body takes what it announces, or the most that one may.
pub(super) const IN_FLIGHT: u32 = 256 * 1024;

/// The body of a request. While this lives, its memory counts.
pub(super) struct Whole {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl FromRequest<Arc<Api>> for Whole {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        let settings = &api.settings;
        let max = settings.max_body.as_u64();
        let too_large = || {
            let detail = format!("the body is larger than {}", settings.max_body);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
                .remedy("send less, or raise [server] max_body")
        };
        let body = request.into_body();
        let size = body.size_hint();
        if size.lower() > max {
            return Err(too_large());
        }
        let kib = size.upper().unwrap_or(max).min(max) / 1024 + 1;
        let kib = u32::try_from(kib).unwrap_or(u32::MAX).min(IN_FLIGHT);
        let late = |code, detail: &str| {
            let status = if code == "busy" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::REQUEST_TIMEOUT };
            let seconds = humantime::format_duration(settings.body_timeout);
            Problem::new(status, code, format!("{detail} within {seconds}")).remedy("send it again")
        };
        let room = timeout(settings.body_timeout, api.bodies.clone().acquire_many_owned(kib));
        let room = room.await.map_err(|_| late("busy", "there was no room for the body"))?;
        let limit = usize::try_from(max).unwrap_or(usize::MAX);
        match timeout(settings.body_timeout, to_bytes(body, limit)).await {
            Err(_) => Err(late("body_timeout", "the body did not come")),
            Ok(Ok(bytes)) => Ok(Self { bytes, _room: room.expect("this semaphore is never closed") }),
            Ok(Err(error)) if is_length(&error) => Err(too_large()),
            Ok(Err(_)) => {
                Err(Problem::new(StatusCode::BAD_REQUEST, "bad_request", "the body could not be read to its end")
                    .remedy("send it again"))
            }
        }
    }
}

fn is_length(error: &axum::Error) -> bool {
    let source = std::error::Error::source(error);
    source.is_some_and(|source| source.is::<http_body_util::LengthLimitError>())
}
