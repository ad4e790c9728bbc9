//! One template: what its file says, and how its variables are filled in.

use std::{collections::BTreeMap, fmt};

use minijinja::{Environment, UndefinedBehavior};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Error, Rendered};
use crate::near::Unknown;

/// The line around the TOML at the beginning of a file.
const FENCE: &str = "+++";

/// See the module above.
#[derive(Debug)]
pub struct Template {
    /// For people.
    pub description: Option<String>,
    /// How to answer.
    pub params: Params,
    /// What a request may fill in.
    pub variables: BTreeMap<String, Variable>,
    parts: Environment<'static>,
    has_system: bool,
}

/// How to answer. Absent is the model's or the server's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Params {
    /// The model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// At most this many tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// 0 is the likeliest word each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Texts at which the model stops.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// For the same answer twice.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

/// Something to fill in. Without a default it must be.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    /// What it takes.
    #[serde(default)]
    pub r#type: Type,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it is where a request does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// All that it can be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub choices: Option<Vec<Value>>,
}

/// What a variable takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Type {
    /// A text.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// True or false.
    Boolean,
    /// A list of anything.
    List,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a text",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List => "a list",
        })
    }
}

impl Type {
    fn takes(self, value: &Value) -> bool {
        match self {
            Self::String => value.is_string(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
            Self::Boolean => value.is_boolean(),
            Self::List => value.is_array(),
        }
    }
}

/// The TOML of a file.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Front {
    description: Option<String>,
    model: Option<String>,
    max_tokens: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    stop: Vec<String>,
    seed: Option<i64>,
    variables: BTreeMap<String, Variable>,
}

impl Template {
    /// Reads a file's text. An error says what is wrong, for its author.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n");
        let (front, body, line) = split(&text)?;
        let front: Front = toml::from_str(front).map_err(|error| {
            let line = error.span().map_or(0, |span| front[..span.start].matches('\n').count());
            format!("line {}: {}", line + 2, error.message())
        })?;
        for (name, variable) in &front.variables {
            variable.check().map_err(|why| format!("variables.{name} {why}"))?;
        }
        let (system, user) = sections(body)?;
        let mut parts = Environment::new();
        parts.set_undefined_behavior(UndefinedBehavior::Strict);
        parts.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        for (name, part) in [("system", system), ("user", Some(user))] {
            let Some((part, offset)) = part else { continue };
            let place = |error: &minijinja::Error| {
                let line = error.line().map(|within| format!("line {}: ", line + offset + within)).unwrap_or_default();
                format!("{line}{}", error.detail().map_or_else(|| error.kind().to_string(), str::to_owned))
            };
            parts.add_template_owned(name, part.trim().to_owned()).map_err(|error| place(&error))?;
            let names = parts.get_template(name).map_err(|error| place(&error))?.undeclared_variables(false);
            let known = |name: &String| front.variables.contains_key(name) || parts.globals().any(|(g, _)| g == name);
            if let Some(name) = names.iter().filter(|name| !known(name)).min() {
                let valid = front.variables.keys().map(String::as_str).collect();
                let remedy = Unknown { key: name, valid }.remedy();
                return Err(format!("it uses `{name}`, which is none of its variables; {remedy}"));
            }
        }
        let has_system = parts.get_template("system").is_ok();
        let Front { description, model, max_tokens, temperature, top_p, stop, seed, variables } = front;
        let params = Params { model, max_tokens, temperature, top_p, stop, seed };
        Ok(Self { description, params, variables, parts, has_system })
    }

    /// As lists show it.
    #[must_use]
    pub fn describe(&self, name: &str) -> Value {
        json!({ "name": name, "description": self.description, "params": self.params, "variables": self.variables })
    }

    pub(super) fn render(&self, name: &str, given: &Map<String, Value>) -> Result<Rendered, Error> {
        if let Some(unknown) = given.keys().find(|name| !self.variables.contains_key(*name)) {
            let valid = self.variables.keys().map(String::as_str).collect();
            return Err(Error::Variable {
                variable: unknown.chars().take(100).collect(),
                why: format!("is no variable of the template `{name}`"),
                remedy: Unknown { key: unknown, valid }.remedy(),
            });
        }
        let mut values = Map::new();
        for (variable, about) in &self.variables {
            let value = match (given.get(variable), &about.default) {
                (Some(given), _) => about.takes(given).map_err(|(why, remedy)| Error::Variable {
                    variable: variable.clone(),
                    why,
                    remedy,
                })?,
                (None, Some(default)) => default,
                (None, None) => {
                    let what = about.description.as_deref().map(|what| format!(": {what}")).unwrap_or_default();
                    return Err(Error::Variable {
                        variable: variable.clone(),
                        why: format!("is missing, and the template `{name}` has no default for it"),
                        remedy: format!("give {}{what}", about.r#type),
                    });
                }
            };
            values.insert(variable.clone(), value.clone());
        }
        let values = minijinja::Value::from(minijinja::value::Serde(values));
        let part = |part| {
            let rendered = self.parts.get_template(part).and_then(|part| part.render(values.clone()));
            // The values may be in a longer form of this message: they stay out of it.
            rendered.map_err(|error| Error::Broken { name: name.to_owned(), why: error.kind().to_string() })
        };
        let system = self.has_system.then(|| part("system")).transpose()?;
        Ok(Rendered { system, user: part("user")?, params: self.params.clone() })
    }
}

impl Variable {
    fn check(&self) -> Result<(), String> {
        let values = self.choices.iter().flatten().chain(&self.default);
        match values.into_iter().find(|value| !self.r#type.takes(value)) {
            Some(wrong) => Err(format!("takes {}, and `{wrong}` is none; set its `type`", self.r#type)),
            None => match (&self.choices, &self.default) {
                (Some(choices), Some(default)) if !choices.contains(default) => {
                    Err(format!("has the default `{default}`, which is none of its choices"))
                }
                _ => Ok(()),
            },
        }
    }

    /// The value, if this variable takes it; else what is wrong with it, and what to do.
    fn takes<'v>(&self, value: &'v Value) -> Result<&'v Value, (String, String)> {
        if let Some(choices) = &self.choices
            && !choices.contains(value)
        {
            let choices: Vec<_> = choices.iter().map(ToString::to_string).collect();
            return Err(("is none of its choices".to_owned(), format!("give one of: {}", choices.join(", "))));
        }
        match self.r#type.takes(value) {
            true => Ok(value),
            false => Err((format!("is not {}", self.r#type), format!("give {}", self.r#type))),
        }
    }
}

/// The TOML, what follows it, and the number of the line before that.
fn split(text: &str) -> Result<(&str, &str, usize), String> {
    let Some(rest) = text.strip_prefix(FENCE).and_then(|rest| rest.strip_prefix('\n')) else {
        return Ok(("", text, 0));
    };
    let end = rest.match_indices(FENCE).find(|(at, _)| {
        let alone = rest[at + FENCE.len()..].chars().next().is_none_or(|next| next == '\n');
        alone && (*at == 0 || rest[..*at].ends_with('\n'))
    });
    let (at, _) = end.ok_or_else(|| format!("line 1: there is no second line `{FENCE}`"))?;
    let (front, body) = (&rest[..at], &rest[at + FENCE.len()..]);
    Ok((front, body, front.matches('\n').count() + 1))
}

/// A part of a body, and the number of lines before it.
type Part<'a> = (&'a str, usize);

/// The system's part, if there is one, and the user's: each below its heading. Without a heading all is the user's.
fn sections(body: &str) -> Result<(Option<Part<'_>>, Part<'_>), String> {
    let (mut system, mut user, mut before) = (None, None, None);
    let mut at = 0;
    let mut began = (0, None);
    let mut close = |(from, kind): (usize, Option<bool>), to: usize| {
        let text = &body[from..to];
        // The lines before the first that says something, which is what the text is trimmed to.
        let blank = text.len() - text.trim_start().len();
        let lines = body[..from + blank].matches('\n').count();
        let place = match kind {
            None => &mut before,
            Some(true) => &mut system,
            Some(false) => &mut user,
        };
        if place.replace((text, lines)).is_some() {
            return Err("there are two parts under one heading".to_owned());
        }
        Ok(())
    };
    for line in body.split_inclusive('\n') {
        let kind = match line.trim_end() {
            "# System" => Some(true),
            "# User" => Some(false),
            _ => None,
        };
        if kind.is_some() {
            close(began, at)?;
            began = (at + line.len(), kind);
        }
        at += line.len();
    }
    close(began, at)?;
    let before = before.filter(|(text, _): &Part<'_>| !text.trim().is_empty());
    let user = match (user, before) {
        (None, None) => None,
        (Some(_), Some(_)) => return Err("something stands before the first heading".to_owned()),
        (None, Some(_)) if system.is_some() => return Err("something stands before the first heading".to_owned()),
        (user, before) => user.or(before),
    };
    let user = user.filter(|(text, _)| !text.trim().is_empty());
    Ok((system.filter(|(text, _)| !text.trim().is_empty()), user.ok_or("the user says nothing in it")?))
}
