//! Stands in for the mock backend until it is merged.

use serde::Deserialize;

/// A `[backends.NAME]` of kind `mock`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// For the same answer twice.
    pub seed: u64,
}
