//! Who calls, and from which site.
//!
//! There is no authentication yet: everybody is nobody, and any credential that comes along is ignored. What is refused all the
//! same is a page of a foreign site that makes a visitor's browser start, stop or erase answers.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Api, error::Problem};

/// The owner of every stream while authentication is off.
pub const NOBODY: &str = "";

/// Refuses state-changing requests that a browser sends for a foreign site, unless CORS allows that site.
pub async fn refuse_foreign_sites(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && foreign(request.uri(), request.headers()) && !allowed(request.headers(), &api.settings.cors) {
        return Problem::new(StatusCode::FORBIDDEN, "cross_site", "this request comes from a page of another site")
            .field("Origin")
            .remedy("add the page's origin to [server] cors; behind a proxy, pass the Host header on")
            .into_response();
    }
    next.run(request).await
}

/// Browsers say it themselves where they can; else the page's host must be ours. Programs send neither header.
fn foreign(uri: &Uri, headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return site == "cross-site";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host =
        |authority: &str| authority.parse().ok().map(|authority: Authority| authority.host().to_ascii_lowercase());
    let page = origin.to_str().ok().and_then(|origin| host(origin.split_once("://")?.1));
    // HTTP/1 says whom it asks in a header, HTTP/2 in the URI.
    let ours = [text("host"), text("x-forwarded-host"), uri.authority().map(Authority::as_str)];
    page.is_none() || !ours.into_iter().flatten().any(|ours| host(ours) == page)
}

fn allowed(headers: &HeaderMap, cors: &[String]) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    cors.iter().any(|allowed| allowed == "*" || Some(allowed.as_str()) == origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_page_is_told_from_our_own_and_from_a_program() {
        let is_foreign = |pairs: &[(&'static str, &'static str)]| {
            let headers =
                pairs.iter().map(|(name, value)| (name.parse().expect("name"), value.parse().expect("value")));
            foreign(&Uri::from_static("/"), &headers.collect())
        };
        assert!(!is_foreign(&[("host", "a.example:8080")]), "curl");
        assert!(!is_foreign(&[("host", "a.example:8080"), ("origin", "http://a.example:8080")]));
        assert!(!is_foreign(&[
            ("host", "10.0.0.1"),
            ("origin", "https://a.example"),
            ("sec-fetch-site", "same-origin")
        ]));
        assert!(!is_foreign(&[
            ("host", "10.0.0.1"),
            ("x-forwarded-host", "a.example"),
            ("origin", "https://a.example")
        ]));
        assert!(is_foreign(&[("host", "a.example"), ("origin", "https://evil.example")]));
        assert!(is_foreign(&[("host", "a.example"), ("origin", "null")]));
        assert!(is_foreign(&[("host", "[2001:db8::1]"), ("origin", "http://[2001:db8::2]")]));
        assert!(!is_foreign(&[("host", "[2001:db8::1]:80"), ("origin", "http://[2001:db8::1]")]));
        let headers = [(header::ORIGIN, "http://a.example".parse().expect("value"))].into_iter().collect();
        assert!(!foreign(&Uri::from_static("http://a.example:8080/v1/streams"), &headers), "HTTP/2");
        assert!(is_foreign(&[("host", "a.example"), ("sec-fetch-site", "cross-site")]));
    }
}
