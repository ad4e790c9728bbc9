//! Keys that are fetched. Whoever signs exchanges them now and then: a token with a key that is not known has them fetched again, but
//! not more often than every half minute, whatever is shown.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jsonwebtoken::{Algorithm, jwk::Jwk};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tracing::{debug, warn};

use super::{Key, NoToken};
use crate::client::Client;

/// A key that was taken out of the set is good no longer than that.
const FRESH: Duration = Duration::from_secs(3600);
/// Between two fetches, however many tokens are shown.
const PAUSE: Duration = Duration::from_secs(30);
/// For one fetch.
const PATIENCE: Duration = Duration::from_secs(10);
const LARGEST: usize = 1 << 20;

pub(super) struct KeySet {
    client: Client,
    held: RwLock<Option<Held>>,
    /// When it was last asked. Who holds this asks, and the others wait for the result.
    asked: Mutex<Option<Instant>>,
}

#[derive(Clone)]
struct Held {
    keys: Arc<[Named]>,
    since: Instant,
}

/// A key, and by what a token names it.
struct Named {
    id: Option<String>,
    key: Key,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("client", &self.client).finish_non_exhaustive()
    }
}

impl KeySet {
    pub(super) fn new(url: &str) -> Result<Self, String> {
        let client = Client::new(url, PATIENCE).map_err(|why| why.to_string())?;
        Ok(Self { client, held: RwLock::new(None), asked: Mutex::new(None) })
    }

    /// The key that a token names; or the only one of its kind, if it names none.
    pub(super) async fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Key, NoToken> {
        if let Some(key) = self.fresh().and_then(|keys| pick(&keys, kid, algorithm)) {
            return Ok(key);
        }
        self.fetch(|keys| pick(keys, kid, algorithm).is_some()).await;
        let held = self.held().ok_or(NoToken::Unknown)?;
        let key = pick(&held.keys, kid, algorithm);
        key.ok_or_else(|| NoToken::Refused("the token is not good: its key is not among those of jwks_url".to_owned()))
    }

    #[cfg(test)]
    pub(super) async fn forget_the_pause(&self) {
        *self.asked.lock().await = None;
    }

    fn held(&self) -> Option<Held> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn fresh(&self) -> Option<Arc<[Named]>> {
        self.held().filter(|held| held.since.elapsed() < FRESH).map(|held| held.keys)
    }

    /// Fetches the keys, unless somebody else did meanwhile and they will do.
    async fn fetch(&self, will_do: impl Fn(&[Named]) -> bool) {
        let mut asked = self.asked.lock().await;
        if asked.is_some_and(|asked| asked.elapsed() < PAUSE) || self.fresh().is_some_and(|keys| will_do(&keys)) {
            return;
        }
        *asked = Some(Instant::now());
        match timeout(PATIENCE, self.get()).await.unwrap_or_else(|_| Err("it took too long".to_owned())) {
            Ok(keys) => {
                debug!(keys = keys.len(), "the set of keys was fetched");
                let held = Held { keys: keys.into(), since: Instant::now() };
                *self.held.write().unwrap_or_else(PoisonError::into_inner) = Some(held);
            }
            Err(why) => warn!(%why, from = self.client.origin(), "the set of keys cannot be fetched; those known stay"),
        }
    }

    async fn get(&self) -> Result<Vec<Named>, String> {
        let response = self.client.get("", "application/json", &[]).await.map_err(|error| error.to_string())?;
        if response.status() != 200 {
            return Err(format!("the answer was {}", response.status()));
        }
        let text = response.text(LARGEST).await;
        // One key that is not understood must not take the others away.
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_str(&text).map_err(|_| "the answer is no set of keys".to_owned())?;
        let understood = set.keys.into_iter().filter_map(|key| {
            let jwk: Jwk = serde_json::from_value(key).ok()?;
            Some(Named { id: jwk.common.key_id.clone(), key: Key::jwk(&jwk)? })
        });
        let keys: Vec<_> = understood.collect();
        match keys.is_empty() {
            true => Err("the set has no key for RS256, ES256 or EdDSA".to_owned()),
            false => Ok(keys),
        }
    }
}

fn pick(keys: &[Named], kid: Option<&str>, algorithm: Algorithm) -> Option<Key> {
    let names = |id: &Option<String>| kid.is_none_or(|kid| id.as_deref() == Some(kid));
    let mut fitting = keys.iter().filter(|named| named.key.algorithm() == algorithm && names(&named.id));
    let only = fitting.next()?;
    fitting.next().is_none().then(|| only.key.clone())
}
