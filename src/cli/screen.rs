//! An answer as it comes, on a terminal, in a file or for a machine.
//!
//! A file gets the text to the letter. A terminal also gets what the model thinks, dimmed, and is told on stderr what happens; but nothing
//! that a model says can make it obey: control characters are left out. A machine gets each event as one line of JSON.

use std::{
    borrow::Cow,
    env,
    io::{self, BufWriter, IsTerminal, Stdout, Write, stderr, stdout},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use crate::{client::Event, id::Cursor};

/// Whether what is written there may have colours. See <https://no-color.org>.
pub(super) fn has_colours(to: &impl IsTerminal) -> bool {
    let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    to.is_terminal() && !refused && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Says something on stderr. Whether anybody listens is not our affair.
pub(super) fn tell(text: &str) {
    let _nobody_listens = writeln!(stderr(), "lastword: {text}");
}

/// Where an answer is shown.
pub(super) struct Screen {
    out: BufWriter<Stdout>,
    form: Form,
    colours: bool,
    /// A person reads stderr.
    watched: bool,
    /// The cursor stands at the beginning of a line.
    fresh: bool,
    part: Part,
    /// The last event that was printed.
    printed: Option<Cursor>,
    /// Some of what was printed is not the answer's.
    torn: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Terminal,
    Json,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Nothing,
    Reasoning,
    Text,
}

/// One event for a machine.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<Cursor>,
    event: &'a str,
    data: Cow<'a, RawValue>,
}

#[derive(Deserialize)]
struct Words<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        let terminal = stdout().is_terminal();
        Self {
            out: BufWriter::new(stdout()),
            form: match (json, terminal) {
                (true, _) => Form::Json,
                (false, true) => Form::Terminal,
                (false, false) => Form::Text,
            },
            colours: has_colours(&stdout()),
            watched: stderr().is_terminal(),
            fresh: true,
            part: Part::Nothing,
            printed: None,
            torn: false,
        }
    }

    /// Some of what was printed turned out not to be the answer's, and nobody but us knows.
    pub(super) fn is_torn(&self) -> bool {
        self.torn && self.form != Form::Json
    }

    /// Shows an event, perhaps not before [`Screen::flush`].
    pub(super) fn show(&mut self, event: &Event) -> io::Result<()> {
        if self.form == Form::Json {
            return self.line(event);
        }
        match event.name.as_str() {
            "message" => self.words(event, Part::Text),
            "reasoning" if self.form == Form::Terminal => self.words(event, Part::Reasoning),
            "reset" => self.reset(event),
            "tool_call" | "file" | "notice" => self.aside(event),
            _ => Ok(()),
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// All was shown: the next thing on a terminal begins on a line of its own.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        if self.form == Form::Terminal {
            self.begin_line()?;
        }
        self.flush()
    }

    /// Tells a person who waits; nobody else.
    pub(super) fn note(&mut self, text: &str) -> io::Result<()> {
        if !self.watched {
            return Ok(());
        }
        self.finish()?;
        let dim = has_colours(&stderr());
        let (on, off) = if dim { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        tell(&format!("{on}{}{off}", printable(text)));
        Ok(())
    }

    fn words(&mut self, event: &Event, part: Part) -> io::Result<()> {
        let Ok(Words { text }) = serde_json::from_str(&event.data) else { return Ok(()) };
        self.printed = event.cursor.or(self.printed);
        if self.form == Form::Text {
            return self.out.write_all(text.as_bytes());
        }
        if self.part == Part::Reasoning && part == Part::Text {
            self.begin_line()?;
            writeln!(self.out)?;
        }
        self.part = part;
        let text = printable(&text);
        self.fresh = text.chars().next_back().map_or(self.fresh, |last| last == '\n');
        match part == Part::Reasoning && self.colours {
            // Switched on and off with each piece: wherever this ends, the terminal is as it was.
            true => write!(self.out, "\x1b[2m{text}\x1b[0m"),
            false => self.out.write_all(text.as_bytes()),
        }
    }

    fn begin_line(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.fresh, true) {
            true => Ok(()),
            false => writeln!(self.out),
        }
    }

    /// What was printed cannot be taken back.
    fn reset(&mut self, event: &Event) -> io::Result<()> {
        #[derive(Deserialize)]
        struct Reset {
            after: Cursor,
        }
        let Ok(Reset { after }) = serde_json::from_str(&event.data) else { return Ok(()) };
        self.finish()?;
        match self.printed > Some(after) {
            true => {
                self.torn = true;
                tell(&format!("what was printed behind event {after} is not in the answer; what follows begins there"));
            }
            false => tell(&format!("the answer has no such event; what follows begins behind event {after}")),
        }
        Ok(())
    }

    /// What a person may want to know, and is no text.
    fn aside(&mut self, event: &Event) -> io::Result<()> {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let word = |name: &str| data[name].as_str().map(str::to_owned);
        let told = match event.name.as_str() {
            "tool_call" => word("name").map(|name| format!("the model calls {name}; --json shows with what")),
            "file" => word("media_type").map(|kind| format!("a file, {kind}; --json shows it")),
            _ => word("message").or_else(|| word("kind")),
        };
        told.map_or(Ok(()), |told| self.note(&told))
    }

    fn line(&mut self, event: &Event) -> io::Result<()> {
        // Not every application's event is JSON, and not all JSON is on one line.
        let as_it_is = serde_json::from_str::<&RawValue>(&event.data).ok().filter(|_| !event.data.contains('\n'));
        let data = match as_it_is {
            Some(data) => Cow::Borrowed(data),
            None => Cow::Owned(match serde_json::from_str::<Value>(&event.data) {
                Ok(value) => serde_json::value::to_raw_value(&value)?,
                Err(_) => serde_json::value::to_raw_value(&event.data)?,
            }),
        };
        serde_json::to_writer(&mut self.out, &Line { id: event.cursor, event: &event.name, data })?;
        self.out.write_all(b"\n")
    }
}

/// Nothing that a terminal would obey.
fn printable(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    match text.contains(obeyed) {
        true => Cow::Owned(text.replace(obeyed, "")),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_no_model() {
        assert_eq!(printable("a\tb\n\u{1f469}\u{200d}\u{1f680}"), "a\tb\n\u{1f469}\u{200d}\u{1f680}");
        assert_eq!(printable("\x1b]0;title\x07\u{9b}2J\r\nx\x7f"), "]0;title2J\nx");
    }
}
