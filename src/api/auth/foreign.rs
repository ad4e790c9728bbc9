//! From which site a request comes, and under which name we are asked.
//!
//! Whoever calls, refused is a page of a foreign site that makes a visitor's browser start, stop or erase answers; and, where only this
//! machine is listened to, whoever asks under a name that is not this machine's.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, Uri, header, uri::Authority},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::super::{Api, error::Problem};

/// Refuses state-changing requests that a browser sends for a foreign site, unless CORS allows that site; and any request under a
/// foreign name.
pub async fn refuse_foreign_sites(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if let Some(hosts) = &api.settings.hosts
        && let Some(name) = foreign_name(request.uri(), request.headers(), hosts)
    {
        let detail = format!("nobody here goes by the name `{name}`: only this machine is listened to");
        return Problem::new(StatusCode::FORBIDDEN, "unknown_host", detail)
            .field("Host")
            .remedy("ask for localhost; or add the name to [server] hosts, where a proxy passes it on or names its upstream so")
            .into_response();
    }
    if changes(request.method()) && refused(request.uri(), request.headers(), &api.settings.cors) {
        return cross_site().into_response();
    }
    next.run(request).await
}

/// Whether a request of this kind changes something.
pub(super) fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Whether a request comes from a page of a site that is neither ours nor one of these; `*` is every one.
pub(super) fn refused<'a>(uri: &Uri, headers: &HeaderMap, allowed: impl IntoIterator<Item = &'a String>) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    foreign(uri, headers) && !allowed.into_iter().any(|allowed| allowed == "*" || Some(allowed.as_str()) == origin)
}

pub(super) fn cross_site() -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "cross_site", "this request comes from a page of another site")
        .field("Origin")
        .remedy("add the page's origin to [server] cors; behind a proxy, pass the Host header on and name it in [server] hosts")
}

/// The name under which is asked, if it is none of ours. A page can have its own name point at this machine (DNS rebinding), and its
/// browser then takes the two for one site. It can do so with no address, nor can it leave the name out: that is a program.
fn foreign_name(uri: &Uri, headers: &HeaderMap, hosts: &[String]) -> Option<String> {
    let header = headers.get(header::HOST).map(|name| name.to_str().unwrap_or("?"));
    // HTTP/1 says whom it asks in a header, HTTP/2 in the URI.
    let mut named =
        [header, uri.authority().map(Authority::as_str)].into_iter().flatten().filter(|name| !name.is_empty());
    let ours = |name: &str| {
        let Ok(authority) = name.parse::<Authority>() else { return false };
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let is_address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
        is_address || host == "localhost" || host.ends_with(".localhost") || hosts.contains(&host)
    };
    named.find(|name| !ours(name)).map(str::to_owned)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_page_can_point_here_is_foreign() {
        let hosts = ["app.example.com".to_owned()];
        let foreign = |uri: &'static str, host: Option<&str>| {
            let headers = host.map(|host| (header::HOST, host.parse().expect("value"))).into_iter().collect();
            foreign_name(&Uri::from_static(uri), &headers, &hosts)
        };
        for ours in ["localhost", "LocalHost:8080", "a.localhost.", "127.0.0.1:80", "127.9.9.9", "[::1]:8080", "[::1]"]
        {
            assert_eq!(foreign("/", Some(ours)), None, "{ours}");
            assert_eq!(foreign("http://evil.example/", Some(ours)).as_deref(), Some("evil.example"), "both count");
        }
        for ours in ["app.example.com", "App.Example.com:443", "192.0.2.7:8080", "[2001:db8::7]", ""] {
            assert_eq!(foreign("/", Some(ours)), None, "{ours}");
        }
        assert_eq!((foreign("/", None), foreign("http://localhost:1/", None)), (None, None), "HTTP/1.0, HTTP/2");
        for name in ["evil.example:8080", "localhost.evil.example", "evillocalhost", "127.0.0.1.evil.example", "a b"] {
            assert_eq!(foreign("/", Some(name)).as_deref(), Some(name));
        }
    }

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
