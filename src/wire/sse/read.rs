//! The reader: bytes in, events out, wherever the bytes were cut.
//!
//! Lines are found in the raw bytes and only the values that matter are decoded. That is the same
//! as decoding first: CR, LF and `:` are ASCII, and an ASCII byte ends any broken UTF-8 sequence
//! before it. So a character or a BOM split between two chunks needs no state of its own: the
//! unfinished line is all there is to keep.
//!
//! An event that lies whole within one chunk is borrowed from it. Only what a later chunk must
//! complete is copied.

use std::borrow::Cow;
use std::mem;

use memchr::{memchr, memchr2};

const BOM: &[u8] = "\u{feff}".as_bytes();

/// Capacity the cursor keeps from one event to the next. Real ids fit; the room of a giant one is
/// given back.
const CURSOR_CAPACITY: usize = 256;

/// One dispatched event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The event's type, `message` when it was not named.
    pub event: &'a str,
    /// Its `data` lines, joined by LF.
    pub data: &'a str,
    /// The cursor: the last `id` seen up to and including this event, empty if there was none.
    pub last_event_id: &'a str,
}

/// A line, or the data of one event, was longer than the parser's limit. The stream cannot be read
/// any further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line or event of the event stream is longer than the limit of {limit} bytes")]
pub struct TooLong {
    /// The limit that was exceeded, in bytes.
    pub limit: usize,
}

/// An incremental parser of one event stream.
///
/// ```
/// # use lastword::wire::sse::{Parser, TooLong};
/// # fn main() -> Result<(), TooLong> {
/// let mut parser = Parser::new(2 << 20);
/// for chunk in ["event: greeting\nda", "ta: hello\n\n"] {
///     let mut frames = parser.feed(chunk.as_bytes());
///     while let Some(frame) = frames.next()? {
///         assert_eq!((frame.event, frame.data), ("greeting", "hello"));
///     }
/// }
/// # Ok(()) }
/// ```
///
/// There is no call for the end of the stream: what has not been dispatched by then is dropped, as
/// the standard asks.
#[derive(Debug)]
pub struct Parser {
    limit: usize,
    error_field: bool,
    /// The line that the next chunk goes on with.
    line: Vec<u8>,
    /// The fields read since the last blank line.
    block: Block<'static>,
    last_event_id: String,
    retry: Option<u64>,
    /// No line is complete yet, so the next one may begin with a BOM.
    at_start: bool,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    failed: bool,
}

/// The fields of an event that is not complete yet.
#[derive(Debug, Default)]
struct Block<'a> {
    /// Empty means `message`.
    event: Cow<'a, str>,
    /// None until a `data` field came: without one nothing is dispatched.
    data: Option<Cow<'a, str>>,
    id: Option<Cow<'a, str>>,
}

impl Parser {
    /// A parser at the start of a stream. `limit` is the most bytes that one line, or the data of
    /// one event, may have; what is over it is an error, never a cut. The parser holds a small
    /// multiple of it at most.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            error_field: false,
            line: Vec::new(),
            block: Block::default(),
            last_event_id: String::new(),
            retry: None,
            at_start: true,
            after_cr: false,
            failed: false,
        }
    }

    /// Understands a *field* `error: {…}`, which old llama.cpp servers write where `data:` belongs:
    /// its value takes the place of the block's data, and the event is named `error`. Without this
    /// it is an unknown field, and ignored.
    pub fn error_field(mut self) -> Self {
        self.error_field = true;
        self
    }

    /// Takes the next bytes of the stream, cut anywhere, and lends the events that they complete.
    pub fn feed<'a>(&'a mut self, bytes: &'a [u8]) -> Frames<'a> {
        let block = mem::take(&mut self.block);
        Frames { parser: self, rest: bytes, block, event: Cow::default(), data: Cow::default() }
    }

    /// The cursor with which to come back: the `id` of the last block that was complete, empty if
    /// there was none.
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// How long the server wants a client to wait before it comes back, in milliseconds.
    pub fn retry(&self) -> Option<u64> {
        self.retry
    }
}

/// The events in the bytes of one [`Parser::feed`]. An iterator, but for the fact that it lends: a
/// frame must be let go before the next one.
///
/// Dropping it early skips the events that were not asked for; the parser stays in step with the
/// stream.
#[derive(Debug)]
#[must_use = "events are read by calling `next`"]
pub struct Frames<'a> {
    parser: &'a mut Parser,
    rest: &'a [u8],
    block: Block<'a>,
    /// What the frame last returned borrows from.
    event: Cow<'a, str>,
    data: Cow<'a, str>,
}

impl<'a> Frames<'a> {
    /// The next event that is complete, or `None` when more bytes are needed.
    ///
    /// # Errors
    ///
    /// [`TooLong`], from then on and for all further bytes. The events before it have been
    /// returned.
    #[expect(clippy::should_implement_trait, reason = "a std Iterator cannot lend")]
    pub fn next(&mut self) -> Result<Option<Frame<'_>>, TooLong> {
        while let Some(line) = self.line()? {
            if !line.is_empty() {
                self.field(line)?;
                continue;
            }
            let block = mem::take(&mut self.block);
            if let Some(id) = block.id {
                let cursor = &mut self.parser.last_event_id;
                cursor.clear();
                cursor.push_str(&id);
                cursor.shrink_to(CURSOR_CAPACITY);
            }
            if let Some(data) = block.data {
                self.data = data;
                self.event = block.event;
                return Ok(Some(Frame {
                    event: if self.event.is_empty() { "message" } else { &self.event },
                    data: &self.data,
                    last_event_id: &self.parser.last_event_id,
                }));
            }
        }
        Ok(None)
    }

    /// The next complete line without its end: a part of the input, unless it began in an earlier
    /// chunk.
    fn line(&mut self) -> Result<Option<Cow<'a, [u8]>>, TooLong> {
        let parser = &mut *self.parser;
        if parser.failed {
            return Err(TooLong { limit: parser.limit });
        }
        if parser.after_cr && !self.rest.is_empty() {
            parser.after_cr = false;
            self.rest = self.rest.strip_prefix(b"\n").unwrap_or(self.rest);
        }

        let end = memchr2(b'\n', b'\r', self.rest);
        let (piece, tail) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if parser.line.len() + piece.len() > parser.limit {
            return Err(self.fail());
        }
        let Some((end, rest)) = tail.split_first() else {
            parser.line.extend_from_slice(piece);
            self.rest = &[];
            return Ok(None);
        };
        parser.after_cr = *end == b'\r';
        self.rest = rest;

        let mut line = Cow::Borrowed(piece);
        if !parser.line.is_empty() {
            parser.line.extend_from_slice(piece);
            line = Cow::Owned(mem::take(&mut parser.line));
        }
        if mem::take(&mut parser.at_start) && line.starts_with(BOM) {
            line = match line {
                Cow::Borrowed(line) => Cow::Borrowed(&line[BOM.len()..]),
                Cow::Owned(line) => Cow::Owned(line[BOM.len()..].to_vec()),
            };
        }
        Ok(Some(line))
    }

    /// Adds one field to the block. A comment is a field without a name, and falls out as unknown.
    fn field(&mut self, line: Cow<'a, [u8]>) -> Result<(), TooLong> {
        let colon = memchr(b':', &line).unwrap_or(line.len());
        let mut value = (colon + 1).min(line.len());
        if line.get(value) == Some(&b' ') {
            value += 1;
        }
        match &line[..colon] {
            b"data" => {
                let value = text(&line, value);
                match &mut self.block.data {
                    None => self.block.data = Some(value),
                    Some(data) => {
                        let data = data.to_mut();
                        data.push('\n');
                        data.push_str(&value);
                    }
                }
            }
            b"event" => self.block.event = text(&line, value),
            b"id" if memchr(0, &line[value..]).is_none() => self.block.id = Some(text(&line, value)),
            b"retry" => self.parser.retry = milliseconds(&line[value..]).or(self.parser.retry),
            b"error" if self.parser.error_field => {
                self.block.event = Cow::Borrowed("error");
                self.block.data = Some(text(&line, value));
            }
            _ => {}
        }
        match &self.block.data {
            Some(data) if data.len() > self.parser.limit => Err(self.fail()),
            _ => Ok(()),
        }
    }

    /// Gives up on the stream, and the memory it took.
    fn fail(&mut self) -> TooLong {
        self.parser.failed = true;
        self.parser.line = Vec::new();
        self.block = Block::default();
        TooLong { limit: self.parser.limit }
    }
}

impl Drop for Frames<'_> {
    fn drop(&mut self) {
        while let Ok(Some(_)) = self.next() {}
        let Block { event, data, id } = mem::take(&mut self.block);
        self.parser.block = Block { event: owned(event), data: data.map(owned), id: id.map(owned) };
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// The text of a line from `start` on. Only what lies in the input, and is valid, can be borrowed.
fn text<'a>(line: &Cow<'a, [u8]>, start: usize) -> Cow<'a, str> {
    match line {
        Cow::Borrowed(line) => decode(&line[start..]),
        Cow::Owned(line) => owned(decode(&line[start..])),
    }
}

/// `from_utf8_lossy` goes byte by byte also through valid text; `from_utf8` does not.
fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => String::from_utf8_lossy(bytes),
    }
}

/// A `retry` counts only if it is all digits; one that no clock could hold is ignored too.
fn milliseconds(value: &[u8]) -> Option<u64> {
    if !value.iter().all(u8::is_ascii_digit) {
        return None; // `parse` alone would take a sign
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    /// Feeds one chunk and copies out its events as (event, data).
    fn read(parser: &mut Parser, chunk: &[u8]) -> Result<Vec<(String, String)>, TooLong> {
        let mut frames = parser.feed(chunk);
        let mut seen = Vec::new();
        while let Some(frame) = frames.next()? {
            seen.push((frame.event.to_owned(), frame.data.to_owned()));
        }
        Ok(seen)
    }

    fn message(data: &str) -> (String, String) {
        ("message".into(), data.into())
    }

    #[test]
    fn an_event_within_one_chunk_is_borrowed_from_it() {
        let chunk = b"event: token\ndata: {\"text\":\"caf\xc3\xa9\"}\nid: 7\n\ndata: next\n\n";
        let mut parser = Parser::new(1024);
        let mut frames = parser.feed(chunk);
        let mut count = 0;
        while let Some(frame) = frames.next().unwrap() {
            assert!(chunk.as_ptr_range().contains(&frame.data.as_ptr()));
            assert!(frame.event == "message" || chunk.as_ptr_range().contains(&frame.event.as_ptr()));
            count += 1;
        }
        assert_eq!(count, 2);
    }

    #[test]
    fn a_blank_line_that_ends_with_cr_dispatches_at_once() {
        let mut parser = Parser::new(1024);
        assert_eq!(read(&mut parser, b"data: a\r\r").unwrap(), [message("a")]);
        assert_eq!(read(&mut parser, b"").unwrap(), []);
        assert_eq!(read(&mut parser, b"\n").unwrap(), []);
        assert_eq!(read(&mut parser, b"data: b\n\n").unwrap(), [message("b")]);
    }

    #[test]
    fn an_lf_is_swallowed_once_and_only_right_after_a_cr() {
        let mut parser = Parser::new(1024);
        assert_eq!(read(&mut parser, b"data: a\r\n").unwrap(), []);
        assert_eq!(read(&mut parser, b"\n").unwrap(), [message("a")]);
    }

    #[test]
    fn events_not_asked_for_are_skipped_and_the_parser_stays_in_step() {
        let mut parser = Parser::new(1024);
        let mut frames = parser.feed(b"data: a\nid: 1\n\ndata: b\nid: 2\n\nevent: x\ndata: c");
        assert_eq!(frames.next().unwrap().unwrap().data, "a");
        drop(frames);
        assert_eq!(parser.last_event_id(), "2");
        assert_eq!(read(&mut parser, b"d\n\n").unwrap(), [("x".into(), "cd".into())]);
    }

    #[test]
    fn events_before_the_one_too_long_are_returned_and_none_after_it() {
        let mut parser = Parser::new(8);
        let mut frames = parser.feed(b"data: a\n\ndata: bbbbbbb\n\ndata: c\n\n");
        assert_eq!(frames.next().unwrap().unwrap().data, "a");
        assert!(frames.next().is_err());
        assert!(frames.next().is_err());
        drop(frames);
        assert!(read(&mut parser, b"\n\ndata: d\n\n").is_err());
        assert!(read(&mut parser, b"").is_err());
    }

    #[test]
    fn an_endless_line_is_held_up_to_the_limit_and_then_let_go() {
        let limit = 64 * 1024;
        let mut parser = Parser::new(limit);
        let mut fed = 0;
        while read(&mut parser, &[b'x'; 1000]).is_ok() {
            fed += 1000;
            assert!(parser.line.capacity() <= 2 * limit);
        }
        assert!(fed <= limit);
        assert_eq!(parser.line.capacity(), 0);
    }

    #[test]
    fn lines_without_end_that_mean_nothing_are_not_kept() {
        let mut parser = Parser::new(1024);
        for _ in 0..10_000 {
            assert_eq!(read(&mut parser, b": keep-alive\nunknown: field\n").unwrap(), []);
        }
        assert_eq!(parser.line.capacity(), 0);
        assert!(parser.block.data.is_none());
    }

    #[test]
    fn memory_for_a_large_event_is_given_back() {
        let large = "x".repeat(1 << 20);
        let mut parser = Parser::new(2 << 20);
        for piece in format!("id: {large}\ndata: {large}\n\n").as_bytes().chunks(1000) {
            read(&mut parser, piece).unwrap();
        }
        assert_eq!(parser.last_event_id().len(), large.len());
        assert_eq!(read(&mut parser, b"id: 2\ndata: small\n\n").unwrap(), [message("small")]);
        assert_eq!(parser.line.capacity(), 0);
        assert!(parser.last_event_id.capacity() <= CURSOR_CAPACITY);
    }
}
