//! What must not be shown: credentials, and texts of others that may echo them.

use std::{fmt, path::Path};

use serde::{Deserialize, Deserializer};

/// A value that is never shown: `Debug` and `Display` write `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the value; white space around it is no part of it (keys come out of files and shells).
    #[must_use]
    pub fn new(value: &str) -> Self {
        Self(value.trim().to_owned())
    }

    /// Reads the value from a file.
    ///
    /// # Errors
    /// When the file cannot be read as text.
    pub fn from_file(path: &Path) -> std::io::Result<Self> {
        std::fs::read_to_string(path).map(|text| Self::new(&text))
    }

    /// The value itself, for the wire.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d).map(|value| Self::new(&value))
    }
}

/// The secrets that a text written by somebody else may echo.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Vec<Secret>);

impl Secrets {
    /// Remembers a secret. What has fewer than four bytes keeps nothing secret, and would make holes in ordinary words.
    pub fn add(&mut self, secret: &Secret) {
        if secret.0.len() >= 4 {
            self.0.push(secret.clone());
            // The longest first: a secret that is part of another one must not leave the rest of it behind.
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.0.len()));
        }
    }

    /// The text with `***` where a secret stood.
    #[must_use]
    pub fn scrub(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| match text.contains(&secret.0) {
            true => text.replace(&secret.0, "***"),
            false => text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_itself_to_nobody() {
        let secret = Secret::new(" sk-12345\n");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(secret.expose(), "sk-12345");
    }

    #[test]
    fn secrets_are_taken_out_of_a_text_the_longest_first() {
        let mut secrets = Secrets::default();
        for secret in ["sk-12345", "sk-12345-and-more", "abc"] {
            secrets.add(&Secret::new(secret));
        }
        let text = "bad key sk-12345-and-more, not sk-12345; abc".to_owned();
        assert_eq!(secrets.scrub(text), "bad key ***, not ***; abc");
    }
}
