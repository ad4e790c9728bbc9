//! The kind `anthropic`: Anthropic itself, or any other server of Messages, such as llama.cpp or vLLM.
//!
//! What is asked and answered is [`messages`]'s, how is the driver's; here are the paths and the headers.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{
    Backend, BackendError, BadConfig, Clocks, ErrorKind, Events, Way,
    http::{self, Ask, Config, Upstream},
};
use crate::{
    event::Json,
    prompt::Prompt,
    protocol::messages::{self, MessagesDecode},
};

const PROTOCOL: &str = "messages";

/// See the module.
#[derive(Clone, Debug)]
pub struct Anthropic {
    upstream: Arc<Upstream>,
}

impl Anthropic {
    /// The backend of this name in the configuration. Its key is sent as Anthropic wants it, in `x-api-key`, unless another header is named.
    ///
    /// # Errors
    /// When the section cannot be meant: the error names the key and the remedy.
    pub fn new(name: &str, mut config: Config) -> Result<Self, BadConfig> {
        config.auth_header.get_or_insert_with(|| "x-api-key".to_owned());
        let mut upstream = Upstream::new(name, config, &messages::RESERVED)?;
        upstream.not_found = http::version_hint(upstream.client().base_path());
        Ok(Self { upstream: Arc::new(upstream) })
    }

    /// The request's body.
    fn body(&self, prompt: &Prompt, model: &str) -> Result<Vec<u8>, BackendError> {
        let [extra, options] = self.upstream.extras(prompt, &messages::RESERVED)?;
        messages::request(prompt, model, &[&extra, &options]).map_err(unfit)
    }
}

impl Backend for Anthropic {
    fn generate(&self, prompt: &Prompt, model: &str) -> Events {
        match self.body(prompt, model) {
            Ok(body) => {
                let headers = versioned(prompt.headers_for(PROTOCOL));
                let ask = Ask { protocol: PROTOCOL, path: "messages", model: model.to_owned(), body, headers };
                self.upstream.answer(ask, MessagesDecode::default())
            }
            Err(unfit) => super::fails(unfit),
        }
    }

    fn check(&self, prompt: &Prompt, model: &str) -> Result<Vec<String>, BackendError> {
        self.body(prompt, model)?;
        let mut dropped = prompt.dropped_by(PROTOCOL, &[]);
        dropped.extend(messages::unsaid(prompt, model).map_err(unfit)?);
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
        self.upstream.clone().list_models(versioned(Vec::new()))
    }

    fn count_tokens(
        &self,
        body: &Json,
        model: &str,
        headers: Vec<(String, String)>,
    ) -> Option<BoxFuture<'static, Result<Json, BackendError>>> {
        let upstream = Arc::clone(&self.upstream);
        let body = messages::counting(body, model).map_err(unfit);
        let (path, model, headers) = ("messages/count_tokens", model.to_owned(), versioned(headers));
        Some(Box::pin(async move { upstream.ask(Ask { protocol: PROTOCOL, path, model, body: body?, headers }).await }))
    }
}

fn unfit(message: String) -> BackendError {
    BackendError::new(ErrorKind::Unfit, message)
}

/// With the version of the protocol, unless the client chose its own.
fn versioned(mut headers: Vec<(String, String)>) -> Vec<(String, String)> {
    const NAME: &str = "anthropic-version";
    if !headers.iter().any(|(name, _)| name == NAME) {
        headers.push((NAME.to_owned(), messages::VERSION.to_owned()));
    }
    headers
}
