//! What an upstream has, asked before the start: only for `serve --backend`, which is told a URL and nothing more.

use std::time::Duration;

use anyhow::bail;

use crate::{
    backend::{openai::OpenAi, responses::Responses},
    config::{Backend, Config},
};

/// How long its list of models may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The models that a configured server lists, at least one.
///
/// # Errors
/// When there is none, or the server does not say within two seconds: the text says why.
pub async fn models(config: &Config, name: &str) -> anyhow::Result<Vec<String>> {
    let listing = async {
        match config.backends.get(name) {
            Some(Backend::OpenAi(upstream)) => Ok(OpenAi::new(name, upstream.clone())?.list_models().await?),
            Some(Backend::Responses(upstream)) => Ok(Responses::new(name, upstream.clone())?.list_models().await?),
            Some(Backend::Mock(_)) | None => bail!("its kind has no list of models"),
        }
    };
    match tokio::time::timeout(PATIENCE, listing).await {
        Ok(Ok(models)) if models.is_empty() => bail!("it lists no models"),
        Ok(models) => models,
        Err(_) => bail!("it did not list its models within {} s", PATIENCE.as_secs()),
    }
}
