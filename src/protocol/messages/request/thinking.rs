//! How much to think, in the words of the model that is asked: a budget of tokens, or since Claude 4.6 an effort. And whether it can
//! still be told how to sample.

use serde_json::json;

use super::Crossing;
use crate::{
    event::Json,
    prompt::{Params, Prompt},
};

/// What a body says of thinking.
pub(super) struct Thinking {
    /// `thinking`
    pub(super) told: serde_json::Value,
    /// `effort` in `output_config`
    pub(super) effort: Option<&'static str>,
    /// About how many tokens it may take.
    pub(super) room: u64,
}

impl Crossing {
    /// What is said of sampling, where the model takes it: Anthropic's server answers a word that it does not take with a 400. Since
    /// Claude 4.7 it takes none but its defaults, which need not be said; before that, one word and not two.
    /// <https://platform.claude.com/docs/en/about-claude/models/migration-guide>
    pub(super) fn sampling(&mut self, params: &Params, model: &str) {
        let sampled = is_sampled(version(model));
        for (name, value) in [("temperature", params.temperature), ("top_p", params.top_p)] {
            let Some(value) = value.filter(|value| sampled || *value != 1.0) else { continue };
            if sampled && (0.0..=1.0).contains(&value) && self.body.get("temperature").is_none() {
                self.body.set(name, &value);
            } else {
                self.unsaid.push(name.to_owned());
            }
        }
    }

    /// What is asked for, where the API would take it; else the prompt's word is named as unsaid.
    pub(super) fn thinking(&mut self, prompt: &Prompt, model: &str) -> Option<Thinking> {
        let asked = prompt.params.reasoning_effort.as_deref()?;
        let version = version(model);
        let told = match asked {
            // Newer models than these think always.
            "none" => {
                (version < (5, 0)).then(|| Thinking { told: json!({ "type": "disabled" }), effort: None, room: 0 })
            }
            _ => self.some(&prompt.params, asked, version),
        };
        if told.is_none() {
            self.unsaid.push("reasoning_effort".to_owned());
        }
        told
    }

    /// There may be no word on sampling beside it, and no tool that must be called. Nothing may be begun for the model. A budget must
    /// be less than the answer may have in all, and between a call and its answer it asks for the thinking before the call.
    fn some(&self, params: &Params, asked: &str, version: (u8, u8)) -> Option<Thinking> {
        let (room, effort) = match asked {
            "minimal" | "low" => (1024, "low"),
            "medium" => (4096, "medium"),
            "high" => (16384, "high"),
            "xhigh" | "max" if version < (4, 7) => (32768, "high"),
            "xhigh" => (32768, "xhigh"),
            "max" => (32768, "max"),
            _ => return None,
        };
        let told = params.temperature.is_some_and(|temperature| temperature <= 1.0) || params.top_p.is_some();
        let sampled = told && is_sampled(version);
        let choice = params.tool_choice.as_ref().map_or("null", Json::get);
        let free = ["null", "\"auto\"", "\"none\""].contains(&choice);
        let (last, said) = self.turns.last()?;
        if sampled || !free || *last == "assistant" {
            return None;
        }
        if version >= (4, 6) {
            return Some(Thinking { told: json!({ "type": "adaptive" }), effort: Some(effort), room });
        }
        let fits = params.max_tokens.is_none_or(|max| room < max);
        let in_a_loop = said.iter().any(|block| block.get("type").is_some_and(|kind| kind.get() == "\"tool_result\""));
        let told = json!({ "type": "enabled", "budget_tokens": room });
        (fits && !in_a_loop).then_some(Thinking { told, effort: None, room })
    }
}

/// Whether a model of this version can be told how to sample.
fn is_sampled(version: (u8, u8)) -> bool {
    version < (4, 7)
}

/// Claude's version in the name of a model: the first number, and the next if it stands beside it and is no date. A Claude without one
/// is a newer one; whoever is none has none, and takes a budget.
fn version(model: &str) -> (u8, u8) {
    let Some(at) = model.find("claude") else { return (0, 0) };
    let mut pieces = model[at..].split(['-', '.', '_', '@', ':']);
    // What is longer is a date.
    let number = |piece: &str| piece.parse::<u8>().ok().filter(|_| piece.len() <= 2);
    match pieces.find_map(number) {
        Some(major) => (major, pieces.next().and_then(number).unwrap_or_default()),
        None => (u8::MAX, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_the_name() {
        for (model, read) in [
            ("claude-3-7-sonnet-20250219", (3, 7)),
            ("claude-sonnet-4-20250514", (4, 0)),
            ("claude-opus-4-0", (4, 0)),
            ("claude-opus-4@20250514", (4, 0)),
            ("anthropic.claude-opus-4-1-20250805-v1:0", (4, 1)),
            ("anthropic/claude-sonnet-4.5", (4, 5)),
            ("claude-opus-4-7", (4, 7)),
            ("us.anthropic.claude-sonnet-4-6", (4, 6)),
            ("claude-opus-5", (5, 0)),
            ("claude-mythos-preview", (u8::MAX, 0)),
            ("gemma-3-270m", (0, 0)),
        ] {
            assert_eq!(version(model), read, "{model}");
        }
    }
}
