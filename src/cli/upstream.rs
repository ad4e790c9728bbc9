//! The backend that `serve --backend` adds.

use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use crate::config::Config;

/// Its name in the configuration.
pub(super) const NAME: &str = "upstream";

/// How long its list of models may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The URL; one without a path gets `/v1`, where most servers have their Chat Completions.
pub(super) fn base_url(url: &str) -> String {
    let origin = url.strip_suffix('/').unwrap_or(url);
    match origin.split_once("://") {
        Some((_, host)) if !host.contains(['/', '?', '#']) => format!("{origin}/v1"),
        _ => url.to_owned(),
    }
}

/// The first model it lists, as it is asked for: `upstream/gemma`. A server that lists none often takes any name.
pub(super) async fn first_model(config: &Config) -> String {
    let model = match tokio::time::timeout(PATIENCE, listed(config)).await {
        Ok(Ok(model)) => {
            tracing::info!(
                "the default model is {NAME}/{model}, the first that --backend lists; --model names another"
            );
            model
        }
        Ok(Err(error)) => {
            tracing::warn!("--backend lists no models ({error:#}), so it is asked for `default`; --model names one");
            "default".to_owned()
        }
        Err(_) => {
            let seconds = PATIENCE.as_secs();
            tracing::warn!(
                "--backend lists no models within {seconds} s, so it is asked for `default`; --model names one"
            );
            "default".to_owned()
        }
    };
    format!("{NAME}/{model}")
}

/// Stands in until the HTTP client is merged.
#[expect(clippy::unused_async, reason = "a stand-in")]
async fn listed(_config: &Config) -> anyhow::Result<String> {
    first_in("{}")
}

/// The first id of OpenAI's list, `{"data": [{"id": "gemma"}]}`.
fn first_in(body: &str) -> anyhow::Result<String> {
    #[derive(Deserialize)]
    struct List {
        data: Vec<Model>,
    }
    #[derive(Deserialize)]
    struct Model {
        id: String,
    }
    let list: List = serde_json::from_str(body).context("its list cannot be read")?;
    Ok(list.data.into_iter().next().context("its list is empty")?.id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_model_of_a_list_is_found() {
        let body = r#"{"object":"list","data":[{"id":"gemma","object":"model"},{"id":"other"}]}"#;
        assert_eq!(first_in(body).expect("a model"), "gemma");
        assert_eq!(first_in(r#"{"data":[]}"#).expect_err("none").to_string(), "its list is empty");
        assert_eq!(first_in("<html>").expect_err("none").to_string(), "its list cannot be read");
    }

    #[test]
    fn only_a_url_without_a_path_gets_one() {
        assert_eq!(base_url("http://gpu:8000"), "http://gpu:8000/v1");
        assert_eq!(base_url("http://gpu:8000/"), "http://gpu:8000/v1");
        for whole in ["http://gpu/v1", "http://gpu/openai/v1/", "http://gpu?x=1", "gpu:8000"] {
            assert_eq!(base_url(whole), whole);
        }
    }
}
