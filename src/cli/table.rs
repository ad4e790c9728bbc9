//! Rows in columns, for people.

use std::io::{self, Write};

/// Which side of its column a text stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Left,
    Right,
}

/// Writes rows below a head, aligned.
pub(super) fn write<const N: usize>(
    out: &mut impl Write,
    head: [(&str, Side); N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let heads = head.map(|(name, _)| name.to_owned());
    let all = || std::iter::once(&heads).chain(rows);
    let widths: [usize; N] =
        std::array::from_fn(|at| all().map(|row| row[at].chars().count()).max().unwrap_or_default());
    for row in all() {
        let mut line = String::new();
        for (at, text) in row.iter().enumerate() {
            let width = widths[at];
            line += &match head[at].1 {
                Side::Left => format!("{text:width$}  "),
                Side::Right => format!("{text:>width$}  "),
            };
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// On one line, and nothing that a terminal would obey.
pub(super) fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
