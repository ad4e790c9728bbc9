//! One event a line, as JSON: `{"id":5,"event":"message","data":{…}}`. What `jq` and `for line in …` read.
//!
//! An id is a number where it is nothing else, so that a program can compare it, and else a string, as server-sent events have it.

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

use super::{
    Form, Frame,
    sse::{EventId, put_number},
};

/// What is written when nothing else was for a while: a line with nothing in it, which is white space between two values.
pub const HEARTBEAT: &[u8] = b"\n";

/// The writer.
#[derive(Clone, Copy, Debug)]
pub struct Ndjson {
    /// What stands behind an event.
    end: u8,
}

impl Default for Ndjson {
    fn default() -> Self {
        Self { end: b'\n' }
    }
}

impl Ndjson {
    /// The same events for a list: with a comma behind each.
    #[must_use]
    pub fn list() -> Self {
        Self { end: b',' }
    }
}

impl Frame for Ndjson {
    const FORM: Form = Form::Ndjson;

    fn begin(&mut self, out: &mut BytesMut, name: Option<&str>, id: Option<EventId<'_>>) {
        out.extend_from_slice(b"{");
        if let Some(id) = id {
            out.extend_from_slice(b"\"id\":");
            put_id(out, id);
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(b"\"event\":");
        put_string(out, name.unwrap_or("message"));
        out.extend_from_slice(b",\"data\":");
    }

    fn end(&mut self, out: &mut BytesMut, _: Option<EventId<'_>>) {
        out.extend_from_slice(&[b'}', self.end]);
    }

    /// What is an object or a list stands there as it is; all else is a string, so that nobody must guess.
    fn foreign(&mut self, out: &mut BytesMut, name: Option<&str>, data: &str, id: Option<EventId<'_>>) {
        let is_json = data.starts_with(['{', '[']) && !data.contains(['\n', '\r']);
        self.begin(out, name, id);
        match is_json && serde_json::from_str::<&RawValue>(data).is_ok() {
            true => out.extend_from_slice(data.as_bytes()),
            false => put_string(out, data),
        }
        self.end(out, id);
    }
}

/// Appends an id as a JSON value.
pub fn put_id(out: &mut BytesMut, id: EventId<'_>) {
    let EventId { prefix, n, within } = id;
    if prefix.is_none() && within == 0 {
        return put_number(out, n);
    }
    out.extend_from_slice(b"\"");
    if let Some(prefix) = prefix {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(b"-");
    }
    put_number(out, n);
    if within > 0 {
        out.extend_from_slice(b".");
        put_number(out, within as u64);
    }
    out.extend_from_slice(b"\"");
}

fn put_string(out: &mut BytesMut, text: &str) {
    serde_json::to_writer(out.writer(), text).expect("text is plain data, and a buffer takes every write");
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn line(write: impl FnOnce(&mut BytesMut)) -> Value {
        let mut out = BytesMut::new();
        write(&mut out);
        let text = std::str::from_utf8(&out).expect("UTF-8").strip_suffix('\n').expect("a line");
        assert!(!text.contains(['\n', '\r']), "one line: {text}");
        serde_json::from_str(text).expect("JSON")
    }

    #[test]
    fn an_event_is_one_line_with_its_id_its_name_and_its_data() {
        let id = Some(EventId { prefix: None, n: 5, within: 0 });
        let event = line(|out| Ndjson::default().event(out, None, br#"{"text":"a"}"#, id));
        assert_eq!(event, json!({ "id": 5, "event": "message", "data": { "text": "a" } }));
        let id = Some(EventId { prefix: Some("0199"), n: 5, within: 0 });
        let event = line(|out| Ndjson::default().event(out, Some("end"), b"{}", id));
        assert_eq!(event, json!({ "id": "0199-5", "event": "end", "data": {} }));
        let id = Some(EventId { prefix: None, n: 5, within: 7 });
        let event = line(|out| Ndjson::default().event(out, None, b"{}", id));
        assert_eq!(event["id"], "5.7");
        let event = line(|out| Ndjson::default().event(out, Some("a\"\nb"), b"{}", None));
        assert_eq!(event, json!({ "event": "a\"\nb", "data": {} }));
    }

    #[test]
    fn what_somebody_else_said_is_json_only_if_it_is_an_object_or_a_list_on_one_line() {
        for (data, expected) in [
            (r#"{"a":[1]}"#, json!({ "a": [1] })),
            ("[1, 2]", json!([1, 2])),
            ("5", json!("5")),
            (r#""x""#, json!(r#""x""#)),
            ("{\n}", json!("{\n}")),
            ("{oops", json!("{oops")),
            ("[1] [2]", json!("[1] [2]")),
            ("plain \"words\"\r\n", json!("plain \"words\"\r\n")),
        ] {
            assert_eq!(line(|out| Ndjson::default().foreign(out, None, data, None))["data"], expected, "{data}");
        }
    }
}
