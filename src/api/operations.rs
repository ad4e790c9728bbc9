//! What the operator's tools ask: is it alive, is it ready, what does it count.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Api, error::Problem, openapi::words};
use crate::telemetry;

/// `GET /healthz`: the process lives.
#[utoipa::path(get, path = "/healthz", tag = "operations", operation_id = "is_alive", summary = "Does the process live?",
    responses((status = 200, description = "It lives", content_type = "text/plain", body = String)))]
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: an answer could be started now; else `503` and why not.
#[utoipa::path(get, path = "/readyz", tag = "operations", operation_id = "is_ready", summary = "Could an answer be started now?",
    responses((status = 200, description = "An answer could be started now", content_type = "text/plain", body = String), words::Refused))]
pub(super) async fn ready(State(api): State<Arc<Api>>) -> Response {
    match api.gateway.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(why) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", why)
            .retry_after(Duration::from_secs(2))
            .into_response(),
    }
}

/// `GET /metrics`: in the format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", operation_id = "metrics", summary = "Counts and times, for Prometheus",
    responses((status = 200, description = "In the format of Prometheus", content_type = "application/openmetrics-text", body = String)))]
pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Response {
    ([(header::CONTENT_TYPE, telemetry::METRICS_TYPE)], api.gateway.metrics().render()).into_response()
}
