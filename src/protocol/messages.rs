//! Anthropic's Messages. <https://docs.anthropic.com/en/api/messages>

mod error;

pub use error::ErrorObject;
