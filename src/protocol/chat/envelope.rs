//! What every chunk of an answer repeats, and the whole answer has once: its id, its time, its model, and what the upstream itself
//! repeats (`system_fingerprint`, `service_tier`). It comes from what is known of the stream and from the log, and from nowhere else.

use serde_json::Value;

use crate::{event::Json, id::StreamId};

/// See the module.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub(super) stream: String,
    model: String,
    /// Unix time in seconds.
    created: u64,
    extras: Vec<(String, Json)>,
}

impl Envelope {
    /// Of a stream that was created at this Unix time in milliseconds, for the model of this name.
    #[must_use]
    pub fn new(stream: StreamId, created_at: u64, model: &str) -> Self {
        Self { stream: stream.to_string(), model: model.to_owned(), created: created_at / 1000, extras: Vec::new() }
    }

    /// Takes in what an upstream of this protocol says on each chunk from here on; `null` is that it does not any more.
    pub(super) fn take(&mut self, name: String, json: Json) {
        let known = self.extras.iter().position(|(known, _)| *known == name);
        match (known, json.get() == "null") {
            (Some(at), true) => _ = self.extras.remove(at),
            (Some(at), false) => self.extras[at].1 = json,
            (None, true) => {}
            (None, false) => self.extras.push((name, json)),
        }
    }

    /// The JSON of an object that begins with these members, up to where its own begin.
    pub(super) fn open(&self, object: &str) -> String {
        let (id, model) = (format!("chatcmpl-{}", self.stream), Value::from(&*self.model));
        let mut json = format!(r#"{{"id":"{id}","object":"{object}","created":{},"model":{model},"#, self.created);
        for (name, value) in &self.extras {
            json += &format!("{}:{},", Value::from(&**name), value.get());
        }
        json
    }
}
