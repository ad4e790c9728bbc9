//! `lastword serve`: read the configuration, begin to log, run the server.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use super::upstream;
use crate::{
    config::{self, Config, Flag},
    server::{
        self,
        reload::{LOOK, Source},
    },
};

/// Start the gateway.
///
/// Without a configuration it listens on 127.0.0.1:8080 and has a mock model, and the models of OPENAI_API_KEY and OLLAMA_HOST
/// where those are set. A flag wins over the environment (LASTWORD_SERVER__LISTEN), which wins over the file. When the file changes, or
/// on SIGHUP, it is read again: backends, models and prompts are exchanged while answers run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword serve --listen 127.0.0.1:9000
  lastword serve --backend http://127.0.0.1:8000 --model gemma-3
  lastword serve --backend https://api.groq.com/openai/v1 --backend-key-env GROQ_API_KEY")]
pub(super) struct Serve {
    /// The file; else lastword.toml in the working directory, else the built-in defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Where to listen; port 0 is any free one
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// Add an OpenAI-compatible server as the backend `upstream`, and make its model the default. Without a path, /v1 is added
    #[arg(long, value_name = "URL")]
    backend: Option<String>,

    /// Which of its models; else the first that it lists
    #[arg(long, value_name = "NAME", requires = "backend")]
    model: Option<String>,

    /// The environment variable that holds its key
    #[arg(long, value_name = "VARIABLE", requires = "backend")]
    backend_key_env: Option<String>,
}

impl Serve {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = self.configuration()?;
        config.log.start();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.serve(config))
    }

    async fn serve(self, mut config: Config) -> anyhow::Result<()> {
        let mut models = None;
        if let Some(url) = &self.backend {
            let base_url = upstream::base_url(url);
            if base_url != *url {
                tracing::info!("--backend has no path: taken as {base_url}");
            }
            models = Some(upstream::models(&config, self.model.as_deref()).await);
        }
        let settle = move |config: &mut Config| models.iter().for_each(|models| upstream::settle(config, models));
        settle(&mut config);
        let file = self.config.clone().unwrap_or_else(|| config::FILE.into());
        let read = Box::new(move || {
            let mut config = self.configuration()?;
            settle(&mut config);
            Ok(config)
        });
        server::run(config, Source { file, read, look: LOOK }).await
    }

    fn configuration(&self) -> anyhow::Result<Config> {
        super::configuration(self.config.clone(), &self.flags())
    }

    /// What it says, as the configuration takes it.
    fn flags(&self) -> Vec<Flag> {
        let flag = |name, key, value: Option<String>| value.map(|value| Flag { name, key, value });
        let backend = self.backend.as_deref();
        [
            flag("--listen", "server.listen", self.listen.map(|address| address.to_string())),
            flag("--backend", "backends.upstream.kind", backend.map(|_| "openai".to_owned())),
            flag("--backend", "backends.upstream.base_url", backend.map(upstream::base_url)),
            flag(
                "--backend-key-env",
                "backends.upstream.api_key",
                self.backend_key_env.as_deref().map(|variable| format!("${{{variable}}}")),
            ),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}
