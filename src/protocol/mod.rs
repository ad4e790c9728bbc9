//! Wire languages. One file a protocol, with both directions in it: what a client of it sends and gets, what an upstream of it
//! takes and says. Pure: no input or output, no clock, no connection.
//!
//! [`Decode`] turns an upstream's frames into events; [`Encode`] turns records into a client's frames. They mirror each other,
//! and between them stands the log, so no protocol knows another.

pub mod ai_sdk;
mod body;
pub mod chat;
mod complaint;
mod fault;
pub mod messages;
mod named;
pub mod native;
mod openai;
mod piece;
pub mod relayed;
pub mod responses;
mod sink;
mod understood;

pub use complaint::Complaint;
pub use fault::Fault;
pub use named::Named;

use bytes::BytesMut;
use serde::{Deserialize, Serialize};

use crate::{
    event::{End, Event},
    id::Cursor,
    record::Record,
    wire::{Form, Rope},
};

/// Why a body is not a request: which member, what is wrong with it, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct BadRequest {
    /// The member, as a path: `messages[0].role`.
    pub field: Option<String>,
    /// What is wrong.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}

impl BadRequest {
    fn of(field: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field: Some(field.to_owned()), detail: detail.into(), remedy: remedy.into() }
    }
}

/// What an application of the user's own speaks, so that its answer can be understood, and ended properly when the application dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Something of its own: a clean end of the body is the end.
    #[default]
    Plain,
    /// The AI SDK's UI message stream. Only a response's head tells it for certain.
    AiSdk,
    /// Chat Completions.
    Chat,
    /// Responses.
    Responses,
    /// Messages.
    Messages,
}

/// A frame: its name where it has one, and its data.
pub type Told = (Option<&'static str>, String);

impl Dialect {
    /// By the first event of an answer.
    #[must_use]
    pub fn of(name: &str, data: &str) -> Self {
        #[derive(Deserialize)]
        struct Chunk<'a> {
            object: Option<&'a str>,
        }
        match name {
            "response.created" | "response.queued" => Self::Responses,
            "message_start" => Self::Messages,
            "message" => match serde_json::from_str(data) {
                Ok(Chunk { object: Some("chat.completion.chunk") }) => Self::Chat,
                _ => Self::Plain,
            },
            _ => Self::Plain,
        }
    }

    /// What understands it.
    #[must_use]
    pub fn decoder(self) -> Option<Box<dyn Decode>> {
        match self {
            Self::Plain => None,
            Self::AiSdk => Some(Box::new(ai_sdk::AiSdkDecode::default())),
            Self::Chat => Some(Box::new(chat::ChatDecode::default())),
            Self::Responses => Some(Box::new(responses::ResponsesDecode::default())),
            Self::Messages => Some(Box::new(messages::MessagesDecode::default())),
        }
    }

    /// What says nothing but that an answer is over; nothing where its clients do not wait for it.
    #[must_use]
    pub fn finish(self) -> Option<&'static str> {
        (self == Self::AiSdk).then_some(ai_sdk::FINISH)
    }

    /// The last frames of an answer that is not whole, after so many frames before. None where there is no word for it.
    #[must_use]
    pub fn ending(self, end: &End, frames: u64) -> Vec<Told> {
        let Some(fault) = Fault::of(end) else { return Vec::new() };
        match self {
            Self::Plain => Vec::new(),
            Self::AiSdk => ai_sdk::ending(end),
            Self::Chat => vec![(None, json(&chat::ErrorObject::from(fault))), (None, "[DONE]".to_owned())],
            Self::Responses => {
                let error = serde_json::json!({ "code": fault.code, "message": fault.message });
                let response =
                    serde_json::json!({ "object": "response", "status": "failed", "error": error, "output": [] });
                let kind = "response.failed";
                let failed = serde_json::json!({ "type": kind, "sequence_number": frames, "response": response });
                vec![(Some(kind), json(&failed))]
            }
            Self::Messages => vec![(Some("error"), json(&messages::ErrorObject::from(fault)))],
        }
    }
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("plain data")
}

/// Turns the frames of one upstream answer into events. One value a response.
pub trait Decode: Send {
    /// Takes one frame: the event's name (`message` where it has none) and its data. Pushes what it means to `events`.
    ///
    /// # Errors
    /// When the upstream reports an error in-band, or the frame cannot be understood at all. Unknown names and members are
    /// not errors.
    fn frame(&mut self, name: &str, data: &str, events: &mut Vec<Event<'static>>) -> Result<(), DecodeError>;

    /// Whether a frame surely says no more than a few words of the answer, so that who only listens for what else is said need not give
    /// it to [`frame`](Decode::frame).
    fn is_only_words(&self, _name: &str, _data: &str) -> bool {
        false
    }

    /// The upstream closed its body.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`] when the answer's terminal mark never came.
    fn finish(&mut self, events: &mut Vec<Event<'static>>) -> Result<(), DecodeError>;

    /// Whether the terminal mark was seen: nothing that follows matters, and the connection may be let go.
    fn done(&self) -> bool;

    /// Whether the answer is whole, though its terminal mark has not come: [`finish`](Decode::finish) would take the body's end for
    /// one. More may follow, such as the count of tokens.
    fn whole(&self) -> bool {
        false
    }
}

/// Why an upstream's answer could not be decoded to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The upstream said so itself, in the middle of the answer.
    #[error("{}", .0.message)]
    Upstream(Complaint),
    /// It ended without its terminal mark.
    #[error("the upstream's answer ended without its terminal mark")]
    Truncated,
    /// Not the protocol. The text holds nothing of the answer.
    #[error("{0}")]
    Malformed(String),
}

/// Turns the records of a log into frames for one client. A pure function of the log: the same records give the same bytes,
/// on the first connection and on the tenth.
///
/// A reader that starts in the middle lets the encoder [`skip`](Encode::skip) what came before, so that it knows what it must.
pub trait Encode: Send + Unpin {
    /// In which form the frames are.
    const FORM: Form = Form::Sse;

    /// Takes in a record that the client has already seen. Its header should do: only of rare kinds may JSON be parsed.
    fn skip(&mut self, record: &Record<'_>);

    /// Takes in as many pieces of a part in a row, of which this is the first. An encoder that counts frames counts them; to any
    /// other, the second says no more than the first.
    fn skip_run(&mut self, record: &Record<'_>, _times: u32) {
        self.skip(record);
    }

    /// Appends the frames of a record, if it has any in this protocol. Of several frames only the last one carries the id.
    fn encode(&mut self, cursor: Cursor, record: &Record<'_>, out: &mut BytesMut);

    /// Whether this record tells a reader of this protocol something that the upstream said. With the first one its answer has begun.
    fn is_said(record: &Record<'_>) -> bool {
        record.head.is_content()
    }

    /// The client has seen so many bytes of the text of the first record that follows. False where such a part cannot be left out.
    fn begin_within(&mut self, _bytes: usize) -> bool {
        false
    }

    /// What the client has seen when it was shown all that was encoded up to this record: less, where something is held.
    fn place(&self, read: Cursor) -> (Cursor, usize) {
        (read, 0)
    }

    /// Whether the answer ended in a way that this protocol has no word for in this form, so that the body can only be broken off.
    fn broken(&self) -> bool {
        false
    }

    /// Whether a reader that starts in the middle needs the records before (false where each frame stands for itself).
    const FOLDS: bool;

    /// Of a record whose frames repeat what was said before: how many of them the client has seen. They are made once, by
    /// [`Encode::retell`], for all readers of the stream; each one's own encoder then [`skip`](Encode::skip)s the record.
    fn repeats(&self, _: &Record<'_>) -> Option<usize> {
        None
    }

    /// What makes those frames. It is the same for all readers, and must be shown the log from its beginning.
    fn retell(&self) -> Option<Box<dyn Retell>> {
        None
    }
}

/// An encoder whose frames have numbers, so that a client may come back with how many it has.
pub trait Numbered: Encode + Clone {
    /// The number of the next frame, from 0.
    fn number(&self) -> u64;

    /// Writes no frame before this number.
    fn mute(&mut self, before: u64);

    /// Takes in a record of which the client has seen every frame; of another one says no, and stays as it was. It has seen those
    /// before the number that is muted.
    fn skip_seen(&mut self, record: &Record<'_>) -> bool;
}

/// Makes the frames that repeat what was said, for all readers of a stream together; see [`Encode::repeats`].
pub trait Retell: Send {
    /// Takes in the next record; gives back its frames if they repeat something.
    fn take(&mut self, cursor: Cursor, record: &Record<'_>) -> Option<Vec<Rope>>;

    /// Another one of the same stream, which was shown nothing yet.
    fn anew(&self) -> Box<dyn Retell>;
}
