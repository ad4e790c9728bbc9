//! A second reading of the standard, to hold the parser against: the whole stream at once, decoded
//! first, in the standard's own order and with no thought of speed.
//!
//! Shared by `tests/sse_parser.rs` and the fuzz target. It knows no limit and no option.

/// All that can be seen of a stream after its last byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Event, data and last event id of each dispatched event.
    pub(crate) events: Vec<(String, String, String)>,
    /// The cursor at the end.
    pub(crate) last_event_id: String,
    /// The reconnection time at the end.
    pub(crate) retry: Option<u64>,
}

/// Reads a whole stream.
pub(crate) fn read(bytes: &[u8]) -> Reading {
    let mut reading = Reading::default();
    let (mut event, mut data, mut id) = (String::new(), String::new(), String::new());

    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    // What follows the last line end is a line cut off: it is not processed.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        if line.is_empty() {
            reading.last_event_id.clone_from(&id);
            if !data.is_empty() {
                let data = data.strip_suffix('\n').expect("each data field ends with LF");
                let event = if event.is_empty() { "message" } else { &event };
                reading.events.push((event.to_owned(), data.to_owned(), id.clone()));
            }
            data.clear();
            event.clear();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut event),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if !value.is_empty() && value.chars().all(|c| c.is_ascii_digit()) => {
                reading.retry = value.parse().ok().or(reading.retry);
            }
            _ => {}
        }
    }
    reading
}
