//! The page at `/`, and the files of `web/`, built into the binary.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

struct File {
    name: &'static str,
    kind: &'static str,
    content: &'static [u8],
    /// The same, with gzip, where the build made it.
    packed: Option<&'static [u8]>,
}

/// The page itself, which has no name, and what is its alone. `build.rs` says what they are: what it built of `web/page`, or the plain page.
const PAGE: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

macro_rules! files {
    ($($name:literal $kind:ident $path:literal,)*) => {
        &[$(File { name: $name, kind: $kind, content: include_bytes!(concat!("../../web/", $path)), packed: None },)*]
    };
}

/// What is always there.
const FILES: &[File] = files![
    "plain.html" HTML "index.html",
    "app.js" SCRIPT "app.js",
    "answer.js" SCRIPT "answer.js",
    "wire.js" SCRIPT "wire.js",
    // The client library, as it is: the plain page uses it, and any other page can import it from here.
    "lastword.js" SCRIPT "client/lastword.js",
    "style.css" STYLE "style.css",
    "docs.html" HTML "docs.html",
    "docs.js" SCRIPT "docs.js",
    "docs.css" STYLE "docs.css",
    "dashboard.html" HTML "dashboard.html",
    "dashboard.js" SCRIPT "dashboard.js",
    "dashboard.css" STYLE "dashboard.css",
    "icon.svg" PICTURE "icon.svg",
];

/// Nothing from elsewhere, nothing inline, nobody's frame.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'";

/// `GET /`.
pub(super) async fn index(asked: HeaderMap) -> Response {
    file("", &asked)
}

/// `GET /docs`: the API's description, drawn.
pub(super) async fn docs(asked: HeaderMap) -> Response {
    file("docs.html", &asked)
}

/// `GET /dashboard`.
pub(super) async fn dashboard(asked: HeaderMap) -> Response {
    file("dashboard.html", &asked)
}

/// `GET /{name}`: one of the page's files.
pub(super) async fn asset(name: Result<Path<String>, PathRejection>, asked: HeaderMap) -> Response {
    // What is not UTF-8 is none of their names.
    file(name.as_deref().map_or("?", |name| name.as_str()), &asked)
}

fn file(name: &str, asked: &HeaderMap) -> Response {
    let Some(file) = PAGE.iter().chain(FILES).find(|file| file.name == name) else {
        return super::nothing().into_response();
    };
    // The name of a file that was built changes with what is in it.
    let built = file.packed.is_some() && !file.name.is_empty();
    let headers = [
        (header::CONTENT_TYPE, file.kind),
        (header::CACHE_CONTROL, if built { "public, max-age=31536000, immutable" } else { "no-cache" }),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    let mut response = match file.packed {
        Some(packed) if takes_gzip(asked) => (headers, [(header::CONTENT_ENCODING, "gzip")], packed).into_response(),
        _ => (headers, file.content).into_response(),
    };
    if file.packed.is_some() {
        response.headers_mut().append(header::VARY, HeaderValue::from_static("accept-encoding"));
    }
    response
}

fn takes_gzip(asked: &HeaderMap) -> bool {
    let lines = asked.get_all(header::ACCEPT_ENCODING).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|one| {
        let (name, weight) = one.split_once(';').unwrap_or((one, "q=1"));
        name.trim().eq_ignore_ascii_case("gzip")
            && !weight.trim().trim_start_matches("q=0").trim_matches(['.', '0']).is_empty()
    })
}
