//! The splitter: bytes in, the same bytes out, cut behind each blank line. What is in them it does not know.

use memchr::memchr2;

/// Cuts a stream of events into its blocks. What is not whole yet is kept.
#[derive(Debug, Default)]
pub struct Blocks {
    kept: Vec<u8>,
    looked: Looked,
}

/// How much of what is kept has been looked at: so many bytes, in so many lines.
#[derive(Clone, Copy, Debug, Default)]
struct Looked {
    bytes: usize,
    lines: usize,
}

/// A block was longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line or event of the event stream is longer than the limit of {0} bytes")]
pub struct BlockTooLong(pub usize);

impl Blocks {
    /// Takes the next bytes, cut anywhere, and shows `each` the blocks that they complete: with all line ends, the blank line included;
    /// and whether there is just one line before that. A CR ends a line at once; an LF that belongs to it and comes later begins the
    /// next block.
    ///
    /// # Errors
    /// When a block has more than `limit` bytes.
    pub fn feed(&mut self, bytes: &[u8], limit: usize, mut each: impl FnMut(&[u8], bool)) -> Result<(), BlockTooLong> {
        let mut rest = bytes;
        if !self.kept.is_empty() {
            let before = self.kept.len();
            // Only as much as ends the block that was begun.
            self.kept.extend_from_slice(bytes);
            match end(&self.kept, &mut self.looked) {
                None if self.kept.len() > limit => return Err(BlockTooLong(limit)),
                None => return Ok(()),
                Some(end) if end > limit => return Err(BlockTooLong(limit)),
                Some(end) => {
                    each(&self.kept[..end], self.looked.lines == 1);
                    rest = &bytes[end - before..];
                    self.kept.clear();
                    self.looked = Looked::default();
                }
            }
        }
        loop {
            let mut looked = Looked::default();
            match end(rest, &mut looked) {
                Some(end) if end > limit => return Err(BlockTooLong(limit)),
                Some(end) => {
                    each(&rest[..end], looked.lines == 1);
                    rest = &rest[end..];
                }
                None if rest.len() > limit => return Err(BlockTooLong(limit)),
                None => {
                    self.kept.extend_from_slice(rest);
                    self.looked = looked;
                    return Ok(());
                }
            }
        }
    }

    /// What no blank line has ended.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.kept
    }
}

/// Where the first block ends, seen from a line's beginning.
fn end(bytes: &[u8], looked: &mut Looked) -> Option<usize> {
    loop {
        let line = looked.bytes;
        let at = line + memchr2(b'\n', b'\r', &bytes[line..])?;
        let after = match &bytes[at..] {
            [b'\r', b'\n', ..] => at + 2,
            _ => at + 1,
        };
        if at == line {
            // An LF at the very beginning may belong to the CR that ended the block before.
            if line > 0 || bytes[0] == b'\r' {
                return Some(after);
            }
        }
        if after == bytes.len() && bytes[at] == b'\r' && at > line {
            // Whether an LF follows is not known yet: the line is looked at again.
            return None;
        }
        *looked = Looked { bytes: after, lines: looked.lines + 1 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_behind_blank_lines_wherever_it_came_apart() {
        let blocks = [
            (": hi\n\n", true),
            ("data: a\nid: 1\n\n", false),
            ("data: b\r\n\r\n", true),
            ("data: c\r\r", true),
            ("data: d\n\r\n", true),
            ("data: \u{1f980}\n\n", true),
        ];
        let text = blocks.map(|(block, _)| block).concat() + "rest";
        let (mut splitter, mut found) = (Blocks::default(), Vec::new());
        splitter.feed(text.as_bytes(), 100, |block, one_line| found.push((block.to_vec(), one_line))).expect("short");
        assert_eq!(found, blocks.map(|(block, one_line)| (block.as_bytes().to_vec(), one_line)));
        assert_eq!(splitter.rest(), b"rest");
        for cut in 0..=text.len() {
            for second in cut..=text.len() {
                let pieces = [&text.as_bytes()[..cut], &text.as_bytes()[cut..second], &text.as_bytes()[second..]];
                let mut bytes = Vec::new();
                let mut blocks = Blocks::default();
                let mut count = 0;
                for piece in pieces {
                    let each = |block: &[u8], _| {
                        bytes.extend_from_slice(block);
                        count += 1;
                    };
                    blocks.feed(piece, 100, each).expect("short");
                }
                bytes.extend_from_slice(blocks.rest());
                assert_eq!(String::from_utf8(bytes).expect("all of it"), text);
                assert_eq!(count, 6, "cut at {cut} and {second}");
            }
        }
    }

    #[test]
    fn a_block_over_the_limit_is_an_error() {
        let mut blocks = Blocks::default();
        assert_eq!(blocks.feed(b"data: aaaa", 8, |_, _| {}), Err(BlockTooLong(8)));
        assert_eq!(Blocks::default().feed(b"data: aaaa\n\n", 8, |_, _| {}), Err(BlockTooLong(8)));
        let mut blocks = Blocks::default();
        assert_eq!(blocks.feed(b"data: a", 8, |_, _| {}), Ok(()));
        assert_eq!(blocks.feed(b"aaa\n\n", 8, |_, _| {}), Err(BlockTooLong(8)));
    }
}
