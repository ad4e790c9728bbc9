//! What a store says of itself, as a person reads it.

use std::io::{self, Write};

use bytesize::ByteSize;
use serde_json::{Map, Value};

use crate::{
    cli::table::{self, Side, shown},
    server::admin::{Checked, Listed, Stats},
};

const HEADS: [(&str, Side); 6] = [
    ("ID", Side::Left),
    ("STATUS", Side::Left),
    ("CREATED", Side::Left),
    ("BYTES", Side::Right),
    ("RECORDS", Side::Right),
    ("MODEL", Side::Left),
];

/// What is known of a stream, the most important first; what is not named here follows.
const FIRST: [&str; 10] =
    ["id", "status", "reason", "error", "damage", "model", "backend", "created_at", "ended_at", "cursor"];

/// What was said comes last, as it is.
const SAID: [&str; 3] = ["reasoning", "tool_calls", "text"];

pub(super) fn stats(out: &mut impl Write, stats: &Stats) -> io::Result<()> {
    let size = |bytes| ByteSize(bytes).display();
    let files = stats.files;
    writeln!(out, "engine      {}, {}", stats.engine, stats.folder)?;
    writeln!(out, "durability  {}", stats.durability)?;
    writeln!(out, "streams     {} running, {} finished", stats.running, stats.finished)?;
    if let Some(oldest) = &stats.oldest {
        writeln!(out, "oldest      {oldest}")?;
    }
    writeln!(out, "kept        {}", size(stats.bytes))?;
    let sum = size(files.base + files.log + files.reserve);
    writeln!(
        out,
        "on disk     {sum}: base {}, log {}, reserve {}",
        size(files.base),
        size(files.log),
        size(files.reserve)
    )?;
    match &stats.refuses {
        None => writeln!(out, "writes      taken"),
        Some(why) => writeln!(out, "writes      refused: {why}"),
    }
}

/// One row, numbers to the last digit.
pub(super) fn columns(stream: &Listed) -> [String; 6] {
    [
        stream.id.to_string(),
        stream.status.clone(),
        stream.created_at.clone(),
        stream.bytes.to_string(),
        stream.records.to_string(),
        shown(&stream.model),
    ]
}

/// Rows below a head, aligned.
pub(super) fn table(out: &mut impl Write, streams: &[Listed]) -> io::Result<()> {
    let rows = streams.iter().map(|stream| {
        let mut row = columns(stream);
        row[3] = ByteSize(stream.bytes).display().to_string();
        row
    });
    table::write(out, HEADS, &rows.collect::<Vec<_>>())
}

/// What is known of a stream, one member a line.
pub(super) fn stream(out: &mut impl Write, mut known: Map<String, Value>) -> io::Result<()> {
    let said = SAID.map(|name| (name, known.remove(name)));
    let first: Vec<_> = FIRST.iter().filter_map(|name| known.remove_entry(*name)).collect();
    for (name, value) in first.into_iter().chain(known) {
        match value {
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => writeln!(out, "{name:11} {}", shown(&text))?,
            Value::Array(items) => {
                items.iter().try_for_each(|item| writeln!(out, "{name:11} {}", shown(&item.to_string())))?;
            }
            value => writeln!(out, "{name:11} {}", shown(&value.to_string()))?,
        }
    }
    for (name, value) in said {
        match value {
            None => {}
            Some(Value::String(text)) => writeln!(out, "\n{name}:\n{text}")?,
            Some(value) => writeln!(out, "\n{name}:\n{value}")?,
        }
    }
    Ok(())
}

pub(super) fn checked(out: &mut impl Write, checked: &Checked) -> io::Result<()> {
    for fault in &checked.faults {
        match fault.stream {
            Some(id) => writeln!(out, "{id}: {}; {}", fault.what, fault.remedy)?,
            None => writeln!(out, "{}; {}", fault.what, fault.remedy)?,
        }
    }
    let Checked { streams, records, faults } = checked;
    match faults.len() {
        0 => writeln!(out, "checked {streams} streams with {records} records: all is well"),
        n => writeln!(out, "checked {streams} streams with {records} records: {n} wrong"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StreamId;

    #[test]
    fn a_table_is_aligned_and_obeys_nobody() {
        let row = |status: &str, bytes, records, model: &str| Listed {
            id: StreamId::from_bytes([7; 16]),
            status: status.to_owned(),
            created_at: "2026-11-22T08:00:00.000Z".to_owned(),
            owner: String::new(),
            bytes,
            records,
            model: model.to_owned(),
        };
        let mut out = Vec::new();
        table(&mut out, &[row("running", 900, 7, "fast"), row("interrupted", 3 << 20, 12_345, "a\u{1b}[2Jb")])
            .expect("room");
        let id = "07".repeat(16);
        let expected = format!(
            "ID{:30}  STATUS       CREATED                     BYTES  RECORDS  MODEL\n\
             {id}  running      2026-11-22T08:00:00.000Z    900 B        7  fast\n\
             {id}  interrupted  2026-11-22T08:00:00.000Z  3.0 MiB    12345  a\u{fffd}[2Jb\n",
            ""
        );
        assert_eq!(String::from_utf8(out).expect("text"), expected);
    }
}
