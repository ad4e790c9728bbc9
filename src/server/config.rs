//! `[server]`: where lastword listens, and how long a connection may take for what.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer, Serialize, de::Error};

use crate::api::AiSdkVersion;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The address and the port; port 0 is any free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// The certificate and those that vouch for it, as PEM; relative to the config file. With it TLS is spoken, and nothing else.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, as PEM.
    pub tls_key: Option<PathBuf>,
    /// TLS with a certificate of lastword's own making, which nobody trusts: for trying things out.
    pub tls_self_signed: bool,
    /// For a request's head, from its first byte or from the end of the request before it.
    #[serde(with = "crate::duration")]
    pub header_timeout: Duration,
    /// For a request's body.
    #[serde(with = "crate::duration")]
    pub body_timeout: Duration,
    /// For a write that the client does not take; then the connection is reset, and the reader can come back.
    #[serde(with = "crate::duration")]
    pub write_timeout: Duration,
    /// Between two signs of life on a stream on which nothing happens.
    #[serde(with = "crate::duration")]
    pub heartbeat: Duration,
    /// For the first word of an answer, on the surfaces whose status tells how it began; then the head goes out as a success.
    #[serde(with = "crate::duration")]
    pub commit_after: Duration,
    /// For running answers when the server is told to stop.
    #[serde(with = "crate::duration")]
    pub drain: Duration,
    /// Open at once; further ones wait until one closes.
    pub max_connections: usize,
    /// Open at once from one address; 0 is any number. Behind a proxy there is one address, the proxy's.
    pub address_connections: usize,
    /// New ones from one address in a second; 0 is any number.
    pub address_connections_per_second: u32,
    /// Of a request's body.
    pub max_body: ByteSize,
    /// Of a body that is handed on unread (`pass_through`), in pieces.
    pub max_upload: ByteSize,
    /// The origins whose pages may ask, `https://app.example.com`; or `*` alone, any.
    #[serde(deserialize_with = "origins")]
    pub cors: Vec<String>,
    /// The names that are answered to on a loopback address, beside addresses and `localhost`: `app.example.com`; or `*` alone, any.
    #[serde(deserialize_with = "hosts")]
    pub hosts: Vec<String>,
    /// The oldest major version of Vercel's AI SDK among the pages that ask: 5, 6 or 7.
    pub ai_sdk: AiSdkVersion,
    /// After how long a reader that was cut off comes back: each is told a time by chance between this and `retry_max`, so that
    /// not all come at once.
    #[serde(with = "crate::duration")]
    pub retry_min: Duration,
    /// See `retry_min`.
    #[serde(with = "crate::duration")]
    pub retry_max: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls_cert: None,
            tls_key: None,
            tls_self_signed: false,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(25),
            heartbeat: Duration::from_secs(15),
            commit_after: Duration::from_secs(10),
            drain: Duration::from_secs(25),
            max_connections: 16_384,
            address_connections: 0,
            address_connections_per_second: 0,
            max_body: ByteSize::mib(8),
            max_upload: ByteSize::gib(1),
            cors: Vec::new(),
            hosts: Vec::new(),
            ai_sdk: AiSdkVersion::default(),
            retry_min: Duration::from_millis(500),
            retry_max: Duration::from_secs(3),
        }
    }
}

impl Config {
    /// Whether the values can be lived with.
    ///
    /// # Errors
    /// The key, and what is wrong with its value.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let clocks = [
            ("header_timeout", self.header_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
            ("heartbeat", self.heartbeat),
        ];
        if let Some((key, _)) = clocks.iter().find(|(_, clock)| clock.is_zero()) {
            return Err((key, "must be longer than nothing".to_owned()));
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => return Err(("tls_cert", "has no tls_key beside it".to_owned())),
            (None, Some(_)) => return Err(("tls_key", "has no tls_cert beside it".to_owned())),
            (Some(_), Some(_)) if self.tls_self_signed => {
                return Err((
                    "tls_self_signed",
                    "stands beside a certificate of yours; remove one of the two".to_owned(),
                ));
            }
            _ => {}
        }
        if self.max_connections == 0 {
            return Err(("max_connections", "must be at least 1".to_owned()));
        }
        if self.retry_min > self.retry_max {
            let max = humantime::format_duration(self.retry_max);
            return Err(("retry_min", format!("must not be longer than retry_max, which is {max}")));
        }
        Ok(())
    }
}

fn address<'de, D: Deserializer<'de>>(d: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(d)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "`{text}` is not an address; write \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\""
        ))
    })
}

fn origins<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let wrong = "is not an origin; write \"https://app.example.com\", without a path";
    all_or(d, "`*` allows every origin, so it stands alone", is_an_origin, wrong)
}

fn hosts<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<String>, D::Error> {
    let wrong = "is not a host's name; write \"app.example.com\", without a scheme and without a port";
    all_or(d, "`*` stands for every name, so it stands alone", is_a_name, wrong)
}

/// A list of such texts, or `*` alone.
fn all_or<'de, D: Deserializer<'de>>(
    d: D,
    star: &str,
    is_such: impl Fn(&str) -> bool,
    wrong: &str,
) -> Result<Vec<String>, D::Error> {
    let list = Vec::<String>::deserialize(d)?;
    match list.iter().find(|text| !is_such(text) && list != ["*"]) {
        None => Ok(list),
        Some(text) if text == "*" => Err(D::Error::custom(star)),
        Some(other) => Err(D::Error::custom(format!("`{other}` {wrong}"))),
    }
}

/// In small letters, as it is compared.
fn is_a_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
    !text.is_empty() && !text.ends_with('.') && text.bytes().all(plain)
}

/// As a browser writes it in `Origin`: scheme, host, a port where it is not the usual one; small letters, no path.
fn is_an_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let printable = |b: u8| b.is_ascii_graphic() && !b.is_ascii_uppercase();
    !scheme.is_empty() && !host.is_empty() && text.bytes().all(printable) && !host.contains(['/', '?', '#', '@', '*'])
}
