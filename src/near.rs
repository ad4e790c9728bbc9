//! The nearest valid name for one that was mistyped: config keys, request fields, model names.

/// The candidate most like `name`, if any is like it at all.
#[must_use]
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// What serde says of a key it does not know: the key, and the ones it would have taken.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown<'a> {
    /// The key.
    pub key: &'a str,
    /// The valid ones.
    pub valid: Vec<&'a str>,
}

impl<'a> Unknown<'a> {
    /// Reads serde's message of an unknown field or variant; nothing if the message is of another kind.
    #[must_use]
    pub fn in_message(message: &'a str) -> Option<Self> {
        let rest = message.strip_prefix("unknown field ").or_else(|| message.strip_prefix("unknown variant "))?;
        let mut names = rest.split('`').skip(1).step_by(2);
        Some(Self { key: names.next()?, valid: names.collect() })
    }

    /// `did you mean …?`, or all that is valid.
    #[must_use]
    pub fn remedy(&self) -> String {
        match nearest(self.key, self.valid.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None if self.valid.is_empty() => "nothing can stand here".to_owned(),
            None => format!("valid here: {}", self.valid.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_finds_its_neighbour() {
        assert_eq!(nearest("promt", ["model", "prompt", "messages"]), Some("prompt"));
        assert_eq!(nearest("xyz", ["model", "prompt"]), None);
    }

    #[test]
    fn serdes_own_message_is_understood() {
        #[derive(Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        #[expect(dead_code, reason = "only its error is looked at")]
        struct Two {
            listen: u8,
            drain: u8,
        }
        let error = serde_json::from_str::<Two>(r#"{"lisen":1}"#).expect_err("unknown").to_string();
        let unknown = Unknown::in_message(&error).expect("understood");
        assert_eq!((unknown.key, unknown.valid.as_slice()), ("lisen", ["listen", "drain"].as_slice()));
        assert_eq!(unknown.remedy(), "did you mean `listen`?");
    }
}
