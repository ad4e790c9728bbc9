//! An answer as an upstream of each protocol tells it: what comes before its tokens, a token, and what comes behind them.

use std::fmt::Write;

use crate::chunk::chunk;

const RESPONSE: &str = "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b";
const ITEM: &str = "msg_67ccd2bf17f0819081ff3bb2cf6508e60bb6a6b452d3795b";
const TEXT: &str = r#""type":"output_text","annotations":[],"logprobs":[],"text":"#;

#[derive(Clone, Copy)]
pub(crate) enum Answer {
    Chat,
    Responses,
    Messages,
}

impl Answer {
    /// What an upstream with this path says.
    pub(crate) fn at(path: &str) -> Self {
        match path {
            path if path.ends_with("/responses") => Self::Responses,
            path if path.ends_with("/messages") => Self::Messages,
            _ => Self::Chat,
        }
    }

    pub(crate) fn before(self) -> Vec<String> {
        match self {
            Self::Chat => vec![],
            Self::Responses => {
                let started = response("in_progress", "");
                vec![
                    format!(r#"{{"type":"response.created","sequence_number":0,"response":{started}}}"#),
                    format!(r#"{{"type":"response.in_progress","sequence_number":1,"response":{started}}}"#),
                    format!(
                        r#"{{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{}}}"#,
                        item("in_progress", "")
                    ),
                    format!(
                        r#"{{"type":"response.content_part.added","sequence_number":3,"item_id":"{ITEM}","output_index":0,"content_index":0,"part":{{{TEXT}""}}}}"#
                    ),
                ]
            }
            Self::Messages => vec![
                r#"{"type":"message_start","message":{"id":"msg_014p7gG3wDgGV9EUtLvnow3U","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":9,"output_tokens":1}}}"#.to_owned(),
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#.to_owned(),
            ],
        }
    }

    pub(crate) fn token(self, n: usize, text: &str) -> String {
        match self {
            Self::Chat => chunk(text),
            Self::Responses => format!(
                r#"{{"type":"response.output_text.delta","sequence_number":{},"item_id":"{ITEM}","output_index":0,"content_index":0,"delta":"{text}","logprobs":[]}}"#,
                n + 4
            ),
            Self::Messages => {
                format!(r#"{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{text}"}}}}"#)
            }
        }
    }

    /// What comes behind so many tokens, which said this.
    pub(crate) fn behind(self, tokens: usize, said: &str) -> Vec<String> {
        match self {
            Self::Chat => vec![
                r#"{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1790000000,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#.to_owned(),
                "[DONE]".to_owned(),
            ],
            Self::Responses => {
                let place = format!(r#""item_id":"{ITEM}","output_index":0,"content_index":0"#);
                let item = item("completed", said);
                let rest = [
                    ("response.output_text.done", format!(r#"{place},"text":"{said}","logprobs":[]"#)),
                    ("response.content_part.done", format!(r#"{place},"part":{{{TEXT}"{said}"}}"#)),
                    ("response.output_item.done", format!(r#""output_index":0,"item":{item}"#)),
                    ("response.completed", format!(r#""response":{}"#, response("completed", &item))),
                ];
                let numbered = rest.into_iter().zip(tokens + 4..);
                numbered
                    .map(|((name, rest), n)| format!(r#"{{"type":"{name}","sequence_number":{n},{rest}}}"#))
                    .collect()
            }
            Self::Messages => vec![
                r#"{"type":"content_block_stop","index":0}"#.to_owned(),
                format!(
                    r#"{{"type":"message_delta","delta":{{"stop_reason":"end_turn","stop_sequence":null}},"usage":{{"output_tokens":{tokens}}}}}"#
                ),
                r#"{"type":"message_stop"}"#.to_owned(),
            ],
        }
    }

    /// One event of it, as it goes over the wire.
    pub(crate) fn event(self, data: &str) -> String {
        let mut event = String::with_capacity(data.len() + 64);
        if !matches!(self, Self::Chat)
            && let Some(name) = data.strip_prefix(r#"{"type":""#).and_then(|rest| rest.split('"').next())
        {
            let _ = writeln!(event, "event: {name}");
        }
        let _ = write!(event, "data: {data}\n\n");
        event
    }
}

fn item(status: &str, said: &str) -> String {
    let content = if status == "completed" { format!(r#"{{{TEXT}"{said}"}}"#) } else { String::new() };
    format!(r#"{{"id":"{ITEM}","type":"message","status":"{status}","role":"assistant","content":[{content}]}}"#)
}

fn response(status: &str, output: &str) -> String {
    format!(
        r#"{{"id":"{RESPONSE}","object":"response","created_at":1790000000,"status":"{status}","model":"m","output":[{output}],"parallel_tool_calls":true,"tool_choice":"auto","tools":[],"usage":null}}"#
    )
}
