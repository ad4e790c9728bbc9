//! `/v1/models`, in the shapes of both who ask for it.

use serde_json::{Value, json};

use crate::common::{Response, TestGateway};

const ANTHROPIC: [(&str, &str); 1] = [("anthropic-version", "2023-06-01")];

const CONFIG: &str = r#"
[backends.mock]
kind = "mock"
[backends.up]
kind = "openai"
base_url = "http://127.0.0.1:9/v1"
models = ["vendor/claude-1", "gemma"]
[models.fast]
route = ["mock/words"]
[models."claude-*"]
route = ["up/vendor/*"]
"#;

fn ids(list: &Value) -> Vec<&str> {
    list["data"].as_array().expect("a list").iter().map(|model| model["id"].as_str().expect("an id")).collect()
}

async fn json_of(response: Response, status: u16) -> Value {
    let got = response.status;
    let body = response.json().await;
    assert_eq!(got, status, "{body}");
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_has_no_patterns_but_what_they_lead_to() {
    let gateway = TestGateway::with(CONFIG).await;
    let list = json_of(gateway.get("/v1/models", &[]).await, 200).await;
    let known = ["claude-1", "fast", "mock/words", "mock/echo", "up/vendor/claude-1", "up/gemma"];
    assert_eq!(ids(&list), known);
    assert_eq!(list["data"][0], json!({ "id": "claude-1", "object": "model", "created": 0, "owned_by": "up" }));
    let list = json_of(gateway.get("/v1/models", &ANTHROPIC).await, 200).await;
    assert_eq!(ids(&list), known);
    assert_eq!(
        (&list["has_more"], &list["first_id"], &list["last_id"]),
        (&json!(false), &json!("claude-1"), &json!("up/gemma"))
    );
    let first = &list["data"][0];
    assert_eq!(
        (&first["type"], &first["display_name"], &first["lifecycle"]),
        (&json!("model"), &json!("claude-1"), &json!("active"))
    );
    assert_eq!(first["created_at"], "1970-01-01T00:00:00Z");
    let page = json_of(gateway.get("/v1/models?limit=2&after_id=fast", &ANTHROPIC).await, 200).await;
    assert_eq!((ids(&page), &page["has_more"]), (vec!["mock/words", "mock/echo"], &json!(true)));
    let error = json_of(gateway.get("/v1/models?limit=x", &ANTHROPIC).await, 400).await;
    assert_eq!(error["error"]["type"], "invalid_request_error");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_model_that_can_be_asked_for_is_there_and_no_other() {
    let gateway = TestGateway::with(CONFIG).await;
    let there = ["fast", "claude-1", "claude-unlisted", "up/any/thing", "up%2Fgemma", "mock/words", "mock%2Fecho"];
    for path in there {
        let name = path.replace("%2F", "/");
        let model = json_of(gateway.get(&format!("/v1/models/{path}"), &[]).await, 200).await;
        assert_eq!((&model["id"], &model["object"]), (&json!(name), &json!("model")));
        let model = json_of(gateway.get(&format!("/v1/models/{path}"), &ANTHROPIC).await, 200).await;
        assert_eq!((&model["id"], &model["type"]), (&json!(name), &json!("model")));
    }
    for path in ["nobody", "claude-*", "claude-%2A", "mock/nobody", "nobody/x", "mock/", "%ff"] {
        let error = json_of(gateway.get(&format!("/v1/models/{path}"), &[]).await, 404).await;
        assert_eq!((&error["error"]["code"], &error["error"]["param"]), (&json!("model_not_found"), &json!("model")));
        let error = json_of(gateway.get(&format!("/v1/models/{path}"), &ANTHROPIC).await, 404).await;
        assert_eq!((&error["type"], &error["error"]["type"]), (&json!("error"), &json!("not_found_error")));
    }
    let asked = json!({ "prompt": "x", "model": "claude-*" }).to_string();
    let refused = gateway.send("POST", "/v1/streams", &[], &asked).await;
    assert_eq!(json_of(refused, 400).await["code"], "unknown_model");
}
