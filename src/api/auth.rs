//! Who calls, by what the request shows: a key or a token (`Authorization: Bearer`, `x-api-key`), a session (a cookie), a ticket (`?token=`). While
//! nobody is configured, everybody is nobody, and whatever is shown is ignored.
//!
//! One layer looks; handlers take the `Caller` that it found, and none that takes one is reached without. A credential is never said again,
//! in no error and no log line.

mod foreign;
pub(super) mod session;
pub(super) mod tickets;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    extract::{FromRequestParts, Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};

pub use self::foreign::refuse_foreign_sites;
use super::{Api, error::Problem, surface::is_event_source};
use crate::{
    auth::{Judged, NoToken, Scope, Ticket},
    id::StreamId,
    protocol::native,
};

/// The owner of every stream while authentication is off.
pub const NOBODY: &str = "";

/// Told to an EventSource that must not come back: it knows no larger time.
const NEVER: u32 = i32::MAX as u32;

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    owner: Arc<str>,
    by: Shown,
}

/// What was shown.
#[derive(Clone, Debug)]
enum Shown {
    /// A key; or nothing, where nobody needs one.
    Key,
    /// The cookie.
    Session,
    /// A ticket, and nothing else: its text.
    Ticket(Arc<str>),
}

impl Caller {
    fn new(owner: &str, by: Shown) -> Self {
        Self { owner: owner.into(), by }
    }

    /// Everybody, while authentication is off.
    pub(super) fn nobody() -> Self {
        Self::new(NOBODY, Shown::Key)
    }

    /// Somebody whom an application of the user's own knows.
    pub(super) fn of_an_application(owner: &str) -> Self {
        Self::new(owner, Shown::Key)
    }

    /// Whose streams it sees.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// Where this caller, and who is given this text, reads a stream: with a ticket, if one is needed, and none that is good for more than
    /// the caller's own.
    pub(super) fn events_url(&self, api: &Api, id: StreamId) -> String {
        let url = native::events_url(id);
        match &self.by {
            Shown::Ticket(own) => format!("{url}?token={own}"),
            _ if !api.auth.known().config().is_on() => url,
            _ => {
                let expires = until(api.auth.known().config().ticket_ttl());
                let ticket = Ticket { stream: id, scope: Scope::Cancel, expires, owner: self.owner.to_string() };
                format!("{url}?token={}", api.auth.signer().ticket(&ticket))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(unauthenticated)
    }
}

/// Who makes this request.
///
/// # Errors
/// What is answered to whoever must be somebody and is not.
pub(super) async fn who(api: &Api, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Caller, Response> {
    caller(api, method, uri, headers).await.map_err(Refused::response)
}

/// Finds out who calls, and refuses who must be somebody and is not.
pub async fn identify(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    match caller(&api, request.method(), request.uri(), request.headers()).await {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(_) if is_open(&api, request.method(), request.uri().path()) => next.run(request).await,
        Err(refused) => refused.response(),
    }
}

/// What needs nobody: the page and its files, what says that the server lives, and signing out.
fn is_open(api: &Api, method: &Method, path: &str) -> bool {
    match path {
        "/metrics" => api.auth.known().config().open_metrics,
        "/v1/session" => method == Method::DELETE,
        _ => method == Method::OPTIONS || !(path.starts_with("/v1/") || path.starts_with("/api/")),
    }
}

/// Why somebody is not let in.
enum Refused {
    Problem(Box<Problem>),
    /// A ticket that was good once, on the way of an EventSource, which sees no status.
    Denied,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl Refused {
    fn response(self) -> Response {
        match self {
            Self::Problem(problem) => {
                let mut response = problem.into_response();
                if response.status() == StatusCode::UNAUTHORIZED {
                    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                }
                response
            }
            Self::Denied => denied(),
        }
    }
}

async fn caller(api: &Api, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Caller, Refused> {
    let known = api.auth.known();
    if !known.config().is_on() {
        return Ok(Caller::nobody());
    }
    if let Some(key) = shown_key(headers)? {
        let owner = known.owner_of(key).await.map_err(|why| match why {
            NoToken::Refused(why) => unknown(&why),
            NoToken::Unknown => no_keys(),
        })?;
        return Ok(Caller::new(&owner, Shown::Key));
    }
    // Whose key was taken away has no tickets and no sessions either.
    let still_known = |owner: &str| match known.knows(owner) {
        true => Ok(()),
        false => Err(unknown("who this was given to is not known here any more")),
    };
    if let Some(token) = shown_ticket(uri) {
        return match api.auth.signer().judge_ticket(token, now()) {
            Judged::Forged => Err(unknown("the ticket is none of ours").into()),
            Judged::Expired(ticket) => {
                still_known(&ticket.owner)?;
                admits(&ticket, method, uri)?;
                match is_event_source(method, uri, headers) {
                    true => Err(Refused::Denied),
                    false => Err(unknown("the ticket has expired").into()),
                }
            }
            Judged::Good(ticket) => {
                still_known(&ticket.owner)?;
                admits(&ticket, method, uri)?;
                Ok(Caller::new(&ticket.owner, Shown::Ticket(token.into())))
            }
        };
    }
    if let Some(cookie) = session::shown(headers) {
        return match api.auth.signer().judge_session(cookie, now()) {
            Judged::Good(session) => {
                still_known(&session.owner)?;
                session::may_change(method, uri, headers, &api.settings.cors)?;
                Ok(Caller::new(&session.owner, Shown::Session))
            }
            Judged::Expired(_) | Judged::Forged => Err(unknown("the session is over").into()),
        };
    }
    Err(unauthenticated().into())
}

/// The key, if one is shown: as OpenAI's clients do, or as Anthropic's.
fn shown_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let key = value.to_str().ok().and_then(|shown| {
            let (scheme, key) = shown.trim().split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        return key.map(Some).ok_or_else(|| unknown("the Authorization header is no `Bearer KEY`"));
    }
    let Some(value) = headers.get("x-api-key") else { return Ok(None) };
    value.to_str().map(|key| Some(key.trim())).map_err(|_| unknown("x-api-key is no key"))
}

/// The ticket in the URL, if there is one. It has no character that a URL would write in another way.
fn shown_ticket(uri: &Uri) -> Option<&str> {
    uri.query()?.split('&').find_map(|pair| pair.strip_prefix("token=")).filter(|token| !token.is_empty())
}

/// Whether the ticket is good for this: reading its stream and its state, and stopping it if it says so.
fn admits(ticket: &Ticket, method: &Method, uri: &Uri) -> Result<(), Problem> {
    let mut path = uri.path().strip_prefix("/v1/streams/").unwrap_or_default().split('/');
    let is_its = path.next().and_then(|id| id.parse().ok()) == Some(ticket.stream);
    let (what, more) = (path.next(), path.next());
    let reads = matches!(*method, Method::GET | Method::HEAD) && matches!(what, None | Some("events"));
    let stops = *method == Method::POST && what == Some("cancel") && ticket.scope == Scope::Cancel;
    if is_its && more.is_none() && (reads || stops) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::FORBIDDEN, "ticket_scope", "the ticket is not good for this")
        .field("token")
        .remedy("a ticket reads one stream, and stops it if it was made for that; show a key for everything else"))
}

/// An EventSource shows its page no status: it is told in an event, and not to come back.
fn denied() -> Response {
    let data = r#"{"code":"ticket_expired","message":"the ticket in events_url is over; the stream's state, for who has a key, holds another"}"#;
    let body = format!("event: denied\ndata: {data}\nretry: {NEVER}\n\n");
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, body).into_response()
}

fn unauthenticated() -> Problem {
    unknown("this needs a key, and none was shown")
}

fn no_keys() -> Problem {
    let why = "whether the token is good cannot be told: its issuer's keys cannot be fetched";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "keys_unavailable", why).retry_after(Duration::from_secs(30))
}

/// Whatever was shown: what it was is not said.
fn unknown(why: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthenticated", why)
        .field("Authorization")
        .remedy("show a key of [auth.keys], or a token of [auth.jwt], as `Authorization: Bearer KEY` or `x-api-key`")
}

fn now() -> u64 {
    since_1970().as_secs()
}

/// The first whole second that is at least so far away.
fn until(ttl: Duration) -> u64 {
    let then = since_1970().saturating_add(ttl);
    then.as_secs().saturating_add(u64::from(then.subsec_nanos() > 0))
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
