//! The words alone, as they come, for a terminal. There is no word for an end: an answer that did not complete is broken off.

use bytes::BytesMut;
use serde::Deserialize;

use crate::{
    event::{Delta, Status},
    wire::{Form, Frame, sse::EventId},
};

/// The writer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Text {
    broken: bool,
}

impl Frame for Text {
    const FORM: Form = Form::Text;

    /// What is not data of ours is no words.
    fn begin(&mut self, _: &mut BytesMut, _: Option<&str>, _: Option<EventId<'_>>) {}

    fn end(&mut self, _: &mut BytesMut, _: Option<EventId<'_>>) {}

    fn event(&mut self, out: &mut BytesMut, name: Option<&str>, data: &[u8], _: Option<EventId<'_>>) {
        #[derive(Deserialize)]
        struct Ended {
            status: Status,
        }
        match name {
            None => {
                if let Ok(Delta { text, .. }) = serde_json::from_slice(data) {
                    out.extend_from_slice(text.as_bytes());
                }
            }
            Some("end") => {
                let ended = serde_json::from_slice(data);
                self.broken = !matches!(ended, Ok(Ended { status: Status::Completed }));
            }
            _ => {}
        }
    }

    fn foreign(&mut self, _: &mut BytesMut, _: Option<&str>, _: &str, _: Option<EventId<'_>>) {}

    fn broken(&self) -> bool {
        self.broken
    }
}
