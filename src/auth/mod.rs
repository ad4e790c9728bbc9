//! Who may ask, by what they show: a key of the configuration, a token that somebody signs who is trusted there, or what this server
//! signed itself, a ticket or a session.
//!
//! Nothing here knows how a request shows it. Every comparison takes the same time whatever is compared.

pub mod jwt;
mod key;
mod signed;

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use serde::Deserialize;
use subtle::ConstantTimeEq;

pub use self::{
    jwt::NoToken,
    key::{Hash, new_key},
    signed::{Judged, Scope, Session, Signer, Ticket},
};
use crate::client::Secret;

/// `[auth]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Nobody needs a key, though others than this machine are listened to.
    pub off: bool,
    /// `[auth.keys.NAME]`: who shows the key with this hash is NAME, and sees NAME's streams alone.
    pub keys: BTreeMap<String, Key>,
    /// `[auth.jwt]`: who shows a token that is signed so is who the token says.
    pub jwt: Option<jwt::Config>,
    /// How long what `events_url` holds is good for, at most; else as long as the slowest backend may take, and an hour.
    #[serde(deserialize_with = "crate::duration::option::deserialize")]
    pub ticket_ttl: Option<Duration>,
    /// How long a browser stays signed in.
    #[serde(with = "crate::duration")]
    pub session_ttl: Duration,
    /// What tickets and sessions are signed with; else a secret of the server's own making, kept beside its store.
    pub secret: Option<Secret>,
    /// `/metrics` needs no key.
    pub open_metrics: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            off: false,
            keys: BTreeMap::new(),
            jwt: None,
            ticket_ttl: None,
            session_ttl: Duration::from_secs(7 * 24 * 3600),
            secret: None,
            open_metrics: false,
        }
    }
}

/// `[auth.keys.NAME]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// Of the key: `sha256:` and 64 hexadecimal digits.
    pub hash: Hash,
}

/// In which the last readers of the longest answer may come back.
const GRACE: Duration = Duration::from_secs(3600);
/// Shorter than that a secret can be guessed.
const SHORTEST: usize = 32;

impl Config {
    /// Whether somebody needs a key.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !self.keys.is_empty() || self.jwt.is_some()
    }

    /// The file that holds what tokens are checked with.
    #[must_use]
    pub fn key_file(&self) -> Option<&Path> {
        self.jwt.as_ref()?.key_file.as_deref()
    }

    /// How long a ticket is good for, where nothing shorter is asked.
    #[must_use]
    pub fn ticket_ttl(&self) -> Duration {
        self.ticket_ttl.unwrap_or(GRACE)
    }

    /// Has tickets outlive an answer that takes this long, unless something else is said.
    pub fn outlive(&mut self, longest: Duration) {
        self.ticket_ttl.get_or_insert(longest.saturating_add(GRACE));
    }

    /// Whether the values can be meant.
    ///
    /// # Errors
    /// The key below `auth`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        for name in self.keys.keys() {
            if name.is_empty() || name.len() > 64 || !name.contains(plain) || name.contains(|c| !plain(c)) {
                let what = "is no name: take 1 to 64 letters, digits, `.`, `_`, `-`";
                return Err((format!("keys.{name}"), what.to_owned()));
            }
        }
        if self.off && self.is_on() {
            return Err(("off".to_owned(), "stands beside keys; remove one of the two".to_owned()));
        }
        if let Some(jwt) = &self.jwt {
            let named = |key: &str| if key.is_empty() { "jwt".to_owned() } else { format!("jwt.{key}") };
            jwt::Jwt::new(jwt).map_err(|(key, what)| (named(key), what))?;
        }
        if self.secret.as_ref().is_some_and(|secret| secret.expose().len() < SHORTEST) {
            return Err(("secret".to_owned(), format!("is shorter than {SHORTEST} characters: it could be guessed")));
        }
        Ok(())
    }
}

/// Who is known.
#[derive(Debug)]
pub struct Known {
    config: Config,
    jwt: Option<jwt::Jwt>,
}

impl Known {
    /// By this configuration.
    ///
    /// # Errors
    /// When a token's key cannot be read. Checking the configuration has tried it.
    pub fn new(config: Config) -> io::Result<Self> {
        let jwt = config.jwt.as_ref().map(jwt::Jwt::new).transpose();
        let jwt = jwt.map_err(|(key, what)| io::Error::other(format!("auth.jwt.{key} {what}")))?;
        Ok(Self { config, jwt })
    }

    /// What the operator said.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Whether a stream, a ticket or a session of theirs is still somebody's.
    #[must_use]
    pub fn knows(&self, owner: &str) -> bool {
        self.config.keys.contains_key(owner) || (self.jwt.is_some() && jwt::is_of_a_token(owner))
    }

    /// Whose key or token this is.
    ///
    /// # Errors
    /// Why it is nobody's.
    pub async fn owner_of(&self, shown: &str) -> Result<String, NoToken> {
        match &self.jwt {
            Some(jwt) if jwt::looks_like_one(shown) => jwt.owner_of(shown).await,
            _ => self.whose(shown).ok_or_else(|| NoToken::Refused("the key is not known here".to_owned())),
        }
    }

    /// Whose key this is. All are looked at, whichever it is.
    fn whose(&self, key: &str) -> Option<String> {
        let shown = Hash::of(key);
        let keys = self.config.keys.iter();
        let matching = keys.filter(|(_, key)| key.hash.as_bytes().ct_eq(shown.as_bytes()).into());
        matching.fold(None, |found, (name, _)| found.or_else(|| Some(name.clone())))
    }
}

/// Who is known, which is exchanged as a whole when the configuration is, and what is signed with, which stays.
#[derive(Debug)]
pub struct Auth {
    known: RwLock<Arc<Known>>,
    signer: Signer,
}

impl Auth {
    /// By this configuration. A secret that it does not name is kept in this folder; where there is none, it lives as long as the process.
    ///
    /// # Errors
    /// When the secret can neither be read nor made; or as of [`Known::new`].
    pub fn new(config: Config, folder: Option<&Path>) -> io::Result<Self> {
        let signer = match (&config.secret, folder) {
            (Some(secret), _) => Signer::new(secret.expose().as_bytes()),
            (None, Some(folder)) => Signer::new(&kept(&folder.join(SECRET))?),
            (None, None) => Signer::new(&key::random()?),
        };
        Ok(Self { known: RwLock::new(Arc::new(Known::new(config)?)), signer })
    }

    /// Takes over who is known from now on; what is signed with stays.
    pub fn replace(&self, known: Known) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    /// What holds now.
    #[must_use]
    pub fn known(&self) -> Arc<Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What tickets and sessions are signed with.
    #[must_use]
    pub fn signer(&self) -> &Signer {
        &self.signer
    }
}

/// Where the secret is kept, in the store's folder.
const SECRET: &str = "ticket.key";

/// The secret of this file, which is made if it is not there, for nobody else to read.
fn kept(file: &Path) -> io::Result<Vec<u8>> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let new = key::random()?;
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
        Ok(mut made) => {
            made.write_all(&new)?;
            made.sync_all()?;
            Ok(new.to_vec())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let mut secret = Vec::new();
            OpenOptions::new().read(true).open(file)?.read_to_end(&mut secret)?;
            match secret.len() {
                SHORTEST.. => Ok(secret),
                _ => Err(io::Error::other(format!(
                    "{} holds no secret; remove it, and a new one is made",
                    file.display()
                ))),
            }
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_is_known_by_its_hash_alone_and_another_is_not() {
        let (key, other) = (new_key().expect("chance"), new_key().expect("chance"));
        let keys = [("web".to_owned(), Key { hash: Hash::of(&key) }), ("job".to_owned(), Key { hash: Hash::of("x") })];
        let auth = Auth::new(Config { keys: keys.into(), ..Config::default() }, None).expect("made");
        let known = auth.known();
        assert_eq!(known.owner_of(&key).await.as_deref(), Ok("web"));
        assert_eq!(known.owner_of("x").await.as_deref(), Ok("job"));
        for wrong in [&*other, "", &key[1..], &format!("{key} "), &known.config().keys["web"].hash.to_string()] {
            assert!(known.owner_of(wrong).await.is_err(), "{wrong}");
        }
        assert!(known.knows("web") && !known.knows("jwt:web"));
        auth.replace(Known::new(Config::default()).expect("right"));
        assert!(auth.known().owner_of(&key).await.is_err());
    }

    #[test]
    fn the_secret_is_made_once_for_nobody_else_to_read() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("data").join(SECRET);
        let first = kept(&file).expect("made");
        assert_eq!((first.len(), kept(&file).expect("read")), (32, first));
        assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "short").expect("written");
        assert!(kept(&file).expect_err("no secret").to_string().contains("remove it"));
    }

    #[test]
    fn what_cannot_be_meant_is_named() {
        let key = || Key { hash: Hash::of("k") };
        let named = |name: &str| Config { keys: [(name.to_owned(), key())].into(), ..Config::default() };
        assert_eq!(named("web-1.example_x").check(), Ok(()));
        for name in ["", "a b", "jwt:x", "ä", &"x".repeat(65)] {
            assert!(named(name).check().expect_err(name).1.contains("is no name"));
        }
        assert_eq!(Config { off: true, ..named("web") }.check().expect_err("both").0, "off");
        assert_eq!(
            Config { secret: Some(Secret::new("short")), ..named("web") }.check().expect_err("short").0,
            "secret"
        );
    }
}
