//! The backend that `serve --backend` adds.

use tracing::{info, warn};

use crate::{
    config::{Backend, Config},
    server,
};

/// Its name in the configuration.
pub(super) const NAME: &str = "upstream";

/// The URL; one without a path gets `/v1`, where most servers have their Chat Completions.
pub(super) fn base_url(url: &str) -> String {
    let origin = url.strip_suffix('/').unwrap_or(url);
    match origin.split_once("://") {
        Some((_, host)) if !host.contains(['/', '?', '#']) => format!("{origin}/v1"),
        _ => url.to_owned(),
    }
}

/// What the backend is taken to have: the named model, else all that it lists.
pub(super) async fn models(config: &Config, named: Option<&str>) -> Vec<String> {
    match named {
        Some(model) => vec![model.to_owned()],
        None => listed(config).await,
    }
}

/// Sets what the backend has, and the first of it as the default.
pub(super) fn settle(config: &mut Config, models: &[String]) {
    config.default_model = models.first().map(|model| format!("{NAME}/{model}"));
    if let Some(Backend::OpenAi(upstream)) = config.backends.get_mut(NAME) {
        upstream.models = models.to_vec();
    }
}

/// A server that lists nothing has often but one model, and takes any name for it.
async fn listed(config: &Config) -> Vec<String> {
    match server::upstream::models(config, NAME).await {
        Ok(models) => {
            info!("the default model is {NAME}/{}, the first that --backend lists; --model names another", models[0]);
            models
        }
        Err(error) => {
            warn!("--backend is asked for a model called `default`, since {error:#}; --model names another");
            vec!["default".to_owned()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_url_without_a_path_gets_one() {
        assert_eq!(base_url("http://gpu:8000"), "http://gpu:8000/v1");
        assert_eq!(base_url("http://gpu:8000/"), "http://gpu:8000/v1");
        for whole in ["http://gpu/v1", "http://gpu/openai/v1/", "http://gpu?x=1", "gpu:8000"] {
            assert_eq!(base_url(whole), whole);
        }
    }
}
