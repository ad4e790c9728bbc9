//! What an upstream has, asked before the start: only for `serve --backend`, which is told a URL and nothing more.

use std::time::Duration;

use anyhow::bail;

use crate::{
    backend::openai::OpenAi,
    config::{Backend, Config},
};

/// How long its list of models may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The models that a configured server of Chat Completions lists, at least one.
///
/// # Errors
/// When there is none, or the server does not say within two seconds: the text says why.
pub async fn models(config: &Config, name: &str) -> anyhow::Result<Vec<String>> {
    let Some(Backend::OpenAi(upstream)) = config.backends.get(name) else { bail!("its kind has no list of models") };
    let upstream = OpenAi::new(name, upstream.clone())?;
    match tokio::time::timeout(PATIENCE, upstream.list_models()).await {
        Ok(Ok(models)) if models.is_empty() => bail!("it lists no models"),
        Ok(models) => Ok(models?),
        Err(_) => bail!("it did not list its models within {} s", PATIENCE.as_secs()),
    }
}
