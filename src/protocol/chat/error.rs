//! What went wrong, in the shape in which clients of this protocol read it: as the body of a response, and in the middle of an
//! answer that began well. <https://platform.openai.com/docs/guides/error-codes>

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::protocol::Fault;

/// Written as `{"error":{message, type, param, code}}`.
#[derive(Clone, Debug)]
pub struct ErrorObject<'a> {
    /// For people.
    pub message: Cow<'a, str>,
    /// The class of the error, from its HTTP status.
    pub r#type: &'static str,
    /// The member or header at fault.
    pub param: Option<&'a str>,
    /// For programs.
    pub code: Option<&'a str>,
}

impl<'a> ErrorObject<'a> {
    /// An error of this HTTP status.
    #[must_use]
    pub fn new(status: u16, message: impl Into<Cow<'a, str>>, code: &'a str) -> Self {
        let r#type = match status {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            ..500 => "invalid_request_error",
            _ => "server_error",
        };
        Self { message: message.into(), r#type, param: None, code: Some(code) }
    }
}

impl<'a> From<Fault<'a>> for ErrorObject<'a> {
    fn from(fault: Fault<'a>) -> Self {
        Self::new(fault.status, fault.message, fault.code)
    }
}

impl Serialize for ErrorObject<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Members<'a> {
            message: &'a str,
            r#type: &'a str,
            param: Option<&'a str>,
            code: Option<&'a str>,
        }
        let Self { message, r#type, param, code } = self;
        let mut map = s.serialize_map(Some(1))?;
        map.serialize_entry("error", &Members { message, r#type, param: *param, code: *code })?;
        map.end()
    }
}
