//! What is wrong with a configuration, in words for its operator.
//!
//! Serde's messages speak of Rust's types and repeat the value, which may be a key that must not reach a terminal; here they
//! become sentences about keys and sections.

use crate::near::Unknown;

/// The first thing that is wrong: where, and what.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct Error {
    place: String,
    message: String,
}

impl Error {
    pub(super) fn new(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self { place: place.into(), message: message.into() }
    }
}

/// What this design has a place for and this build does not have; said so rather than taken for a slip of the pen.
const LATER: [&str; 5] = ["redis", "gemini", "ollama", "relay", "push"];

/// Serde's message about the value at `path`, as a sentence.
pub(super) fn explain(path: &[String], message: &str) -> String {
    let (section, key) = match path {
        [section @ .., key] => (section, key.as_str()),
        [] => (path, ""),
    };
    if message.starts_with("unknown variant ")
        && let Some(unknown) = Unknown::in_message(message)
    {
        // A backend's kind has become the name of a variant, so the path ends at the backend.
        let is_backend = matches!(section, [backends] if backends == "backends");
        let (section, key) = if is_backend { (path, "kind") } else { (section, key) };
        return match unknown.key {
            "" => format!("{} has no `{key}`; {}", heading(section), unknown.remedy()),
            later if LATER.contains(&later) => format!("{key} `{later}` is not in this build; {}", among(&unknown)),
            other => format!("unknown {key} `{other}` in {}; {}", heading(section), unknown.remedy()),
        };
    }
    if let Some(unknown) = Unknown::in_message(message) {
        let place = if section.is_empty() { String::new() } else { format!(" in {}", heading(section)) };
        return format!("unknown key `{}`{place}; {}", unknown.key, unknown.remedy());
    }
    if let Some(missing) = message.strip_prefix("missing field ") {
        return format!("{} has no {missing}", heading(path));
    }
    format!("{}: {}", dotted(path), plain(message))
}

fn among(unknown: &Unknown<'_>) -> String {
    format!("valid here: {}", unknown.valid.join(", "))
}

/// `[server]`
fn heading(path: &[String]) -> String {
    format!("[{}]", dotted(path))
}

/// The path as TOML writes it: `models."claude-*".route`.
pub(super) fn dotted(path: &[String]) -> String {
    let bare =
        |key: &String| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let keys: Vec<_> = path.iter().map(|key| if bare(key) { key.clone() } else { format!("{key:?}") }).collect();
    keys.join(".")
}

/// Serde's `invalid type: integer `5`, expected a string` in our words and without the value.
fn plain(message: &str) -> String {
    let Some((found, expected)) = message
        .strip_prefix("invalid type: ")
        .or_else(|| message.strip_prefix("invalid value: "))
        .and_then(|rest| rest.rsplit_once(", expected "))
    else {
        return message.to_owned();
    };
    let found = match found.split(['`', '"']).next().unwrap_or_default().trim() {
        "integer" => "an integer",
        "floating point" => "a number with a fraction",
        "boolean" => "true or false",
        "string" => "a string",
        "sequence" => "a list",
        "map" => "a table",
        other => other,
    };
    let expected = match expected {
        "a sequence" => "a list",
        "a map" => "a table",
        "a boolean" => "true or false",
        "usize" | "u64" | "u32" | "u16" | "u8" => "a whole number from 0",
        "f64" | "f32" => "a number",
        // bytesize has three words for what it takes.
        "parsable string" | "an integer or string" | "integer overflow" => "a size such as \"8MiB\" or 8388608",
        "a borrowed string" | "a str" => "a string",
        structure if structure.starts_with("struct ") => "a table",
        other => other,
    };
    // Where the type is right, it is the value that is wrong, and to say its type would mislead.
    if message.starts_with("invalid value") || expected == found {
        return format!("expected {expected}");
    }
    format!("expected {expected}, not {found}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serdes_types_become_plain_words_and_the_value_stays_out() {
        let said = plain("invalid type: integer `12345`, expected a string");
        assert_eq!(said, "expected a string, not an integer");
        let said = plain("invalid type: string \"a, expected b\", expected usize");
        assert_eq!(said, "expected a whole number from 0, not a string");
        let said = plain("invalid value: integer `-1`, expected u64");
        assert_eq!(said, "expected a whole number from 0");
        assert_eq!(plain("anything else"), "anything else");
    }

    #[test]
    fn a_key_that_is_not_bare_is_quoted() {
        let path = ["models", "claude-*", "route"].map(str::to_owned);
        assert_eq!(dotted(&path), "models.\"claude-*\".route");
    }
}
