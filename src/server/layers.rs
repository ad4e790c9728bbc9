//! What lies around all routes: the request's id, its trace, CORS, and a net for panics.

use std::time::Duration;

use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
};
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowHeaders, AllowOrigin, Any, CorsLayer},
    request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer},
    trace::TraceLayer,
};
use tracing::debug_span;

use crate::api::{X_LASTWORD_DROPPED, X_STREAM_ID, error::Problem, surface::in_its_words};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The routes with everything around them.
pub(super) fn around(routes: Router, cors: &[String]) -> Router {
    // A span a request, at debug, with the route and never the URL: a query may hold a credential.
    let trace = TraceLayer::new_for_http()
        .make_span_with(|request: &Request| {
            let route = request.extensions().get::<MatchedPath>().map_or("-", MatchedPath::as_str);
            let id = request.headers().get(X_REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or("-");
            debug_span!("request", method = %request.method(), route, id)
        })
        .on_body_chunk(())
        .on_eos(());
    let routes = routes
        .layer(CatchPanicLayer::custom(|_| panicked()))
        .layer(middleware::from_fn(in_its_words))
        .layer(trace)
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

fn panicked() -> Response {
    tracing::error!("a handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server made a mistake; its log says more")
        .into_response()
}
