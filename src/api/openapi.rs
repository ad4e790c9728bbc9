//! `/openapi.json`: the API, described from the code. Each handler says above itself what it takes and gives; here is what they share,
//! and a command line for each, which the tests run.

pub(super) mod words;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use serde_json::json;
use std::sync::Arc;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        extensions::ExtensionsBuilder,
        path::Operation,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

use super::{Api, error};
use crate::protocol;

#[derive(OpenApi)]
#[openapi(
    info(title = "lastword", description = words::ABOUT),
    components(schemas(
        protocol::native::Create, protocol::native::State, error::Details, words::OpenAiError, words::AnthropicError,
        words::ChatRequest, words::ResponsesRequest, words::MessagesRequest,
    )),
    modifiers(&Credentials),
    security((), ("key" = []), ("api key" = []), ("session" = []), ("ticket" = [])),
    tags(
        (name = "streams", description = "The native API: a prompt in, events out, and back in at any place."),
        (name = "credentials", description = "For pages and links: a cookie for a key, a ticket for one answer."),
        (name = "openai", description = "For OpenAI's clients and all that speak like them. Errors are in their shape."),
        (name = "anthropic", description = "For Anthropic's clients. Errors are in their shape."),
        (name = "ai-sdk", description = "For pages with Vercel's AI SDK: `useChat` asks here if it is told nothing else."),
        (name = "catalogue", description = "What can be asked for."),
        (name = "operations", description = "What the operator's tools ask."),
    ),
)]
struct Description;

/// What a caller can show, where somebody needs a key.
struct Credentials;

impl Modify for Credentials {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let schemes = [
            ("key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer))),
            ("api key", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key")))),
            ("session", SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::new("lastword_session")))),
            ("ticket", SecurityScheme::ApiKey(ApiKey::Query(ApiKeyValue::new("token")))),
        ];
        let components = description.components.get_or_insert_default();
        schemes.into_iter().for_each(|(name, scheme)| components.add_security_scheme(name, scheme));
    }
}

/// A command line for each operation, by its id; `$ID` is a stream's.
const EXAMPLES: [(&str, &str); 31] = [
    ("create_stream", r#"curl 127.0.0.1:8080/v1/streams -d '{"prompt":"Tell me about rivers"}'"#),
    ("list_streams", "curl '127.0.0.1:8080/v1/streams?limit=5'"),
    ("get_stream", "curl 127.0.0.1:8080/v1/streams/$ID"),
    ("read_events", "curl -N 127.0.0.1:8080/v1/streams/$ID/events -H 'Last-Event-ID: 4'"),
    ("has_events", "curl -I 127.0.0.1:8080/v1/streams/$ID/events"),
    ("cancel_stream", "curl -X POST 127.0.0.1:8080/v1/streams/$ID/cancel"),
    ("delete_stream", "curl -X DELETE 127.0.0.1:8080/v1/streams/$ID"),
    ("create_ticket", r#"curl 127.0.0.1:8080/v1/streams/$ID/tickets -d '{"scope":"read","ttl":"10m"}'"#),
    ("sign_in", "curl -X POST 127.0.0.1:8080/v1/session -H \"Authorization: Bearer $LASTWORD_API_KEY\""),
    ("sign_out", "curl -X DELETE 127.0.0.1:8080/v1/session"),
    (
        "create_chat_completion",
        r#"curl 127.0.0.1:8080/v1/chat/completions -d '{"model":"mock/words","messages":[{"role":"user","content":"Tell me about rivers"}]}'"#,
    ),
    (
        "create_response",
        r#"curl 127.0.0.1:8080/v1/responses -d '{"model":"mock/words","input":"Tell me about rivers","background":true}'"#,
    ),
    ("get_response", r#"curl -N "127.0.0.1:8080/v1/responses/resp_$ID?stream=true&starting_after=4""#),
    ("delete_response", "curl -X DELETE 127.0.0.1:8080/v1/responses/resp_$ID"),
    ("cancel_response", "curl -X POST 127.0.0.1:8080/v1/responses/resp_$ID/cancel"),
    ("list_input_items", r#"curl "127.0.0.1:8080/v1/responses/resp_$ID/input_items?order=asc""#),
    (
        "create_message",
        r#"curl 127.0.0.1:8080/v1/messages -d '{"model":"mock/words","max_tokens":100,"messages":[{"role":"user","content":"Tell me about rivers"}]}'"#,
    ),
    (
        "count_message_tokens",
        r#"curl 127.0.0.1:8080/v1/messages/count_tokens -d '{"model":"mock/words","messages":[{"role":"user","content":"Tell me about rivers"}]}'"#,
    ),
    (
        "append_events",
        r#"curl "127.0.0.1:8080/v1/streams/$ID/events?at=0" -d '{"event":"message","data":{"text":"Rivers"}}'"#,
    ),
    (
        "create_ui_message",
        r#"curl -N 127.0.0.1:8080/api/chat -d '{"id":"c","messages":[{"role":"user","parts":[{"type":"text","text":"Tell me about rivers"}]}]}'"#,
    ),
    ("resume_ui_message", "curl -N '127.0.0.1:8080/api/chat/c/stream?startIndex=0'"),
    ("stop_ui_message", "curl -X POST 127.0.0.1:8080/api/chat/c/stop"),
    ("cancel_ui_message", "curl -X POST 127.0.0.1:8080/api/chat/c/cancel"),
    ("delete_ui_message", "curl -X DELETE 127.0.0.1:8080/api/chat/c/stream"),
    ("list_models", "curl 127.0.0.1:8080/v1/models"),
    ("get_model", "curl 127.0.0.1:8080/v1/models/mock/words"),
    ("list_prompts", "curl 127.0.0.1:8080/v1/prompts"),
    ("is_alive", "curl 127.0.0.1:8080/healthz"),
    ("is_ready", "curl 127.0.0.1:8080/readyz"),
    ("metrics", "curl 127.0.0.1:8080/metrics"),
    ("describe", "curl 127.0.0.1:8080/openapi.json"),
];

/// Gives it its example.
fn finish(operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    if let Some((_, line)) = EXAMPLES.iter().find(|(name, _)| *name == id) {
        let samples = json!([{ "lang": "curl", "source": line }]);
        operation.extensions = Some(ExtensionsBuilder::new().add("x-codeSamples", samples).build());
    }
}

/// The description of these routes, as it is sent.
pub(super) fn written(routes: utoipa::openapi::OpenApi) -> Bytes {
    let mut all = Description::openapi();
    all.merge(routes);
    for item in all.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.head, &mut item.post, &mut item.delete];
        operations.into_iter().flatten().for_each(finish);
    }
    serde_json::to_vec(&all).expect("plain data").into()
}

/// `GET /openapi.json`: this description, in OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "operations", operation_id = "describe", summary = "This description",
    responses((status = 200, description = "The description", content_type = "application/json", body = Object)))]
pub(super) async fn description(State(api): State<Arc<Api>>) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, api.description.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    /// Not described: the pages, their files and what feeds them, and what is handed on to an upstream, which describes it itself.
    const OTHERS: [&str; 6] = ["/", "/docs", "/dashboard", "/dashboard/events", "/{name}", "/v1/{*path}"];

    /// The routes of the router, by its own words.
    fn routed() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for line in include_str!("mod.rs").lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
            let (path, handlers) = line.split_once("\", ").expect("a route");
            if OTHERS.contains(&path) {
                continue;
            }
            for method in ["get", "head", "post", "delete"] {
                if handlers.split(['.', ' ']).any(|call| call.starts_with(&format!("{method}("))) {
                    found.insert(format!("{method} {}", path.replace("{*", "{")));
                }
            }
        }
        found
    }

    fn described() -> Value {
        serde_json::from_slice(&written(crate::api::Described::openapi())).expect("JSON")
    }

    fn operations(description: &Value) -> Vec<(String, &Value)> {
        let paths = description["paths"].as_object().expect("paths").iter();
        paths
            .flat_map(|(path, item)| {
                let methods = item.as_object().expect("methods").iter();
                methods.map(move |(method, operation)| (format!("{method} {path}"), operation))
            })
            .collect()
    }

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let (description, routed) = (described(), routed());
        assert!(routed.len() > 20, "{routed:?}");
        assert_eq!(operations(&description).into_iter().map(|(route, _)| route).collect::<BTreeSet<_>>(), routed);
    }

    #[test]
    fn every_operation_has_a_name_a_summary_and_an_example() {
        let description = described();
        let mut ids = BTreeSet::new();
        for (route, operation) in operations(&description) {
            let text = |member: &str| operation[member].as_str().unwrap_or_default().to_owned();
            assert!(ids.insert(text("operationId")), "{route}: its id is another's");
            assert!(!text("summary").is_empty(), "{route}");
            let sample = operation["x-codeSamples"][0]["source"].as_str().unwrap_or_default();
            assert!(sample.starts_with("curl "), "{route} has no example");
        }
        assert_eq!(ids, EXAMPLES.iter().map(|(id, _)| (*id).to_owned()).collect());
        assert_eq!(description["openapi"], "3.1.0");
    }
}
