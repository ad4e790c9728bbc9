//! Why an answer is not whole, in the terms that every protocol's own errors are made of.

use crate::event::{End, Status};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault<'a> {
    /// The HTTP status that stands for it, where an answer is told by its status: the upstream's own if it refused.
    pub status: u16,
    /// For programs: the upstream's own code where it gave one, else lastword's.
    pub code: &'a str,
    /// For people.
    pub message: &'a str,
}

impl<'a> Fault<'a> {
    /// What an end says of the answer before it; nothing if that is whole.
    #[must_use]
    pub fn of(end: &'a End) -> Option<Self> {
        if end.status == Status::Completed {
            return None;
        }
        let status = status_of(end);
        Some(match &end.error {
            Some(error) => {
                Self { status, code: error.r#type.as_deref().unwrap_or(&error.code), message: &error.message }
            }
            None if end.status == Status::Cancelled => {
                Self { status, code: "cancelled", message: "the answer was cancelled" }
            }
            None => Self { status, code: end.status.as_str(), message: "the answer is not whole" },
        })
    }

    /// Of an end that cannot be read: never a silent success.
    pub const TORN: Fault<'static> =
        Fault { status: 500, code: "internal", message: "the end of this answer cannot be read" };
}

/// 499 is nginx's word for a request that was called off; clients take it for an error, and do not try again by themselves.
fn status_of(end: &End) -> u16 {
    let error = match (end.status, &end.error) {
        (Status::Completed, _) => return 200,
        (Status::Cancelled, _) => return 499,
        (Status::Interrupted, _) => return 503,
        (Status::Failed, error) => error.as_ref(),
    };
    if let Some(status @ 400..600) = error.and_then(|error| error.upstream_status) {
        return status;
    }
    match error.map_or("", |error| &*error.code) {
        "unfit_prompt" => 400,
        "unknown_model" => 404,
        "upstream_timeout" | "deadline" => 504,
        "store_refused" => 507,
        code if code.starts_with("upstream_") => 502,
        _ => 500,
    }
}
