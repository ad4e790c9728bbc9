//! JSON that goes through as it came.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A piece of JSON kept to the letter: no number is rounded, no member reordered. It is always one line.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Json(Box<RawValue>);

impl Json {
    /// Takes the JSON as it came; line breaks between its tokens become spaces (inside strings JSON has none).
    #[must_use]
    pub fn new(raw: Box<RawValue>) -> Self {
        if !raw.get().contains(['\n', '\r']) {
            return Self(raw);
        }
        let line = raw.get().replace(['\n', '\r'], " ");
        Self(RawValue::from_string(line).expect("a space may stand wherever a line break may"))
    }

    /// The JSON of a value.
    #[must_use]
    pub fn of<T: Serialize>(value: &T) -> Option<Self> {
        serde_json::value::to_raw_value(value).ok().map(Self::new)
    }

    /// The JSON's text.
    #[must_use]
    pub fn get(&self) -> &str {
        self.0.get()
    }
}

impl Default for Json {
    fn default() -> Self {
        Self(RawValue::NULL.to_owned())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(d).map(Self::new)
    }
}
