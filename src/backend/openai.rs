//! The kind `openai`: any server of Chat Completions. OpenAI itself, vLLM, SGLang, llama.cpp, Ollama, Groq, OpenRouter, …
//!
//! What is asked and answered is [`chat`]'s, how is the driver's; here are the paths and the few quirks of the hosts.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{
    Backend, BackendError, BadConfig, Clocks, ErrorKind, Events, Way,
    http::{self, Ask, Config, Upstream},
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
        upstream.not_found = http::version_hint(upstream.client().base_path());
        let dialect = match upstream.client().origin().as_str() {
            "https://api.openai.com" => Dialect::OpenAi,
            azure if azure.ends_with(".openai.azure.com") => Dialect::OpenAi,
            _ => Dialect::Common,
        };
        Ok(Self { upstream: Arc::new(upstream), dialect })
    }

    /// The request's body.
    fn body(&self, prompt: &Prompt, model: &str) -> Result<Vec<u8>, BackendError> {
        let unfit = |message: String| BackendError::new(ErrorKind::Unfit, message);
        let [extra, options] = self.upstream.extras(prompt, &chat::RESERVED)?;
        // What is in the shape of this protocol is the upstream's to understand; what was put into it is looked at here.
        let translated = !["chat", "native"].contains(&&*prompt.protocol);
        if let Some((place, kind)) = prompt.part_beyond(&chat::PARTS).filter(|_| translated) {
            let what = format!("{place}, a part of the type `{kind}`");
            return Err(unfit(format!("{what}, cannot be said to an upstream of Chat Completions")));
        }
        chat::request(prompt, model, self.dialect, &[&extra, &options])
            .ok_or_else(|| unfit("the request's body must be a JSON object".to_owned()))
    }
}

impl Backend for OpenAi {
    fn generate(&self, prompt: &Prompt, model: &str) -> Events {
        match self.body(prompt, model) {
            Ok(body) => {
                let headers = prompt.headers_for("chat");
                let ask = Ask { protocol: "chat", path: "chat/completions", model: model.to_owned(), body, headers };
                self.upstream.answer(ask, ChatDecode::of(prompt.params.n))
            }
            Err(unfit) => super::fails(unfit),
        }
    }

    fn check(&self, prompt: &Prompt, model: &str) -> Result<Vec<String>, BackendError> {
        self.body(prompt, model)?;
        let mut dropped = prompt.dropped_by("chat", &[]);
        dropped.extend(chat::unsaid(prompt, self.dialect));
        Ok(dropped)
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

    fn list_models(&self) -> BoxFuture<'static, Result<Vec<String>, BackendError>> {
        self.upstream.clone().list_models(Vec::new())
    }
}
