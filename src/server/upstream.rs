//! What an upstream has, asked before the start: only for `serve --backend`, which is told a URL and nothing more.

use std::time::Duration;

use anyhow::{Context, bail};

use crate::backend::{http, openai::OpenAi};

/// How long its list of models may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The first model that a server of Chat Completions lists.
///
/// # Errors
/// When there is none, or the server does not say within two seconds: the text says why.
pub async fn first_model(name: &str, upstream: &http::Config) -> anyhow::Result<String> {
    let upstream = OpenAi::new(name, upstream.clone())?;
    match tokio::time::timeout(PATIENCE, upstream.list_models()).await {
        Ok(models) => models?.into_iter().next().context("it lists no models"),
        Err(_) => bail!("it did not list its models within {} s", PATIENCE.as_secs()),
    }
}
