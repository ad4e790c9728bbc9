//! Text in pieces that are shared: what many frames repeat and many readers get lies in memory once.

use bytes::{Bytes, BytesMut};

/// How large a piece of growing text becomes before the next one begins.
const PIECE: usize = 32 * 1024;
/// What is smaller is copied: a handle costs as much.
const SMALL: usize = 1024;

/// See the module. A clone shares all but the newest piece.
#[derive(Clone, Debug, Default)]
pub struct Rope {
    pieces: Vec<Bytes>,
    tail: BytesMut,
}

impl Rope {
    /// Adds text that nobody else has.
    pub fn put(&mut self, text: &str) {
        self.tail.extend_from_slice(text.as_bytes());
        if self.tail.len() >= PIECE {
            self.cut();
        }
    }

    /// Adds what another one holds, which both share from now on; what is small is copied.
    pub fn append(&mut self, other: &mut Self) {
        if other.tail.len() >= SMALL {
            other.cut();
        }
        for piece in &other.pieces {
            match piece.len() < SMALL {
                true => self.tail.extend_from_slice(piece),
                false => {
                    self.cut();
                    self.pieces.push(piece.clone());
                }
            }
        }
        self.tail.extend_from_slice(&other.tail);
    }

    /// The newest piece, to be written to.
    pub fn tail(&mut self) -> &mut BytesMut {
        &mut self.tail
    }

    /// How many bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(Bytes::len).sum::<usize>() + self.tail.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces, in order.
    #[must_use]
    pub fn into_pieces(mut self) -> Vec<Bytes> {
        self.cut();
        self.pieces.shrink_to_fit();
        self.pieces
    }

    /// All of it in one piece, copied.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        self.pieces.iter().for_each(|piece| all.extend_from_slice(piece));
        all.extend_from_slice(&self.tail);
        all
    }

    fn cut(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_large_is_shared_and_what_is_small_is_copied() {
        let mut text = Rope::default();
        (0..10_000).for_each(|n| text.put(&format!("{n:010}")));
        text.put("the end");
        let whole = text.to_vec();
        assert_eq!((whole.len(), text.len()), (100_007, 100_007));
        let mut frames = Vec::new();
        for _ in 0..2 {
            let mut frame = Rope::default();
            frame.put("before ");
            frame.append(&mut text);
            frame.put(" behind");
            assert_eq!(frame.to_vec(), [b"before ", &whole[..], b" behind"].concat());
            frames.push(frame.into_pieces());
        }
        let shared = frames[0].iter().zip(&frames[1]).filter(|(a, b)| a.as_ptr() == b.as_ptr());
        assert!(shared.map(|(piece, _)| piece.len()).sum::<usize>() > 99_000);
        assert_eq!((frames[0][0].as_ref(), frames[0].len()), (&b"before "[..], 6));
    }
}
