//! All other paths below `/v1/`: what an upstream can do beside answering is handed on to it, where the operator allows it
//! (`pass_through`), and nothing of it is kept. Embeddings, files, audio, moderations, batches, …
//!
//! A body of JSON that names a model is read whole, because the name decides who gets it. Any other body goes through in pieces.
//! What the client says to lastword (its credential above all) stays here.

use std::{
    error, fmt,
    sync::{Arc, OnceLock},
};

use axum::{
    body::{Body, HttpBody},
    extract::{FromRequest, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use super::{
    Api,
    auth::Caller,
    body::Whole,
    connection::GaveUp,
    error::{Problem, X_LASTWORD_BACKEND},
    surface::{Surface, is_plain},
};
use crate::{gateway, protocol::Named};

/// The headers of a request that go along: what its body is, what answer it wants, and by which features. No credential is among them, and
/// no name that a proxy in front of lastword gives to one.
const GOING_ALONG: [&str; 20] = [
    "accept",
    "accept-encoding",
    "accept-language",
    "anthropic-beta",
    "anthropic-version",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "idempotency-key",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "openai-beta",
    "prefer",
    "range",
    "user-agent",
    "x-client-request-id",
];

/// `* /v1/{path}`
pub(super) async fn pass(State(api): State<Arc<Api>>, caller: Caller, request: Request) -> Result<Response, Problem> {
    let uri = request.uri().clone();
    let path = uri.path().strip_prefix("/v1/").filter(|path| is_plain(path));
    let Some(path) = path.filter(|_| Surface::of(uri.path(), request.headers()) != Surface::Native) else {
        return Err(super::nothing());
    };
    api.gateway.admit(caller.owner())?;
    let backend = named(request.headers())?;
    let method = request.method().clone();
    let mut headers = going_along(request.headers());
    let fault = Arc::new(OnceLock::new());
    let (passage, body, _room) = match is_json(&request) {
        true => {
            let whole = Whole::from_request(request, &api).await?;
            let model = Named::find(&whole.bytes);
            let passage = find(&api, path, uri.query(), backend.as_deref(), model.as_ref())?;
            let bytes = match model.zip(passage.model.as_deref()) {
                Some((named, there)) => Bytes::from(named.renamed(&whole.bytes, there)),
                None => whole.bytes.clone(),
            };
            headers.insert(header::CONTENT_LENGTH, bytes.len().into());
            (passage, Some(stream::iter([Ok(bytes)]).boxed()), Some(whole))
        }
        false => {
            let passage = find(&api, path, uri.query(), backend.as_deref(), None)?;
            let size = request.body().size_hint();
            if size.lower() > api.settings.max_upload.as_u64() {
                return Err(too_large(&api));
            }
            if let Some(length) = size.exact().filter(|length| *length > 0) {
                headers.insert(header::CONTENT_LENGTH, length.into());
            }
            let body = (size.exact() != Some(0)).then(|| pieces(&api, request.into_body(), fault.clone()).boxed());
            (passage, body, None)
        }
    };
    let mut request = gateway::Request::new(body);
    (*request.method_mut(), *request.headers_mut()) = (method, headers);
    let response = passage.send(request).await.map_err(|error| match fault.get() {
        Some(Fault::TooLarge) => too_large(&api),
        Some(fault) => fault.into(),
        None => error.into(),
    })?;
    // Why it broke off is told in the log; the client sees a reset, and never a clean end.
    Ok(response.map(|body| Body::from_stream(body.map_err(|_| GaveUp::new()))))
}

/// Who takes it; what is not allowed is told with how to allow it.
fn find(
    api: &Api,
    path: &str,
    query: Option<&str>,
    backend: Option<&str>,
    model: Option<&Named>,
) -> Result<gateway::Passage, Problem> {
    let found = api.gateway.passage(path, query, backend, model.map(|named| named.model.as_str()));
    found.map_err(|error| match &error {
        gateway::PassError::NotAllowed { backend } => {
            let section = backend.as_deref().unwrap_or("NAME");
            let path: String = path.chars().take(64).collect();
            let path = path.split_once('/').map_or(path.clone(), |(first, _)| format!("{first}/*"));
            let remedy = format!(
                "the API begins at /v1/streams; if an upstream has this, `pass_through = [\"{path}\"]` in [backends.{section}] lets it through"
            );
            Problem::from(error).remedy(remedy)
        }
        _ => error.into(),
    })
}

/// The backend that the request names.
fn named(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(X_LASTWORD_BACKEND) else { return Ok(None) };
    let name = std::str::from_utf8(value.as_bytes()).map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "unknown_backend", "the backend's name is not UTF-8")
            .field(X_LASTWORD_BACKEND)
            .remedy("write it as [backends] does")
    })?;
    Ok(Some(name.trim().to_owned()).filter(|name| !name.is_empty()))
}

fn going_along(headers: &HeaderMap) -> HeaderMap {
    let goes = |name: &HeaderName| GOING_ALONG.contains(&name.as_str()) || name.as_str().starts_with("x-stainless-");
    headers.iter().filter(|(name, _)| goes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A body that says it is JSON, or says nothing.
fn is_json(request: &Request) -> bool {
    if request.body().size_hint().exact() == Some(0) {
        return false;
    }
    let kind = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::to_str);
    let Some(Ok(kind)) = kind else { return kind.is_none() };
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let encoded = request.headers().contains_key(header::CONTENT_ENCODING);
    !encoded && (kind == "application/json" || kind.ends_with("+json"))
}

/// Why a request's body was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TooLarge,
    /// Nothing came for too long.
    Late,
    /// The client broke off.
    Broken,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request's body is too large",
            Self::Late => "the request's body did not come",
            Self::Broken => "the request's body broke off",
        })
    }
}

impl error::Error for Fault {}

impl From<&Fault> for Problem {
    fn from(fault: &Fault) -> Self {
        let (status, code) = match fault {
            Fault::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Fault::Late => (StatusCode::REQUEST_TIMEOUT, "body_timeout"),
            Fault::Broken => (StatusCode::BAD_REQUEST, "bad_request"),
        };
        Self::new(status, code, fault.to_string()).remedy("send it again")
    }
}

fn too_large(api: &Api) -> Problem {
    let detail = format!("the body is larger than {}", api.settings.max_upload);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        .remedy("send less, or raise [server] max_upload")
}

/// The body as it comes. It may be large and take long, but each piece comes in time. What is wrong with it is left in `fault`.
fn pieces(
    api: &Arc<Api>,
    body: Body,
    fault: Arc<OnceLock<Fault>>,
) -> impl stream::Stream<Item = Result<Bytes, Box<dyn error::Error + Send + Sync>>> + use<> {
    let (patience, most) = (api.settings.body_timeout, api.settings.max_upload.as_u64());
    async_stream::try_stream! {
        let mut body = body.into_data_stream();
        let mut taken = 0;
        loop {
            let piece = match timeout(patience, body.next()).await {
                Ok(None) => return,
                Ok(Some(Ok(piece))) => Ok(piece),
                Ok(Some(Err(_))) => Err(Fault::Broken),
                Err(_) => Err(Fault::Late),
            };
            taken += piece.as_ref().map_or(0, |piece| piece.len() as u64);
            let piece = if taken > most { Err(Fault::TooLarge) } else { piece };
            if let Err(why) = &piece {
                let _ = fault.set(*why);
            }
            yield piece?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_of_itself_to_lastword_stays_here() {
        let mut headers = HeaderMap::new();
        let private = [
            "authorization",
            "x-api-key",
            "api-key",
            "x-goog-api-key",
            "cookie",
            "openai-organization",
            "openai-project",
            "proxy-authorization",
            "host",
            "connection",
            "x-forwarded-for",
            "origin",
            "referer",
            "x-lastword-backend",
            "x-amzn-oidc-data",
            "cf-access-jwt-assertion",
            "content-length",
            "expect",
            "last-event-id",
        ];
        let open = ["content-type", "accept", "openai-beta", "x-stainless-lang", "idempotency-key", "range"];
        for name in private.iter().chain(&open) {
            headers.insert(*name, HeaderValue::from_static("x"));
        }
        let left = going_along(&headers);
        assert_eq!(left.len(), open.len(), "{left:?}");
        assert!(open.iter().all(|name| left.contains_key(*name)));
    }
}
