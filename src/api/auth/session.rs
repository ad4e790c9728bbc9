//! `/v1/session`: a page that has a key exchanges it for a cookie, which no script can read and no other site can use.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};

use super::{super::openapi::words, Api, Caller, NOBODY, Problem, Shown, foreign, unknown, until};
use crate::auth::Session;

const COOKIE: &str = "lastword_session";

/// `POST /v1/session`: signs this browser in, for whom the key says.
#[utoipa::path(post, path = "/v1/session", tag = "credentials", operation_id = "sign_in", summary = "A cookie for a key",
    responses((status = 204, description = "Signed in: the cookie is set. Nothing is set where nobody needs a key"), words::Refused))]
pub(in crate::api) async fn sign_in(
    State(api): State<Arc<Api>>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // Else a cookie that got into wrong hands would live for ever.
    if matches!(caller.by, Shown::Session) {
        return Err(unknown("a session is not prolonged by itself"));
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    if caller.owner() != NOBODY {
        let ttl = api.auth.known().config().session_ttl;
        let session = Session { expires: until(ttl), owner: caller.owner().to_owned() };
        set(&mut response, &headers, &api.auth.signer().session(&session), ttl.as_secs());
    }
    Ok(response)
}

/// `DELETE /v1/session`: signs this browser out.
#[utoipa::path(delete, path = "/v1/session", tag = "credentials", operation_id = "sign_out", summary = "Take the cookie away",
    responses((status = 204, description = "Signed out"), words::Refused))]
pub(in crate::api) async fn sign_out(headers: HeaderMap) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    set(&mut response, &headers, "", 0);
    response
}

fn set(response: &mut Response, headers: &HeaderMap, value: &str, seconds: u64) {
    let says_https = |name: &str, begin: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).is_some_and(|value| value.starts_with(begin))
    };
    // A browser says where the page is from; TLS may end at a proxy.
    let secure = says_https("origin", "https://") || says_https("x-forwarded-proto", "https");
    let secure = if secure { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
}

/// The session that a request shows.
pub(super) fn shown(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// A browser sends the cookie whoever asks it to: a form of another site can post, but not JSON. Another site is refused before; but not
/// where any may ask, which never means with a visitor's cookie.
pub(super) fn may_change(method: &Method, uri: &Uri, headers: &HeaderMap, cors: &[String]) -> Result<(), Problem> {
    let changes = foreign::changes(method) && uri.path() != "/v1/session";
    if changes && foreign::refused(uri, headers, cors.iter().filter(|origin| *origin != "*")) {
        return Err(foreign::cross_site());
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let is_json = kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"));
    if !changes || is_json {
        return Ok(());
    }
    let detail = "a request that is signed in by a cookie and changes something must be one that no form can make";
    Err(Problem::new(StatusCode::FORBIDDEN, "json_only", detail)
        .field("Content-Type")
        .remedy("say `content-type: application/json`, also where there is no body"))
}
