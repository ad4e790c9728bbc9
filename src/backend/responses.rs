//! The kind `responses`: OpenAI itself, or any other server of Responses, such as llama.cpp, vLLM or Ollama.
//!
//! What is asked and answered is [`responses`]'s, how is the driver's; here is the path.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{
    Backend, BackendError, BadConfig, Clocks, ErrorKind, Events, Way,
    http::{self, Ask, Config, Upstream},
};
use crate::{
    prompt::Prompt,
    protocol::responses::{self, ResponsesDecode},
};

const PROTOCOL: &str = "responses";
/// Common parameters that have no counterpart there.
const UNKNOWN: [&str; 2] = ["stop", "seed"];

/// See the module.
#[derive(Clone, Debug)]
pub struct Responses {
    upstream: Arc<Upstream>,
}

impl Responses {
    /// The backend of this name in the configuration.
    ///
    /// # Errors
    /// When the section cannot be meant: the error names the key and the remedy.
    pub fn new(name: &str, config: Config) -> Result<Self, BadConfig> {
        let mut upstream = Upstream::new(name, config, &responses::RESERVED)?;
        upstream.not_found = http::version_hint(upstream.client().base_path());
        Ok(Self { upstream: Arc::new(upstream) })
    }

    /// The request's body.
    fn body(&self, prompt: &Prompt, model: &str) -> Result<Vec<u8>, BackendError> {
        let [extra, options] = self.upstream.extras(prompt, &responses::RESERVED)?;
        responses::request(prompt, model, &[&extra, &options]).map_err(unfit)
    }
}

impl Backend for Responses {
    fn generate(&self, prompt: &Prompt, model: &str) -> Events {
        match self.body(prompt, model) {
            Ok(body) => {
                let headers = prompt.headers_for(PROTOCOL);
                let ask = Ask { protocol: PROTOCOL, path: "responses", model: model.to_owned(), body, headers };
                self.upstream.answer(ask, ResponsesDecode::default())
            }
            Err(unfit) => super::fails(unfit),
        }
    }

    fn check(&self, prompt: &Prompt, model: &str) -> Result<Vec<String>, BackendError> {
        self.body(prompt, model)?;
        let mut dropped = prompt.dropped_by(PROTOCOL, &UNKNOWN);
        dropped.extend(responses::unsaid(prompt).map_err(unfit)?);
        Ok(dropped)
    }

    fn way(&self, path: &str, query: Option<&str>) -> Option<Way> {
        self.upstream.way(path, query)
    }

    fn clocks(&self) -> &Clocks {
        &self.upstream.clocks
    }

    fn models(&self) -> Vec<String> {
        self.upstream.models.clone()
    }

    fn list_models(&self) -> BoxFuture<'static, Result<Vec<String>, BackendError>> {
        self.upstream.clone().list_models(Vec::new())
    }
}

fn unfit(message: String) -> BackendError {
    BackendError::new(ErrorKind::Unfit, message)
}
