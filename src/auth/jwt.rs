//! JSON Web Tokens (RFC 7519) of somebody else's making: of a sign-in service, or of the application's own server.
//!
//! Which algorithm is right is said by the key, never by the token: a token that names another, or `none`, is refused.

mod key;
mod set;

use std::{fs, path::PathBuf};

use jsonwebtoken::{Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use self::{key::Key, set::KeySet};
use crate::client::Secret;

/// Clocks differ.
const LEEWAY: u64 = 30;
/// What begins an owner's name, so that no key's name can be the same.
const OWNER: &str = "jwt:";
const LONGEST_OWNER: usize = 256;

/// `[auth.jwt]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Who must have made a token (`iss`).
    pub issuer: Option<String>,
    /// For whom it must have been made (`aud`). Without this, a token that was made for somebody is for somebody else.
    pub audience: Option<String>,
    /// The claim that says whose token it is.
    #[serde(default = "sub")]
    pub owner: String,
    /// What tokens are signed with: HS256.
    pub secret: Option<Secret>,
    /// The public key, as PEM: RS256, ES256 or EdDSA, by what it is.
    pub key_file: Option<PathBuf>,
    /// Where there are public keys (RFC 7517). They are fetched when they are needed, and again when a token names one that is not there.
    pub jwks_url: Option<String>,
}

fn sub() -> String {
    "sub".to_owned()
}

/// Why a token is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoToken {
    /// It is not good: why. What it holds is not said.
    Refused(String),
    /// It cannot be told: the keys cannot be fetched.
    Unknown,
}

/// Knows a good token.
#[derive(Debug)]
pub(super) struct Jwt {
    issuer: Option<String>,
    audience: Option<String>,
    owner: String,
    keys: Keys,
}

#[derive(Debug)]
enum Keys {
    One(Key),
    Set(Box<KeySet>),
}

impl Jwt {
    /// # Errors
    /// The key of the section, and what is wrong with it.
    pub(super) fn new(config: &Config) -> Result<Self, (&'static str, String)> {
        let keys = match (&config.secret, &config.key_file, &config.jwks_url) {
            (Some(secret), None, None) => Keys::One(Key::secret(secret.expose()).map_err(|why| ("secret", why))?),
            (None, Some(file), None) => {
                let unreadable = |error| ("key_file", format!("{} cannot be read: {error}", file.display()));
                let pem = fs::read(file).map_err(unreadable)?;
                Keys::One(Key::pem(&pem).map_err(|why| ("key_file", format!("{} {why}", file.display())))?)
            }
            (None, None, Some(url)) => Keys::Set(Box::new(KeySet::new(url).map_err(|why| ("jwks_url", why))?)),
            _ => {
                let what = "needs one of `secret`, `key_file`, `jwks_url`, and only one: what tokens are signed with";
                return Err(("", what.to_owned()));
            }
        };
        let Config { issuer, audience, owner, .. } = config.clone();
        Ok(Self { issuer, audience, owner, keys })
    }

    /// Whose token this is.
    pub(super) async fn owner_of(&self, token: &str) -> Result<String, NoToken> {
        let refused = |why: &dyn std::fmt::Display| NoToken::Refused(format!("the token is not good: {why}"));
        let header = decode_header(token).map_err(|_| refused(&"it cannot be read"))?;
        let key = match &self.keys {
            Keys::One(key) => key.clone(),
            Keys::Set(set) => set.find(header.kid.as_deref(), header.alg).await?,
        };
        let claims = decode::<Map<String, Value>>(token, key.decoding(), &self.validation(&key))
            .map_err(|error| refused(&error))?
            .claims;
        let owner = claims.get(&self.owner).and_then(Value::as_str);
        let plain =
            |owner: &&str| !owner.is_empty() && owner.len() <= LONGEST_OWNER && !owner.contains(char::is_control);
        let owner = owner.filter(plain).ok_or_else(|| refused(&format_args!("it has no `{}`", self.owner)))?;
        Ok(format!("{OWNER}{owner}"))
    }

    fn validation(&self, key: &Key) -> Validation {
        let mut validation = Validation::new(key.algorithm());
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        let mut needed = vec!["exp"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            needed.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            needed.push("aud");
        }
        validation.set_required_spec_claims(&needed);
        validation
    }
}

/// Whether a stream, a ticket or a session is of somebody who showed a token.
pub(super) fn is_of_a_token(owner: &str) -> bool {
    owner.starts_with(OWNER)
}

/// Whether this can be a token: three parts, of which the first is a JSON object.
pub(super) fn looks_like_one(shown: &str) -> bool {
    shown.starts_with("eyJ") && shown.bytes().filter(|byte| *byte == b'.').count() == 2
}

#[cfg(test)]
mod tests;
