//! The kind `push`: the user's own code is the generator. It creates a stream and appends the events itself; here is only how long it
//! may be silent.

use std::time::Duration;

use serde::Deserialize;

use super::{Backend, BackendError, BadConfig, Clocks, ErrorKind, Events};
use crate::prompt::Prompt;

/// The section of a producer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How long nothing may come of a producer before it is taken for gone.
    #[serde(with = "crate::duration")]
    pub lease: Duration,
    /// How long an answer may take.
    #[serde(with = "crate::duration")]
    pub total: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { lease: Duration::from_secs(30), total: Clocks::default().total }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Push {
    lease: Duration,
    clocks: Clocks,
}

impl Push {
    /// The backend of this section.
    ///
    /// # Errors
    /// When the section cannot be meant.
    pub fn new(config: &Config) -> Result<Self, BadConfig> {
        if config.lease.is_zero() {
            return Err(BadConfig::new("lease", "is 0, in which nobody can say anything; write \"30s\""));
        }
        // The lease is the one clock of a producer, which says of itself that it lives.
        let Config { lease, total } = *config;
        Ok(Self { lease, clocks: Clocks { first: total, silence: total, total, ..Clocks::default() } })
    }
}

impl Backend for Push {
    /// It says nothing by itself.
    fn generate(&self, _: &Prompt, _: &str) -> Events {
        super::fails(BackendError::new(ErrorKind::Failed, "nobody can append to this answer"))
    }

    fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    fn lease(&self) -> Option<Duration> {
        Some(self.lease)
    }
}
