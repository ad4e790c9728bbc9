//! The client's tools, and which of them must be called.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Crossing;
use crate::{event::Json, prompt::Prompt, protocol::body::Members};

#[derive(Deserialize)]
struct Tool {
    r#type: String,
    function: Option<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    description: Option<String>,
    parameters: Option<Json>,
    strict: Option<bool>,
}

impl Crossing {
    pub(super) fn tools(&mut self, prompt: &Prompt) {
        let params = &prompt.params;
        let listed: Vec<Json> =
            params.tools.as_ref().and_then(|tools| serde_json::from_str(tools.get()).ok()).unwrap_or_default();
        let mut tools = Vec::new();
        for (n, json) in listed.iter().enumerate() {
            match serde_json::from_str(json.get()) {
                Ok(Tool { r#type, function: Some(function) }) if r#type == "function" => tools.push(tool(function)),
                _ => self.unsaid.push(format!("tools[{n}]")),
            }
        }
        if tools.is_empty() {
            return;
        }
        self.body.set("tools", &tools);
        let choice = params.tool_choice.as_ref().and_then(|choice| serde_json::from_str(choice.get()).ok());
        let mut told = match choice.as_ref().unwrap_or(&Value::Null) {
            Value::Null => None,
            Value::String(word) if matches!(&**word, "auto" | "none") => Some(json!({ "type": word })),
            Value::String(word) if word == "required" => Some(json!({ "type": "any" })),
            choice => match choice["function"]["name"].as_str() {
                Some(name) => Some(json!({ "type": "tool", "name": name })),
                None => {
                    self.unsaid.push("tool_choice".to_owned());
                    None
                }
            },
        };
        if params.parallel_tool_calls == Some(false) {
            let choice = told.get_or_insert_with(|| json!({ "type": "auto" }));
            if choice["type"] != "none" {
                choice["disable_parallel_tool_use"] = true.into();
            }
        }
        self.body.set_some("tool_choice", told.as_ref());
    }
}

fn tool(function: Described) -> Members {
    let mut tool = Members::default();
    tool.set("name", &function.name);
    tool.set_some("description", function.description.as_ref());
    match &function.parameters {
        Some(parameters) => tool.set("input_schema", &schema(parameters)),
        None => tool.set("input_schema", &json!({ "type": "object", "properties": {} })),
    }
    tool.set_some("strict", function.strict.as_ref());
    tool
}

/// The API wants to hear that arguments are an object.
fn schema(parameters: &Json) -> Json {
    let Ok(mut members) = serde_json::from_str::<Members>(parameters.get()) else { return parameters.clone() };
    if members.get("type").is_some_and(|kind| kind.get() != "null") {
        return parameters.clone();
    }
    members.set("type", "object");
    Json::of(&members).unwrap_or_default()
}
