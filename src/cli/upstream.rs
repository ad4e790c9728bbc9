//! The backend that `serve --backend` adds.

use tracing::{info, warn};

use crate::{backend::http, server};

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

/// Its first model, as it is asked for: `upstream/gemma`. A server that lists none often takes any name.
pub(super) async fn first_model(upstream: &http::Config) -> String {
    let model = match server::upstream::first_model(NAME, upstream).await {
        Ok(model) => {
            info!("the default model is {NAME}/{model}, the first that --backend lists; --model names another");
            model
        }
        Err(error) => {
            warn!("--backend is asked for a model called `default`, since {error:#}; --model names another");
            "default".to_owned()
        }
    };
    format!("{NAME}/{model}")
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
