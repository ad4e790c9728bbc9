//! The UI message stream of Vercel's AI SDK (`ai` 5, 6 and 7): what `useChat` posts, and the chunks it reads.
//! <https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol>
//!
//! An answer is `data:` events of one JSON chunk each: `start`, `start-step`, parts (`text-start`, `text-delta` …, `text-end`),
//! `finish-step`, `finish`, and behind them `[DONE]`. A chunk of an unknown type is fatal to every version of the client, and an unknown
//! member to those before 5.0.217 and 6.0.231; so what is written is what 5.0.0 knows, unless the operator says that all pages are newer.
//!
//! A clean end without `finish` is taken for a whole answer, so each end has one, also behind an `error` or an `abort`: a client that
//! comes back until it has seen one (`WorkflowChatTransport`) would come back for ever.

mod decode;
mod encode;
mod outline;
mod request;

use serde::{Deserialize, Serialize};

use super::Told;
use crate::event::End;

pub use decode::AiSdkDecode;
pub use encode::AiSdkEncode;
pub use request::{Asked, parse};

/// The last frames of an answer that somebody else began, and that is not whole.
pub(super) fn ending(end: &End) -> Vec<Told> {
    let why = outline::why(end).into_iter().map(|chunk| (None, chunk.to_string()));
    why.chain([(None, FINISH.to_owned()), (None, DONE.to_owned())]).collect()
}

/// What this protocol is called in a record.
const NAME: &str = "ai_sdk";
/// The last chunk, where no more is said of it.
pub(super) const FINISH: &str = r#"{"type":"finish"}"#;
/// What is behind the last chunk.
const DONE: &str = "[DONE]";

/// The oldest major version of `ai` among the pages that read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Version {
    /// Nothing that 5.0.0 does not know is written.
    #[default]
    Five,
    /// Why an answer is over, and what is wrong with a tool's input.
    Six,
    /// Likewise.
    Seven,
}

impl From<Version> for u8 {
    fn from(version: Version) -> Self {
        match version {
            Version::Five => 5,
            Version::Six => 6,
            Version::Seven => 7,
        }
    }
}

impl TryFrom<u8> for Version {
    type Error = &'static str;

    fn try_from(major: u8) -> Result<Self, Self::Error> {
        match major {
            5 => Ok(Self::Five),
            6 => Ok(Self::Six),
            7 => Ok(Self::Seven),
            _ => Err("is no major version of `ai` that is spoken here; write 5, 6 or 7"),
        }
    }
}
