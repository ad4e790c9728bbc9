//! What lies around all routes: the request's id, its trace, CORS, and a net for panics.
//!
//! None of it wraps a response's body: it would be polled with each token, three times.

use std::{panic::AssertUnwindSafe, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use tokio::time::Instant;
use tower_http::{
    cors::{AllowHeaders, AllowOrigin, Any, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
};
use tracing::{Instrument, debug, debug_span, error, field};

use crate::api::{X_LASTWORD_DROPPED, X_STREAM_ID, error::Problem, surface::in_its_words};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The routes with everything around them.
pub(super) fn around(routes: Router, cors: &[String]) -> Router {
    let routes = routes
        .layer(middleware::from_fn(catch_panics))
        .layer(middleware::from_fn(in_its_words))
        .layer(middleware::from_fn(trace))
        .layer(PropagateRequestIdLayer::new(X_REQUEST_ID))
        .layer(SetRequestIdLayer::new(X_REQUEST_ID, MakeRequestUuid));
    match cors {
        [] => routes,
        origins => routes.layer(allow(origins)),
    }
}

/// What a page of another origin needs: to send the headers it resumes and signs in with, and to read the stream's id.
fn allow(origins: &[String]) -> CorsLayer {
    let origins_are_named = origins != ["*"];
    let origins = match origins {
        [any] if any == "*" => AllowOrigin::from(Any),
        list => AllowOrigin::list(list.iter().filter_map(|origin| HeaderValue::from_str(origin).ok())),
    };
    // With its cookie, where it is named: a page of any site must not be able to use a visitor's.
    CorsLayer::new()
        .allow_credentials(origins_are_named)
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::HEAD, Method::POST, Method::DELETE])
        // Any: OpenAI's SDKs send a dozen of their own. It is the origin that says whether a page may ask.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers([
            X_STREAM_ID,
            X_REQUEST_ID,
            X_LASTWORD_DROPPED,
            HeaderName::from_static("idempotent-replayed"),
            HeaderName::from_static("request-id"),
            HeaderName::from_static("x-should-retry"),
            HeaderName::from_static("x-workflow-run-id"),
            HeaderName::from_static("x-workflow-stream-tail-index"),
            HeaderName::from_static("x-resumable-stream-id"),
            header::LOCATION,
            header::RETRY_AFTER,
        ])
        .max_age(Duration::from_secs(3600))
}

/// A span a request, at debug. Its route is known when it is found.
async fn trace(request: Request, next: Next) -> Response {
    let id = request.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or("-");
    let span = debug_span!("request", method = %request.method(), route = field::Empty, id);
    let answered = async {
        let began = Instant::now();
        let response = next.run(request).await;
        let (status, ms) = (response.status().as_u16(), began.elapsed().as_millis());
        match response.status().is_server_error() {
            true => error!(status, ms, "a request failed"),
            false => debug!(status, ms, "a request was answered"),
        }
        response
    };
    answered.instrument(span).await
}

async fn catch_panics(request: Request, next: Next) -> Response {
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        error!("a handler panicked");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server made a mistake; its log says more")
            .into_response()
    })
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn a_handler_that_panics_is_an_error_of_the_servers_and_ends_nothing_else() {
        async fn handler() {
            panic!("a bug")
        }
        let routes = around(Router::new().route("/", get(handler)), &[]);
        for _ in 0..2 {
            let request = Request::get("/").body(Body::empty()).expect("a request");
            let response = routes.clone().oneshot(request).await.expect("an answer");
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
            assert!(response.headers().contains_key(X_REQUEST_ID));
        }
    }
}
