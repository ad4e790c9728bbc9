//! What a reader of the events asks for: from where, in which form, with what beside it. From its headers and its query.

use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

use axum::http::{HeaderMap, StatusCode, header};

use crate::{
    api::{error::Problem, events::Heartbeat, post},
    event::Chunking,
    id::Seen,
};

/// The query of a request.
pub(super) type Words = HashMap<String, String>;

/// How long a poll waits where it does not say, and at most: proxies give up on a silent response after a minute.
const WAIT: (f64, f64) = (20.0, 60.0);

/// How many events a second can be asked for.
const PACE: RangeInclusive<f32> = 0.1..=1000.0;

/// See the module.
#[derive(Debug)]
pub(super) struct Wishes {
    /// What it has seen. (Of a POST, the header says that, and nothing else.)
    pub(super) seen: Option<Seen>,
    /// In which form, if it says so.
    pub(super) format: Option<Format>,
    pub(super) heartbeat: Heartbeat,
    /// What was said so far at once.
    pub(super) snapshot: bool,
    /// In what pieces, if it says so.
    pub(super) chunking: Option<Chunking>,
    /// How many events a second it takes at most.
    pub(super) pace: Option<f32>,
    /// How long a poll may wait.
    pub(super) wait: Duration,
}

/// How a reader is told the events: in one of lastword's own forms, or in another protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Sse,
    Ndjson,
    Text,
    /// A long poll; of a POST, the state.
    Json,
    Chat {
        include_usage: bool,
    },
    Messages,
    Responses,
    AiSdk,
    /// An application's bytes.
    Relay,
}

impl Format {
    /// The one in which a client of this protocol is told its answer.
    pub(super) fn of(protocol: &str) -> Self {
        match protocol {
            "chat" => Self::Chat { include_usage: false },
            "messages" => Self::Messages,
            "responses" => Self::Responses,
            "ai_sdk" => Self::AiSdk,
            "relay" => Self::Relay,
            _ => Self::Sse,
        }
    }
}

/// For the cursor the header beats the query, since polyfills send both; for the form the query beats the header, since that is what a
/// person can change.
pub(super) fn wishes(headers: &HeaderMap, query: &Words) -> Result<Wishes, Problem> {
    let asked = ["after", "last_event_id", "lastEventId"].into_iter().filter_map(|name| query.get(name));
    let asked = asked.map(|text| text.trim()).find(|text| !text.is_empty());
    let word = |name| query.get(name).map_or("", String::as_str);
    let yes = |name| match word(name) {
        "" | "false" => Ok(false),
        "true" => Ok(true),
        other => Err(bad(name, other, "leave it out, or say `true`")),
    };
    let heartbeat = match word("heartbeat") {
        "" | "comment" => Heartbeat::Comment,
        "event" => Heartbeat::Event,
        other => return Err(bad("heartbeat", other, "leave it out, or say `event`")),
    };
    let include_usage = yes("include_usage")?;
    let format = match word("format") {
        "" => accepted(headers),
        "sse" => Some(Format::Sse),
        "ndjson" => Some(Format::Ndjson),
        "text" => Some(Format::Text),
        "json" => Some(Format::Json),
        "chat" => Some(Format::Chat { include_usage }),
        "responses" => Some(Format::Responses),
        "messages" => Some(Format::Messages),
        "ai_sdk" => Some(Format::AiSdk),
        "relay" => Some(Format::Relay),
        other => {
            let known = "leave it out, or say `sse`, `ndjson`, `text`, `json`, or a protocol: `chat`, `responses`, `messages`, `ai_sdk`, `relay`";
            return Err(bad("format", other, known));
        }
    };
    let chunking = match word("chunking") {
        "" => None,
        text => {
            Some(text.parse().map_err(|_| bad("chunking", text, "say `token`, `word` or `line`, or leave it out"))?)
        }
    };
    let pace = match word("pace") {
        "" => None,
        text => match text.parse() {
            Ok(pace) if PACE.contains(&pace) => Some(pace),
            _ => return Err(bad("pace", text, "give events a second from 0.1 to 1000, or leave it out")),
        },
    };
    let wait = match word("wait") {
        "" => WAIT.0,
        text => match text.parse() {
            Ok(seconds) if (0.0..=WAIT.1).contains(&seconds) => seconds,
            _ => return Err(bad("wait", text, "give seconds from 0 to 60, or leave it out for 20")),
        },
    };
    Ok(Wishes {
        seen: post::last_event_id(headers).or_else(|| asked.map(Seen::parse)),
        format,
        heartbeat,
        snapshot: yes("snapshot")?,
        chunking,
        pace,
        wait: Duration::from_secs_f64(wait),
    })
}

/// The form that the client likes best, if it names one that there is. Events win wherever they are named, since nobody names them by
/// chance; else the order counts where the weights are equal.
fn accepted(headers: &HeaderMap) -> Option<Format> {
    let accepts = headers.get_all(header::ACCEPT).into_iter().filter_map(|accept| accept.to_str().ok());
    let mut best = None;
    for range in accepts.flat_map(|accept| accept.split(',')) {
        let mut words = range.split(';').map(str::trim);
        let format = match words.next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "text/event-stream" => Some(Format::Sse),
            "application/x-ndjson" | "application/ndjson" => Some(Format::Ndjson),
            "text/plain" => Some(Format::Text),
            "application/json" => Some(Format::Json),
            "*/*" => None,
            _ => continue,
        };
        let weight = words.find_map(|word| word.strip_prefix("q=")?.parse::<f32>().ok()).unwrap_or(1.0);
        if format == Some(Format::Sse) && weight > 0.0 {
            return format;
        }
        if weight > best.map_or(0.0, |(weight, _)| weight) {
            best = Some((weight, format));
        }
    }
    best.and_then(|(_, format)| format)
}

fn bad(field: &str, value: &str, remedy: &str) -> Problem {
    let detail = format!("`{field}` cannot be `{}`", value.chars().take(64).collect::<String>());
    Problem::new(StatusCode::BAD_REQUEST, "bad_request", detail).field(field).remedy(remedy)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn the_form_is_what_the_client_likes_best_of_what_there_is() {
        for (accept, format) in [
            ("*/*", None),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", None),
            ("text/event-stream", Some(Format::Sse)),
            ("application/json, Text/Event-Stream; charset=utf-8", Some(Format::Sse)),
            ("application/json, text/event-stream;q=0", Some(Format::Json)),
            ("application/x-ndjson", Some(Format::Ndjson)),
            ("application/ndjson, */*", Some(Format::Ndjson)),
            ("text/plain; charset=utf-8", Some(Format::Text)),
            ("application/json, text/plain, */*", Some(Format::Json)),
            ("text/plain;q=0.5, application/json;q=0.9", Some(Format::Json)),
            ("*/*, text/plain", None),
            ("image/png", None),
            ("", None),
        ] {
            let headers = [(header::ACCEPT, HeaderValue::from_static(accept))].into_iter().collect();
            assert_eq!(accepted(&headers), format, "{accept}");
        }
    }
}
