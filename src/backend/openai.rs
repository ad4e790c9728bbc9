//! The kind `openai`: any server of Chat Completions. OpenAI itself, vLLM, SGLang, llama.cpp, Ollama, Groq, OpenRouter, …
//!
//! What is asked and answered is [`chat`]'s, how is the driver's; here are the paths and the few quirks of the hosts.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    Backend, BackendError, BadConfig, Clocks, ErrorKind, Events, Way,
    http::{Ask, Config, Upstream},
};
use crate::{
    prompt::Prompt,
    protocol::chat::{self, ChatDecode, Dialect},
};

/// See the module.
#[derive(Clone, Debug)]
pub struct OpenAi {
    upstream: Arc<Upstream>,
    dialect: Dialect,
}

impl OpenAi {
    /// The backend of this name in the configuration.
    ///
    /// # Errors
    /// When the section cannot be meant: the error names the key and the remedy.
    pub fn new(name: &str, config: Config) -> Result<Self, BadConfig> {
        let mut upstream = Upstream::new(name, config, &chat::RESERVED)?;
        upstream.not_found = hint(upstream.client().base_path());
        let dialect = match upstream.client().origin().as_str() {
            "https://api.openai.com" => Dialect::OpenAi,
            azure if azure.ends_with(".openai.azure.com") => Dialect::OpenAi,
            _ => Dialect::Common,
        };
        Ok(Self { upstream: Arc::new(upstream), dialect })
    }

    /// Asks the upstream what models it has (`GET {base_url}/models`). Cancel safe; the caller keeps the clock.
    ///
    /// # Errors
    /// When it cannot be reached, refuses, or answers something else than a list of models.
    pub async fn list_models(&self) -> Result<Vec<String>, BackendError> {
        let list = self.upstream.get("models").await?;
        let names = list
            .get("data")
            .and_then(Value::as_array)
            .map(|models| models.iter().filter_map(|model| model.get("id")?.as_str().map(str::to_owned)).collect());
        names.ok_or_else(|| {
            let name = &self.upstream.name;
            BackendError::new(
                ErrorKind::Malformed,
                format!("`{name}` answered /models with something else than a list of models"),
            )
        })
    }

    /// The request's body.
    fn body(&self, prompt: &Prompt, model: &str) -> Result<Vec<u8>, BackendError> {
        let unfit = |message: String| BackendError::new(ErrorKind::Unfit, message);
        let options: Map<String, Value> = match &prompt.backend_options {
            None => Map::new(),
            Some(options) => serde_json::from_str(options.get()).map_err(|_| {
                unfit("backend_options must be an object: members for the body of the upstream's request".to_owned())
            })?,
        };
        if let Some(name) = chat::RESERVED.iter().find(|name| options.contains_key(**name)) {
            return Err(unfit(format!("backend_options.{name} is set by lastword itself; remove it")));
        }
        chat::request(prompt, model, self.dialect, &[&self.upstream.extra_body, &options])
            .ok_or_else(|| unfit("the request's body must be a JSON object".to_owned()))
    }
}

impl Backend for OpenAi {
    fn generate(&self, prompt: &Prompt, model: &str) -> Events {
        match self.body(prompt, model) {
            Ok(body) => {
                let headers = prompt.headers_for("chat");
                let ask = Ask { protocol: "chat", path: "chat/completions", model: model.to_owned(), body, headers };
                self.upstream.answer(ask, ChatDecode::default())
            }
            Err(unfit) => super::fails(unfit),
        }
    }

    fn check(&self, prompt: &Prompt, model: &str) -> Result<Vec<String>, BackendError> {
        self.body(prompt, model)?;
        Ok(prompt.dropped_by("chat", &[]))
    }

    fn clocks(&self) -> &Clocks {
        &self.upstream.clocks
    }

    fn way(&self, path: &str, query: Option<&str>) -> Option<Way> {
        self.upstream.way(path, query)
    }

    fn models(&self) -> Vec<String> {
        self.upstream.models.clone()
    }
}

/// What may be wrong after a 404: most servers have their API below a version, and it is easily left out.
fn hint(base_path: &str) -> Option<String> {
    let version =
        |segment: &str| segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let path = base_path.trim_end_matches('/');
    if path.split('/').any(version) {
        return None;
    }
    Some(format!("base_url has no version in it: should it end with {path}/v1?"))
}
