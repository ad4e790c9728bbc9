//! OpenAI Responses. <https://platform.openai.com/docs/api-reference/responses>, as openai-python 3.54 and openai-node 6.49 read it;
//! the forms of llama.cpp, vLLM and Ollama, which leave members and events out, are read too.
//!
//! A conversation is a list of items: messages, calls of tools and what came of them, reasoning. [`parse`] reads what a client asks,
//! [`expand`] puts an earlier answer before it, [`input_items`] tells what was asked.
//!
//! An answer is told in numbered frames: items begin, have pieces, and end with all that was in them said once more.
//! [`ResponsesEncode`] writes them for a reader, [`ResponseObject`] what repeats and the whole response.

mod encode;
mod envelope;
mod items;
mod object;
mod outline;
mod output;
mod prompt;
mod sink;
mod told;

pub use encode::ResponsesEncode;
pub use envelope::Envelope;
pub use items::{expand, id_of, input_items};
pub use object::ResponseObject;
pub use prompt::{Asked, parse};

/// The protocol's name in prompts and records.
const NAME: &str = "responses";

/// Where a member of another type is described.
const DESCRIBED: &str = "OpenAI's description of Responses";
