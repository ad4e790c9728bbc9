//! Stands in for the HTTP backends until they are merged.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

use super::Clocks;

/// A `[backends.NAME]` of a kind that speaks HTTP.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where its paths begin.
    pub base_url: String,
    /// Its credential.
    #[serde(default)]
    pub api_key: Option<Secret>,
    /// Sent with each request.
    #[serde(default)]
    pub headers: BTreeMap<String, Secret>,
    /// How long to wait for what.
    #[serde(default)]
    pub timeouts: Clocks,
}

/// What must not be seen.
#[derive(Clone, Deserialize)]
pub struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Secret {
    /// For the wire.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
