//! What the operator may say: one TOML file, overrides from the environment, a few flags. Read and checked at the start, and as a
//! whole again when the file changes.
//!
//! Each part of lastword owns its section and its defaults; here they meet. An error names the place (`lastword.toml:12`, a
//! variable, a flag), the key and what was probably meant. Nothing here reads the process: the environment comes as a map.
//!
//! The way of a configuration: `document` reads the file, `environment` lays the built-in backends, the flags and the
//! overrides over it and fills in `${VARIABLES}`, serde makes it a [`Config`], `check` looks at what spans several keys.

mod check;
mod document;
mod environment;
mod error;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::document::Document;
pub use self::error::Error;
use crate::{
    auth,
    backend::{
        self, BadConfig, anthropic::Anthropic, mock::Mock, openai::OpenAi, push::Push, relay::Relay,
        responses::Responses,
    },
    gateway, route, server, store, telemetry, template, webhook,
};

/// The file that is read from the working directory when none is named.
pub const FILE: &str = "lastword.toml";

/// The environment, by name.
pub type Env = BTreeMap<String, String>;

/// All that can be configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The file it was read from; none is the built-in defaults.
    #[serde(skip)]
    pub file: Option<PathBuf>,
    /// What is asked when a request names no model.
    ///
    /// Where it is not set: the one `[models.NAME]` without a wildcard if there is exactly one; `mock/words` if there is nothing
    /// but the mock; otherwise a request must name its model. So a key that happens to be in the environment neither spends
    /// money unasked nor is passed over for a mock.
    pub default_model: Option<String>,
    /// `[server]`
    pub server: server::config::Config,
    /// `[store]`
    pub store: store::Config,
    /// `[limits]`
    pub limits: gateway::Limits,
    /// `[auth]`
    pub auth: auth::Config,
    /// `[prompts]`
    pub prompts: template::Config,
    /// `[log]`
    pub log: telemetry::Config,
    /// `[webhooks]`
    pub webhooks: Option<webhook::Config>,
    /// `[backends.NAME]`
    pub backends: BTreeMap<String, Backend>,
    /// `[models.NAME]`
    pub models: BTreeMap<String, route::Model>,
}

/// A `[backends.NAME]` section; its `kind` says which.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Says what it is told.
    Mock(backend::mock::Config),
    /// Any Chat Completions server.
    OpenAi(backend::http::Config),
    /// Any server of Responses.
    Responses(backend::http::Config),
    /// Anthropic, or any other server of Messages.
    Anthropic(backend::http::Config),
    /// An application of the user's own.
    Relay(backend::relay::Config),
    /// The user's own code.
    Push(backend::push::Config),
}

impl Backend {
    /// The word for it in the file.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mock(_) => "mock",
            Self::OpenAi(_) => "openai",
            Self::Anthropic(_) => "anthropic",
            Self::Responses(_) => "responses",
            Self::Relay(_) => "relay",
            Self::Push(_) => "push",
        }
    }

    /// What its section says of an upstream that speaks HTTP.
    fn http(&self) -> Option<&backend::http::Config> {
        match self {
            Self::Mock(_) | Self::Relay(_) | Self::Push(_) => None,
            Self::OpenAi(http) | Self::Responses(http) | Self::Anthropic(http) => Some(http),
        }
    }

    /// How long an answer may take.
    fn longest(&self) -> Duration {
        match self {
            Self::Mock(mock) => mock.timeouts.clone().unwrap_or_default().total,
            Self::Relay(relay) => relay.timeouts.total,
            Self::Push(push) => push.total,
            Self::OpenAi(http) | Self::Responses(http) | Self::Anthropic(http) => http.timeouts.total,
        }
    }

    /// Whether it can be asked for an answer: an application and the user's own code cannot.
    #[must_use]
    pub fn has_models(&self) -> bool {
        !matches!(self, Self::Relay(_) | Self::Push(_))
    }

    /// Where its upstream is. It holds no credential.
    #[must_use]
    pub fn base_url(&self) -> Option<&str> {
        match self {
            Self::Relay(relay) => Some(&relay.url),
            _ => self.http().map(|http| &*http.base_url),
        }
    }

    /// The file that holds its key, where it is not in the section itself.
    #[must_use]
    pub fn key_file(&self) -> Option<&Path> {
        self.http()?.api_key_file.as_deref()
    }

    /// Makes it ready to be asked. `name` is its name in the configuration.
    ///
    /// # Errors
    /// When its section cannot be meant. Reading a configuration has tried it, so then something outside has changed since: a
    /// key's file, the root certificates.
    pub fn open(&self, name: &str) -> Result<Arc<dyn backend::Backend>, BadConfig> {
        Ok(match self {
            Self::Mock(config) => Arc::new(Mock::new(name, config.clone())?),
            Self::OpenAi(config) => Arc::new(OpenAi::new(name, config.clone())?),
            Self::Anthropic(config) => Arc::new(Anthropic::new(name, config.clone())?),
            Self::Responses(config) => Arc::new(Responses::new(name, config.clone())?),
            Self::Push(config) => Arc::new(Push::new(config)?),
            Self::Relay(config) => Arc::new(Relay::new(name, config.clone())?),
        })
    }
}

/// Its kind and where it is.
impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.base_url() {
            None => f.write_str(self.kind()),
            Some(url) => write!(f, "{}, {url}", self.kind()),
        }
    }
}

/// What the command line says beside the file. It wins over the file and the environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flag {
    /// As an error names it: `--listen`.
    pub name: &'static str,
    /// The key it sets: `server.listen`.
    pub key: &'static str,
    /// The value.
    pub value: String,
}

impl Config {
    /// Reads the named file, else `lastword.toml` in the working directory, else nothing but the built-in defaults.
    ///
    /// # Errors
    /// The first thing that is wrong: see the module.
    pub fn load(named: Option<&Path>, working_directory: &Path, env: &Env, flags: &[Flag]) -> Result<Self, Error> {
        let usual = working_directory.join(FILE);
        let (file, shown) = match named {
            Some(file) => (file, file.display().to_string()),
            None if usual.exists() => (usual.as_path(), FILE.to_owned()),
            None => return Self::read("built-in defaults", "", working_directory, env, flags),
        };
        let text =
            std::fs::read_to_string(file).map_err(|error| Error::new(&shown, format!("cannot be read: {error}")))?;
        let folder = file.parent().unwrap_or(working_directory);
        Ok(Self { file: Some(file.to_owned()), ..Self::read(&shown, &text, folder, env, flags)? })
    }

    /// Reads a file's text; `name` is what errors call it. Paths in it are relative to the working directory.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(name: &str, text: &str, env: &Env, flags: &[Flag]) -> Result<Self, Error> {
        Self::read(name, text, Path::new(""), env, flags)
    }

    fn read(name: &str, text: &str, folder: &Path, env: &Env, flags: &[Flag]) -> Result<Self, Error> {
        let mut document = Document::parse(name, text)?;
        environment::builtin_backends(&mut document, env)?;
        environment::overrides(&mut document, env)?;
        for flag in flags {
            document.put(flag.name, flag.key.split('.'), document::string(&flag.value))?;
        }
        environment::usual_places(&mut document);
        environment::fill_in(&mut document, env)?;
        document.turn_kinds_into_variants()?;
        let mut config: Self = document.read()?;
        config.take_paths_from(folder);
        if config.default_model.is_none() {
            config.default_model = config.obvious_model();
        }
        config.auth.outlive(config.backends.values().map(Backend::longest).max().unwrap_or_default());
        check::check(&config, &document)?;
        Ok(config)
    }

    /// The keys of `other` that are not as here, of the sections that hold for as long as a server runs: `server.listen`.
    #[must_use]
    pub fn fixed_changes(&self, other: &Self) -> Vec<String> {
        [
            differences("server", &self.server, &other.server),
            differences("store", &self.store, &other.store),
            differences("limits", &self.limits, &other.limits),
            differences("log", &self.log, &other.log),
            if self.webhooks == other.webhooks { Vec::new() } else { vec!["webhooks".to_owned()] },
        ]
        .concat()
    }

    fn take_paths_from(&mut self, folder: &Path) {
        self.store.path = folder.join(&self.store.path);
        self.prompts.path = folder.join(&self.prompts.path);
        for file in [&mut self.server.tls_cert, &mut self.server.tls_key].into_iter().flatten() {
            *file = folder.join(&*file);
        }
        if let Some(file) = self.auth.jwt.as_mut().and_then(|jwt| jwt.key_file.as_mut()) {
            *file = folder.join(&*file);
        }
        if let Some(file) = self.webhooks.as_mut().and_then(|webhooks| webhooks.secret_file.as_mut()) {
            *file = folder.join(&*file);
        }
        for backend in self.backends.values_mut() {
            if let Backend::OpenAi(http) | Backend::Responses(http) | Backend::Anthropic(http) = backend {
                http.api_key_file = http.api_key_file.as_ref().map(|file| folder.join(file));
            }
        }
    }

    /// The model that a request without one can only mean; see [`Config::default_model`].
    fn obvious_model(&self) -> Option<String> {
        let mut named = self.models.keys().filter(|name| !name.contains('*'));
        match (named.next(), named.next()) {
            (Some(only), None) => Some(only.clone()),
            (Some(_), Some(_)) => None,
            (None, _) => {
                let others = self.backends.values().filter(|backend| !matches!(backend, Backend::Push(_))).count();
                let only_the_mock = self.models.is_empty()
                    && others == 1
                    && matches!(self.backends.get("mock"), Some(Backend::Mock(_)));
                only_the_mock.then(|| "mock/words".to_owned())
            }
        }
    }
}

/// The keys of a section whose values differ.
fn differences(section: &str, one: &impl Serialize, other: &impl Serialize) -> Vec<String> {
    let (one, other) = (values(one), values(other));
    let changed = other.iter().filter(|(key, value)| one.get(*key) != Some(value));
    changed.map(|(key, _)| format!("{section}.{key}")).collect()
}

fn values(section: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(section) {
        Ok(Value::Object(values)) => values,
        _ => Map::new(), // a section is a table
    }
}
