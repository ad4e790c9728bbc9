//! What an upstream says went wrong: the body of a refusal, or an error in the middle of an answer.
//!
//! One tolerant reader for all upstreams, because the same server speaks several dialects: OpenAI, vLLM, llama.cpp, Gemini and
//! Anthropic write `{"error":{…}}`, Ollama and text-generation-inference `{"error":"…"}`, FastAPI `{"detail":…}`, older vLLM and
//! Mistral the members without an envelope, and a proxy in between writes plain text or a page of HTML.

use serde_json::Value;

/// See the module. As long and as wild as the upstream made it: who shows it trims it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Complaint {
    /// For a person; empty if nothing was said.
    pub message: String,
    /// The upstream's code, else its type.
    pub code: Option<String>,
    /// The HTTP status that the complaint stands for, where it tells one.
    pub status: Option<u16>,
}

impl Complaint {
    /// Reads the body of a response that is no answer.
    #[must_use]
    pub fn read(body: &str) -> Self {
        let body = body.trim();
        serde_json::from_str(body)
            .ok()
            .and_then(|json| Self::of(&json))
            .unwrap_or_else(|| Self { message: title(body).unwrap_or(body).to_owned(), ..Self::default() })
    }

    /// Reads JSON that may be a complaint; nothing if it complains of nothing.
    #[must_use]
    pub fn of(json: &Value) -> Option<Self> {
        match json {
            Value::String(text) if !text.is_empty() => Some(Self { message: text.clone(), ..Self::default() }),
            Value::Array(all) => all.iter().find_map(Self::of),
            Value::Object(members) => {
                if let Some(inner) = members.get("error").and_then(Self::of) {
                    return Some(inner);
                }
                let words = ["message", "detail", "msg"].iter().find_map(|name| Self::of(members.get(*name)?));
                let code = ["code", "type"].iter().find_map(|name| members.get(*name)?.as_str());
                let status = ["code", "status", "status_code"].iter().find_map(|name| status(members.get(*name)?));
                if words.is_none() && status.is_none() {
                    return None;
                }
                let words = words.unwrap_or_default();
                let code = code.filter(|code| code.parse::<u16>().is_err()).map(str::to_owned).or(words.code);
                let status = status.or(words.status).or_else(|| stands_for(code.as_deref()?));
                Some(Self { message: words.message, code, status })
            }
            _ => None,
        }
    }
}

/// An HTTP status of failure, written as a number or in digits.
fn status(value: &Value) -> Option<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u16::try_from(number).ok().filter(|status| (400..600).contains(status))
}

/// The HTTP status with which OpenAI and Anthropic send an error of this code or type, when they still can.
fn stands_for(code: &str) -> Option<u16> {
    Some(match code {
        "invalid_request_error" | "context_length_exceeded" => 400,
        "authentication_error" | "invalid_api_key" => 401,
        "billing_error" => 402,
        "permission_error" => 403,
        "not_found_error" | "model_not_found" => 404,
        "request_too_large" => 413,
        "rate_limit_error" | "rate_limit_exceeded" | "insufficient_quota" => 429,
        "api_error" | "server_error" => 500,
        "timeout_error" => 504,
        "overloaded_error" => 529,
        _ => return None,
    })
}

/// The title of a page of HTML: `502 Bad Gateway` says more than the page around it.
fn title(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once("<title>")?;
    let (title, _) = rest.split_once("</title>")?;
    Some(title.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dialect_is_understood() {
        for (body, message, code, status) in [
            (r#"{"error":{"message":"m","type":"t","param":null,"code":"c"}}"#, "m", Some("c"), None),
            (r#"{"error":{"message":"m","type":"t","code":null}}"#, "m", Some("t"), None),
            (
                r#"{"error":{"code":503,"message":"Loading model","type":"unavailable_error"}}"#,
                "Loading model",
                Some("unavailable_error"),
                Some(503),
            ),
            (r#"{"error":{"message":"m","code":502,"metadata":{"raw":"x"}}}"#, "m", None, Some(502)),
            (r#"{"error":{"message":"m","code":"429"}}"#, "m", None, Some(429)),
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                "m",
                Some("overloaded_error"),
                Some(529),
            ),
            (r#"[{"error":{"code":400,"message":"m","status":"INVALID_ARGUMENT"}}]"#, "m", None, Some(400)),
            (r#"{"error":"text"}"#, "text", None, None),
            (
                r#"{"object":"error","message":"m","type":"BadRequestError","code":400}"#,
                "m",
                Some("BadRequestError"),
                Some(400),
            ),
            (r#"{"detail":"Not Found"}"#, "Not Found", None, None),
            (
                r#"{"detail":[{"loc":["body"],"msg":"field required","type":"missing"}]}"#,
                "field required",
                Some("missing"),
                None,
            ),
            (" plain text\n", "plain text", None, None),
            ("<html><head><title>502 Bad Gateway</title></head>…", "502 Bad Gateway", None, None),
            ("", "", None, None),
        ] {
            let complaint = Complaint::read(body);
            assert_eq!(
                (&*complaint.message, complaint.code.as_deref(), complaint.status),
                (message, code, status),
                "{body}"
            );
        }
    }

    #[test]
    fn what_complains_of_nothing_is_no_complaint() {
        for json in [r#"null"#, r#"{}"#, r#"{"error":null,"id":"x"}"#, r#"{"error":{}}"#, r#"{"error":false}"#, "7"] {
            assert_eq!(Complaint::of(&serde_json::from_str(json).expect(json)), None, "{json}");
        }
    }
}
