//! Ids of calls, as this protocol takes them: letters, digits, `_` and `-`. Elsewhere they may hold anything, and the ids that other
//! upstreams make do.

use std::{borrow::Cow, fmt::Write};

use sha2::{Digest, Sha256};

/// The id itself where it may stand here, else one made from it: always the same one, and no two the same.
pub(super) fn clean(id: &str) -> Cow<'_, str> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !id.is_empty() && id.bytes().all(known) {
        return Cow::Borrowed(id);
    }
    let mut made = "toolu_".to_owned();
    for byte in &Sha256::digest(id)[..16] {
        let _ = write!(made, "{byte:02x}");
    }
    Cow::Owned(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_keeps_its_letters_where_it_can_and_its_identity_always() {
        for id in ["toolu_01-A", "call_0", "9"] {
            assert_eq!(clean(id), id);
        }
        let made = ["", "call:0", "call.0", "a b", "é", "functions.f:0"].map(clean);
        for (n, id) in made.iter().enumerate() {
            assert!(id.starts_with("toolu_") && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{id}");
            assert_eq!(clean(id), *id, "it is clean");
            assert!(!made[..n].contains(id), "{id}");
        }
    }
}
