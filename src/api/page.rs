//! The page at `/`: the files of `web/`, built into the binary.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::header,
    response::{IntoResponse, Response},
};

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, content type, content. The first is the page itself.
const FILES: [(&str, &str, &[u8]); 13] = [
    ("", HTML, include_bytes!("../../web/index.html")),
    ("app.js", SCRIPT, include_bytes!("../../web/app.js")),
    ("answer.js", SCRIPT, include_bytes!("../../web/answer.js")),
    ("wire.js", SCRIPT, include_bytes!("../../web/wire.js")),
    // The client library, as it is: the page is its first user, and any other page can import it from here.
    ("lastword.js", SCRIPT, include_bytes!("../../web/client/lastword.js")),
    ("style.css", "text/css; charset=utf-8", include_bytes!("../../web/style.css")),
    ("docs.html", HTML, include_bytes!("../../web/docs.html")),
    ("docs.js", SCRIPT, include_bytes!("../../web/docs.js")),
    ("docs.css", "text/css; charset=utf-8", include_bytes!("../../web/docs.css")),
    ("dashboard.html", HTML, include_bytes!("../../web/dashboard.html")),
    ("dashboard.js", SCRIPT, include_bytes!("../../web/dashboard.js")),
    ("dashboard.css", "text/css; charset=utf-8", include_bytes!("../../web/dashboard.css")),
    ("icon.svg", "image/svg+xml", include_bytes!("../../web/icon.svg")),
];

/// Nothing from elsewhere, nothing inline, nobody's frame.
const POLICY: &str = "default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'";

/// `GET /`.
pub(super) async fn index() -> Response {
    file("")
}

/// `GET /docs`: the API's description, drawn.
pub(super) async fn docs() -> Response {
    file("docs.html")
}

/// `GET /dashboard`.
pub(super) async fn dashboard() -> Response {
    file("dashboard.html")
}

/// `GET /{name}`: one of the page's files.
pub(super) async fn asset(name: Result<Path<String>, PathRejection>) -> Response {
    // What is not UTF-8 is none of their names.
    file(name.as_deref().map_or("?", |name| name.as_str()))
}

fn file(name: &str) -> Response {
    let Some((_, kind, content)) = FILES.iter().find(|(file, ..)| *file == name) else {
        return super::nothing().into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, *kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, *content).into_response()
}
