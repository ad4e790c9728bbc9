//! A TOML document of which each value knows who said it: a line of the file, a variable, a flag.
//!
//! A value's place is its span, a range of addresses. The file's bytes have the addresses from 0; after them each other speaker
//! has one address. So spans travel through serde as they are, and any error can be traced back. Knows TOML, and no key but `kind`.

use std::{mem, ops::Range};

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::{
    Spanned,
    de::{DeArray, DeString, DeTable, DeValue},
};

use super::error::{Error, dotted, explain};

/// See the module.
pub(super) struct Document<'a> {
    name: &'a str,
    text: &'a str,
    /// Who spoke beside the file: the one at `i` has the address `text.len() + 1 + i`.
    speakers: Vec<String>,
    root: DeTable<'a>,
}

/// A string as a value.
pub(super) fn string(text: &str) -> DeValue<'static> {
    DeValue::String(DeString::Owned(text.to_owned()))
}

impl<'a> Document<'a> {
    /// Reads a file's text.
    pub(super) fn parse(name: &'a str, text: &'a str) -> Result<Self, Error> {
        let parsed = DeTable::parse(text);
        let root = parsed.map_err(|error| {
            let (line, column) = position(text, error.span().map_or(0, |span| span.start));
            Error::new(format!("{name}:{line}:{column}"), error.message())
        })?;
        Ok(Self { name, text, speakers: Vec::new(), root: root.into_inner() })
    }

    /// Sets the value at a path, as said by `speaker`. Tables on the way are made; a value that stands there is replaced.
    ///
    /// A key on the way is the existing one that is [`alike`], so that a variable can name `[backends.my-gpu]`.
    pub(super) fn put<'k>(
        &mut self,
        speaker: &str,
        path: impl IntoIterator<Item = &'k str>,
        value: DeValue<'a>,
    ) -> Result<(), Error> {
        let address = self.text.len() + 1 + self.speakers.len();
        let address = address..address + 1;
        self.speakers.push(speaker.to_owned());
        let mut keys = path.into_iter().peekable();
        let mut walked = Vec::new();
        let mut table = &mut self.root;
        while let Some(key) = keys.next() {
            let key = table.keys().map(|k| k.get_ref().as_ref()).find(|k| alike(k, key)).unwrap_or(key).to_owned();
            walked.push(key.clone());
            let key = Spanned::new(address.clone(), DeString::Owned(key));
            if keys.peek().is_none() {
                table.insert(key, said_at(&address, value));
                break;
            }
            let nothing = Spanned::new(address.clone(), DeValue::Table(DeTable::new()));
            table = match table.entry(key).or_insert(nothing).get_mut() {
                DeValue::Table(table) => table,
                _ => return Err(Error::new(speaker, format!("{} is not a section", dotted(&walked)))),
            };
        }
        Ok(())
    }

    /// Whether there is a value at the top with this key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.root.contains_key(key)
    }

    /// Changes each string; `change` gives nothing where the string can stay, or says what is wrong with it.
    pub(super) fn change_strings(&mut self, change: &Change<'_>) -> Result<(), Error> {
        let mut path = Vec::new();
        let changed = change_in_table(&mut path, &mut self.root, change);
        changed.map_err(|(span, what)| Error::new(self.place(span), format!("{}: {what}", dotted(&path))))
    }

    /// Gives each section under `backends` of this kind this value for a key that it does not have.
    pub(super) fn supply_backends(&mut self, kind: &str, key: &'a str, value: &'a str) {
        let Some(DeValue::Table(backends)) = self.root.get_mut("backends").map(Spanned::get_mut) else { return };
        for (_, backend) in backends.iter_mut() {
            let span = backend.span();
            let DeValue::Table(section) = backend.get_mut() else { continue };
            let of_the_kind = section.get("kind").and_then(|kind| kind.get_ref().as_str()) == Some(kind);
            if of_the_kind && !section.contains_key(key) {
                let key = Spanned::new(span.clone(), DeString::Borrowed(key));
                section.insert(key, Spanned::new(span, string(value)));
            }
        }
    }

    /// Turns `{kind = "mock", …}` under `backends` into `{mock = {…}}`, the form in which serde reads an enum without putting it
    /// aside first and losing the spans. A missing kind becomes the variant with the empty name, which no enum has.
    pub(super) fn turn_kinds_into_variants(&mut self) -> Result<(), Error> {
        let Some(DeValue::Table(backends)) = self.root.get_mut("backends").map(Spanned::get_mut) else { return Ok(()) };
        let turned = backends.iter_mut().try_for_each(|(name, backend)| {
            let span = backend.span();
            let wrong = |key: &str, what| (span.clone(), format!("backends.{}{key}: expected {what}", name.get_ref()));
            let DeValue::Table(section) = backend.get_mut() else { return Err(wrong("", "a table")) };
            let kind = match section.remove("kind") {
                None => Spanned::new(span.clone(), DeString::Borrowed("")),
                Some(kind) => match (kind.span(), kind.into_inner()) {
                    (span, DeValue::String(kind)) => Spanned::new(span, kind),
                    (at, _) => return Err((at, wrong(".kind", "a string").1)),
                },
            };
            let rest = mem::take(section);
            section.insert(kind, Spanned::new(span, DeValue::Table(rest)));
            Ok(())
        });
        turned.map_err(|(span, what)| Error::new(self.place(span), what))
    }

    /// Makes it what serde makes of it.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let root = toml::Deserializer::from(Spanned::new(0..0, self.root.clone()));
        serde_path_to_error::deserialize(root).map_err(|error| {
            let path: Vec<_> = error.path().iter().filter_map(key_of).collect();
            let error = error.into_inner();
            let span = error.span().unwrap_or_default();
            let mut what = explain(&path, error.message());
            // A variable's value is taken as TOML where it can be: here it should not have been.
            if self.speaker(&span).is_some() && what.contains("expected a string, not ") {
                what.push_str("; write it as '\"…\"'");
            }
            Error::new(self.place(span), what)
        })
    }

    /// The place of the value at a path, or of the last one on the way to it.
    pub(super) fn place_of(&self, path: &[&str]) -> String {
        let mut span = 0..0;
        let mut table = Some(&self.root);
        for key in path {
            let Some(value) = table.and_then(|table| table.get(*key)) else { break };
            span = value.span();
            table = value.get_ref().as_table();
        }
        self.place(span)
    }

    /// Who said it, unless it was the file.
    fn speaker(&self, span: &Range<usize>) -> Option<&str> {
        let speaker = span.start.checked_sub(self.text.len() + 1)?;
        self.speakers.get(speaker).map(String::as_str)
    }

    fn place(&self, span: Range<usize>) -> String {
        match self.speaker(&span) {
            Some(speaker) => speaker.to_owned(),
            None if self.text.is_empty() => self.name.to_owned(),
            None => format!("{}:{}", self.name, position(self.text, span.start).0),
        }
    }
}

/// What [`Document::change_strings`] asks of each string.
pub(super) type Change<'c> = dyn Fn(&str) -> Result<Option<String>, String> + 'c;

/// What is wrong, and with which addresses.
type Fault = (Range<usize>, String);

/// On a fault, `path` is where it is.
fn change_in_table(path: &mut Vec<String>, table: &mut DeTable<'_>, change: &Change<'_>) -> Result<(), Fault> {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        change_in_value(path, value, change)?;
        path.pop();
    }
    Ok(())
}

fn change_in_value(path: &mut Vec<String>, value: &mut Spanned<DeValue<'_>>, change: &Change<'_>) -> Result<(), Fault> {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => {
            if let Some(changed) = change(text).map_err(|what| (span, what))? {
                *text = DeString::Owned(changed);
            }
        }
        DeValue::Array(items) => items.iter_mut().try_for_each(|item| change_in_value(path, item, change))?,
        DeValue::Table(table) => change_in_table(path, table, change)?,
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
    Ok(())
}

/// The value with all its spans at one address.
fn said_at<'a>(address: &Range<usize>, value: DeValue<'a>) -> Spanned<DeValue<'a>> {
    let inner = |value: Spanned<DeValue<'a>>| said_at(address, value.into_inner());
    let value = match value {
        DeValue::Array(items) => {
            let mut said = DeArray::new();
            items.into_iter().for_each(|item| said.push(inner(item)));
            DeValue::Array(said)
        }
        DeValue::Table(table) => {
            let said = |(key, value): (Spanned<_>, _)| (Spanned::new(address.clone(), key.into_inner()), inner(value));
            DeValue::Table(table.into_iter().map(said).collect())
        }
        simple => simple,
    };
    Spanned::new(address.clone(), value)
}

/// Whether a variable's word means this key: variables have no small letters and no dashes.
fn alike(key: &str, word: &str) -> bool {
    let fold = |b: u8| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'_' };
    key.len() == word.len() && key.bytes().map(fold).eq(word.bytes().map(fold))
}

/// Only what the operator wrote as a key: no variant, no index.
fn key_of(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Map { key } => Some(key.clone()),
        Segment::Seq { .. } | Segment::Enum { .. } | Segment::Unknown => None,
    }
}

/// Line and column, from 1.
fn position(text: &str, address: usize) -> (usize, usize) {
    let before = text.get(..address).unwrap_or(text);
    let line = before.bytes().filter(|b| *b == b'\n').count();
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count();
    (line + 1, column + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_columns_count_from_one_and_in_characters() {
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("é = 1\nb", "é =".len()), (1, 4));
        assert_eq!(position("a\nb", 2), (2, 1));
    }

    #[test]
    fn each_value_knows_who_said_it() {
        let mut document = Document::parse("f.toml", "[a]\nb = 1\n").expect("toml");
        document.put("X", ["a", "c"], string("x")).expect("a section");
        document.put("--y", ["a", "b"], string("y")).expect("a section");
        assert_eq!(document.place_of(&["a"]), "f.toml:1");
        assert_eq!(document.place_of(&["a", "c"]), "X");
        assert_eq!(document.place_of(&["a", "b"]), "--y");
        assert_eq!(document.place_of(&["a", "b", "nothing"]), "--y");
    }

    #[test]
    fn a_variable_finds_the_key_that_it_cannot_spell() {
        let mut document = Document::parse("f.toml", "[a.My-gpu]\nb = 1\n").expect("toml");
        document.put("X", ["a", "my_gpu", "b"], string("x")).expect("a section");
        assert_eq!(document.place_of(&["a", "My-gpu", "b"]), "X");
    }
}
