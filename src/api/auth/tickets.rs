//! `/v1/streams/{id}/tickets`: a link to one stream, for who has no key.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    super::{
        body::Whole,
        openapi::words,
        post::{Named, named},
    },
    Api, Caller, Problem, until,
};
use crate::{
    auth::{Scope, Ticket},
    protocol::native,
};

/// What a ticket shall be good for.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::api) struct Wanted {
    /// `read`, or `cancel`: read and cancel.
    #[schema(inline)]
    scope: For,
    /// How long, as in `"10m"`; at most, and else, what `[auth] ticket_ttl` says.
    ttl: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum For {
    #[default]
    Read,
    Cancel,
}

/// A ticket, and where it is good.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Given {
    /// The ticket. Absent where nobody needs one.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// The events, with the ticket.
    events_url: String,
    /// Until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
}

/// `POST /v1/streams/{id}/tickets`: a link for who has no key, to this stream and nothing else.
#[utoipa::path(post, path = "/v1/streams/{id}/tickets", tag = "credentials", operation_id = "create_ticket", summary = "A link to one answer",
    params(words::Id), request_body(content = Option<Wanted>, description = "What for; none is to read, as long as can be"),
    responses((status = 201, description = "The ticket", body = Given), words::Refused))]
pub(in crate::api) async fn create(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Named(id): Named,
    body: Whole,
) -> Result<Response, Problem> {
    let wanted = wanted(&body.bytes)?;
    api.gateway.stream(caller.owner(), id).await?; // it is the caller's
    let known = api.auth.known();
    let given = if known.config().is_on() {
        let most = known.config().ticket_ttl();
        let ttl = match wanted.ttl.as_deref().map(humantime::parse_duration) {
            None => most,
            Some(Ok(ttl)) if ttl <= most && ttl.as_secs() > 0 => ttl,
            Some(_) => {
                let most = humantime::format_duration(most);
                return Err(bad(
                    "ttl",
                    format!("`ttl` is no duration from 1s to {most}"),
                    "write \"10m\", or leave it out",
                ));
            }
        };
        let scope = if matches!(wanted.scope, For::Cancel) { Scope::Cancel } else { Scope::Read };
        let expires = until(ttl);
        let ticket = Ticket { stream: id, scope, expires, owner: caller.owner().to_owned() };
        let token = api.auth.signer().ticket(&ticket);
        let events_url = format!("{}?token={token}", native::events_url(id));
        Given { token: Some(token), events_url, expires_at: Some(native::rfc3339(expires.saturating_mul(1000))) }
    } else {
        Given { token: None, events_url: native::events_url(id), expires_at: None }
    };
    Ok(named(id, (StatusCode::CREATED, Json(given)).into_response()))
}

fn wanted(body: &[u8]) -> Result<Wanted, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Wanted::default());
    }
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(bad(
            "body",
            "the body is no JSON object".to_owned(),
            "send {\"scope\": \"read\", \"ttl\": \"10m\"}, or nothing",
        ));
    }
    let json = &mut serde_json::Deserializer::from_slice(body);
    let wanted = serde_path_to_error::deserialize(&mut *json).map_err(|error| {
        let (field, why) = (error.path().to_string(), error.into_inner().to_string());
        bad(&field, why, "send {\"scope\": \"read\", \"ttl\": \"10m\"}, or nothing")
    })?;
    json.end().map_err(|error| bad("body", error.to_string(), "send one JSON object"))?;
    Ok(wanted)
}

fn bad(field: &str, detail: String, remedy: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).field(field).remedy(remedy)
}
