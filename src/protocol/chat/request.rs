//! A prompt as the body of a Chat Completions request, always streaming and with usage asked for.
//!
//! A client that spoke this protocol itself is passed on to the letter: numbers, order and members unknown to us are kept, and
//! only `model`, `stream` and `stream_options` are ours. What it did not ask for is left out again on its side of the log. What
//! it said to lastword alone stays here.

use serde_json::{Map, Value};

use super::crossing::Crossing;
use crate::{prompt::Prompt, protocol::body::Members};

/// The members that lastword itself decides on: nobody's extras may hold them.
pub const RESERVED: [&str; 3] = ["model", "stream", "stream_options"];

/// The types of parts that messages may have. (Servers know others; what is not in this shape is not put into it.)
pub const PARTS: [&str; 5] = ["text", "image_url", "input_audio", "file", "refusal"];

/// Where servers want the same thing said in two ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// `max_tokens`, which every server knows; one system message, and functions for tools.
    #[default]
    Common,
    /// `max_completion_tokens`: OpenAI's reasoning models refuse the older name, and few others know the newer one.
    OpenAi,
}

/// The body that asks `model` for an answer. The members of each of `extras` replace those of the same name, in this order.
/// Nothing when the client's own body is not a JSON object.
#[must_use]
pub fn request(prompt: &Prompt, model: &str, dialect: Dialect, extras: &[&Map<String, Value>]) -> Option<Vec<u8>> {
    let mut body = match (&*prompt.protocol, &prompt.body) {
        ("chat", Some(body)) => serde_json::from_str::<Members>(body.get()).ok()?.without_ours(),
        _ => Crossing::of(prompt, dialect).body,
    };
    body.set("model", model);
    for (name, value) in extras.iter().flat_map(|extra| extra.iter()) {
        body.set(name, value);
    }
    body.set("stream", &true);
    let asked = body.get("stream_options").and_then(|options| serde_json::from_str(options.get()).ok());
    let mut options: Members = asked.unwrap_or_default();
    options.set("include_usage", &true);
    body.set("stream_options", &options);
    serde_json::to_vec(&body).ok()
}

/// What of a prompt of another protocol is not said to such a server, by name.
#[must_use]
pub fn unsaid(prompt: &Prompt, dialect: Dialect) -> Vec<String> {
    match (&*prompt.protocol, &prompt.body) {
        ("chat", Some(_)) => Vec::new(),
        _ => Crossing::of(prompt, dialect).unsaid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{Message, Params, Role};

    fn body(prompt: &Prompt, dialect: Dialect, extras: &[&Map<String, Value>]) -> String {
        String::from_utf8(request(prompt, "m", dialect, extras).expect("a body")).expect("text")
    }

    fn map(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).expect("an object")
    }

    #[test]
    fn the_common_form_becomes_a_body() {
        let prompt = Prompt {
            system: Some("Be brief.".into()),
            messages: vec![Message::text(Role::User, "Hi")],
            params: Params { max_tokens: Some(5), stop: vec!["\n".into()], ..Params::default() },
            ..Prompt::default()
        };
        assert_eq!(
            body(&prompt, Dialect::Common, &[]),
            r#"{"model":"m","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],"#
                .to_owned()
                + r#""max_tokens":5,"stop":["\n"],"stream":true,"stream_options":{"include_usage":true}}"#
        );
        assert!(body(&prompt, Dialect::OpenAi, &[]).contains(r#""max_completion_tokens":5"#));
    }

    #[test]
    fn a_body_of_the_same_protocol_is_kept_to_the_letter() {
        let json = r#"{"temperature":1.10,"messages":[{"role":"user","x":1e2}],"model":"alias","stream":false,"z":{"b":1,"a":2}}"#;
        let prompt = Prompt { protocol: "chat".into(), body: serde_json::from_str(json).ok(), ..Prompt::default() };
        assert_eq!(
            body(&prompt, Dialect::OpenAi, &[]),
            r#"{"temperature":1.10,"messages":[{"role":"user","x":1e2}],"model":"m","stream":true,"z":{"b":1,"a":2},"#
                .to_owned()
                + r#""stream_options":{"include_usage":true}}"#
        );
        let foreign = Prompt { protocol: "messages".into(), ..prompt };
        assert!(!body(&foreign, Dialect::Common, &[]).contains("alias"));
    }

    #[test]
    fn what_is_said_to_lastword_stays_here() {
        let json = r#"{"messages":[],"backend_options":{"top_k":1},"on_disconnect":"cancel","user":"u"}"#;
        let prompt = Prompt { protocol: "chat".into(), body: serde_json::from_str(json).ok(), ..Prompt::default() };
        let body = body(&prompt, Dialect::Common, &[]);
        assert!(body.starts_with(r#"{"messages":[],"user":"u","model":"m""#), "{body}");
    }

    #[test]
    fn stream_options_of_the_client_stay_and_usage_is_asked_for() {
        let json = r#"{"stream_options":{"include_usage":false,"include_obfuscation":false}}"#;
        let prompt = Prompt { protocol: "chat".into(), body: serde_json::from_str(json).ok(), ..Prompt::default() };
        let body = body(&prompt, Dialect::Common, &[]);
        assert!(body.contains(r#""stream_options":{"include_usage":true,"include_obfuscation":false}"#), "{body}");
    }

    #[test]
    fn extras_are_merged_in_last_and_cannot_stop_the_stream() {
        let prompt = Prompt { params: Params { seed: Some(1), ..Params::default() }, ..Prompt::default() };
        let (first, second) = (map(r#"{"seed":2,"top_k":1}"#), map(r#"{"top_k":40,"stream":false}"#));
        let body = body(&prompt, Dialect::Common, &[&first, &second]);
        assert!(body.contains(r#""seed":2,"top_k":40,"stream":true"#), "{body}");
    }

    #[test]
    fn a_body_that_is_no_object_asks_nothing() {
        let prompt = Prompt { protocol: "chat".into(), body: serde_json::from_str("[1]").ok(), ..Prompt::default() };
        assert_eq!(request(&prompt, "m", Dialect::Common, &[]), None);
    }
}
