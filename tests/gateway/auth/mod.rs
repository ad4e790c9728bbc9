//! Who may ask, and sees what: keys, tickets, sessions, over the wire.

mod keys;
mod quotas;
mod session;
mod tickets;

use lastword::auth::{Hash, new_key};
use serde_json::{Value, json};

use crate::common::{Response, TestGateway, soon};

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// A lastword with two who may ask, and their keys.
struct House {
    gateway: TestGateway,
    ada: String,
    bob: String,
}

impl House {
    async fn new() -> Self {
        Self::with("").await
    }

    /// `more` comes before the keys' sections.
    async fn with(more: &str) -> Self {
        let (ada, bob) = (new_key().expect("chance"), new_key().expect("chance"));
        let gateway = TestGateway::with(&format!("{more}\n{}{}", section("ada", &ada), section("bob", &bob))).await;
        Self { gateway, ada: format!("Bearer {ada}"), bob: format!("Bearer {bob}") }
    }

    async fn send(&self, bearer: &str, method: &str, path: &str, body: &str) -> Response {
        let headers = [("authorization", bearer)];
        self.gateway.send(method, path, if bearer.is_empty() { &[] } else { &headers }, body).await
    }

    /// Lets the mock say three words for Ada, or two and then nothing more; gives back the state.
    async fn said(&self, stalls: bool) -> Value {
        let mut options = json!({ "text": "one two three", "delay": "0ms" });
        if stalls {
            options["fault"] = json!({ "kind": "stall", "after": 2 });
        }
        let asked = json!({ "prompt": "say it", "model": "mock/words", "backend_options": options }).to_string();
        let response = self.send(&self.ada, "POST", "/v1/streams", &asked).await;
        assert_eq!(response.status, 201);
        response.json().await
    }
}

fn section(name: &str, key: &str) -> String {
    format!("[auth.keys.{name}]\nhash = \"{}\"\n", Hash::of(key))
}

fn field(state: &Value, name: &str) -> String {
    state[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {state}")).to_owned()
}

/// A refusal: of the native API, or of a surface that says its code elsewhere.
async fn refused(response: Response, status: u16, code: &str) -> Value {
    let got = response.status;
    let problem = response.json().await;
    let said = problem["code"].as_str().or(problem["error"]["code"].as_str());
    assert_eq!((got, said), (status, Some(code)), "{problem}");
    problem
}

/// The body, which ends as it should.
async fn whole(response: Response) -> String {
    let status = response.status;
    let (bytes, ending) = soon(response.body.rest()).await;
    let text = String::from_utf8(bytes).expect("UTF-8");
    assert_eq!((status, ending), (200, crate::common::Ending::Clean), "{text}");
    text
}
