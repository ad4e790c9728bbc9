//! The kind `mock`: says what it is told, token by token, and fails as it is told. The default backend, so that a gateway can be
//! tried, tested and measured with no model at all.
//!
//! Its models are `words`, which says a text of its own or a given one, and `echo`, which says the prompt's last user message
//! back. A token is a word with the white space before it; all tokens joined are the text to the byte. How it is said is
//! [`script`]'s: each setting may stand in the configuration and in a request's `backend_options`, and the request's wins.

pub mod script;

use std::{borrow::Cow, future, time::Duration};

use async_stream::try_stream;
use fastrand::Rng;

pub use self::script::Config;
use self::script::{Fault, FaultKind, Tokens, ToolCall};
use super::{Backend, BackendError, BadConfig, Clocks, ErrorKind, Events};
use crate::{
    event::{At, Attempt, Delta, Event, Finish, PartStart, PartStop, PartType, Reason, Tool, Usage},
    near::nearest,
    prompt::{Prompt, Role},
};

/// Its models.
pub const MODELS: [&str; 2] = ["words", "echo"];

/// What `words` says when it is not told what.
const TEXT: &str = "A river does not hurry, and yet it arrives. It carries what is given to it, word by word, past every bend \
    where a traveller may have looked away.\n\nWhoever comes back to the bank finds the same water, and misses nothing. ✨";

/// See the module.
#[derive(Clone, Debug)]
pub struct Mock {
    name: String,
    config: Config,
    clocks: Clocks,
}

impl Mock {
    /// The backend of this name in the configuration.
    ///
    /// # Errors
    /// When the section cannot be meant: the error names the key and the remedy.
    pub fn new(name: &str, config: Config) -> Result<Self, BadConfig> {
        config.check()?;
        let clocks = config.timeouts.clone().unwrap_or_default();
        Ok(Self { name: name.to_owned(), config, clocks })
    }

    fn scene(&self, prompt: &Prompt, model: &str) -> Result<Scene, BackendError> {
        let unfit = |message: String| BackendError::new(ErrorKind::Unfit, message);
        let asked = match &prompt.backend_options {
            Some(options) => Config::of_request(options).map_err(unfit)?,
            None => Config::default(),
        };
        if prompt.params.n.is_some_and(|n| n > 1) {
            return Err(unfit(format!("`{}` gives one answer to a prompt, so `n` can only be 1", self.name)));
        }
        let config = asked.over(&self.config);
        let text = match model {
            "words" => config.text.unwrap_or_else(|| TEXT.to_owned()),
            "echo" => last_words_of_user(prompt)
                .ok_or_else(|| unfit("the model `echo` needs a user message to say back".into()))?,
            other => {
                let near = nearest(other, MODELS).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                let message = format!("`{}` has the models `words` and `echo`, not `{other}`{near}", self.name);
                return Err(BackendError::new(ErrorKind::UnknownModel, message));
            }
        };
        Ok(Scene {
            attempt: Attempt {
                n: 1,
                backend: self.name.clone(),
                protocol: Cow::Borrowed("mock"),
                model: model.to_owned(),
                ..Attempt::default()
            },
            reasoning: config.reasoning.unwrap_or_default(),
            text,
            repeat: config.repeat.unwrap_or(1),
            call: config.tool_call,
            finish: config.finish.map(Reason::from),
            limit: prompt.params.max_tokens.unwrap_or(u64::MAX),
            input: count(prompt),
            fault: config.fault,
            pace: Pace {
                first: config.first.map_or(Duration::ZERO, |first| first.0),
                delay: config.delay.map_or(Duration::from_millis(30), |delay| delay.0),
                jitter: config.jitter.map_or(Duration::ZERO, |jitter| jitter.0),
                chance: config.seed.map_or_else(Rng::new, Rng::with_seed),
            },
        })
    }
}

impl Backend for Mock {
    fn generate(&self, prompt: &Prompt, model: &str) -> Events {
        match self.scene(prompt, model) {
            Ok(scene) => scene.play(),
            Err(unfit) => super::fails(unfit),
        }
    }

    fn check(&self, prompt: &Prompt, model: &str) -> Result<Vec<String>, BackendError> {
        self.scene(prompt, model)?;
        Ok(Vec::new())
    }

    fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    fn models(&self) -> Vec<String> {
        MODELS.map(str::to_owned).to_vec()
    }
}

fn last_words_of_user(prompt: &Prompt) -> Option<String> {
    let message = prompt.messages.iter().rev().find(|message| message.role == Role::User)?;
    Some(message.content.as_ref()?.words().into_owned())
}

/// The prompt's length in tokens of the mock's.
fn count(prompt: &Prompt) -> u64 {
    let contents = prompt.messages.iter().filter_map(|message| message.content.as_ref());
    let words = prompt.system.iter().map(|text| Cow::Borrowed(&**text)).chain(contents.map(|content| content.words()));
    words.map(|text| Tokens::of(&text).count() as u64).sum()
}

/// One answer, decided on and not yet said.
struct Scene {
    attempt: Attempt,
    reasoning: String,
    text: String,
    repeat: u32,
    call: Option<ToolCall>,
    finish: Option<Reason>,
    /// The most tokens that the prompt asks for.
    limit: u64,
    input: u64,
    fault: Option<Fault>,
    pace: Pace,
}

impl Scene {
    fn play(mut self) -> Events {
        Box::pin(try_stream! {
            if let Some(refusal) = self.refusal() {
                Err(refusal)?;
            }
            yield Event::Attempt(self.attempt);
            let arguments = self.call.as_ref().map(|call| call.arguments.to_string()).unwrap_or_default();
            let parts = [
                (PartType::Reasoning, Tokens::of(&self.reasoning)),
                (PartType::Text, Tokens::repeated(&self.text, self.repeat)),
                (PartType::ToolCall, Tokens::of(&arguments)),
            ];
            let (mut said, mut thought, mut reason) = (0, 0, Reason::Stop);
            let mut at = At::default();
            for (of, tokens) in parts {
                at.of = of;
                let mut begun = false;
                for token in tokens {
                    strike(&self.fault, said).await?;
                    if said == self.limit {
                        reason = Reason::Length;
                        break;
                    }
                    self.pace.before(said).await;
                    if !begun {
                        let tool = self.call.as_ref().filter(|_| of == PartType::ToolCall).map(ToolCall::tool);
                        yield Event::PartStart(at, PartStart { r#type: of, tool, ..PartStart::default() });
                        begun = true;
                    }
                    yield Event::Delta(at, Delta { text: Cow::Owned(token.to_owned()), logprobs: None });
                    said += 1;
                    thought += u64::from(of == PartType::Reasoning);
                }
                if begun {
                    strike(&self.fault, said).await?;
                    yield Event::PartStop(at, PartStop::default());
                    at.part += 1;
                    if of == PartType::ToolCall && reason == Reason::Stop {
                        reason = Reason::ToolCalls;
                    }
                }
            }
            let reason = self.finish.unwrap_or(reason);
            let raw = Some(reason.as_str().to_owned());
            yield Event::Finish(0, Finish { reason: Some(reason), raw, ..Finish::default() });
            yield Event::Usage(Usage {
                input_tokens: Some(self.input),
                output_tokens: Some(said),
                reasoning_tokens: (thought > 0).then_some(thought),
                ..Usage::default()
            });
        })
    }

    /// An error before anything was said is an HTTP refusal: nobody took the prompt.
    fn refusal(&self) -> Option<BackendError> {
        let fault = self.fault.as_ref().filter(|fault| fault.kind == FaultKind::Error && fault.after == 0)?;
        let status = fault.status.unwrap_or(500);
        let mut error = fault.error(ErrorKind::Refused, format!("`{}` answered {status}: ", self.attempt.backend));
        error.status = Some(status);
        Some(error)
    }
}

/// Fails if it is time to.
async fn strike(fault: &Option<Fault>, said: u64) -> Result<(), BackendError> {
    let Some(fault) = fault.as_ref().filter(|fault| fault.after == said) else { return Ok(()) };
    match fault.kind {
        FaultKind::Close => {
            Err(fault.error(ErrorKind::Truncated, "the answer ended without its terminal mark: ".to_owned()))
        }
        FaultKind::Reset => {
            Err(fault.error(ErrorKind::Truncated, "the connection broke in the middle of the answer: ".to_owned()))
        }
        FaultKind::Stall => future::pending().await,
        FaultKind::Error => {
            Err(fault.error(ErrorKind::Failed, "the upstream gave up in the middle of the answer: ".to_owned()))
        }
        FaultKind::Panic => panic!("the mock was told to panic"),
    }
}

/// The time between tokens.
struct Pace {
    first: Duration,
    delay: Duration,
    jitter: Duration,
    chance: Rng,
}

impl Pace {
    /// Waits before the token of this number. No time at all is no timer at all: such tokens come back to back.
    async fn before(&mut self, said: u64) {
        let wait = match said {
            0 => self.first,
            _ => (self.delay + self.jitter.mul_f64(2.0 * self.chance.f64())).saturating_sub(self.jitter),
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

impl ToolCall {
    fn tool(&self) -> Tool {
        let name = Some(self.name.clone());
        Tool { call_id: Some("call_mock".to_owned()), name, kind: Some("function".to_owned()) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        pin::pin,
        task::{Context, Poll, Waker},
    };

    use futures_util::{Stream, StreamExt};

    use super::*;
    use crate::prompt::{Message, Params};

    fn prompt(options: &str) -> Prompt {
        let messages = vec![Message::text(Role::User, "say this"), Message::text(Role::Assistant, "no")];
        Prompt { messages, backend_options: serde_json::from_str(options).ok(), ..Prompt::default() }
    }

    fn mock() -> Mock {
        Mock::new("mock", Config::default()).expect("a mock")
    }

    /// What is said, part by part, and how it ends. A timer would need a runtime, so there is none.
    fn play(prompt: &Prompt, model: &str) -> (Vec<String>, Option<BackendError>) {
        let mut events = pin!(mock().generate(prompt, model));
        let (mut said, mut error) = (Vec::new(), None);
        let mut context = Context::from_waker(Waker::noop());
        loop {
            match events.as_mut().poll_next(&mut context) {
                Poll::Ready(None) => return (said, error),
                Poll::Ready(Some(Err(failure))) => error = Some(failure),
                Poll::Pending => {
                    said.push("…".to_owned());
                    return (said, error);
                }
                Poll::Ready(Some(Ok(event))) => said.push(match event {
                    Event::Attempt(attempt) => format!("{}/{}", attempt.backend, attempt.model),
                    Event::PartStart(at, start) => match start.tool {
                        Some(tool) => format!("{} call {}", at.part, tool.name.unwrap_or_default()),
                        None => format!("{} {:?}", at.part, at.of),
                    },
                    Event::Delta(_, delta) => delta.text.into_owned(),
                    Event::PartStop(at, _) => format!("{} stop", at.part),
                    Event::Finish(_, finish) => finish.raw.unwrap_or_default(),
                    Event::Usage(usage) => format!("{:?} {:?}", usage.input_tokens, usage.output_tokens),
                    other => format!("{other:?}"),
                }),
            }
        }
    }

    #[test]
    fn echo_says_the_last_user_message_back_and_tokens_without_delay_come_back_to_back() {
        let (said, error) = play(&prompt(r#"{"delay":"0ms"}"#), "echo");
        assert_eq!(said, ["mock/echo", "0 Text", "say", " this", "0 stop", "stop", "Some(3) Some(2)"]);
        assert_eq!(error, None);
    }

    #[test]
    fn reasoning_comes_first_and_the_tool_call_last() {
        let options = r#"{"delay":"0ms","reasoning":"hm","text":"a","repeat":2,"tool_call":{"name":"f","arguments":{"x":"b c"}}}"#;
        let (said, _) = play(&prompt(options), "words");
        let parts = [
            "mock/words",
            "0 Reasoning",
            "hm",
            "0 stop",
            "1 Text",
            "a",
            "a",
            "1 stop",
            "2 call f",
            r#"{"x":"b"#,
            r#" c"}"#,
            "2 stop",
            "tool_calls",
            "Some(3) Some(5)",
        ];
        assert_eq!(said, parts);
    }

    #[test]
    fn max_tokens_cuts_the_answer_and_says_so() {
        let short = |max| Prompt {
            params: Params { max_tokens: Some(max), ..Params::default() },
            ..prompt(r#"{"delay":"0ms"}"#)
        };
        assert_eq!(play(&short(1), "echo").0[2..], ["say", "0 stop", "length", "Some(3) Some(1)"]);
        assert_eq!(play(&short(2), "echo").0[4..], ["0 stop", "stop", "Some(3) Some(2)"]);
        assert_eq!(play(&short(0), "echo").0[1..], ["length", "Some(3) Some(0)"]);
    }

    #[test]
    fn it_stops_for_the_reason_it_is_told() {
        let (said, _) = play(&prompt(r#"{"text":"a","delay":"0s","finish":"content_filter"}"#), "words");
        assert!(said.contains(&"content_filter".to_owned()), "{said:?}");
    }

    #[test]
    fn every_fault_comes_after_its_tokens() {
        let fault = |fault: &str| play(&prompt(&format!(r#"{{"delay":"0ms","fault":{fault}}}"#)), "echo");
        for (kind, expected) in
            [("close", ErrorKind::Truncated), ("reset", ErrorKind::Truncated), ("error", ErrorKind::Failed)]
        {
            let (said, error) = fault(&format!(r#"{{"kind":"{kind}","after":1}}"#));
            assert_eq!(said, ["mock/echo", "0 Text", "say"], "{kind}");
            assert_eq!(error.map(|error| error.kind), Some(expected), "{kind}");
        }
        assert_eq!(fault(r#"{"kind":"close","after":2}"#).0.last().map(String::as_str), Some(" this"));
        assert_eq!(fault(r#"{"kind":"close","after":3}"#).1, None);
        assert_eq!(fault(r#"{"kind":"stall","after":1}"#).0, ["mock/echo", "0 Text", "say", "…"]);
    }

    #[test]
    fn an_error_before_the_first_token_is_a_refusal() {
        let fault =
            r#"{"fault":{"kind":"error","status":429,"code":"slow_down","message":"Later.","retry_after":"2s"}}"#;
        let (said, error) = play(&prompt(fault), "echo");
        let error = error.expect("a refusal");
        assert!(said.is_empty());
        assert_eq!(
            (error.kind, error.status, error.r#type.as_deref()),
            (ErrorKind::Refused, Some(429), Some("slow_down"))
        );
        assert_eq!((&*error.message, error.retry_after), ("`mock` answered 429: Later.", Some(Duration::from_secs(2))));
    }

    #[test]
    #[should_panic(expected = "told to panic")]
    fn a_panic_is_a_panic() {
        play(&prompt(r#"{"delay":"0ms","fault":{"kind":"panic","after":1}}"#), "echo");
    }

    #[test]
    fn what_is_unfit_is_known_before_a_stream_exists() {
        let mock = mock();
        let unfit = |prompt: &Prompt, model: &str| mock.check(prompt, model).expect_err("unfit").message;
        assert!(unfit(&prompt("{}"), "word").contains("did you mean `words`?"));
        assert!(unfit(&prompt(r#"{"dealy":"1s"}"#), "words").contains("did you mean `delay`?"));
        assert!(unfit(&Prompt::default(), "echo").contains("user message"));
        assert_eq!(play(&Prompt::default(), "echo").1.map(|error| error.kind), Some(ErrorKind::Unfit));
    }

    #[tokio::test(start_paused = true)]
    async fn the_pace_is_kept_and_a_seed_repeats_it() {
        let times = async |options: &str| {
            let (start, mut times) = (tokio::time::Instant::now(), Vec::new());
            let mut events = mock().generate(&prompt(options), "words");
            while let Some(Ok(event)) = events.next().await {
                if matches!(event, Event::Delta(..)) {
                    times.push(start.elapsed().as_millis());
                }
            }
            times
        };
        assert_eq!(times(r#"{"text":"a b c","first":"1s","delay":"100ms"}"#).await, [1000, 1100, 1200]);
        assert_eq!(times(r#"{"text":"a b c"}"#).await, [0, 30, 60]);
        let options = r#"{"text":"a b c d e f g h","delay":"100ms","jitter":"50ms","seed":7}"#;
        let seeded = times(options).await;
        assert_eq!(seeded, times(options).await);
        let gaps: Vec<_> = seeded.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (50..=151).contains(gap)) && gaps.iter().any(|gap| *gap != gaps[0]), "{gaps:?}");
    }
}
