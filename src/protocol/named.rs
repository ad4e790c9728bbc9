//! The model that a JSON body names, where nothing else of the body is understood: found, and replaced by another name with all
//! else to the letter.

use std::{borrow::Cow, fmt, ops::Range};

use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The model's name.
    pub model: String,
    /// Where it stands in the body: more than once if the body says it more than once.
    places: Vec<Range<usize>>,
}

impl Named {
    /// The model of this body; nothing if it is no JSON object, or names none with a text. Of several names the last one counts.
    #[must_use]
    pub fn find(body: &[u8]) -> Option<Self> {
        let Members(values) = serde_json::from_slice(body).ok()?;
        let model = serde_json::from_str(values.last()?.get()).ok()?;
        let place = |value: &&RawValue| {
            let start = (value.get().as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
            start..start + value.get().len()
        };
        Some(Self { model, places: values.iter().map(place).collect() })
    }

    /// The same body with this name in its place.
    ///
    /// # Panics
    /// When it is another body.
    #[must_use]
    pub fn renamed(&self, body: &[u8], model: &str) -> Vec<u8> {
        let name = serde_json::to_vec(model).expect("a text");
        let mut renamed = Vec::with_capacity(body.len() + name.len() * self.places.len());
        let mut rest = 0;
        for place in &self.places {
            renamed.extend_from_slice(&body[rest..place.start]);
            renamed.extend_from_slice(&name);
            rest = place.end;
        }
        renamed.extend_from_slice(&body[rest..]);
        renamed
    }
}

/// The values of all members `model` of an object; the others are passed over.
struct Members<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut values = Vec::new();
                while let Some(Name(name)) = map.next_key()? {
                    match &*name {
                        "model" => values.push(map.next_value()?),
                        _ => _ = map.next_value::<de::IgnoredAny>()?,
                    }
                }
                Ok(Members(values))
            }
        }
        d.deserialize_map(Visitor)
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_found_and_replaced_and_nothing_else_is() {
        for (body, model, renamed) in [
            (r#"{"model":"a","input":1.10}"#, "a", r#"{"model":"b\"c","input":1.10}"#),
            (
                " {\n\"x\" : {\"model\":\"in\"}, \"model\" :  \"a\\u0062\" }\n",
                "ab",
                " {\n\"x\" : {\"model\":\"in\"}, \"model\" :  \"b\\\"c\" }\n",
            ),
            (r#"{"model":"a","mod\u0065l":"z"}"#, "z", r#"{"model":"b\"c","mod\u0065l":"b\"c"}"#),
            (r#"{"model":null,"model":"z"}"#, "z", r#"{"model":"b\"c","model":"b\"c"}"#),
        ] {
            let named = Named::find(body.as_bytes()).expect(body);
            assert_eq!(named.model, model);
            assert_eq!(String::from_utf8(named.renamed(body.as_bytes(), "b\"c")).expect("UTF-8"), renamed);
        }
    }

    #[test]
    fn what_names_no_model_is_left_alone() {
        let deep = "[".repeat(10_000);
        for body in
            ["", "[]", "7", "{", r#"{"model":7}"#, r#"{"model":null}"#, r#"{"model":"a","model":null}"#, "{} {}", &deep]
        {
            assert_eq!(Named::find(body.as_bytes()), None, "{body:.40}");
        }
    }
}
