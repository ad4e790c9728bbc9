//! In what pieces a reader is told the words.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// See the module. The log keeps the model's own pieces; the others are views of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Chunking {
    /// As the model said them.
    #[default]
    Token,
    /// Whole words.
    Word,
    /// Whole lines.
    Line,
}

/// The text names no way of chunking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not `token`, `word` or `line`")]
pub struct NotAChunking;

impl FromStr for Chunking {
    type Err = NotAChunking;

    fn from_str(text: &str) -> Result<Self, NotAChunking> {
        match text {
            "token" => Ok(Self::Token),
            "word" => Ok(Self::Word),
            "line" => Ok(Self::Line),
            _ => Err(NotAChunking),
        }
    }
}
