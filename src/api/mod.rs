//! Every route on one screen. Handlers turn HTTP into calls of the gateway, and nothing else.

pub mod admin;
mod ai_sdk;
pub mod auth;
mod body;
mod chat;
mod chats;
pub mod connection;
mod dashboard;
pub mod error;
mod events;
mod messages;
mod models;
mod native;
mod openapi;
mod operations;
mod page;
mod pass;
mod post;
mod prompts;
mod push;
mod relay;
mod responses;
mod retold;
mod shared;
mod snapshot;
pub mod surface;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use bytes::Bytes;
use bytesize::ByteSize;
use tokio::sync::Semaphore;
use utoipa::OpenApi;

use self::{error::Problem, retold::AllRetold, snapshot::AllSnapshots};
pub use crate::protocol::ai_sdk::Version as AiSdkVersion;
use crate::{auth::Auth, gateway::Gateway, template::Templates};

/// In every response that is about one stream, in every protocol.
pub const X_STREAM_ID: HeaderName = HeaderName::from_static("x-stream-id");

/// The members of the request that the upstream has no words for, and was not told.
pub const X_LASTWORD_DROPPED: HeaderName = HeaderName::from_static("x-lastword-dropped");

/// What the handlers share.
pub struct Api {
    /// The door to everything.
    pub gateway: Arc<Gateway>,
    /// The named prompts.
    templates: Arc<Templates>,
    /// Who may ask.
    auth: Arc<Auth>,
    /// What the operator said of the routes.
    pub settings: Settings,
    /// Room for the bodies that are under way.
    bodies: Arc<Semaphore>,
    /// What readers share of what they are told.
    retold: AllRetold,
    /// `/openapi.json`, as it is sent.
    description: Bytes,
    snapshots: AllSnapshots,
}

/// What the operator said of the routes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Between two signs of life on a connection on which nothing happens.
    pub heartbeat: Duration,
    /// Readers are told to come back after a time by chance between these two.
    pub retry: (Duration, Duration),
    /// How long the head of a response may wait for the first word, where it tells how the answer began.
    pub commit_after: Duration,
    /// Of a request's body.
    pub max_body: ByteSize,
    /// Of a body that is handed on in pieces.
    pub max_upload: ByteSize,
    /// Until the body is whole.
    pub body_timeout: Duration,
    /// The origins whose pages may ask.
    pub cors: Vec<String>,
    /// The oldest version of the AI SDK among the pages that ask.
    pub ai_sdk: AiSdkVersion,
    /// The names that are answered to, beside addresses and `localhost`; all, where nothing is said.
    pub hosts: Option<Vec<String>>,
}

impl Api {
    /// With room for some bodies.
    #[must_use]
    pub fn new(gateway: Arc<Gateway>, templates: Arc<Templates>, auth: Arc<Auth>, settings: Settings) -> Self {
        let bodies = Arc::new(Semaphore::new(body::IN_FLIGHT as usize));
        let (retold, snapshots) = (AllRetold::default(), AllSnapshots::default());
        let description = openapi::written(Described::openapi());
        Self { gateway, templates, auth, settings, bodies, retold, description, snapshots }
    }

    /// When a reader that is cut off should come back, in milliseconds: each another time, so that a deploy makes no storm.
    fn retry(&self) -> u32 {
        let (min, max) = self.settings.retry;
        let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
        fastrand::u32(ms(min)..=ms(max).max(ms(min)))
    }
}

/// The routes, and before them those of applications. Not one router, since axum says on every response which methods the route of its
/// path takes, whoever answers.
pub fn router(api: Arc<Api>) -> Router {
    Router::new()
        .fallback_service(routes(api.clone()))
        .layer(middleware::from_fn_with_state(api.clone(), relay::to_applications))
        .layer(middleware::from_fn_with_state(api, auth::refuse_foreign_sites))
        .layer(middleware::from_fn(turn_away))
}

/// lastword's own.
fn routes(api: Arc<Api>) -> Router {
    Router::new()
        .route("/v1/streams", post(native::create).get(native::list))
        .route("/v1/streams/{id}", get(native::show).delete(native::remove))
        .route("/v1/streams/{id}/events", get(native::events).head(native::events_head).post(push::append))
        .route("/v1/streams/{id}/cancel", post(native::cancel))
        .route("/v1/streams/{id}/tickets", post(auth::tickets::create))
        .route("/v1/session", post(auth::session::sign_in).delete(auth::session::sign_out))
        .route("/v1/chat/completions", post(chat::create))
        .route("/v1/prompts", get(prompts::list))
        .route("/v1/messages", post(messages::create))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
        .route("/v1/responses", post(responses::create))
        .route("/v1/responses/{id}", get(responses::show).delete(responses::remove))
        .route("/v1/responses/{id}/cancel", post(responses::cancel))
        .route("/v1/responses/{id}/input_items", get(responses::input_items))
        .route("/api/chat", post(ai_sdk::create))
        .route("/api/chat/{chat}/stream", get(ai_sdk::resume).delete(ai_sdk::delete))
        .route("/api/chat/{chat}/stop", post(ai_sdk::stop))
        .route("/api/chat/{chat}/cancel", post(ai_sdk::cancel))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*id}", get(models::show))
        .route("/v1/{*path}", any(pass::pass))
        .route("/healthz", get(operations::health))
        .route("/readyz", get(operations::ready))
        .route("/metrics", get(operations::metrics))
        .route("/openapi.json", get(openapi::description))
        .route("/", get(page::index))
        .route("/docs", get(page::docs))
        .route("/dashboard", get(page::dashboard))
        .route("/dashboard/events", get(dashboard::events))
        .route("/{name}", get(page::asset))
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(api.clone(), auth::identify))
        .layer(middleware::from_fn(name_route))
        .with_state(api)
}

/// Says in the request's span which route it takes: never the URL, since a query may hold a credential.
async fn name_route(request: Request, next: Next) -> Response {
    if let Some(route) = request.extensions().get::<MatchedPath>() {
        tracing::Span::current().record("route", route.as_str());
    }
    next.run(request).await
}

/// The same routes, for `/openapi.json`.
#[derive(OpenApi)]
#[openapi(paths(
    native::create,
    native::list,
    native::show,
    native::events,
    native::events_head,
    push::append,
    native::cancel,
    native::remove,
    auth::tickets::create,
    auth::session::sign_in,
    auth::session::sign_out,
    chat::create,
    responses::create,
    responses::show,
    responses::remove,
    responses::cancel,
    responses::input_items,
    messages::create,
    messages::count_tokens,
    ai_sdk::create,
    ai_sdk::resume,
    ai_sdk::stop,
    ai_sdk::cancel,
    ai_sdk::delete,
    models::list,
    models::show,
    prompts::list,
    operations::health,
    operations::ready,
    operations::metrics,
    openapi::description,
))]
struct Described;

/// Refuses whatever comes over a connection that is one too many of its address.
async fn turn_away(connection: connection::Connection, request: Request, next: Next) -> Response {
    let Some(why) = connection.refused() else { return next.run(request).await };
    let mut response = Problem::new(StatusCode::TOO_MANY_REQUESTS, "address_connections", why)
        .remedy("close some, or wait as long as Retry-After says")
        .retry_after(Duration::from_secs(5))
        .into_response();
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn no_route() -> Problem {
    nothing()
}

fn nothing() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is nothing here").remedy("the API begins at /v1/streams")
}

/// The router adds `Allow`, which is all that OPTIONS asks for where CORS is off.
async fn wrong_method(method: Method) -> Response {
    match method {
        Method::OPTIONS => StatusCode::NO_CONTENT.into_response(),
        _ => Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path takes other methods")
            .remedy("see the Allow header")
            .into_response(),
    }
}
