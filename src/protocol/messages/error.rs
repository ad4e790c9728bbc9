//! What went wrong, in the shape in which clients of this protocol read it: as the body of a response, and in the middle of an
//! answer that began well. <https://docs.anthropic.com/en/api/errors>

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::protocol::Fault;

/// Written as `{"type":"error","error":{type, message}}`.
#[derive(Clone, Debug)]
pub struct ErrorObject<'a> {
    /// The class of the error, from its HTTP status.
    pub r#type: &'static str,
    /// For people.
    pub message: Cow<'a, str>,
}

impl<'a> ErrorObject<'a> {
    /// An error of this HTTP status.
    #[must_use]
    pub fn new(status: u16, message: impl Into<Cow<'a, str>>) -> Self {
        let r#type = match status {
            401 => "authentication_error",
            402 => "billing_error",
            403 => "permission_error",
            404 => "not_found_error",
            413 => "request_too_large",
            429 => "rate_limit_error",
            504 => "timeout_error",
            503 | 529 => "overloaded_error",
            ..500 => "invalid_request_error",
            _ => "api_error",
        };
        Self { r#type, message: message.into() }
    }
}

impl<'a> From<Fault<'a>> for ErrorObject<'a> {
    fn from(fault: Fault<'a>) -> Self {
        Self::new(fault.status, fault.message)
    }
}

impl Serialize for ErrorObject<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Members<'a> {
            r#type: &'static str,
            message: &'a str,
        }
        let mut map = s.serialize_map(Some(2))?;
        map.serialize_entry("type", "error")?;
        map.serialize_entry("error", &Members { r#type: self.r#type, message: &self.message })?;
        map.end()
    }
}
