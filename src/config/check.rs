//! What can only be checked when all is read: names that must exist, bounds that must agree.

use super::{Config, document::Document, error::Error};
use crate::{near::Unknown, route, server::tls::Tls};

/// Finds the first thing that is wrong.
pub(super) fn check(config: &Config, document: &Document<'_>) -> Result<(), Error> {
    let fault = |path: &[&str], what: String| Err(Error::new(document.place_of(path), what));

    if let Err((key, what)) = config.server.check() {
        return fault(&["server", key], format!("server.{key} {what}"));
    }
    if let Err(what) = Tls::new(&config.server) {
        let key = if config.server.tls_self_signed { "tls_self_signed" } else { "tls_cert" };
        return fault(&["server", key], format!("server.{key}: {what}"));
    }
    if let Err((key, what)) = config.auth.check() {
        let path: Vec<_> = std::iter::once("auth").chain(key.splitn(2, '.')).collect();
        return fault(&path, format!("auth.{key} {what}"));
    }
    let strangers =
        config.limits.keys.keys().filter(|name| !config.auth.keys.contains_key(*name) && !name.contains(':'));
    if let Some(name) = strangers.into_iter().next() {
        let what =
            format!("limits.keys.{name}: there is no [auth.keys.{name}]; the owner of a token is \"jwt:…\" here");
        return fault(&["limits", "keys", name], what);
    }
    if let Some(Err((key, what))) = config.webhooks.as_ref().map(|webhooks| webhooks.check()) {
        return fault(&["webhooks", key], format!("webhooks.{key} {what}"));
    }
    if !config.server.listen.ip().is_loopback() && !config.auth.is_on() && !config.auth.off {
        let what = format!(
            "server.listen: {} can be reached from elsewhere, and nobody would need a key; make one with `lastword keys new NAME`, \
             or say off = true in [auth] if something else sees to it",
            config.server.listen
        );
        return fault(&["server", "listen"], what);
    }
    for (name, backend) in &config.backends {
        if name.is_empty() || name.contains('/') {
            let what = format!("a backend is asked for as `backend/model`, so `{name}` cannot be its name");
            return fault(&["backends", name], what);
        }
        if let Err(bad) = backend.open(name) {
            // Its keys lie one deeper in the document, below its kind.
            let path: Vec<_> = ["backends", name, backend.kind()].into_iter().chain(bad.key.split('.')).collect();
            return fault(&path, format!("backends.{name}.{} {}", bad.key, bad.problem));
        }
    }
    for (name, model) in &config.models {
        let at = ["models", name, "route"];
        if name.is_empty() || name.strip_suffix('*').unwrap_or(name).contains('*') {
            return fault(&at[..2], format!("`{name}` cannot be a model's name: one `*` may stand in it, at the end"));
        }
        if model.route.is_empty() {
            return fault(&at, format!("the route of `{name}` is empty; write route = [\"backend/model\"]"));
        }
        for upstream in &model.route {
            if !config.backends.contains_key(&upstream.backend) {
                return fault(&at, format!("`{upstream}`: {}", no_backend(config, &upstream.backend)));
            }
            if upstream.model.contains('*') && !name.ends_with('*') {
                let what = format!("`{upstream}` carries over the name that a `*` stands for, and `{name}` has none");
                return fault(&at, what);
            }
        }
    }
    match &config.default_model {
        Some(model) if route::find(&config.models, |name| config.backends.contains_key(name), model).is_none() => {
            let backend = model.split_once('/').map(|(backend, _)| backend);
            let why = match backend {
                Some(backend) => no_backend(config, backend),
                None => {
                    let valid = config.models.keys().map(String::as_str).collect();
                    format!("there is no such model; {}", Unknown { key: model, valid }.remedy())
                }
            };
            fault(&["default_model"], format!("default_model `{model}`: {why}"))
        }
        _ => Ok(()),
    }
}

fn no_backend(config: &Config, name: &str) -> String {
    let valid = config.backends.keys().map(String::as_str).collect();
    format!("there is no backend `{name}`; {}", Unknown { key: name, valid }.remedy())
}
