//! What OpenAI's two protocols want of a request alike, where clients of other protocols ask for more than they take.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

use crate::prompt::Params;

/// A `user` of more characters is refused.
const LONGEST_USER: usize = 64;

/// Who asks. Names that are too long (Claude Code's are) become their hash, which is as good to tell one from another.
pub(super) fn user(params: &Params) -> Option<Cow<'_, str>> {
    let user = params.user.as_deref()?;
    Some(match user.chars().count() {
        0..=LONGEST_USER => Cow::Borrowed(user),
        _ => Cow::Owned(Sha256::digest(user).iter().map(|byte| format!("{byte:02x}")).collect()),
    })
}

/// How much to think: what Anthropic calls `max` has another name here.
pub(super) fn effort(params: &Params) -> Option<&str> {
    params.reasoning_effort.as_deref().map(|effort| if effort == "max" { "xhigh" } else { effort })
}

/// Whether there is a tool to call: without one, nothing may be said of how to call them.
pub(super) fn has_tools(params: &Params) -> bool {
    params.tools.as_ref().is_some_and(|tools| {
        serde_json::from_str::<Vec<serde::de::IgnoredAny>>(tools.get()).map_or(true, |tools| !tools.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_a_long_name_is_a_hash() {
        let of = |name: String| user(&Params { user: Some(name), ..Params::default() }).map(Cow::into_owned);
        assert_eq!(of("é".repeat(64)), Some("é".repeat(64)));
        let (one, other) = (of("a".repeat(65)).expect("a user"), of("b".repeat(65)).expect("a user"));
        assert!(one.len() == 64 && one != other);
        assert_eq!(of("a".repeat(65)), Some(one));
        assert_eq!(user(&Params::default()), None);
    }

    #[test]
    fn the_most_thought_has_its_name_here() {
        for (asked, told) in [("max", "xhigh"), ("high", "high")] {
            assert_eq!(effort(&Params { reasoning_effort: Some(asked.into()), ..Params::default() }), Some(told));
        }
    }

    #[test]
    fn an_empty_list_has_no_tools() {
        let of = |tools: &str| has_tools(&Params { tools: serde_json::from_str(tools).ok(), ..Params::default() });
        assert!(!of("[]") && of(r#"[{"type":"function"}]"#) && !has_tools(&Params::default()));
    }
}
