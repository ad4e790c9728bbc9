//! Keys, which are long and random, and their hashes, which may be read by anybody: of such a key a plain SHA-256 gives nothing away, so
//! no slow hash is needed, and a request costs a microsecond.

use std::{fmt, io, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Deserializer, de::Error};
use sha2::{Digest, Sha256};

/// By which a key is recognised, by people and by scanners for leaked ones.
const PREFIX: &str = "lw_";
const SCHEME: &str = "sha256:";

/// 32 bytes that nobody can guess.
pub(super) fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    Ok(bytes)
}

/// A new key.
///
/// # Errors
/// When the system gives no random bytes.
pub fn new_key() -> io::Result<String> {
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random()?)))
}

/// The hash of a key. Written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Of this key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SCHEME)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is written is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no hash of a key; `lastword keys new NAME` makes a key and prints its hash, `lastword keys hash` that of one you have"
)]
pub struct NotAHash;

impl FromStr for Hash {
    type Err = NotAHash;

    fn from_str(text: &str) -> Result<Self, NotAHash> {
        let digits = text.strip_prefix(SCHEME).ok_or(NotAHash)?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NotAHash);
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| NotAHash)?;
        }
        Ok(Self(bytes))
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        // What stands there may be a key: it is not said again.
        String::deserialize(d)?.parse().map_err(|error| D::Error::custom(format!("what stands here {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_that_of_every_other_tool_and_reads_itself_back() {
        let hash = Hash::of("abc"); // FIPS 180-2, B.1
        assert_eq!(hash.to_string(), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        for wrong in [
            "",
            "abc",
            "sha256:",
            "sha256:zz",
            "md5:900150983cd24fb0d6963f7d28e17f72",
            &format!("sha256:+{}", "0".repeat(63)),
        ] {
            assert_eq!(wrong.parse::<Hash>(), Err(NotAHash), "{wrong}");
        }
    }

    #[test]
    fn keys_are_long_and_no_two_are_the_same() {
        let (one, other) = (new_key().expect("chance"), new_key().expect("chance"));
        assert!(one.starts_with("lw_") && one.len() == 46 && one != other);
    }
}
