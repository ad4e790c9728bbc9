//! Whether a backend answers: it is asked for one token, by the way that every answer goes.

use std::time::{Duration, Instant};

use futures_util::StreamExt;

use super::{Backend, BackendError, ErrorKind};
use crate::{
    event::Event,
    prompt::{Message, Params, Prompt, Role},
};

/// How long it is to the first token of this model. The caller keeps the clock; dropping the future gives the question up.
///
/// # Errors
/// When there is none, and why.
pub async fn first_token(backend: &dyn Backend, model: &str) -> Result<Duration, BackendError> {
    let prompt = Prompt {
        messages: vec![Message::text(Role::User, "Hi")],
        params: Params { max_tokens: Some(1), ..Params::default() },
        ..Prompt::default()
    };
    let began = Instant::now();
    let mut events = backend.generate(&prompt, model);
    while let Some(event) = events.next().await {
        // A model that thinks may have used its one token for that, and says nothing.
        if let Event::Delta(..) | Event::Media(..) | Event::Finish(..) = event? {
            return Ok(began.elapsed());
        }
    }
    Err(BackendError::new(ErrorKind::Truncated, "the answer ended before its first token"))
}
