//! OpenAI Responses. <https://platform.openai.com/docs/api-reference/responses>, as openai-python 3.54 and openai-node 6.49 read it;
//! the forms of llama.cpp, vLLM and Ollama, which leave members and events out, are read too.
//!
//! A conversation is a list of items: messages, calls of tools and what came of them, reasoning. [`parse`] reads what a client asks,
//! [`expand`] puts an earlier answer before it, [`input_items`] tells what was asked.

mod items;
mod prompt;

pub use items::{expand, input_items};
pub use prompt::{Asked, parse};

/// The protocol's name in prompts and records.
const NAME: &str = "responses";

/// Where a member of another type is described.
const DESCRIBED: &str = "OpenAI's description of Responses";
