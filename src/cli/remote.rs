//! Which lastword a command speaks to, and with what credential.

use std::{env, time::Duration};

use clap::Args;

use super::Usage;
use crate::client::{Client, Lastword, Secret};

/// Where the key is, unless said otherwise.
const KEY: &str = "LASTWORD_API_KEY";
/// A server that is there takes a connection within this.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
pub(super) struct Remote {
    /// Which lastword to ask
    #[arg(long, value_name = "URL", env = "LASTWORD_URL", default_value = "http://127.0.0.1:8080")]
    url: String,

    #[command(flatten)]
    key: Key,

    /// How long to try to come back when the connection is lost
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    reconnect_for: Duration,
}

impl Remote {
    /// What is said to a person who waits.
    pub(super) fn patience(&self) -> humantime::FormattedDuration {
        humantime::format_duration(self.reconnect_for)
    }

    pub(super) fn lastword(&self) -> Result<Lastword, Usage> {
        Ok(Lastword::new(self.key.client(&self.url, "--url")?, self.reconnect_for))
    }
}

#[derive(Debug, Args)]
pub(super) struct Key {
    /// The environment variable that holds your key, if one is needed [default: LASTWORD_API_KEY]
    #[arg(long, value_name = "VARIABLE")]
    key_env: Option<String>,
}

impl Key {
    /// A client of this URL with the key; `said` is where the URL stands on the command line.
    pub(super) fn client(&self, url: &str, said: &str) -> Result<Client, Usage> {
        let url = match url.contains("://") {
            true => url.to_owned(),
            false => format!("http://{url}"),
        };
        let client = Client::new(&url, CONNECT).map_err(|unusable| Usage(format!("{said} {unusable}")))?;
        let Some((variable, key)) = self.key()? else { return Ok(client) };
        let value = format!("Bearer {}", key.expose());
        let unusable = |unusable| Usage(format!("the environment variable `{variable}` {unusable}"));
        client.header("authorization", &value).map_err(unusable)
    }

    /// The key, and where it is from.
    fn key(&self) -> Result<Option<(&str, Secret)>, Usage> {
        let variable = self.key_env.as_deref().unwrap_or(KEY);
        let key = env::var(variable).map(|key| Secret::new(&key)).ok().filter(|key| !key.expose().is_empty());
        match (key, &self.key_env) {
            (None, Some(named)) => Err(Usage(format!("--key-env: the environment variable `{named}` is not set"))),
            (key, _) => Ok(key.map(|key| (variable, key))),
        }
    }
}
