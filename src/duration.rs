//! Durations as people write them, for serde's `with`: `"30s"`, `"1m 30s"`, `"250ms"`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Writes `30s`.
///
/// # Errors
/// When the serializer does.
pub fn serialize<S: Serializer>(duration: &Duration, s: S) -> Result<S::Ok, S::Error> {
    s.collect_str(&humantime::format_duration(*duration))
}

/// Where it may be left out.
pub mod option {
    use super::{Deserializer, Duration};

    /// Reads what people write.
    ///
    /// # Errors
    /// As of [`super::deserialize`].
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        super::deserialize(d).map(Some)
    }
}

/// Reads what people write.
///
/// # Errors
/// When the text is not a duration: the message says how one is written.
pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(d)?;
    humantime::parse_duration(&text)
        .map_err(|_| D::Error::custom(format!("`{text}` is not a duration; write \"30s\", \"250ms\" or \"1h 30m\"")))
}
