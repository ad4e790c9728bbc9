//! `/v1/chat/completions`: OpenAI's Chat Completions, for clients that know nothing of lastword but its URL.
//!
//! The head of a streamed answer is held until something was said, so that an upstream's refusal is a status, which such clients
//! know what to do with; after that, and after `commit_after` at the latest, failures are told among the chunks.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};

use super::{
    Api,
    body::Whole,
    connection::Connection,
    error::Problem,
    events::{Heartbeat, Seat},
    post::{self, Begun},
};
use crate::{
    event::Status,
    gateway::{Place, Stream},
    protocol::chat::{self, ChatEncode, Completion, Envelope},
};

/// `POST /v1/chat/completions`: starts an answer and gives it, in chunks or whole. Repeated after a cut, it goes on as the native
/// one does.
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    connection: Connection,
    headers: HeaderMap,
    body: Result<Whole, Problem>,
) -> Result<Response, Problem> {
    let body = body?;
    let asked = chat::parse(&body.bytes)?;
    let begun = post::begin(&api, "chat", &headers, &body.bytes, async || Ok(asked.prompt)).await?;
    drop(body); // its room is for others: from here on it can take long
    let answer = match asked.stream {
        true => chunks(&api, &begun, asked.include_usage, connection).await,
        false => whole(&api, &begun, connection).await,
    };
    Ok(begun.head(answer.into_response()))
}

async fn chunks(
    api: &Arc<Api>,
    begun: &Begun,
    include_usage: bool,
    connection: Connection,
) -> Result<Response, Problem> {
    let seat = Seat::take(api, begun.id, begun.seen, connection).await?;
    if seat.from == Place::Start
        && let Some(end) = seat.first_word(api.settings.commit_after).await?
        && end.status != Status::Completed
    {
        return Err(end.into());
    }
    let encoder = ChatEncode::new(envelope(&seat.stream), include_usage);
    Ok(seat.relay(api, encoder, |_, _| None, Heartbeat::default()).await?)
}

/// The answer when it is whole, from its beginning whatever the client has seen.
async fn whole(api: &Arc<Api>, begun: &Begun, connection: Connection) -> Result<Response, Problem> {
    let seat = Seat::take(api, begun.id, None, connection).await?;
    let mut completion = Completion::new(envelope(&seat.stream));
    seat.read(|record| completion.take(record)).await?;
    let json = completion.finish().map_err(|end| *end)?;
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, json).into_response())
}

fn envelope(stream: &Stream) -> Envelope {
    Envelope::new(stream.meta.id, stream.meta.created_at, &stream.begin.model)
}
