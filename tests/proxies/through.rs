//! A lastword with a proxy in front of it, and what the tests ask through it.

use std::net::SocketAddr;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::{
    common::{At, Body, Ending, Response, http::raw, soon, sse},
    kinds::KINDS,
    proxy::{Proxy, Setup},
};

/// Runs a test through each proxy at once, in each version in which it can ask lastword.
pub(crate) async fn each<F: Future<Output = ()>>(test: impl Fn(Setup) -> F) {
    let setups =
        KINDS.iter().flat_map(|kind| (0..kind.versions.len()).map(|version| Setup { version, ..Setup::new(kind) }));
    join_all(setups.map(test)).await;
}

impl Proxy {
    pub(crate) fn at(&self) -> At {
        At(self.address())
    }

    /// Lets the mock say this, through the proxy; `more` are members of the request.
    pub(crate) async fn say(&self, text: &str, mock: Value, more: Value) -> String {
        let mut options = mock;
        options["text"] = text.into();
        options["delay"] = options.get("delay").cloned().unwrap_or_else(|| "0ms".into());
        self.at().say(options, more).await
    }

    pub(crate) async fn events(&self, id: &str, cursor: Option<&str>) -> Response {
        let headers: Vec<_> = cursor.into_iter().map(|cursor| ("last-event-id", cursor)).collect();
        self.at().get(&format!("/v1/streams/{id}/events"), &headers).await
    }

    /// The events, for a client of HTTP/1.0.
    pub(crate) async fn events_by_http10(&self, id: &str) -> Response {
        soon(raw(self.address(), get10(self.address(), id).as_bytes(), false)).await.expect("a response")
    }
}

fn get10(address: SocketAddr, id: &str) -> String {
    format!("GET /v1/streams/{id}/events HTTP/1.0\r\nhost: {address}\r\n\r\n")
}

/// Reads until these words have come.
pub(crate) async fn until(body: &mut Body, words: &str) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.windows(words.len()).any(|window| window == words.as_bytes()) {
        seen.extend(soon(body.next()).await.unwrap_or_else(|ending| panic!("{ending:?} before {words:?}")));
    }
    seen
}

pub(crate) async fn rest(body: Body) -> (Vec<u8>, Ending) {
    soon(body.rest()).await
}

/// An answer that says two words and then nothing more.
pub(crate) fn stalls() -> Value {
    json!({ "fault": { "kind": "stall", "after": 2 } })
}

/// Half an answer: no `end` in it.
pub(crate) fn is_half(bytes: &[u8]) -> bool {
    sse::read(bytes).events.iter().all(|event| event.name != "end")
}
