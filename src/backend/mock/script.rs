//! What the mock can be told, in the configuration and by a request, and how a text becomes tokens.

use std::{fmt, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    backend::{BackendError, BadConfig, Clocks, ErrorKind},
    event::{Json, Reason},
    near::Unknown,
};

/// The mock's section of the configuration, and the `backend_options` of a request to it. Everything may be left out.
#[derive(Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What the model `words` says.
    pub text: Option<String>,
    /// How many times it is said: for long answers.
    pub repeat: Option<u32>,
    /// Said first, as reasoning.
    pub reasoning: Option<String>,
    /// Called at the end.
    pub tool_call: Option<ToolCall>,
    /// Why it stops when it has said all, in place of its own reason.
    pub finish: Option<FinishReason>,
    /// The time between two tokens; 30 ms if not said.
    pub delay: Option<Span>,
    /// By how much that time varies at most, to either side.
    pub jitter: Option<Span>,
    /// The time before the first token.
    pub first: Option<Span>,
    /// For the same jitter each time.
    pub seed: Option<u64>,
    /// How it fails.
    pub fault: Option<Fault>,
    /// How long to wait for what. The backend's, not a request's.
    pub timeouts: Option<Clocks>,
}

/// A time as people write it: `"30ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Span(#[serde(with = "crate::duration")] pub Duration);

/// A tool call to be made.
#[derive(Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolCall {
    /// The tool's name.
    pub name: String,
    /// Its arguments.
    #[serde(default = "no_arguments")]
    pub arguments: Value,
}

fn no_arguments() -> Value {
    Value::Object(Map::new())
}

/// The reasons for which a model stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// It was done.
    Stop,
    /// The token limit.
    Length,
    /// It waits for tools.
    ToolCalls,
    /// A filter of the upstream's.
    ContentFilter,
}

impl From<FinishReason> for Reason {
    fn from(reason: FinishReason) -> Self {
        match reason {
            FinishReason::Stop => Self::Stop,
            FinishReason::Length => Self::Length,
            FinishReason::ToolCalls => Self::ToolCalls,
            FinishReason::ContentFilter => Self::ContentFilter,
        }
    }
}

/// A failure to be played.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Which.
    pub kind: FaultKind,
    /// After how many tokens. An answer that is shorter goes well.
    #[serde(default)]
    pub after: u64,
    /// Of an error: the HTTP status, 500 if it comes before the first token and this is not said.
    pub status: Option<u16>,
    /// Of an error: the upstream's code.
    pub code: Option<String>,
    /// Of an error: the upstream's words.
    pub message: Option<String>,
    /// Of an error: when to try again.
    pub retry_after: Option<Span>,
}

/// The ways to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FaultKind {
    /// The answer ends without its terminal mark.
    Close,
    /// The connection breaks.
    Reset,
    /// Nothing more is said, for ever.
    Stall,
    /// The upstream says that it failed; before the first token it refuses the prompt with a status.
    Error,
    /// The generation itself panics: to see what becomes of a bug of lastword's.
    Panic,
}

impl Fault {
    pub(super) fn error(&self, kind: ErrorKind, what: String) -> BackendError {
        BackendError {
            status: self.status,
            r#type: self.code.clone(),
            retry_after: self.retry_after.map(|wait| wait.0),
            ..BackendError::new(kind, what + self.message.as_deref().unwrap_or("the mock was told so"))
        }
    }
}

/// A client's own words may be among the options, so `Debug` shows none.
impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("delay", &self.delay).field("repeat", &self.repeat).finish_non_exhaustive()
    }
}

impl Config {
    /// Reads a request's options; what is wrong with them is said for the client.
    pub(super) fn of_request(options: &Json) -> Result<Self, String> {
        if !options.get().trim_start().starts_with('{') {
            return Err("backend_options must be an object".to_owned()); // serde would take a list, by position
        }
        let config: Self = serde_path_to_error::deserialize(&mut serde_json::Deserializer::from_str(options.get()))
            .map_err(|error| explain(&error.path().to_string(), &error.inner().to_string()))?;
        if config.timeouts.is_some() {
            return Err("backend_options.timeouts is the operator's to set; remove it".to_owned());
        }
        config.check().map_err(|bad| format!("backend_options.{} {}", bad.key, bad.problem))?;
        Ok(config)
    }

    /// Refuses what cannot be meant.
    pub(super) fn check(&self) -> Result<(), BadConfig> {
        if self.repeat == Some(0) {
            return Err(BadConfig::new("repeat", "is 0; write how many times the text is said, 1 or more"));
        }
        let Some(fault) = &self.fault else { return Ok(()) };
        if fault.status.is_some_and(|status| !(400..600).contains(&status)) {
            return Err(BadConfig::new("fault.status", "is not the status of an error; write one from 400 to 599"));
        }
        let belongs_to_errors = [
            ("fault.status", fault.status.is_some()),
            ("fault.code", fault.code.is_some()),
            ("fault.message", fault.message.is_some()),
            ("fault.retry_after", fault.retry_after.is_some()),
        ];
        match belongs_to_errors.iter().find(|(_, set)| *set && fault.kind != FaultKind::Error) {
            Some((key, _)) => Err(BadConfig::new(*key, "belongs to a fault of the kind \"error\"; remove it")),
            None => Ok(()),
        }
    }

    /// These settings, and `below` for what they leave out.
    pub(super) fn over(self, below: &Self) -> Self {
        let below = below.clone();
        Self {
            text: self.text.or(below.text),
            repeat: self.repeat.or(below.repeat),
            reasoning: self.reasoning.or(below.reasoning),
            tool_call: self.tool_call.or(below.tool_call),
            finish: self.finish.or(below.finish),
            delay: self.delay.or(below.delay),
            jitter: self.jitter.or(below.jitter),
            first: self.first.or(below.first),
            seed: self.seed.or(below.seed),
            fault: self.fault.or(below.fault),
            timeouts: self.timeouts.or(below.timeouts),
        }
    }
}

/// serde's message with the field's full name and the remedy.
fn explain(path: &str, message: &str) -> String {
    let place = if path == "." { "backend_options".to_owned() } else { format!("backend_options.{path}") };
    let message = message.split(" at line ").next().unwrap_or(message);
    match Unknown::in_message(message) {
        Some(unknown) => format!("{place}: `{}` is unknown; {}", unknown.key, unknown.remedy()),
        None => format!("{place}: {message}"),
    }
}

/// The tokens of a text: words, each with the white space before it; what trails at the end is a token of its own.
pub(super) struct Tokens<'a> {
    text: &'a str,
    rest: &'a str,
    /// How many times the text is still to come.
    more: u32,
}

impl<'a> Tokens<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self::repeated(text, 1)
    }

    pub(super) fn repeated(text: &'a str, times: u32) -> Self {
        Self { text, rest: "", more: if text.is_empty() { 0 } else { times } }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.rest.is_empty() {
            self.more = self.more.checked_sub(1)?;
            self.rest = self.text;
        }
        let word = self.rest.find(|c: char| !c.is_whitespace()).unwrap_or(self.rest.len());
        let end = self.rest[word..].find(char::is_whitespace).map_or(self.rest.len(), |length| word + length);
        let (token, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(options: &str) -> String {
        Config::of_request(&serde_json::from_str(options).expect("JSON")).expect_err(options)
    }

    #[test]
    fn bad_options_name_the_field_and_the_remedy() {
        for (options, field, remedy) in [
            (r#"{"dealy":"1s"}"#, "`dealy`", "did you mean `delay`?"),
            (r#"{"delay":"soon"}"#, "backend_options.delay", "write \"30s\""),
            (r#"{"fault":{"kind":"clsoe"}}"#, "backend_options.fault.kind", "did you mean `close`?"),
            (r#"{"fault":{"kind":"close","aftr":1}}"#, "`aftr`", "did you mean `after`?"),
            (r#"{"fault":{"after":1}}"#, "backend_options.fault", "missing field `kind`"),
            (r#"{"fault":{"kind":"error","status":200}}"#, "backend_options.fault.status", "400 to 599"),
            (r#"{"fault":{"kind":"stall","message":"m"}}"#, "backend_options.fault.message", "remove"),
            (r#"{"repeat":0}"#, "backend_options.repeat", "1 or more"),
            (r#"{"timeouts":{"first":"1s"}}"#, "backend_options.timeouts", "remove"),
            ("[]", "backend_options", "object"),
        ] {
            let message = bad(options);
            assert!(message.contains(field) && message.contains(remedy), "{options}: {message}");
            assert!(!message.contains(" at line "), "{message}");
        }
    }

    #[test]
    fn the_request_is_asked_before_the_configuration() {
        let below: Config =
            toml::from_str("text = \"below\"\ndelay = \"1s\"\ntimeouts = { first = \"1s\" }").expect("well-formed");
        let both = Config::of_request(&serde_json::from_str(r#"{"text":"above"}"#).expect("JSON"))
            .expect("options")
            .over(&below);
        assert_eq!(both.text.as_deref(), Some("above"));
        assert_eq!(both.delay, Some(Span(Duration::from_secs(1))));
        assert_eq!(both.timeouts.map(|clocks| clocks.first), Some(Duration::from_secs(1)));
    }

    #[test]
    fn tokens_joined_are_the_text() {
        for (text, expected) in [
            ("The river", &["The", " river"][..]),
            ("  a\n\nb ", &["  a", "\n\nb", " "]),
            ("日本語 🦀👩‍👩‍👧 e\u{301}\u{3000}終", &["日本語", " 🦀👩‍👩‍👧", " e\u{301}", "\u{3000}終"]),
            ("", &[]),
            (" ", &[" "]),
        ] {
            assert_eq!(Tokens::of(text).collect::<Vec<_>>(), expected);
            assert_eq!(Tokens::repeated(text, 2).collect::<String>(), text.repeat(2));
        }
    }
}
