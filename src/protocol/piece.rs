//! A delta read from its record without reading its text: a token's frame repeats that as it was recorded.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::record::Record;

/// A delta as it was recorded: both are JSON.
pub(super) struct Piece<'a> {
    /// A string, with its quotes.
    pub(super) text: &'a str,
    pub(super) logprobs: Option<&'a str>,
}

impl<'a> Piece<'a> {
    pub(super) fn of(record: &Record<'a>) -> Option<Self> {
        #[derive(Deserialize)]
        struct Payload<'a> {
            #[serde(borrow)]
            text: &'a RawValue,
            #[serde(borrow)]
            logprobs: Option<&'a RawValue>,
        }
        let payload = std::str::from_utf8(record.payload).ok()?;
        if !record.head.more {
            let text = payload.strip_prefix(r#"{"text":"#)?.strip_suffix('}')?;
            return Some(Self { text, logprobs: None });
        }
        let Payload { text, logprobs } = serde_json::from_str(payload).ok()?;
        Some(Self { text: text.get(), logprobs: logprobs.map(RawValue::get) })
    }

    /// The inside of the string.
    pub(super) fn inside(&self) -> &'a str {
        self.text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default()
    }
}
