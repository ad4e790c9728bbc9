//! An application's bytes to events.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::BytesMut;
use memchr::memchr2;

use crate::{
    event::{Custom, Event, Raw},
    protocol::{Decode, DecodeError, Dialect, understood::Note},
    wire::sse::{BlockTooLong, Blocks, Parser, write_event},
};

type Events = Vec<Event<'static>>;

/// Decodes one response's body.
pub struct RelayDecode {
    limit: usize,
    blocks: Blocks,
    parser: Parser,
    /// What stands before the event that comes: comments, and events without data.
    before: Vec<u8>,
    /// What it speaks, once that is known.
    dialect: Option<Dialect>,
    understood: Option<Box<dyn Decode>>,
    /// What it complained of.
    fault: Option<DecodeError>,
    /// It was recorded that it has ended its answer.
    ended: bool,
    inner: Events,
    scratch: BytesMut,
}

impl RelayDecode {
    /// Of a body of which each block may have so many bytes. `speaks`, where that is known before the first event.
    #[must_use]
    pub fn new(limit: usize, speaks: Option<Dialect>) -> Self {
        Self {
            limit,
            blocks: Blocks::default(),
            parser: Parser::new(limit),
            before: Vec::new(),
            dialect: speaks,
            understood: speaks.and_then(Dialect::decoder),
            fault: None,
            ended: false,
            inner: speaks.map(|dialect| Note::Speaks(dialect).event()).into_iter().collect(),
            scratch: BytesMut::new(),
        }
    }

    /// Takes the next bytes, and gives the events that they complete.
    ///
    /// # Errors
    /// When a block is too long.
    pub fn feed(&mut self, bytes: &[u8], events: &mut Events) -> Result<(), DecodeError> {
        events.append(&mut self.inner);
        let mut blocks = std::mem::take(&mut self.blocks);
        let fed = blocks.feed(bytes, self.limit, |block, one_line| self.block(block, one_line, events));
        self.blocks = blocks;
        // Comments are kept for the event that they stand before, which may never come.
        let kept = if self.before.len() > self.limit { Err(BlockTooLong(self.limit)) } else { fed };
        kept.map_err(|too_long| DecodeError::Malformed(format!("{too_long}; raise `max_line` if that is right")))
    }

    /// The body has ended.
    ///
    /// # Errors
    /// What the application complained of; or that its answer is not whole.
    pub fn finish(&mut self, events: &mut Events) -> Result<(), DecodeError> {
        events.append(&mut self.inner);
        let rest = self.blocks.rest().to_vec();
        let mut before = std::mem::take(&mut self.before);
        without_ids(&rest, &mut before);
        let whole = match self.understood.as_mut() {
            Some(decode) => decode.finish(&mut Vec::new()),
            None => Ok(()),
        };
        if !before.is_empty() && whole.is_ok() {
            // Half an event, which no client takes for one, and what stood behind the last.
            events.push(Event::Custom(Custom { raw: Some(raw(before)), ..Custom::default() }));
        }
        match self.fault.take() {
            Some(fault) => Err(fault),
            None => whole,
        }
    }

    /// Whether the application has ended its answer, so that what may follow is not waited for long.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    fn block(&mut self, block: &[u8], one_line: bool, events: &mut Events) {
        // Nearly all that there is: one line of data and nothing else, as lastword would write it.
        if one_line
            && self.before.is_empty()
            && self.dialect.is_some()
            && let Some(data) = block.strip_prefix(b"data: ").and_then(|rest| rest.strip_suffix(b"\n\n"))
            && !data.is_empty()
            && !data.ends_with(b"\r")
            && let Ok(data) = std::str::from_utf8(data)
        {
            return self.event("message", Custom { data: data.to_owned(), ..Custom::default() }, events);
        }
        let identified = without_ids(block, &mut self.before);
        let mut frames = self.parser.feed(block);
        let Ok(Some(frame)) = frames.next() else { return };
        if self.dialect.is_none() {
            let dialect = Dialect::of(frame.event, frame.data);
            self.dialect = Some(dialect);
            self.understood = dialect.decoder();
            events.push(Note::Speaks(dialect).event());
        }
        let name = if frame.event == "message" { String::new() } else { frame.event.replace('\0', "") };
        let id = (identified && !frame.last_event_id.is_empty()).then(|| frame.last_event_id.to_owned());
        let mut custom = Custom { name, data: frame.data.to_owned(), id, raw: None };
        let as_we_would = !custom.data.is_empty() && {
            self.scratch.clear();
            let name = Some(&*custom.name).filter(|name| !name.is_empty());
            write_event(&mut self.scratch, name, custom.data.as_bytes(), None, None);
            self.scratch[..] == self.before[..]
        };
        match as_we_would {
            true => self.before.clear(),
            false => custom.raw = Some(raw(std::mem::take(&mut self.before))),
        }
        drop(frames);
        let name = if custom.name.is_empty() { "message".to_owned() } else { custom.name.clone() };
        self.event(&name, custom, events);
    }

    /// An event of the application's, and what it means.
    fn event(&mut self, name: &str, custom: Custom, events: &mut Events) {
        let Some(decode) = self.understood.as_mut().filter(|decode| !decode.is_only_words(name, &custom.data)) else {
            return events.push(Event::Custom(custom));
        };
        let understood = decode.frame(name, &custom.data, &mut self.inner);
        let done = decode.done();
        events.push(Event::Custom(custom));
        if let Err(fault) = understood {
            self.fault.get_or_insert(fault);
        }
        // What is counted and why it stopped is everybody's; its words are in the event itself.
        events.extend(self.inner.drain(..).filter(|event| matches!(event, Event::Usage(_) | Event::Finish(..))));
        if (done || self.fault.is_some()) && !std::mem::replace(&mut self.ended, true) {
            events.push(Note::Ended.event());
        }
    }
}

fn raw(bytes: Vec<u8>) -> Raw {
    String::from_utf8(bytes).map_or_else(|bad| Raw::Base64(STANDARD.encode(bad.as_bytes())), Raw::Text)
}

/// Appends a block without its ids; says whether it had one.
fn without_ids(block: &[u8], out: &mut Vec<u8>) -> bool {
    let mut rest = block;
    let mut had = false;
    while !rest.is_empty() {
        let end = match memchr2(b'\n', b'\r', rest) {
            Some(at) if rest[at..].starts_with(b"\r\n") => at + 2,
            Some(at) => at + 1,
            None => rest.len(),
        };
        let (line, after) = rest.split_at(end);
        match line {
            [b'i', b'd', b':' | b'\n' | b'\r', ..] | b"id" => had = true,
            _ => out.extend_from_slice(line),
        }
        rest = after;
    }
    had
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_ends_otherwise_than_lastwords_keeps_its_bytes_and_gives_no_cr_to_the_data() {
        for (block, raw) in [
            ("data: a\n\n", None),
            ("data: a\r\n\n", Some("data: a\r\n\n")),
            ("data: a\r\n\r\n", Some("data: a\r\n\r\n")),
            ("data: a\n\r\n", Some("data: a\n\r\n")),
            ("data:a\n\n", Some("data:a\n\n")),
        ] {
            let (mut decode, mut events) = (RelayDecode::new(100, Some(Dialect::Plain)), Vec::new());
            decode.feed(block.as_bytes(), &mut events).expect("short");
            let raw = raw.map(|raw| Raw::Text(raw.to_owned()));
            let expected = Event::Custom(Custom { data: "a".to_owned(), raw, ..Custom::default() });
            assert_eq!(events.last(), Some(&expected), "{block:?}");
        }
    }
}
