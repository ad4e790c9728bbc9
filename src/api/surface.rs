//! Each protocol's clients read errors in their own shape. Which one a client speaks is told by the path it asks, so that also what
//! no handler of it has seen (a wrong method, a foreign site, a body too large) reaches it in words it knows.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde::Serialize;
use tokio::time::sleep;

use super::{connection::GaveUp, error::Problem, events::LAST_WORDS};
use crate::protocol::{chat, messages};

/// As Anthropic calls what is `x-request-id` elsewhere.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// A protocol as clients speak it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// lastword's own, and all that is no model's.
    Native,
    /// OpenAI's: Chat Completions, Responses and what else it has.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Surface {
    /// The one that this path belongs to, or, where both have it, this client speaks.
    #[must_use]
    pub fn of(path: &str, headers: &HeaderMap) -> Self {
        let Some(path) = path.strip_prefix("/v1/") else { return Self::Native };
        match path.split('/').next().unwrap_or_default() {
            "" | "streams" | "prompts" | "session" => Self::Native,
            "messages" => Self::Anthropic,
            _ if headers.contains_key("anthropic-version") => Self::Anthropic,
            _ => Self::OpenAi,
        }
    }
}

/// Writes the problem that a response is, if it is one, as the client reads it.
pub async fn in_its_words(request: Request, next: Next) -> Response {
    let surface = Surface::of(request.uri().path(), request.headers());
    let ours = request.headers().get("x-request-id").filter(|_| surface == Surface::Anthropic).cloned();
    let events = is_event_source(request.method(), request.uri(), request.headers());
    let mut response = next.run(request).await;
    if events && let Some(later) = response.extensions().get::<Problem>().and_then(come_back) {
        return later;
    }
    response = in_these_words(surface, response);
    if let Some(ours) = ours {
        // Whose clients know no other name for it.
        response.headers_mut().entry(REQUEST_ID).or_insert(ours);
    }
    response
}

/// Whether this is how an EventSource asks.
pub(super) fn is_event_source(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    *method == Method::GET && uri.path().ends_with("/events") && accept.contains("text/event-stream")
}

/// What passes by itself must not be told to an EventSource by a status: any but 200 ends it for good. It is told to come back, and
/// why, in a comment; and reset, so that nobody takes it for an answer.
fn come_back(problem: &Problem) -> Option<Response> {
    let wait = problem.comes_later()?;
    let why = problem.words().replace(['\r', '\n'], " ");
    let told =
        Bytes::from(format!(": {} {}: {why}\nretry: {}\n\n", problem.status(), problem.code(), wait.as_millis()));
    let body = async_stream::stream! {
        yield Ok(told);
        sleep(LAST_WORDS).await;
        yield Err(GaveUp::new());
    };
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store, no-transform")];
    let mut response = (headers, Body::from_stream(body)).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Some(response)
}

fn in_these_words(surface: Surface, mut response: Response) -> Response {
    let Some(problem) = response.extensions_mut().remove::<Problem>() else { return response };
    match surface {
        Surface::Native => response,
        Surface::OpenAi => as_openai(&problem, response),
        Surface::Anthropic => as_anthropic(&problem, response),
    }
}

fn as_openai(problem: &Problem, response: Response) -> Response {
    let code = if problem.is_unknown_model() { "model_not_found" } else { problem.code() };
    let status = if problem.is_unknown_model() { 404 } else { problem.status() };
    let error =
        chat::ErrorObject { param: problem.field_at_fault(), ..chat::ErrorObject::new(status, problem.words(), code) };
    rewritten(problem, response, status, &error, HeaderName::from_static("x-request-id"))
}

fn as_anthropic(problem: &Problem, response: Response) -> Response {
    let status = if problem.is_unknown_model() { 404 } else { problem.status() };
    let error = messages::ErrorObject::new(status, problem.words());
    rewritten(problem, response, status, &error, REQUEST_ID)
}

/// The response with another body, and with what these clients ask before they look at the status.
fn rewritten<T: Serialize>(
    problem: &Problem,
    mut response: Response,
    status: u16,
    error: &T,
    request_id: HeaderName,
) -> Response {
    *response.body_mut() = Body::from(serde_json::to_vec(error).expect("an error is plain data"));
    *response.status_mut() = status.try_into().unwrap_or(response.status());
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(should) = problem.should_retry() {
        headers.insert("x-should-retry", HeaderValue::from_static(if should { "true" } else { "false" }));
    }
    if let Some(id) = problem.request_id().and_then(|id| HeaderValue::try_from(id).ok()) {
        headers.insert(request_id, id);
    }
    response
}

/// Whether a path means what it says, to every server behind: no way up, however it is written.
pub(super) fn is_plain(path: &str) -> bool {
    let mut text = path.to_owned();
    loop {
        let steps = |segment: &str| matches!(segment.split(';').next().unwrap_or_default(), "." | "..");
        if text.split(['/', '\\']).any(steps) || text.contains(|c: char| c.is_control()) {
            return false;
        }
        match decoded(&text) {
            Some(plainer) => text = plainer,
            None => return true,
        }
    }
}

/// With its percent signs undone once; nothing if there are none. What is not UTF-8 becomes something else, which does not matter here.
pub(super) fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16);
    while let Some((first, behind)) = rest.split_first() {
        let code = match behind {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)).map(|(high, low)| high * 16 + low),
            _ => None,
        };
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(code) => (bytes.push(code), rest = &behind[2..]),
            None => (bytes.push(*first), rest = behind),
        };
    }
    (bytes.len() < text.len()).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_no_way_up() {
        for path in ["files", "files/a%2Fb", "files/a..b", "files/...", "a;v=..", "files/100%", "%zz", "é", "files//x"]
        {
            assert!(is_plain(path), "{path}");
        }
        for path in [
            "..",
            "files/../x",
            "files/.",
            "files/%2e%2E/x",
            "files/%252e%252e",
            "files/..%2fx",
            "a%5c..%5cb",
            "a/..;x/b",
            "a%00",
        ] {
            assert!(!is_plain(path), "{path}");
        }
    }

    #[test]
    fn the_path_tells_the_protocol_and_where_it_cannot_the_client_does() {
        let plain = HeaderMap::new();
        let anthropic = [("anthropic-version".parse().expect("a name"), HeaderValue::from_static("2023-06-01"))];
        let anthropic: HeaderMap = anthropic.into_iter().collect();
        for (path, of_plain, of_anthropic) in [
            ("/v1/streams/x/events", Surface::Native, Surface::Native),
            ("/v1/session", Surface::Native, Surface::Native),
            ("/healthz", Surface::Native, Surface::Native),
            ("/v1/chat/completions", Surface::OpenAi, Surface::Anthropic),
            ("/v1/models", Surface::OpenAi, Surface::Anthropic),
            ("/v1/messages/count_tokens", Surface::Anthropic, Surface::Anthropic),
            ("/v1/responses/resp_1", Surface::OpenAi, Surface::Anthropic),
        ] {
            assert_eq!((Surface::of(path, &plain), Surface::of(path, &anthropic)), (of_plain, of_anthropic), "{path}");
        }
    }
}
