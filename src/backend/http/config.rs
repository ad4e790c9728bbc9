//! What the operator may say of an upstream that speaks HTTP.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use bytesize::ByteSize;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    backend::{BadConfig, Clocks},
    client::Secret,
};

/// The section of a backend that speaks HTTP.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where its API lies, such as `http://127.0.0.1:8000/v1`.
    pub base_url: String,
    /// Its key.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// A file that holds the key; read when the configuration is, and when it has changed.
    #[serde(default)]
    pub api_key_file: Option<PathBuf>,
    /// Sent with each request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// Added to each URL.
    #[serde(default)]
    pub query: BTreeMap<String, Secret>,
    /// The header that carries the bare key; without it the kind's own way (`Authorization: Bearer …`).
    #[serde(default)]
    pub auth_header: Option<String>,
    /// Members of the request's body, in place of those lastword would write.
    #[serde(default)]
    pub extra_body: Map<String, Value>,
    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Clocks,
    /// The most that one line, or the data of one event, of the upstream may have.
    #[serde(default = "max_line")]
    pub max_line: ByteSize,
    /// The models it has, for those who ask what there is; the upstream itself is not asked.
    #[serde(default)]
    pub models: Vec<String>,
    /// The paths below `base_url` to which requests are handed on unread, beside what lastword itself speaks.
    #[serde(default)]
    pub pass_through: Vec<String>,
}

fn max_line() -> ByteSize {
    ByteSize::mib(2)
}

impl Config {
    /// An upstream of which nothing is known but its URL.
    #[must_use]
    pub fn new(base_url: &str) -> Self {
        Self {
            base_url: base_url.to_owned(),
            api_key: None,
            api_key_file: None,
            headers: BTreeMap::new(),
            query: BTreeMap::new(),
            auth_header: None,
            extra_body: Map::new(),
            timeouts: Clocks::default(),
            max_line: max_line(),
            models: Vec::new(),
            pass_through: Vec::new(),
        }
    }

    /// The key, wherever it stands.
    pub(super) fn key(&self) -> Result<Option<Secret>, BadConfig> {
        let key = match (&self.api_key, &self.api_key_file) {
            (Some(_), Some(_)) => {
                return Err(BadConfig::new("api_key_file", "stands beside `api_key`; remove one of the two"));
            }
            (Some(key), None) => key.clone(),
            (None, Some(path)) => Secret::from_file(path).map_err(|error| {
                BadConfig::new("api_key_file", format!("cannot be read: {}: {error}", path.display()))
            })?,
            (None, None) => return Ok(None),
        };
        // An empty key is none, as in `api_key = "${KEY_THAT_IS_NOT_SET}"`.
        Ok((!key.expose().is_empty()).then_some(key))
    }
}

/// Shows neither what the credentials nor what the extra members are.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("models", &self.models).field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}
