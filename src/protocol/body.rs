//! The body of a request, as every protocol's clients send it and every protocol's upstreams take it: a JSON object whose members
//! are kept in their order and to the letter, so that what is not known here goes on as it came.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeMap};

use super::BadRequest;
use crate::{event::Json, near::Unknown};

/// The members by which a client of any protocol speaks to lastword itself, as in the native API. No upstream sees them.
const OF_LASTWORD: [&str; 3] = ["backend_options", "on_disconnect", "strict"];

/// The members of a JSON object, in their order and each value to the letter.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Members(Vec<(String, Json)>);

impl Members {
    pub(super) fn get(&self, name: &str) -> Option<&Json> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Json)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }

    /// Sets a member in its place, or at the end.
    pub(super) fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) {
        let value = Json::of(&value).expect("plain data has a JSON form");
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    pub(super) fn set_some<T: Serialize>(&mut self, name: &str, value: Option<&T>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }

    /// Takes a member away.
    pub(super) fn remove(&mut self, name: &str) -> Option<Json> {
        let at = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.remove(at).1)
    }

    /// Sets all these members, but for those that say nothing.
    pub(super) fn join(&mut self, more: Self) {
        more.0.iter().filter(|(_, value)| value.get() != "null").for_each(|(name, value)| self.set(name, value));
    }

    /// Adds these members, but for those that are there already.
    pub(super) fn add(&mut self, more: Self) {
        more.0.into_iter().for_each(|(name, value)| {
            if self.get(&name).is_none() {
                self.0.push((name, value));
            }
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes away what was said to lastword alone.
    pub(super) fn without_ours(mut self) -> Self {
        self.0.retain(|(name, _)| !OF_LASTWORD.contains(&&**name));
        self
    }

    /// The names that are neither among these nor lastword's own: what only the client's protocol understands. A `null` says nothing.
    pub(super) fn beyond(&self, known: &[&str]) -> Vec<String> {
        let beyond = |(name, value): &&(String, Json)| {
            !known.contains(&&**name) && !OF_LASTWORD.contains(&&**name) && value.get() != "null"
        };
        self.0.iter().filter(beyond).map(|(name, _)| name.clone()).collect()
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let mut map = s.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let (mut members, mut places) = (Vec::<(String, Json)>::new(), HashMap::<String, usize>::new());
                while let Some((name, value)) = map.next_entry::<String, Json>()? {
                    // Of two members of one name the last one counts, as everywhere. There may be very many.
                    match places.entry(name) {
                        Entry::Occupied(place) => members[*place.get()].1 = value,
                        Entry::Vacant(place) => {
                            members.push((place.key().clone(), value));
                            place.insert(members.len() - 1);
                        }
                    }
                }
                Ok(Members(members))
            }
        }
        d.deserialize_map(Visitor)
    }
}

/// The body of a request to the letter.
///
/// # Errors
/// When it is not a JSON object. `example` is one.
pub(super) fn object(body: &[u8], example: &str) -> Result<Json, BadRequest> {
    let object = serde_json::from_slice(body).ok().filter(|json: &Json| json.get().starts_with('{'));
    object.ok_or_else(|| BadRequest {
        field: None,
        detail: "the body is not a JSON object".to_owned(),
        remedy: format!("send {example}"),
    })
}

/// What of a body is known in a protocol. `described` says where its members are described.
///
/// # Errors
/// When a member is of another type. The first one is named.
pub(super) fn read<'a, T: Deserialize<'a>>(body: &'a Json, described: &str) -> Result<T, BadRequest> {
    read_at("", body, described)
}

/// What of a part of a body is known; `place` is the path to it.
///
/// # Errors
/// As [`read`].
pub(super) fn read_at<'a, T: Deserialize<'a>>(place: &str, part: &'a Json, described: &str) -> Result<T, BadRequest> {
    let json = &mut serde_json::Deserializer::from_str(part.get());
    serde_path_to_error::deserialize(json).map_err(|error| explain(place, error, described))
}

/// Says a parser's error in terms of the request. (It is JSON: that was seen before.)
fn explain(place: &str, error: serde_path_to_error::Error<serde_json::Error>, described: &str) -> BadRequest {
    let path = match (place, error.path().to_string()) {
        ("", path) => path,
        (place, path) if path == "." => place.to_owned(),
        (place, path) if path.starts_with('[') => format!("{place}{path}"),
        (place, path) => format!("{place}.{path}"),
    };
    let message = error.into_inner().to_string();
    // The place in the bytes means little to who sent an object.
    let message = message.split(" at line ").next().unwrap_or(&message);
    if let Some(unknown) = Unknown::in_message(message) {
        let detail = format!("`{}` is none of the values of `{path}`", unknown.key);
        return BadRequest::of(&path, detail, unknown.remedy());
    }
    let ours = OF_LASTWORD.iter().any(|name| path.split(['.', '[']).next() == Some(name));
    let remedy = match ours {
        true => "see lastword's description of its API for its form".to_owned(),
        false => format!("see {described} for its type"),
    };
    BadRequest::of(&path, format!("`{path}` {message}"), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(json: &str) -> Members {
        serde_json::from_str(json).expect(json)
    }

    #[test]
    fn members_keep_their_order_and_their_letters() {
        let mut some = members(r#"{"z":1.10,"a":{"y":1,"b":2},"z":2e0}"#);
        some.set("a", &true);
        some.set_some("new", Some(&"x"));
        some.set_some::<u8>("none", None);
        assert_eq!(serde_json::to_string(&some).expect("json"), r#"{"z":2e0,"a":true,"new":"x"}"#);
        assert_eq!(some.remove("a").map(|json| json.get().to_owned()).as_deref(), Some("true"));
        assert_eq!(some.beyond(&[]), ["z", "new"]);
    }

    /// A million of them fit into the largest body: comparing each with each would take minutes.
    #[test]
    fn very_many_members_are_read_as_fast_as_they_come() {
        let json: Vec<_> = (0..200_000).map(|n| format!("\"{n}\":1")).collect();
        let some = members(&format!("{{{},\"7\":2}}", json.join(",")));
        assert_eq!((some.0.len(), some.get("7").map(Json::get)), (200_000, Some("2")));
    }

    #[test]
    fn members_are_laid_over_others_or_behind_them() {
        let (first, more) = (r#"{"a":1,"b":2}"#, r#"{"b":3,"c":null,"d":4}"#);
        let mut over = members(first);
        over.join(members(more));
        assert_eq!(serde_json::to_string(&over).expect("json"), r#"{"a":1,"b":3,"d":4}"#);
        let mut behind = members(first);
        behind.add(members(more));
        assert_eq!(serde_json::to_string(&behind).expect("json"), r#"{"a":1,"b":2,"c":null,"d":4}"#);
    }

    #[test]
    fn what_is_said_to_lastword_is_told_from_what_is_said_to_an_upstream() {
        let some = members(r#"{"model":"m","strict":true,"on_disconnect":"cancel","x":1,"y":null}"#);
        assert_eq!(some.beyond(&["model"]), ["x"]);
        let left = some.without_ours();
        assert_eq!(serde_json::to_string(&left).expect("json"), r#"{"model":"m","x":1,"y":null}"#);
    }

    #[test]
    fn a_body_is_an_object() {
        for body in ["", "[]", "7", "{", "hello", "{} {}"] {
            assert!(object(body.as_bytes(), "{}").is_err(), "{body}");
        }
        assert_eq!(object(b" {\"a\": 1}\n", "{}").expect("an object").get(), "{\"a\": 1}");
    }
}
