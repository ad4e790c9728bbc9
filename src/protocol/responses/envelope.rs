//! What a response object says beside its output: its id, its time, its model, and what it repeats of the request. It comes from
//! what is known of the stream and from the log, and from nowhere else.

use serde_json::Value;

use crate::{event::Json, id::StreamId, protocol::body::Members};

/// What OpenAI's own server repeats of a request that says nothing.
const DEFAULTS: &str = r#"{"background":false,"instructions":null,"max_output_tokens":null,"max_tool_calls":null,
"parallel_tool_calls":true,"previous_response_id":null,"prompt_cache_key":null,"reasoning":{"effort":null,"summary":null},
"safety_identifier":null,"service_tier":"default","store":true,"temperature":1.0,"text":{"format":{"type":"text"}},
"tool_choice":"auto","tools":[],"top_logprobs":0,"top_p":1.0,"truncation":"disabled","user":null,"metadata":{}}"#;

/// The members that are lastword's to fill in, whatever was asked or an upstream says.
const OURS: [&str; 11] = [
    "id",
    "object",
    "created_at",
    "completed_at",
    "status",
    "model",
    "output",
    "output_text",
    "usage",
    "error",
    "incomplete_details",
];

/// What an upstream knows another value of than the client: there it was asked by lastword.
const OF_THE_CLIENT: [&str; 3] = ["background", "previous_response_id", "store"];

/// See the module.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub(super) stream: StreamId,
    model: String,
    /// Unix time in milliseconds.
    created: u64,
    metadata: Option<Json>,
}

impl Envelope {
    /// Of a stream that was created at this Unix time in milliseconds, for the model of this name, with the client's labels.
    #[must_use]
    pub fn new(stream: StreamId, created_at: u64, model: &str, metadata: Option<&Json>) -> Self {
        Self { stream, model: model.to_owned(), created: created_at, metadata: metadata.cloned() }
    }

    /// The members up to the status.
    pub(super) fn open(&self) -> String {
        format!(r#"{{"id":"resp_{}","object":"response","created_at":{},"status":"#, self.stream, self.created / 1000)
    }

    /// The JSON of the model's name.
    pub(super) fn model(&self) -> String {
        Value::from(&*self.model).to_string()
    }

    /// The Unix time in seconds so many milliseconds after the beginning.
    pub(super) fn at(&self, ms: u32) -> u64 {
        (self.created + u64::from(ms)) / 1000
    }
}

/// What a response repeats of the request: OpenAI's defaults, over them what was asked, over that what an upstream made of it.
#[derive(Clone, Debug)]
pub(super) struct Echo(Members);

impl Echo {
    pub(super) fn new(envelope: &Envelope) -> Self {
        let mut members: Members = serde_json::from_str(DEFAULTS).expect("an object");
        members.set_some("metadata", envelope.metadata.as_ref());
        Self(members)
    }

    /// Takes in what is repeated of the request.
    pub(super) fn asked(&mut self, json: &Json) {
        self.overlay(json, &[]);
    }

    /// Takes in what an upstream of this protocol says of its own response.
    pub(super) fn told(&mut self, json: &Json) {
        self.overlay(json, &OF_THE_CLIENT);
    }

    fn overlay(&mut self, json: &Json, but: &[&str]) {
        let Ok(members) = serde_json::from_str::<Members>(json.get()) else { return };
        let ours = |name: &str| OURS.contains(&name) || but.contains(&name);
        members.iter().filter(|(name, _)| !ours(name)).for_each(|(name, value)| self.0.set(name, value));
    }

    /// The members, without braces.
    pub(super) fn members(&self) -> String {
        let json = serde_json::to_string(&self.0).expect("plain data");
        json[1..json.len() - 1].to_owned()
    }
}
