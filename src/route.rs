//! A model's name to a backend and the name that the backend knows the model by.
//!
//! A name is looked for in three places: the `[models]` entry of that name, the longest entry with a wildcard that it matches,
//! and, as `backend/model`, the backends themselves. Knows names only; what a backend does with a prompt is the backend's.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error};

use crate::{
    backend::Backend,
    event::Chunking,
    near::{Unknown, nearest},
};

/// A `[models.NAME]` section.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// Who is asked, in this order.
    pub route: Vec<Upstream>,
    /// In what pieces readers of the native API are told the words, where neither they nor the request say.
    pub chunking: Option<Chunking>,
}

/// One station of a route, written `backend/model`. The model may have slashes of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// The backend's name in the configuration.
    pub backend: String,
    /// The model's name there. A `*` in it stands for the whole name that was asked for.
    pub model: String,
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.backend, self.model)
    }
}

impl FromStr for Upstream {
    type Err = NotAnUpstream;

    fn from_str(text: &str) -> Result<Self, NotAnUpstream> {
        match text.split_once('/') {
            Some((backend, model)) if !backend.is_empty() && !model.is_empty() => {
                Ok(Self { backend: backend.to_owned(), model: model.to_owned() })
            }
            _ => Err(NotAnUpstream(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// The text does not name a backend and a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no backend; write \"backend/model\"")]
pub struct NotAnUpstream(String);

/// Where a name leads, all of it: never empty, and nothing if nobody knows the name.
#[must_use]
pub fn find(models: &BTreeMap<String, Model>, is_backend: impl Fn(&str) -> bool, name: &str) -> Option<Vec<Upstream>> {
    if name.contains('*') {
        return None; // a pattern stands for models, and is none
    }
    let Some(entry) = entry(models, name) else {
        let direct: Upstream = name.parse().ok()?;
        return is_backend(&direct.backend).then(|| vec![direct]);
    };
    let station = |upstream: &Upstream| Upstream { model: upstream.model.replace('*', name), ..upstream.clone() };
    Some(entry.route.iter().map(station).collect()).filter(|route: &Vec<_>| !route.is_empty())
}

fn entry<'m>(models: &'m BTreeMap<String, Model>, name: &str) -> Option<&'m Model> {
    models.get(name).or_else(|| longest_wildcard(models, name))
}

fn longest_wildcard<'m>(models: &'m BTreeMap<String, Model>, name: &str) -> Option<&'m Model> {
    models
        .iter()
        .filter_map(|(pattern, model)| Some((pattern.strip_suffix('*')?, model)))
        .filter(|(start, _)| name.starts_with(start))
        .max_by_key(|(start, _)| start.len())
        .map(|(_, model)| model)
}

/// All that can be asked for.
pub struct Router {
    backends: BTreeMap<String, Arc<dyn Backend>>,
    models: BTreeMap<String, Model>,
    default_model: Option<String>,
}

/// Who answers.
#[derive(Clone)]
pub struct Target {
    /// The model as it was asked for, or the default.
    pub model: String,
    /// Who is asked.
    pub backend: Arc<dyn Backend>,
    /// Its name in the configuration.
    pub backend_name: String,
    /// The model's name there.
    pub upstream_model: String,
    /// The whole route, this station first.
    pub route: Vec<Upstream>,
    /// As the model's entry says.
    pub chunking: Option<Chunking>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("model", &self.model).field("route", &self.route).finish_non_exhaustive()
    }
}

/// Something that can be asked for, as a list of models shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What to ask for.
    pub name: String,
    /// The backend that is asked first.
    pub backend: String,
}

/// Why nobody answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// No such name.
    #[error("there is no model `{asked}`; {remedy}")]
    UnknownModel {
        /// What was asked for.
        asked: String,
        /// What was probably meant, and what there is.
        remedy: String,
    },
    /// No backend of that name.
    #[error("there is no backend `{asked}`; {remedy}")]
    UnknownBackend {
        /// What was asked for.
        asked: String,
        /// What was probably meant, and what there is.
        remedy: String,
    },
    /// No name, and no default.
    #[error("this server has no default model, so a request names one: {choice}")]
    NoDefault {
        /// What there is.
        choice: String,
    },
}

impl Router {
    /// The configuration has made sure that each route and the default lead to a backend; a station whose backend is not there
    /// is passed over.
    #[must_use]
    pub fn new(
        backends: BTreeMap<String, Arc<dyn Backend>>,
        models: BTreeMap<String, Model>,
        default_model: Option<String>,
    ) -> Self {
        Self { backends, models, default_model }
    }

    /// Who answers for this model, or for the default one.
    ///
    /// # Errors
    /// When the name is unknown, or there is none.
    pub fn resolve(&self, model: Option<&str>) -> Result<Target, RouteError> {
        let model =
            model.or(self.default_model.as_deref()).ok_or_else(|| RouteError::NoDefault { choice: self.choice() })?;
        let mut route = find(&self.models, |name| self.backends.contains_key(name), model).unwrap_or_default();
        route.retain(|upstream| self.backends.contains_key(&upstream.backend));
        let Some((first, backend)) = route.first().and_then(|first| Some((first, self.backends.get(&first.backend)?)))
        else {
            return Err(RouteError::UnknownModel { asked: model.to_owned(), remedy: self.remedy(model) });
        };
        Ok(Target {
            model: model.to_owned(),
            backend: Arc::clone(backend),
            backend_name: first.backend.clone(),
            upstream_model: first.model.clone(),
            chunking: entry(&self.models, model).and_then(|entry| entry.chunking),
            route,
        })
    }

    /// The default model.
    #[must_use]
    pub fn default_model(&self) -> Option<&str> {
        self.default_model.as_deref()
    }

    /// All that is known to be there: the `[models]` entries, then each backend's own models as `backend/model`. In the place of an
    /// entry with a wildcard stand those of the models its first backend knows of that it carries the name over to. A backend
    /// may well have more than it knows of.
    #[must_use]
    pub fn models(&self) -> Vec<Listed> {
        let entries = self.models.iter().flat_map(|(name, model)| {
            let first = model.route.first();
            let names = match name.strip_suffix('*') {
                None => vec![name.clone()],
                Some(start) => first.map(|first| self.carried(model, start, first)).unwrap_or_default(),
            };
            names.into_iter().filter_map(move |name| Some(Listed { name, backend: first?.backend.clone() }))
        });
        let own = self.backends.iter().flat_map(|(name, backend)| {
            let listed = move |model| Listed { name: format!("{name}/{model}"), backend: name.clone() };
            backend.models().into_iter().map(listed)
        });
        entries.chain(own).collect()
    }

    /// The names that lead through a pattern, which begins with `start`, to a model that its first station's backend knows of.
    fn carried(&self, pattern: &Model, start: &str, station: &Upstream) -> Vec<String> {
        let Some((before, behind)) = station.model.split_once('*') else { return Vec::new() };
        let known = self.backends.get(&station.backend).map(|backend| backend.models()).unwrap_or_default();
        let names = known.iter().filter_map(|model| model.strip_prefix(before)?.strip_suffix(behind));
        // An entry of its own, or a longer pattern, takes a name away.
        let leads_here = |name: &&str| {
            name.starts_with(start)
                && !self.models.contains_key(*name)
                && longest_wildcard(&self.models, name).is_some_and(|longest| std::ptr::eq(longest, pattern))
        };
        names.filter(leads_here).map(str::to_owned).collect()
    }

    /// A backend by its name in the configuration.
    ///
    /// # Errors
    /// [`RouteError::UnknownBackend`]
    pub fn backend(&self, name: &str) -> Result<&Arc<dyn Backend>, RouteError> {
        self.backends.get(name).ok_or_else(|| {
            let valid = self.backends.keys().map(String::as_str).collect();
            RouteError::UnknownBackend { asked: name.to_owned(), remedy: Unknown { key: name, valid }.remedy() }
        })
    }

    /// All backends, with their names in the configuration.
    pub fn backends(&self) -> impl Iterator<Item = (&str, &Arc<dyn Backend>)> {
        self.backends.iter().map(|(name, backend)| (name.as_str(), backend))
    }

    fn remedy(&self, asked: &str) -> String {
        let mut names: Vec<_> = self.models().into_iter().map(|listed| listed.name).collect();
        if let Some((_, model)) = asked.split_once('/') {
            names.extend(self.backends.keys().map(|backend| format!("{backend}/{model}")));
        }
        match nearest(asked, names.iter().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`? There is {}", self.choice()),
            None => format!("there is {}", self.choice()),
        }
    }

    /// A short list, for a sentence.
    fn choice(&self) -> String {
        const SHOWN: usize = 8;
        // Patterns too: a person knows what to make of them.
        let own = self.models().into_iter().map(|listed| listed.name).filter(|name| !self.models.contains_key(name));
        let all: Vec<_> = self.models.keys().cloned().chain(own).collect();
        let mut choice: Vec<_> = all.iter().take(SHOWN).cloned().collect();
        if all.len() > SHOWN {
            choice.push("… (GET /v1/models has them all)".to_owned());
        }
        let any = self.backends.iter().filter(|(_, backend)| backend.models().is_empty());
        choice.extend(any.map(|(name, _)| format!("{name}/MODEL")));
        match choice.is_empty() {
            true => "nothing".to_owned(),
            false => choice.join(", "),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::{Clocks, Events},
        prompt::Prompt,
    };

    struct Silent(Clocks, Vec<String>);

    impl Backend for Silent {
        fn generate(&self, _: &Prompt, _: &str) -> Events {
            Box::pin(futures_util::stream::empty())
        }

        fn clocks(&self) -> &Clocks {
            &self.0
        }

        fn models(&self) -> Vec<String> {
            self.1.clone()
        }
    }

    fn router(default: Option<&str>) -> Router {
        let backend = |models: &[&str]| -> Arc<dyn Backend> {
            Arc::new(Silent(Clocks::default(), models.iter().map(|&model| model.to_owned()).collect()))
        };
        let backends = [("local", backend(&[])), ("mock", backend(&["words", "echo"]))];
        let models: BTreeMap<String, Model> = toml::from_str(
            r#"
            fast = { route = ["local/gemma", "mock/words"] }
            "claude-*" = { route = ["local/anthropic/*"] }
            "claude-3*" = { route = ["mock/old"] }
            "#,
        )
        .expect("toml");
        Router::new(backends.map(|(name, b)| (name.to_owned(), b)).into(), models, default.map(str::to_owned))
    }

    fn resolved(router: &Router, model: Option<&str>) -> String {
        let target = router.resolve(model).expect("a target");
        format!("{} -> {}/{}", target.model, target.backend_name, target.upstream_model)
    }

    #[test]
    fn an_entry_wins_over_a_wildcard_and_a_longer_one_over_a_shorter() {
        let router = router(Some("fast"));
        assert_eq!(resolved(&router, Some("fast")), "fast -> local/gemma");
        assert_eq!(resolved(&router, None), "fast -> local/gemma");
        assert_eq!(resolved(&router, Some("claude-opus")), "claude-opus -> local/anthropic/claude-opus");
        assert_eq!(resolved(&router, Some("claude-3-opus")), "claude-3-opus -> mock/old");
        assert_eq!(resolved(&router, Some("local/meta/llama")), "local/meta/llama -> local/meta/llama");
        assert_eq!(router.resolve(None).expect("a target").route[1].to_string(), "mock/words", "the fallback is kept");
    }

    #[test]
    fn an_unknown_name_is_told_its_neighbour_and_the_choice() {
        let router = router(None);
        let said = |model| router.resolve(model).expect_err("nobody").to_string();
        let choice = "claude-*, claude-3*, fast, mock/words, mock/echo, local/MODEL";
        assert_eq!(said(Some("fats")), format!("there is no model `fats`; did you mean `fast`? There is {choice}"));
        assert_eq!(said(Some("zzz")), format!("there is no model `zzz`; there is {choice}"));
        assert_eq!(
            said(Some("lokal/x")),
            format!("there is no model `lokal/x`; did you mean `local/x`? There is {choice}")
        );
        assert_eq!(said(None), format!("this server has no default model, so a request names one: {choice}"));
    }

    #[test]
    fn a_name_without_a_model_leads_nowhere() {
        let models = router(None).models;
        assert_eq!(find(&models, |_| true, "local/"), None);
        assert_eq!(find(&models, |_| true, "/gemma"), None);
        assert_eq!(find(&models, |_| true, ""), None);
    }

    #[test]
    fn the_list_has_entries_first_and_then_the_backends_own() {
        let listed: Vec<_> = router(None).models().into_iter().map(|l| format!("{} {}", l.name, l.backend)).collect();
        assert_eq!(listed, ["fast local", "mock/words mock", "mock/echo mock"]);
    }

    #[test]
    fn of_a_wildcard_those_are_listed_that_it_leads_to() {
        let known = ["v/claude-opus", "v/claude-3-old", "claude-bare", "v/gemma", "v/claude-own", "v/claude-"];
        let known: Arc<dyn Backend> = Arc::new(Silent(Clocks::default(), known.map(str::to_owned).into()));
        let models: BTreeMap<String, Model> = toml::from_str(
            r#"
            "claude-*" = { route = ["b/v/*"] }
            "claude-3*" = { route = ["b/fixed"] }
            "claude-own" = { route = ["b/other"] }
            "#,
        )
        .expect("toml");
        let router = Router::new([("b".to_owned(), known)].into(), models, None);
        let listed: Vec<_> = router.models().into_iter().map(|listed| listed.name).collect();
        assert_eq!(listed[..3], ["claude-opus", "claude-", "claude-own"]);
        assert!(listed[3..].iter().all(|name| name.starts_with("b/")), "{listed:?}");
        for name in &listed {
            assert!(router.resolve(Some(name)).is_ok(), "{name}");
        }
        for pattern in ["claude-*", "claude-3*", "claude-x*", "b/*"] {
            assert!(router.resolve(Some(pattern)).is_err(), "{pattern} is no model");
        }
    }
}
