//! How much of a text is whole, whatever comes next.
//!
//! Words are those of Unicode's annex 29, with the white space before them: in most scripts that is where models begin their tokens.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use crate::event::Chunking;

/// No word is longer; what is, is cut between two characters. So what a reader holds is bounded.
const WORD: usize = 1024;
/// No line is longer; what is, is cut between two words.
const LINE: usize = 16 * 1024;

/// How many bytes of `text` can be told. What is before it does not matter: it ended so itself.
pub(super) fn certain(how: Chunking, text: &str) -> usize {
    match how {
        Chunking::Token => text.len(),
        Chunking::Word => words(text),
        Chunking::Line => match text.rfind('\n') {
            Some(at) => at + 1,
            None if text.len() > LINE => words(text),
            None => 0,
        },
    }
}

fn words(text: &str) -> usize {
    let (mut certain, mut newest) = (0, 0);
    for (at, _) in text.split_word_bound_indices() {
        // What is behind a boundary can undo it ("can" is one word, and "can't" is) only until the next boundary is there.
        if is_between(text, newest) {
            certain = newest;
        }
        newest = at;
    }
    // And nothing does if it begins like a word, or is white space: it is signs that join letters and digits.
    let plain = |c: char| c.is_alphanumeric() || c.is_whitespace();
    if text[newest..].starts_with(plain) && is_between(text, newest) {
        certain = newest;
    }
    if certain == 0 && text.len() > WORD { characters(text) } else { certain }
}

/// Whether a word may end at this boundary: not within a character, which some scripts' words do, and not behind white space, which
/// belongs to the next one.
fn is_between(text: &str, at: usize) -> bool {
    let is_character = GraphemeCursor::new(at, text.len(), true).is_boundary(text, 0) == Ok(true);
    at > 0 && is_character && !text[..at].ends_with(char::is_whitespace)
}

/// All but the last character as people count them; all, if there is no other.
fn characters(text: &str) -> usize {
    let last = text.grapheme_indices(true).next_back().map_or(0, |(at, _)| at);
    if last == 0 { text.len() } else { last }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(how: Chunking, text: &str) -> (&str, &str) {
        text.split_at(certain(how, text))
    }

    #[test]
    fn a_word_is_whole_when_the_next_one_begins() {
        for (text, whole) in [
            ("", ""),
            ("river", ""),
            ("river ", "river"),
            ("river is", "river"),
            ("river,", ""),
            ("river, ", "river,"),
            ("  river", ""),
            ("a b c ", "a b c"),
            ("can'", ""),
            ("can't", ""),
            ("can' ", "can'"),
            ("3.", ""),
            ("3.14 ", "3.14"),
            ("foo_bar.", ""),
            ("水は急", "水は"),
            ("a\r", "a"),
            ("a\r\n", "a"),
            ("e\u{301} x", "e\u{301}"),
            ("x \u{1f1e9}", "x"),
            ("x \u{1f1e9}\u{1f1ea}\u{1f1eb}", "x"),
            ("\u{1f469}\u{200d}", ""),
            ("\u{1f469}\u{200d}\u{1f680} go", "\u{1f469}\u{200d}\u{1f680}"),
            ("\u{e01}\u{e33}", ""), // a vowel that is a word of its own, and no character
        ] {
            assert_eq!(cuts(Chunking::Word, text), (whole, &text[whole.len()..]), "{text:?}");
        }
    }

    #[test]
    fn a_line_is_whole_with_its_end() {
        for (text, whole) in [("one", ""), ("one\n", "one\n"), ("a\nb\nc", "a\nb\n"), ("a\r", ""), ("a\r\nb", "a\r\n")]
        {
            assert_eq!(cuts(Chunking::Line, text), (whole, &text[whole.len()..]), "{text:?}");
        }
    }

    #[test]
    fn what_is_held_is_bounded_and_cut_between_characters() {
        let long = "e\u{301}".repeat(WORD);
        assert_eq!(certain(Chunking::Word, &long), long.len() - 3, "all but the last");
        let one = format!("e{}", "\u{301}".repeat(WORD));
        assert_eq!(certain(Chunking::Word, &one), one.len());
        let line = "word ".repeat(LINE / 4);
        assert_eq!(certain(Chunking::Line, &line), line.len() - 1);
    }
}
