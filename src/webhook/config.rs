//! `[webhooks]`: who is told of an answer that has ended, of which ones, and how long it is tried.

use std::{fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Deserializer};

use super::sign::Signer;
use crate::{
    client::{Client, Secret},
    event::Status,
};

/// See the module.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to, such as `https://app.example.com/hooks`.
    pub url: String,
    /// What it is signed with: `whsec_` and the base64 of 24 to 64 bytes.
    #[serde(default)]
    pub secret: Option<Secret>,
    /// A file that holds the secret; relative to the config file.
    #[serde(default)]
    pub secret_file: Option<PathBuf>,
    /// Of answers that ended so.
    #[serde(default = "all")]
    pub events: Vec<Status>,
    /// For one try: until the head of a response is there.
    #[serde(default = "timeout", with = "crate::duration")]
    pub timeout: Duration,
    /// How long after a try that failed the next one is made: the first, the second, …; the last of these is the one from then on.
    #[serde(default = "backoff", deserialize_with = "durations")]
    pub backoff: Vec<Duration>,
    /// How long after an answer's end it is tried, at most.
    #[serde(default = "give_up_after", with = "crate::duration")]
    pub give_up_after: Duration,
}

fn all() -> Vec<Status> {
    vec![Status::Completed, Status::Failed, Status::Cancelled, Status::Interrupted]
}

fn timeout() -> Duration {
    Duration::from_secs(15)
}

/// What Standard Webhooks advises.
fn backoff() -> Vec<Duration> {
    const HOUR: u64 = 3600;
    [5, 300, HOUR / 2, 2 * HOUR, 5 * HOUR, 10 * HOUR].map(Duration::from_secs).into()
}

fn give_up_after() -> Duration {
    Duration::from_secs(3 * 24 * 3600)
}

fn durations<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Duration>, D::Error> {
    #[derive(Deserialize)]
    struct Written(#[serde(with = "crate::duration")] Duration);
    Ok(Vec::<Written>::deserialize(d)?.into_iter().map(|Written(duration)| duration).collect())
}

impl Config {
    /// Whether the values can be meant.
    ///
    /// # Errors
    /// The key, and what is wrong with its value.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        self.open().map(drop)
    }

    /// Who sends and who signs.
    ///
    /// # Errors
    /// As of [`Config::check`].
    pub(super) fn open(&self) -> Result<(Client, Signer), (&'static str, String)> {
        let wrong = |key, what: &str| Err((key, what.to_owned()));
        if self.events.is_empty() {
            return wrong("events", "names none, so nobody would be told of anything; leave it out for all");
        }
        if self.timeout.is_zero() {
            return wrong("timeout", "must be longer than nothing");
        }
        if self.backoff.is_empty() || self.backoff.iter().any(Duration::is_zero) {
            return wrong(
                "backoff",
                "must hold one duration or more, each longer than nothing; leave it out for the usual ones",
            );
        }
        let client = Client::of_url(&self.url, self.timeout).map_err(|why| ("url", why.to_string()))?;
        Ok((client, self.signer()?))
    }

    fn signer(&self) -> Result<Signer, (&'static str, String)> {
        let (key, secret) = match (&self.secret, &self.secret_file) {
            (Some(_), Some(_)) => {
                return Err(("secret_file", "stands beside `secret`; remove one of the two".to_owned()));
            }
            (Some(secret), None) => ("secret", secret.clone()),
            (None, Some(path)) => {
                let cannot = |error| ("secret_file", format!("cannot be read: {}: {error}", path.display()));
                ("secret_file", Secret::from_file(path).map_err(cannot)?)
            }
            (None, None) => {
                let what = "is missing, and what is not signed could come from anybody; `echo whsec_$(openssl rand -base64 32)` makes one";
                return Err(("secret", what.to_owned()));
            }
        };
        Signer::new(&secret).map_err(|what| (key, what.to_owned()))
    }

    /// `https://host:port`, as it may be shown: a path can be a secret too.
    #[must_use]
    pub fn origin(&self) -> String {
        Client::of_url(&self.url, self.timeout).map(|client| client.origin()).unwrap_or_default()
    }
}

/// Shows neither the secret nor the URL, whose path may be one.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("events", &self.events)
            .field("timeout", &self.timeout)
            .field("backoff", &self.backoff)
            .field("give_up_after", &self.give_up_after)
            .finish_non_exhaustive()
    }
}
