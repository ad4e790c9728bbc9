//! `/v1/prompts`: the named prompts, and a request that names one.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value, json};
use tokio::task::spawn_blocking;

use super::{Api, error::Problem, openapi::words};
use crate::{
    prompt::{Message, Prompt, Role},
    template::{self, Rendered},
};

/// `GET /v1/prompts`: what there is, and what each takes. One whose file is wrong is there with what is wrong with it.
#[utoipa::path(get, path = "/v1/prompts", tag = "catalogue", operation_id = "list_prompts", summary = "The named prompts, with their variables",
    responses((status = 200, description = "Each with its variables", body = Object), words::Refused))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Problem> {
    let templates = api.templates.clone();
    let all = spawn_blocking(move || {
        let about = |name: String| match templates.get(&name) {
            Ok(template) => template.describe(&name),
            Err(error) => json!({ "name": name, "error": error.to_string() }),
        };
        templates.names().into_iter().map(about).collect::<Vec<_>>()
    });
    Ok(Json(json!({ "prompts": all.await.map_err(lost)? })).into_response())
}

/// The prompt with what the template says; what the request itself says counts before that.
pub(super) async fn filled_in(
    api: &Api,
    prompt: Prompt,
    name: String,
    variables: Map<String, Value>,
) -> Result<Prompt, Problem> {
    let templates = api.templates.clone();
    let Rendered { system, user, params } =
        spawn_blocking(move || templates.render(&name, &variables)).await.map_err(lost)??;
    let mut prompt = prompt;
    if prompt.model.is_empty() {
        prompt.model = params.model.unwrap_or_default();
    }
    prompt.system = prompt.system.or(system);
    prompt.messages = vec![Message::text(Role::User, user)];
    let own = &mut prompt.params;
    own.max_tokens = own.max_tokens.or(params.max_tokens);
    own.temperature = own.temperature.or(params.temperature);
    own.top_p = own.top_p.or(params.top_p);
    own.seed = own.seed.or(params.seed);
    if own.stop.is_empty() {
        own.stop = params.stop;
    }
    Ok(prompt)
}

fn lost(_: tokio::task::JoinError) -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the server made a mistake; its log says more")
}

impl From<template::Error> for Problem {
    fn from(error: template::Error) -> Self {
        let detail = error.to_string();
        match error {
            template::Error::Unknown { remedy, .. } => {
                Self::new(StatusCode::BAD_REQUEST, "unknown_template", detail).field("template").remedy(remedy)
            }
            template::Error::Broken { .. } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "broken_template", detail).field("template")
            }
            template::Error::Variable { variable, remedy, .. } => {
                Self::new(StatusCode::BAD_REQUEST, "bad_request", detail)
                    .field(format!("variables.{variable}"))
                    .remedy(remedy)
            }
        }
    }
}
