//! The writer: appends events to a buffer that the caller lends.
//!
//! It writes `event`, `data`, `retry` and `id`, in this order. The id is last because some clients
//! move their cursor at the id line already: cut off between id and data, they would come back
//! behind an event they never got.
//!
//! Nothing here allocates beyond what the buffer itself must grow.

use bytes::BytesMut;
use memchr::{memchr, memchr2, memchr3};

use crate::wire::{Form, Frame};

/// What is written when nothing else was for a while. One comment line and no blank line, since
/// after a blank line some clients report an empty message.
pub const HEARTBEAT: &[u8] = b":\n";

/// Room for everything but name and data: field names, a retry, a stream id, a cursor.
const FRAMING: usize = 128;

/// The id of an event: its number, on answers to a POST with the stream's id and `-` before it; where it ends within what has the
/// next number, with `.` and how far behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId<'a> {
    /// The stream's id, of the characters `0-9 A-Z a-z . _ ~` and `-`: other bytes in a
    /// `Last-Event-ID` header cost cross-origin clients a preflight.
    pub prefix: Option<&'a str>,
    /// The number.
    pub n: u64,
    /// How far within the next one; 0 is not at all.
    pub within: usize,
}

/// Appends one event.
///
/// `data` is UTF-8, for our own events one line of JSON. If it has several lines (ended by LF, CR
/// or CRLF), so has the event, and a reader gets them back joined by LF. It must not be empty: some
/// clients never see such an event, so nothing is written for it.
///
/// `name` is a name of ours or one that was checked when it came in. CR, LF and NUL in it are a
/// bug, and are left out, so that no text can become a field. The same holds for the prefix of the
/// id.
pub fn write_event(
    out: &mut BytesMut,
    name: Option<&str>,
    data: &[u8],
    retry_ms: Option<u32>,
    id: Option<EventId<'_>>,
) {
    debug_assert!(!data.is_empty(), "an event without data");
    if data.is_empty() {
        return;
    }
    out.reserve(data.len() + name.map_or(0, str::len) + FRAMING);
    if let Some(name) = name {
        put_name(out, name);
    }
    put_data(out, data);
    if let Some(retry) = retry_ms {
        put(out, b"retry: ");
        put_number(out, retry.into());
        put(out, b"\n");
    }
    put_id(out, id);
    put(out, b"\n");
}

/// The writer, where the form is a choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sse;

impl Frame for Sse {
    const FORM: Form = Form::Sse;

    fn begin(&mut self, out: &mut BytesMut, name: Option<&str>, _: Option<EventId<'_>>) {
        begin_event(out, name);
    }

    fn end(&mut self, out: &mut BytesMut, id: Option<EventId<'_>>) {
        end_event(out, id);
    }

    fn event(&mut self, out: &mut BytesMut, name: Option<&str>, data: &[u8], id: Option<EventId<'_>>) {
        write_event(out, name, data, None, id);
    }
}

/// Begins an event whose data the caller appends: one line, and not empty. [`end_event`] must follow.
pub fn begin_event(out: &mut BytesMut, name: Option<&str>) {
    if let Some(name) = name {
        out.reserve(name.len() + FRAMING);
        put_name(out, name);
    }
    put(out, b"data: ");
}

/// Ends an event that was begun so.
pub fn end_event(out: &mut BytesMut, id: Option<EventId<'_>>) {
    put(out, b"\n");
    put_id(out, id);
    put(out, b"\n");
}

/// Inlined at each of its places, this would be longer than all that is written with it, and most of what a lone token runs through.
#[inline(never)]
fn put(out: &mut BytesMut, bytes: &[u8]) {
    out.extend_from_slice(bytes);
}

/// Appends a number in digits.
pub fn put_number(out: &mut BytesMut, n: u64) {
    put(out, digits(n, &mut [0; 20]));
}

/// A number in digits, without the formatting machinery; `u64::MAX` has as many as there is room for.
pub fn digits(mut n: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut start = room.len();
    loop {
        start -= 1;
        room[start] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    &room[start..]
}

fn put_name(out: &mut BytesMut, name: &str) {
    debug_assert!(is_one_line(name), "not a name for an event: {name:?}");
    put(out, b"event: ");
    put_one_line(out, name);
    put(out, b"\n");
}

/// Appends the line of an id.
pub fn put_id(out: &mut BytesMut, id: Option<EventId<'_>>) {
    let Some(EventId { prefix, n, within }) = id else { return };
    put(out, b"id: ");
    if let Some(prefix) = prefix {
        debug_assert!(prefix.bytes().all(is_id_byte), "not a prefix for an id: {prefix:?}");
        put(out, prefix.as_bytes());
        put(out, b"-");
    }
    put_number(out, n);
    if within > 0 {
        put(out, b".");
        put_number(out, within as u64);
    }
    put(out, b"\n");
}

fn put_data(out: &mut BytesMut, mut data: &[u8]) {
    while let Some(end) = memchr2(b'\r', b'\n', data) {
        put_data_line(out, &data[..end]);
        let crlf = data[end..].starts_with(b"\r\n");
        data = &data[end + 1 + usize::from(crlf)..];
    }
    put_data_line(out, data);
}

/// The space is part of the framing: without it a reader would take the first one of the line.
fn put_data_line(out: &mut BytesMut, line: &[u8]) {
    put(out, b"data: ");
    put(out, line);
    put(out, b"\n");
}

fn is_one_line(text: &str) -> bool {
    memchr3(b'\r', b'\n', 0, text.as_bytes()).is_none()
}

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || memchr(byte, b"._~-").is_some()
}

fn put_one_line(out: &mut BytesMut, text: &str) {
    if is_one_line(text) {
        put(out, text.as_bytes());
    } else {
        out.extend(text.bytes().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name: Option<&str>, data: &str, retry_ms: Option<u32>, id: Option<EventId<'_>>) -> String {
        let mut out = BytesMut::new();
        write_event(&mut out, name, data.as_bytes(), retry_ms, id);
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn fields_come_in_order_with_the_id_last() {
        let id = EventId { prefix: Some("0199-a"), n: 42, within: 0 };
        assert_eq!(
            written(Some("start"), "{}", Some(1180), Some(id)),
            "event: start\ndata: {}\nretry: 1180\nid: 0199-a-42\n\n"
        );
    }

    #[test]
    fn an_event_written_in_two_steps_is_the_same() {
        let id = EventId { prefix: Some("0199-a"), n: 42, within: 0 };
        for id in [None, Some(id)] {
            let mut out = BytesMut::new();
            begin_event(&mut out, Some("start"));
            out.extend_from_slice(b"{}");
            end_event(&mut out, id);
            assert_eq!(&out[..], written(Some("start"), "{}", None, id).as_bytes());
        }
    }

    #[test]
    fn what_is_absent_is_not_written() {
        assert_eq!(written(None, "{}", None, None), "data: {}\n\n");
        assert_eq!(written(None, "{}", None, Some(EventId { prefix: None, n: 0, within: 0 })), "data: {}\nid: 0\n\n");
    }

    #[test]
    fn an_event_that_ends_within_a_record_says_so_in_its_id() {
        let id = EventId { prefix: Some("0199"), n: 4, within: 17 };
        assert_eq!(written(None, "{}", None, Some(id)), "data: {}\nid: 0199-4.17\n\n");
    }

    #[test]
    fn events_are_appended_to_what_is_there() {
        let mut out = BytesMut::from(HEARTBEAT);
        write_event(&mut out, None, b"1", None, None);
        write_event(&mut out, None, b"2", None, None);
        assert_eq!(&out[..], b":\ndata: 1\n\ndata: 2\n\n");
    }

    #[test]
    fn every_kind_of_line_end_in_data_starts_a_new_data_line() {
        assert_eq!(
            written(None, "a\nb\rc\r\nd\n\r", None, None),
            "data: a\ndata: b\ndata: c\ndata: d\ndata: \ndata: \n\n"
        );
    }

    #[test]
    fn numbers_are_written_as_the_standard_library_writes_them() {
        for n in [0, 9, 10, 99, 100, 1 << 32, u64::MAX - 1, u64::MAX] {
            let mut out = BytesMut::new();
            put_number(&mut out, n);
            assert_eq!(&out[..], n.to_string().as_bytes());
        }
    }

    #[test]
    fn bytes_that_would_start_a_field_are_left_out() {
        let mut out = BytesMut::new();
        put_one_line(&mut out, "a\r\ndata: injected\n\n\0é");
        assert_eq!(&out[..], "adata: injectedé".as_bytes());
    }

    #[cfg(debug_assertions)]
    mod a_bug_in_the_caller_is_caught_by {
        use super::*;

        #[test]
        #[should_panic(expected = "an event without data")]
        fn empty_data() {
            written(None, "", None, None);
        }

        #[test]
        #[should_panic(expected = "not a name")]
        fn a_name_of_two_lines() {
            written(Some("a\nb"), "{}", None, None);
        }

        #[test]
        #[should_panic(expected = "not a prefix")]
        fn a_prefix_that_is_no_stream_id() {
            written(None, "{}", None, Some(EventId { prefix: Some("a:b"), n: 1, within: 0 }));
        }
    }

    #[cfg(not(debug_assertions))]
    #[test]
    fn empty_data_writes_nothing() {
        assert_eq!(written(Some("x"), "", Some(1), None), "");
    }
}
