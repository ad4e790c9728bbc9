//! Records to one `chat.completion`: what a client gets that does not stream. The same log, folded; a failed answer is none.

use std::mem;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    Envelope,
    rest::{self, Recorded, Spelling},
    told::{self, Form, Function, ToolCall},
};
use crate::{
    event::{At, Delta, End, Event, Json, Media, Opaque, PartType, Status, Tool, Usage},
    protocol::body::Members,
    record::Record,
};

/// See the module.
#[derive(Debug)]
pub struct Completion {
    envelope: Envelope,
    choices: Vec<Choice>,
    usage: Option<Usage>,
    spelling: Spelling,
    /// What single chunks said beside their choices.
    beside: Members,
    end: Option<End>,
}

#[derive(Debug, Default, Serialize)]
struct Choice {
    index: u8,
    message: Message,
    logprobs: Option<Logprobs>,
    finish_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_filter_results: Option<Json>,
    #[serde(flatten)]
    beside: Members,
    #[serde(skip)]
    calls: Vec<Call>,
    /// Sound, decoded: pieces of base64 are not to be joined.
    #[serde(skip)]
    sound: Vec<u8>,
}

#[derive(Debug, Default, Serialize)]
struct Message {
    role: Role,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Detail>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Json>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Json>,
    /// What deltas say beside all this, added up.
    #[serde(flatten)]
    beside: Map<String, Value>,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Detail {
    #[serde(skip)]
    index: Option<u64>,
    told: Told,
}

/// To the letter, unless it came in pieces.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Told {
    Once(Json),
    Often(Map<String, Value>),
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Role(Json);

impl Default for Role {
    fn default() -> Self {
        Self(Json::of(&"assistant").unwrap_or_default())
    }
}

/// Lists of entries, one for each token.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Logprobs {
    content: Option<Vec<Json>>,
    refusal: Option<Vec<Json>>,
}

#[derive(Debug)]
struct Call {
    part: u16,
    form: Form,
    tool: Tool,
    arguments: String,
    /// What else was told of it.
    beside: Map<String, Value>,
}

impl Completion {
    /// The answer of this envelope, of which nothing is known yet.
    #[must_use]
    pub fn new(envelope: Envelope) -> Self {
        Self {
            envelope,
            choices: Vec::new(),
            usage: None,
            spelling: Spelling::default(),
            beside: Members::default(),
            end: None,
        }
    }

    /// Folds in one record.
    pub fn take(&mut self, record: &Record<'_>) {
        match record.event() {
            Ok(Event::Opaque(opaque)) if opaque.protocol == "chat" => self.opaque(opaque),
            Ok(Event::Media(at, media)) => self.choice(at.choice).show(&media),
            Ok(Event::PartStart(at, start)) => self.choice(at.choice).begin(at, start.tool),
            Ok(Event::Delta(at, delta)) => self.choice(at.choice).say(at, delta),
            Ok(Event::Annotation(at, annotation)) => {
                self.choice(at.choice).message.annotations.push(told::citation(annotation));
            }
            Ok(Event::State(at, state)) if state.origin == "chat" => {
                let choice = self.choice(at.choice);
                let call = choice.calls.iter_mut().rfind(|call| call.part == at.part);
                match call.filter(|_| at.of == PartType::ToolCall) {
                    Some(call) => rest::add(&mut call.beside, read(Some(&state.value))),
                    None => choice.message.thinks(state.value),
                }
            }
            Ok(Event::Finish(choice, finish)) => {
                let choice = self.choice(choice);
                choice.finish_reason = Some(told::finish_reason(&finish).to_owned());
                choice.stop_reason = finish.stop_sequence;
                choice.content_filter_results = finish.safety;
            }
            Ok(Event::Usage(usage)) => self.usage = Some(usage),
            Ok(Event::End(end)) => self.end = Some(end),
            _ => {}
        }
    }

    /// The answer as JSON, once its log was read to the end.
    ///
    /// # Errors
    /// Its end, if it is not whole.
    pub fn finish(self) -> Result<Vec<u8>, Box<End>> {
        #[derive(Serialize)]
        struct Own {
            #[serde(flatten)]
            beside: Members,
            choices: Vec<Choice>,
            #[serde(skip_serializing_if = "Option::is_none")]
            usage: Option<Json>,
        }
        let endless = End { status: Status::Interrupted, reason: None, usage: None, error: None };
        let end = self.end.unwrap_or(endless);
        if end.status != Status::Completed {
            return Err(Box::new(end));
        }
        let mut choices = self.choices;
        choices.sort_by_key(|choice| choice.index);
        choices.iter_mut().for_each(|choice| choice.close(self.spelling));
        let own = Own { beside: self.beside, choices, usage: self.usage.map(told::usage) };
        let own = serde_json::to_string(&own).expect("plain data");
        // Both are objects; the first is open at its end, and the second is not empty.
        Ok((self.envelope.open("chat.completion") + &own[1..]).into_bytes())
    }

    /// What was said by an upstream of this protocol, and is understood here no further.
    fn opaque(&mut self, Opaque { name, json, .. }: Opaque) {
        let number = |start| name.strip_prefix(start).and_then(|choice| choice.parse::<u8>().ok());
        if name == rest::SPELLING {
            self.spelling = Spelling::read(&json);
        } else if let Some(choice) = number(rest::ROLE) {
            self.choice(choice).message.role = Role(json);
        } else if let Some(choice) = number(rest::ALONE) {
            self.beside(choice, Recorded::read(&json));
        } else if name == rest::LAST {
            self.beside.join(rest::members(Recorded::read(&json).chunk.as_ref()));
        } else if let Some(choice) = number(rest::NEXT) {
            self.beside(choice, Recorded::read(&json));
        } else if json.get() != "null" {
            self.envelope.take(name, json); // of what was told once and no more, the last stands
        }
    }

    fn beside(&mut self, choice: u8, recorded: Recorded) {
        let Recorded { chunk, choice: of_choice, delta, logprobs } = recorded;
        self.beside.join(rest::members(chunk.as_ref()));
        let choice = self.choice(choice);
        choice.beside.join(rest::members(of_choice.as_ref()));
        let mut delta = rest::members(delta.as_ref());
        let details = delta.remove("reasoning_details");
        let details: Vec<Json> =
            details.and_then(|details| serde_json::from_str(details.get()).ok()).unwrap_or_default();
        details.into_iter().for_each(|detail| choice.message.thinks(detail));
        rest::add(&mut choice.message.beside, read(Json::of(&delta).as_ref()));
        choice.learn(logprobs);
    }

    fn choice(&mut self, index: u8) -> &mut Choice {
        let at = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.choices.push(Choice { index, ..Choice::default() });
            self.choices.len() - 1
        });
        &mut self.choices[at]
    }
}

impl Choice {
    fn begin(&mut self, at: At, tool: Option<Tool>) {
        if at.of == PartType::ToolCall {
            let before = self.calls.iter().filter(|call| call.form != Form::Legacy).count();
            let form = Form::of(tool.as_ref(), before);
            let tool = tool.unwrap_or_default();
            self.calls.push(Call { part: at.part, form, tool, arguments: String::new(), beside: Map::new() });
        }
    }

    fn show(&mut self, media: &Media) {
        let sound = media.media_type.as_deref().is_some_and(|kind| kind.starts_with("audio/"));
        let bytes = media.base64.as_ref().filter(|_| sound).and_then(|base64| STANDARD.decode(base64).ok());
        match bytes {
            Some(bytes) => self.sound.extend(bytes),
            None => rest::add(&mut self.message.beside, read(told::media(media).as_ref())),
        }
    }

    fn learn(&mut self, logprobs: Option<Json>) {
        if let Some(logprobs) = logprobs.and_then(|raw| serde_json::from_str(raw.get()).ok()) {
            self.logprobs.get_or_insert_default().join(logprobs);
        }
    }

    fn say(&mut self, at: At, delta: Delta<'_>) {
        let message = &mut self.message;
        let words = match at.of {
            PartType::Text => message.content.get_or_insert_default(),
            PartType::Refusal => message.refusal.get_or_insert_default(),
            PartType::Reasoning | PartType::ReasoningSummary => message.reasoning_content.get_or_insert_default(),
            PartType::ToolCall => match self.calls.iter_mut().rfind(|call| call.part == at.part) {
                Some(call) => &mut call.arguments,
                None => return,
            },
            _ => return,
        };
        words.push_str(&delta.text);
        self.learn(delta.logprobs);
    }

    fn close(&mut self, spelling: Spelling) {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            call: ToolCall<'a>,
            #[serde(flatten)]
            beside: &'a Map<String, Value>,
        }
        let message = &mut self.message;
        for Call { form, tool, arguments, beside, .. } in mem::take(&mut self.calls) {
            match form {
                Form::Legacy => message.function_call = Json::of(&Function::new(&tool, &arguments)),
                form => {
                    let call = ToolCall::new(form, &tool, &arguments);
                    message.tool_calls.extend(Json::of(&Whole { call, beside: &beside }));
                }
            }
        }
        match spelling {
            Spelling::Content => {}
            Spelling::Short => message.reasoning = message.reasoning_content.take(),
            Spelling::Both => message.reasoning.clone_from(&message.reasoning_content),
            Spelling::Details => message.reasoning_content = None,
        }
        if !self.sound.is_empty() {
            let data = Value::from(STANDARD.encode(mem::take(&mut self.sound)));
            let audio = Map::from_iter([("data".to_owned(), data)]);
            rest::add(&mut message.beside, Map::from_iter([("audio".to_owned(), Value::Object(audio))]));
        }
        let called = message.function_call.is_some() || !message.tool_calls.is_empty();
        let said = called || message.beside.contains_key("audio");
        if message.content.is_none() && message.refusal.is_none() && !said {
            message.content = Some(String::new()); // a message says something, if only nothing
        }
    }
}

/// The members of an object that are to be added up.
fn read(object: Option<&Json>) -> Map<String, Value> {
    object.and_then(|object| serde_json::from_str(object.get()).ok()).unwrap_or_default()
}

impl Message {
    /// Takes a piece of what must go back on the next turn: more of one that has its index, or another one.
    fn thinks(&mut self, detail: Json) {
        #[derive(Deserialize)]
        struct Place {
            index: Option<u64>,
        }
        let index = serde_json::from_str::<Place>(detail.get()).ok().and_then(|place| place.index);
        let known = self.reasoning_details.iter_mut().rfind(|known| index.is_some() && known.index == index);
        let Some(known) = known else {
            return self.reasoning_details.push(Detail { index, told: Told::Once(detail) });
        };
        if let Told::Once(first) = &known.told {
            known.told = Told::Often(read(Some(first)));
        }
        if let Told::Often(sum) = &mut known.told {
            rest::add(sum, read(Some(&detail)));
        }
    }
}

impl Logprobs {
    fn join(&mut self, more: Self) {
        for (all, more) in [(&mut self.content, more.content), (&mut self.refusal, more.refusal)] {
            if let Some(more) = more {
                all.get_or_insert_default().extend(more);
            }
        }
    }
}
