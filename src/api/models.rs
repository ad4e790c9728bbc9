//! `/v1/models`: what can be asked for. OpenAI's clients and Anthropic's ask the same path and read different lists; which one asks
//! is told by the header that Anthropic's always send.

use std::{collections::HashMap, sync::Arc};

use axum::{
    Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::{Api, error::Problem, openapi::words, surface::Surface};
use crate::gateway::Listed;

/// How many of a list Anthropic's clients may ask for at once.
const MOST: usize = 1000;

/// `GET /v1/models`: those that are known. OpenAI's list is whole; Anthropic's comes in pages.
#[utoipa::path(get, path = "/v1/models", tag = "catalogue", operation_id = "list_models", summary = "What can be asked for",
    responses((status = 200, description = "In OpenAI's shape; in Anthropic's if `anthropic-version` is sent", body = Object), words::RefusedOpenAi))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    uri: Uri,
    headers: HeaderMap,
    query: Result<Query<HashMap<String, String>>, QueryRejection>,
) -> Result<Response, Problem> {
    let router = api.gateway.router();
    let models = router.models();
    if Surface::of(uri.path(), &headers) == Surface::Anthropic {
        let Query(query) = query?;
        return Ok(Json(page(&models, &query)?).into_response());
    }
    let data: Vec<_> = models.iter().map(as_openai).collect();
    Ok(Json(json!({ "object": "list", "data": data, "default": router.default_model() })).into_response())
}

/// `GET /v1/models/{id}`: whether there is such a model. The id may have slashes.
#[utoipa::path(get, path = "/v1/models/{id}", tag = "catalogue", operation_id = "get_model", summary = "Is there such a model?",
    params(("id" = String, Path, description = "Its name; it may have slashes", example = "mock/words")),
    responses((status = 200, description = "In OpenAI's shape; in Anthropic's if `anthropic-version` is sent", body = Object), words::RefusedOpenAi))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    uri: Uri,
    headers: HeaderMap,
    id: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    // What is not UTF-8 is nobody's name.
    let name = id.as_ref().map_or("\u{fffd}", |id| id.as_str());
    let model = api.gateway.model(name)?;
    let told = match Surface::of(uri.path(), &headers) {
        Surface::Anthropic => as_anthropic(&model),
        _ => as_openai(&model),
    };
    Ok(Json(told).into_response())
}

/// <https://platform.openai.com/docs/api-reference/models/object>. Nobody knows when it was made; the member must be a number.
fn as_openai(model: &Listed) -> Value {
    json!({ "id": model.name, "object": "model", "created": 0, "owned_by": model.backend })
}

/// <https://docs.anthropic.com/en/api/models>. An unknown time is written as the beginning of time there.
fn as_anthropic(model: &Listed) -> Value {
    json!({
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active",
    })
}

/// A page of the list behind `after_id` or before `before_id`.
fn page(models: &[Listed], query: &HashMap<String, String>) -> Result<Value, Problem> {
    let asked = |name: &str| query.get(name).map(String::as_str).filter(|text| !text.is_empty());
    let bad = |field: &str, detail: String, remedy: &str| {
        Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).field(field).remedy(remedy)
    };
    let limit = match asked("limit").map(str::parse) {
        None => 20,
        Some(Ok(limit @ 1..=MOST)) => limit,
        Some(_) => {
            let detail = format!("`limit` is not a number from 1 to {MOST}");
            return Err(bad("limit", detail, "leave it out for 20"));
        }
    };
    let place = |field: &str| match asked(field) {
        None => Ok(None),
        Some(id) => match models.iter().position(|model| model.name == id) {
            None => Err(bad(field, format!("`{field}` is none of the models"), "give an id of the page before")),
            place => Ok(place),
        },
    };
    let (after, before) = (place("after_id")?, place("before_id")?);
    let from = after.map_or(0, |place| place + 1);
    let to = before.unwrap_or(models.len()).max(from);
    // Whoever pages backwards wants those that stand next to where it is.
    let backwards = before.is_some() && after.is_none();
    let (from, to, has_more) = match to - from > limit {
        false => (from, to, false),
        true if backwards => (to - limit, to, true),
        true => (from, from + limit, true),
    };
    let shown = &models[from..to];
    let id = |model: Option<&Listed>| model.map(|model| model.name.clone());
    let data: Vec<_> = shown.iter().map(as_anthropic).collect();
    Ok(json!({ "data": data, "has_more": has_more, "first_id": id(shown.first()), "last_id": id(shown.last()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_paged_to_both_sides() {
        let models = ["a", "b", "c", "d", "e"].map(|name| Listed { name: name.to_owned(), backend: "x".to_owned() });
        let shown = |pairs: &[(&str, &str)]| {
            let query = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let page = page(&models, &query).map_err(|problem| problem.field_at_fault().map(str::to_owned))?;
            let ids: String =
                page["data"].as_array().expect("a list").iter().filter_map(|it| it["id"].as_str()).collect();
            assert_eq!(page["first_id"].as_str().unwrap_or_default(), ids.get(..1).unwrap_or_default());
            assert_eq!(
                page["last_id"].as_str().unwrap_or_default(),
                ids.get(ids.len().max(1) - 1..).unwrap_or_default()
            );
            Ok((ids, page["has_more"] == true))
        };
        let is = |ids: &str, more| Ok((ids.to_owned(), more));
        assert_eq!(shown(&[]), is("abcde", false));
        assert_eq!(shown(&[("limit", "2")]), is("ab", true));
        assert_eq!(shown(&[("limit", "2"), ("after_id", "b")]), is("cd", true));
        assert_eq!(shown(&[("limit", "2"), ("after_id", "c")]), is("de", false));
        assert_eq!(shown(&[("after_id", "e")]), is("", false));
        assert_eq!(shown(&[("limit", "2"), ("before_id", "d")]), is("bc", true));
        assert_eq!(shown(&[("before_id", "a")]), is("", false));
        assert_eq!(shown(&[("after_id", "d"), ("before_id", "b")]), is("", false));
        for (field, value) in [("limit", "0"), ("limit", "1001"), ("limit", "x"), ("after_id", "x"), ("before_id", "x")]
        {
            assert_eq!(shown(&[(field, value)]), Err(Some(field.to_owned())));
        }
    }
}
