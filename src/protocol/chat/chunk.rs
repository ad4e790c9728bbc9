//! One `chat.completion.chunk` as it is read: what of it means something, and the rest to the letter. `null` and absent are the same,
//! everywhere.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{Deserialize, Deserializer, de};
use serde_json::{Value, value::RawValue};

use super::{Content, Function};
use crate::event::Json;

/// Members that nobody knows, in their order.
pub(super) type Unknown<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

#[derive(Default)]
pub(super) struct Chunk<'a> {
    pub(super) choices: Option<Vec<Choice<'a>>>,
    pub(super) usage: Option<Json>,
    pub(super) error: Option<Value>,
    pub(super) rest: Unknown<'a>,
}

#[derive(Default)]
pub(super) struct Choice<'a> {
    pub(super) index: Option<u8>,
    pub(super) delta: Option<Delta<'a>>,
    pub(super) finish_reason: Option<String>,
    pub(super) logprobs: Option<Json>,
    /// vLLM: the stop sequence that was met, or a token's number.
    pub(super) stop_reason: Option<&'a RawValue>,
    /// Azure.
    pub(super) content_filter_results: Option<Json>,
    pub(super) rest: Unknown<'a>,
}

/// Most strings are owned at once, since they are moved into the event. The content is borrowed, so that its place in the chunk
/// is known: what stands around it is the next chunk's template.
#[derive(Default)]
pub(super) struct Delta<'a> {
    pub(super) role: Option<Cow<'a, str>>,
    pub(super) content: Option<Content<'a>>,
    /// DeepSeek, llama.cpp, SGLang, older vLLM.
    pub(super) reasoning_content: Option<String>,
    /// OpenRouter, Ollama, Groq, newer vLLM (some servers write both spellings: it is the same text).
    pub(super) reasoning: Option<String>,
    /// OpenRouter: the same text once more, and what must be sent back on the next turn.
    pub(super) reasoning_details: Option<Vec<Json>>,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Option<Vec<Call<'a>>>,
    /// The form before tools.
    pub(super) function_call: Option<Function>,
    pub(super) annotations: Option<Vec<Json>>,
    pub(super) audio: Option<&'a RawValue>,
    pub(super) rest: Unknown<'a>,
}

/// A piece of a tool call. Only `index` is certain, and some servers leave out even that.
#[derive(Default)]
pub(super) struct Call<'a> {
    pub(super) index: Option<u64>,
    pub(super) id: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) function: Option<Function>,
    pub(super) rest: Unknown<'a>,
}

/// An object of which each member is read by its name.
trait Object<'a>: Default {
    /// Reads the member of this name; gives back the name if it is not known.
    fn member<A: de::MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        map: &mut A,
    ) -> Result<Option<Cow<'a, str>>, A::Error>;

    fn rest(&mut self) -> &mut Unknown<'a>;
}

impl<'a> Object<'a> for Chunk<'a> {
    fn member<A: de::MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        map: &mut A,
    ) -> Result<Option<Cow<'a, str>>, A::Error> {
        match &*name {
            "choices" => self.choices = map.next_value()?,
            "usage" => self.usage = map.next_value()?,
            "error" => self.error = map.next_value()?,
            // Lastword has its own; the last one is padding against those who count bytes.
            "id" | "object" | "created" | "model" | "obfuscation" => _ = map.next_value::<de::IgnoredAny>()?,
            _ => return Ok(Some(name)),
        }
        Ok(None)
    }

    fn rest(&mut self) -> &mut Unknown<'a> {
        &mut self.rest
    }
}

impl<'a> Object<'a> for Choice<'a> {
    fn member<A: de::MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        map: &mut A,
    ) -> Result<Option<Cow<'a, str>>, A::Error> {
        match &*name {
            "index" => self.index = map.next_value()?,
            "delta" => self.delta = map.next_value()?,
            "finish_reason" => self.finish_reason = map.next_value()?,
            "logprobs" => self.logprobs = map.next_value()?,
            "stop_reason" => self.stop_reason = map.next_value()?,
            "content_filter_results" => self.content_filter_results = map.next_value()?,
            _ => return Ok(Some(name)),
        }
        Ok(None)
    }

    fn rest(&mut self) -> &mut Unknown<'a> {
        &mut self.rest
    }
}

impl<'a> Object<'a> for Delta<'a> {
    fn member<A: de::MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        map: &mut A,
    ) -> Result<Option<Cow<'a, str>>, A::Error> {
        match &*name {
            "content" => self.content = map.next_value()?,
            "role" => self.role = map.next_value::<Option<Text<'a>>>()?.map(|Text(role)| role),
            "reasoning_content" => self.reasoning_content = map.next_value()?,
            "reasoning" => self.reasoning = map.next_value()?,
            "reasoning_details" => self.reasoning_details = map.next_value()?,
            "refusal" => self.refusal = map.next_value()?,
            "tool_calls" => self.tool_calls = map.next_value()?,
            "function_call" => self.function_call = map.next_value()?,
            "annotations" => self.annotations = map.next_value()?,
            "audio" => self.audio = map.next_value()?,
            "obfuscation" => _ = map.next_value::<de::IgnoredAny>()?,
            _ => return Ok(Some(name)),
        }
        Ok(None)
    }

    fn rest(&mut self) -> &mut Unknown<'a> {
        &mut self.rest
    }
}

impl<'a> Object<'a> for Call<'a> {
    fn member<A: de::MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        map: &mut A,
    ) -> Result<Option<Cow<'a, str>>, A::Error> {
        match &*name {
            "index" => self.index = map.next_value()?,
            "id" => self.id = map.next_value()?,
            "type" => self.kind = map.next_value()?,
            "function" | "custom" => self.function = map.next_value::<Option<Function>>()?.or(self.function.take()),
            _ => return Ok(Some(name)),
        }
        Ok(None)
    }

    fn rest(&mut self) -> &mut Unknown<'a> {
        &mut self.rest
    }
}

/// An object of which nothing is known.
#[derive(Default)]
pub(super) struct Anything<'a>(pub(super) Unknown<'a>);

impl<'a> Object<'a> for Anything<'a> {
    fn member<A: de::MapAccess<'a>>(
        &mut self,
        name: Cow<'a, str>,
        _: &mut A,
    ) -> Result<Option<Cow<'a, str>>, A::Error> {
        Ok(Some(name))
    }

    fn rest(&mut self) -> &mut Unknown<'a> {
        &mut self.0
    }
}

/// Borrowed where it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

struct Visitor<T>(PhantomData<T>);

impl<'de, T: Object<'de>> de::Visitor<'de> for Visitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut object = T::default();
        while let Some(Text(name)) = map.next_key()? {
            if let Some(unknown) = object.member(name, &mut map)? {
                let value: &RawValue = map.next_value()?;
                if value.get() != "null" {
                    object.rest().push((unknown, value));
                }
            }
        }
        Ok(object)
    }
}

macro_rules! read_as_objects {
    ($($object:ident),*) => {$(
        impl<'de: 'a, 'a> Deserialize<'de> for $object<'a> {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_map(Visitor::<$object<'de>>(PhantomData))
            }
        }
    )*};
}
read_as_objects!(Chunk, Choice, Delta, Call, Anything);
