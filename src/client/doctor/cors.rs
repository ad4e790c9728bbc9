//! Whether a page of another origin may ask.

use super::{Checked, Doctor, Finding, Verdict, within};

/// What such a page sends beside what every page may.
const NEEDED: [&str; 4] = ["authorization", "content-type", "idempotency-key", "last-event-id"];

impl Doctor {
    pub(super) async fn cors(&self) -> Checked {
        let check = "cors";
        let fail = |why: String| Finding::new(check, Verdict::Fail, why);
        let Some(origin) = &self.origin else {
            return Ok(Finding::new(
                check,
                Verdict::Note,
                "not looked at: --origin names the page's origin, if it is another one",
            ));
        };
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let ask = [
            header("origin", origin),
            header("access-control-request-method", "POST"),
            header("access-control-request-headers", &NEEDED.join(",")),
        ];
        let flight = within(self.client.options("v1/streams", &ask)).await.map_err(fail)?;
        let remedy = format!(
            "[server] cors = [\"{origin}\"], and let the proxy neither answer OPTIONS itself nor take these headers out"
        );
        let allows = |name: &str| flight.header(name).unwrap_or_default().to_ascii_lowercase();
        let whom = allows("access-control-allow-origin");
        if whom != "*" && whom != origin.to_ascii_lowercase() {
            return Ok(fail(format!("pages of {origin} may not ask: the preflight allows `{whom}`")).remedy(remedy));
        }
        let headers = allows("access-control-allow-headers");
        let missing: Vec<_> =
            NEEDED.iter().filter(|name| headers != "*" && !headers.contains(**name)).copied().collect();
        if !missing.is_empty() {
            return Ok(fail(format!("pages of {origin} may not send {}", missing.join(", "))).remedy(remedy));
        }
        let list = within(self.client.get("v1/models", "application/json", &[header("origin", origin)]))
            .await
            .map_err(fail)?;
        let shown = list.header("access-control-expose-headers").unwrap_or_default().to_ascii_lowercase();
        Ok(match shown == "*" || shown.contains("x-stream-id") {
            true => Finding::new(check, Verdict::Ok, format!("pages of {origin} may ask, and resume")),
            false => {
                Finding::new(check, Verdict::Warn, format!("pages of {origin} may ask, and do not see the stream's id"))
                    .remedy(remedy)
            }
        })
    }
}
