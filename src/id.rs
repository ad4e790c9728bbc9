//! The names of things in a log: which stream, which record, which writer.
//!
//! Everything here is a plain value that can be compared, printed and parsed back. Nothing here knows what a stream holds.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
};

use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The id of one stream: a UUID version 7, written as 32 lower-case hex digits.
///
/// Ids sort by creation time, and contain no `-`, so that `{stream id}-{cursor}` can be taken apart again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Uuid);

impl StreamId {
    /// A new id, later than every id this process made before.
    #[expect(clippy::new_without_default, reason = "two new ids are never equal: not a default")]
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The same in 16 bytes, which sort as ids do.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id whose [`to_bytes`](Self::to_bytes) these are.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

/// Something of each stream. Its hash is quick and has no secret: ids are made here, so nobody can choose such as collide.
pub(crate) type ById<T> = HashMap<StreamId, T, FxBuildHasher>;
/// Some streams.
pub(crate) type Ids = HashSet<StreamId, FxBuildHasher>;

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl FromStr for StreamId {
    type Err = NotAStreamId;

    /// Takes the one form that `Display` writes, and no other: a stream has one name.
    fn from_str(s: &str) -> Result<Self, NotAStreamId> {
        let canonical = s.len() == 32 && s.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !canonical {
            return Err(NotAStreamId);
        }
        Uuid::try_parse(s).map(Self).map_err(|_| NotAStreamId)
    }
}

impl Serialize for StreamId {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StreamId {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = std::borrow::Cow::<str>::deserialize(d)?;
        s.parse().map_err(serde::de::Error::custom)
    }
}

/// The text is not 32 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a stream id is 32 lower-case hex digits")]
pub struct NotAStreamId;

/// The position of a record in its log: 1, 2, 3 … Zero is the place before the first one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub u64);

impl Cursor {
    /// Before the first record.
    pub const START: Self = Self(0);

    /// The place `n` records further on.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self(self.0 + n)
    }

    /// The place before this one; the start stays the start.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fencing number of a stream's one writer: who holds a later one has taken the stream over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// One running lastword process, as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub Uuid);

impl NodeId {
    /// A new node: a process has one for its life, and a restarted process is another node.
    #[expect(clippy::new_without_default, reason = "two nodes are never equal: not a default")]
    #[must_use]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }
}

/// What a client says it has seen: the value of `Last-Event-ID` or of `?after=`.
///
/// The short form `17` is used where the URL names the stream, the long form `{stream id}-17` on answers to a POST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A cursor in the stream that the URL names.
    Short(Cursor),
    /// A cursor and the stream it belongs to.
    Long(StreamId, Cursor),
    /// `17.4`: a cursor, and so many bytes of the next record's text, in either form. Readers of words and lines are told such.
    Within(Option<StreamId>, Cursor, usize),
    /// Not one of ours: text, another server's id, a number too large.
    Unreadable,
}

impl Seen {
    /// Reads any text; what makes no sense is [`Seen::Unreadable`], which readers are told in-band.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let number = |s: &str| match s.bytes().all(|b| b.is_ascii_digit()) {
            true => s.parse().ok().map(Cursor), // refuses the empty text and what is over 64 bits
            false => None,
        };
        let (id, place) = match text.rsplit_once('-') {
            None => (Ok(None), text),
            Some((id, place)) => (id.parse().map(Some), place),
        };
        let (n, within) = match place.split_once('.') {
            None => (number(place), Some(None)),
            Some((n, within)) => (number(n), number(within).filter(|it| it.0 > 0).map(Some)),
        };
        match (id, n, within) {
            (Ok(None), Some(n), Some(None)) => Self::Short(n),
            (Ok(Some(id)), Some(n), Some(None)) => Self::Long(id, n),
            (Ok(id), Some(n), Some(Some(within))) => {
                usize::try_from(within.0).map_or(Self::Unreadable, |within| Self::Within(id, n, within))
            }
            _ => Self::Unreadable,
        }
    }

    /// The stream that it names.
    #[must_use]
    pub fn stream(&self) -> Option<StreamId> {
        match self {
            Self::Long(id, _) => Some(*id),
            Self::Within(id, ..) => *id,
            Self::Short(_) | Self::Unreadable => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_creation_and_read_back() {
        let ids: Vec<_> = (0..1000).map(|_| StreamId::new()).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.to_string().parse() == Ok(*id)));
    }

    #[test]
    fn an_id_has_one_spelling() {
        let id = StreamId::new().to_string();
        assert_eq!(id.to_uppercase().parse::<StreamId>(), Err(NotAStreamId));
        assert_eq!(format!("{{{id}}}").parse::<StreamId>(), Err(NotAStreamId));
        assert_eq!("0199".parse::<StreamId>(), Err(NotAStreamId));
    }

    #[test]
    fn both_forms_of_a_cursor_are_read_and_rubbish_is_named() {
        let id = StreamId::new();
        assert_eq!(Seen::parse("17"), Seen::Short(Cursor(17)));
        assert_eq!(Seen::parse(&format!("{id}-17")), Seen::Long(id, Cursor(17)));
        assert_eq!(Seen::parse("17.4"), Seen::Within(None, Cursor(17), 4));
        assert_eq!(Seen::parse(&format!("{id}-17.4")), Seen::Within(Some(id), Cursor(17), 4));
        for rubbish in
            ["1.", ".5", "1.0", "1.-5", "1.5.2", "1.x", &format!("{id}-1."), "x-1.5", "1.99999999999999999999"]
        {
            assert_eq!(Seen::parse(rubbish), Seen::Unreadable, "{rubbish:?}");
        }
        for rubbish in ["", "x", "-1", "+1", "1 ", "99999999999999999999", &format!("{id}-"), &id.to_string()] {
            assert_eq!(Seen::parse(rubbish), Seen::Unreadable, "{rubbish:?}");
        }
    }
}
