//! Records to one `chat.completion`: what a client gets that does not stream. The same log, folded; a failed answer is none.

use std::mem;

use serde::{Deserialize, Serialize};

use super::{
    Envelope,
    told::{self, Form, Function, ToolCall},
};
use crate::{
    event::{At, Delta, End, Event, Json, PartType, Status, Tool, Usage},
    record::Record,
};

/// See the module.
#[derive(Debug)]
pub struct Completion {
    envelope: Envelope,
    choices: Vec<Choice>,
    usage: Option<Usage>,
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
    #[serde(skip)]
    calls: Vec<Call>,
}

#[derive(Debug, Default, Serialize)]
struct Message {
    role: Assistant,
    content: Option<String>,
    refusal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasoning_details: Vec<Json>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Json>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<Json>,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "lowercase")]
enum Assistant {
    #[default]
    Assistant,
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
}

impl Completion {
    /// The answer of this envelope, of which nothing is known yet.
    #[must_use]
    pub fn new(envelope: Envelope) -> Self {
        Self { envelope, choices: Vec::new(), usage: None, end: None }
    }

    /// Folds in one record.
    pub fn take(&mut self, record: &Record<'_>) {
        if self.envelope.take(record) {
            return;
        }
        match record.event() {
            Ok(Event::PartStart(at, start)) => self.choice(at.choice).begin(at, start.tool),
            Ok(Event::Delta(at, delta)) => self.choice(at.choice).say(at, delta),
            Ok(Event::Annotation(at, annotation)) => {
                self.choice(at.choice).message.annotations.push(told::citation(annotation));
            }
            Ok(Event::State(at, state)) if state.origin == "chat" => {
                self.choice(at.choice).message.reasoning_details.push(state.value);
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
        choices.iter_mut().for_each(Choice::close);
        let own = serde_json::to_string(&Own { choices, usage: self.usage.map(told::usage) }).expect("plain data");
        // Both are objects; the first is open at its end, and the second is not empty.
        Ok((self.envelope.open("chat.completion") + &own[1..]).into_bytes())
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
            self.calls.push(Call { part: at.part, form, tool, arguments: String::new() });
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
        if let Some(logprobs) = delta.logprobs.and_then(|raw| serde_json::from_str(raw.get()).ok()) {
            self.logprobs.get_or_insert_default().join(logprobs);
        }
    }

    fn close(&mut self) {
        let message = &mut self.message;
        for call in mem::take(&mut self.calls) {
            match call.form {
                Form::Legacy => message.function_call = Json::of(&Function::new(&call.tool, &call.arguments)),
                form => message.tool_calls.extend(Json::of(&ToolCall::new(form, &call.tool, &call.arguments))),
            }
        }
        let called = message.function_call.is_some() || !message.tool_calls.is_empty();
        if message.content.is_none() && message.refusal.is_none() && !called {
            message.content = Some(String::new()); // a message says something, if only nothing
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
