//! What can be asked of a lastword wherever it runs, in this process or another: its address is all that is needed, so that any
//! number of tasks can ask.

use std::net::SocketAddr;

use serde_json::{Value, json};

use super::{Response, request, soon, sse};

/// A lastword's address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At(pub(crate) SocketAddr);

impl At {
    pub(crate) async fn send(self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        soon(request(self.0, method, path, headers, body)).await.expect("a response")
    }

    pub(crate) async fn get(self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send("GET", path, headers, "").await
    }

    /// Lets the mock say this; gives back the stream's id. `more` are members of the request.
    pub(crate) async fn say(self, options: Value, more: Value) -> String {
        let mut body = json!({ "prompt": "say it", "model": "mock/words", "backend_options": options });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let response = self.send("POST", "/v1/streams", &[], &body.to_string()).await;
        let (status, state) = (response.status, response.json().await);
        assert_eq!(status, 201, "{state}");
        state["id"].as_str().expect("an id").to_owned()
    }

    pub(crate) async fn state(self, id: &str) -> Value {
        self.get(&format!("/v1/streams/{id}"), &[]).await.json().await
    }

    /// Waits until the state of a stream is such.
    pub(crate) async fn state_when(self, id: &str, such: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let state = self.state(id).await;
                if such(&state) {
                    break state;
                }
            }
        };
        soon(waiting).await
    }

    /// The events of a stream behind what this client has seen.
    pub(crate) async fn events(self, id: &str, client: &sse::Client) -> Response {
        let headers: Vec<_> = client.cursor.iter().map(|cursor| ("last-event-id", &**cursor)).collect();
        self.get(&format!("/v1/streams/{id}/events"), &headers).await
    }

    /// What `/metrics` says of this name.
    pub(crate) async fn metric(self, name: &str) -> u64 {
        let text = self.get("/metrics", &[]).await.text().await;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        lines.next().unwrap_or_else(|| panic!("no `{name}` in {text}")).parse().expect("a number")
    }

    /// Waits until it says so.
    pub(crate) async fn metric_is(self, name: &str, value: u64) {
        soon(async { while self.metric(name).await != value {} }).await;
    }
}
