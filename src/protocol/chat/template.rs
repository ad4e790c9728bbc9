//! What is the same in one token's chunk and the next: everything but the text.
//!
//! A chunk that equals the last one but for the inside of one JSON string means the same but for that string, so it need not be
//! parsed: two comparisons take the place of some six thousand instructions. Where each chunk differs in something else too (a
//! padding, a time), nothing ever fits, and all is parsed as before.

use crate::event::At;

/// The chunk around a text; empty while nothing is known.
#[derive(Debug, Default)]
pub(super) struct Template {
    at: At,
    before: String,
    behind: String,
}

impl Template {
    /// Remembers a chunk of which nothing came but this text. `text` is borrowed from `data`, the whole of a string's inside.
    pub(super) fn learn(&mut self, at: At, data: &str, text: &str) {
        let start = (text.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        if let (Some(before), Some(behind)) = (data.get(..start), data.get(start.saturating_add(text.len())..)) {
            self.at = at;
            self.before.push_str(before);
            self.behind.push_str(behind);
        }
    }

    /// Nothing fits until something is learned.
    pub(super) fn forget(&mut self) {
        self.before.clear();
        self.behind.clear();
    }

    /// The text of a chunk that is like the one learned.
    pub(super) fn fits<'a>(&self, data: &'a str) -> Option<(At, &'a str)> {
        if self.before.is_empty() {
            return None;
        }
        let text = data.strip_prefix(self.before.as_str())?.strip_suffix(self.behind.as_str())?;
        let plain = |byte: u8| byte >= b' ' && !matches!(byte, b'"' | b'\\');
        (!text.is_empty() && text.bytes().all(plain)).then_some((self.at, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: &str = r#"{"a":"the","choices":[{"delta":{"content":"the"}}]}"#;

    fn learned() -> Template {
        let mut template = Template::default();
        let at = CHUNK.rfind("the").expect("there");
        template.learn(At::default(), CHUNK, &CHUNK[at..at + 3]);
        template
    }

    #[test]
    fn only_the_text_may_differ() {
        let text = |chunk: &str| learned().fits(chunk).map(|(_, text)| text.to_owned());
        let with = |text: &str| format!(r#"{{"a":"the","choices":[{{"delta":{{"content":"{text}"}}}}]}}"#);
        assert_eq!(text(CHUNK).as_deref(), Some("the"));
        assert_eq!(text(&with(" é🦀")).as_deref(), Some(" é🦀"));
        for other in ["", r#"a\nb"#, r#"a","b":""#, "\u{1}", r#"\"#] {
            assert_eq!(text(&with(other)), None, "{other}");
        }
        assert_eq!(text(&CHUNK.replacen("the", "The", 1)), None);
        assert_eq!(text(&CHUNK[..CHUNK.len() - 1]), None);
        assert_eq!(text(""), None);
    }

    #[test]
    fn nothing_fits_before_something_is_learned_and_after_it_is_forgotten() {
        assert!(Template::default().fits("").is_none());
        let mut template = learned();
        template.forget();
        assert!(template.fits(CHUNK).is_none());
    }
}
