//! What upstreams have and whether they answer, asked from the command line: before the start, for `serve --backend`, which is told
//! a URL and nothing more; and for `check --probe`.

use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use crate::{
    backend::{BackendError, ErrorKind, probe},
    config::{self, Config},
    route,
};

/// How long its list of models may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The models that a configured server lists, at least one.
///
/// # Errors
/// When there is none, or the server does not say within two seconds: the text says why.
pub async fn models(config: &Config, name: &str) -> anyhow::Result<Vec<String>> {
    let backend = config.backends.get(name).context("there is no such backend")?;
    match timeout(PATIENCE, backend.open(name)?.list_models()).await {
        Ok(Ok(models)) if models.is_empty() => bail!("it lists no models"),
        Ok(models) => Ok(models?),
        Err(_) => bail!("it did not list its models within {} s", PATIENCE.as_secs()),
    }
}

/// What came of asking a backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Probe {
    /// Its name in the configuration.
    pub backend: String,
    /// Its kind.
    pub kind: &'static str,
    /// Whether it gave a token.
    pub reachable: bool,
    /// The model that was asked for a token.
    pub model: Option<String>,
    /// Until that came.
    pub first_token_ms: Option<f64>,
    /// All that it lists, or what the configuration says that it has; nothing, if neither does.
    pub models: Option<Vec<String>>,
    /// Why there was no token.
    pub error: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
}

/// Asks each backend that has models for them and for one token, all at once, each for so long at most.
pub async fn probe(config: &Config, within: Duration) -> Vec<Probe> {
    let asked = config.backends.iter().filter(|(_, backend)| backend.has_models());
    join_all(asked.map(|(name, backend)| ask(config, name, backend, within))).await
}

async fn ask(config: &Config, name: &str, section: &config::Backend, within: Duration) -> Probe {
    let mut probe = Probe {
        backend: name.to_owned(),
        kind: section.kind(),
        reachable: false,
        model: None,
        first_token_ms: None,
        models: None,
        error: None,
        remedy: None,
    };
    let asking = async {
        let backend = section.open(name).map_err(|bad| BackendError::new(ErrorKind::Unfit, bad.to_string()))?;
        let listed = timeout(PATIENCE.min(within), backend.list_models()).await;
        let known = backend.models();
        probe.models = match &listed {
            Ok(Ok(listed)) => Some(listed.clone()),
            _ => Some(known.clone()).filter(|known| !known.is_empty()),
        };
        let model = meant(config, name).or_else(|| known.first().or(probe.models.as_ref()?.first()).cloned());
        let Some(model) = model else {
            let unnamed =
                BackendError::new(ErrorKind::UnknownModel, format!("`{name}` lists no models, and none is named"));
            return Err(listed
                .ok()
                .and_then(Result::err)
                .filter(|error| error.kind == ErrorKind::Unreachable)
                .unwrap_or(unnamed));
        };
        probe::first_token(&*backend, probe.model.insert(model)).await
    };
    let asked = timeout(within, asking).await.unwrap_or_else(|_| {
        let within = humantime::format_duration(within);
        Err(BackendError::new(ErrorKind::Timeout, format!("`{name}` gave no token within {within}")))
    });
    match asked {
        Ok(waited) => {
            probe.reachable = true;
            probe.first_token_ms = Some((waited.as_secs_f64() * 10_000.0).round() / 10.0);
        }
        Err(error) => {
            probe.remedy = Some(remedy(&error, name, section));
            probe.error = Some(error.message);
        }
    }
    probe
}

/// The model of this backend that the configuration leads to, the default before others.
fn meant(config: &Config, name: &str) -> Option<String> {
    let default = config.default_model.as_ref();
    let default =
        default.and_then(|model| route::find(&config.models, |name| config.backends.contains_key(name), model));
    let routes = config.models.values().flat_map(|model| &model.route);
    let mut stations = default.iter().flatten().chain(routes);
    stations
        .find(|station| station.backend == name && !station.model.contains('*'))
        .map(|station| station.model.clone())
}

fn remedy(error: &BackendError, name: &str, section: &config::Backend) -> String {
    let place = match section.base_url() {
        Some(url) => format!("{url}, base_url of [backends.{name}]"),
        None => return format!("a mock fails as [backends.{name}] tells it to"),
    };
    match (error.kind, error.status) {
        (ErrorKind::Unreachable, _) => format!("does a server run at {place}?"),
        (ErrorKind::Timeout, _) => "it may be loading the model: ask again, or give it longer with --within".to_owned(),
        (_, Some(401 | 403)) => format!("is its key right? It is api_key or api_key_file of [backends.{name}]"),
        (_, Some(404)) => format!("has it this model, and does its API lie at {place}?"),
        (_, Some(429)) => "it is asked too much, or its quota is used up: ask again later".to_owned(),
        (_, Some(500..)) => "ask again later, or its operator".to_owned(),
        (ErrorKind::UnknownModel, _) => format!("name one: models = [\"…\"] in [backends.{name}]"),
        _ => format!("is it of the kind `{}`, and does its API lie at {place}?", section.kind()),
    }
}
