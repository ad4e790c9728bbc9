//! OpenAI Responses. <https://platform.openai.com/docs/api-reference/responses>, as openai-python 3.54 and openai-node 6.49 read it.

mod encode;
mod envelope;
mod item;
mod object;
mod outline;
mod sink;
mod told;

pub use encode::ResponsesEncode;
pub use envelope::Envelope;
pub use object::ResponseObject;
