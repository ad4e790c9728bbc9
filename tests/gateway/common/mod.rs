//! What the tests share: a gateway on a free port that is gone when the test is, a client that sees every byte and how a body
//! ended, and the two kinds of event-stream readers there are in the world.

mod at;
pub(crate) mod faulty;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod sse;

use std::{net::SocketAddr, path::Path, time::Duration};

use lastword::{config::Config, server::Server};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt},
    time::timeout,
};

pub(crate) use self::{
    at::At,
    http::{Body, Ending, Response, request},
};

/// Far longer than anything here takes; what hangs fails.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Waits, but not for ever.
pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    timeout(LONG, what).await.expect("this should have happened long ago")
}

/// The first line of a log that has this in it; if the log ends before, all that it said.
pub(crate) async fn read_until(log: &mut (impl AsyncBufRead + Unpin), words: &str) -> Result<String, String> {
    let mut said = String::new();
    loop {
        let before = said.len();
        if soon(log.read_line(&mut said)).await.expect("a log of text") == 0 {
            return Err(said);
        }
        if said[before..].contains(words) {
            return Ok(said[before..].to_owned());
        }
    }
}

/// A running lastword. Dropping it ends it.
pub(crate) struct TestGateway {
    server: Server,
    _home: Option<TempDir>,
}

impl TestGateway {
    /// With the built-in defaults, the mock among them, but in memory. (`LASTWORD_TEST_ENGINE=disk`: all of it on disk.)
    pub(crate) async fn start() -> Self {
        Self::with("").await
    }

    /// With this configuration; `[server] listen` is set to a free port, so do not begin the text with another section's keys.
    pub(crate) async fn with(toml: &str) -> Self {
        let engine = std::env::var("LASTWORD_TEST_ENGINE").unwrap_or_else(|_| "memory".to_owned());
        let home = tempfile::tempdir().expect("a folder");
        let server = Self::serve(toml, &engine, home.path()).await;
        Self { server, _home: Some(home) }
    }

    /// With the built-in defaults, and its store in this folder.
    pub(crate) async fn on_disk(folder: &Path) -> Self {
        Self::on_disk_with("", folder).await
    }

    /// With this configuration, and its store in this folder.
    pub(crate) async fn on_disk_with(toml: &str, folder: &Path) -> Self {
        Self { server: Self::serve(toml, "disk", folder).await, _home: None }
    }

    async fn serve(toml: &str, engine: &str, folder: &Path) -> Server {
        let variables =
            [("SERVER__LISTEN", "127.0.0.1:0"), ("STORE__ENGINE", engine), ("STORE__PATH", &*folder.to_string_lossy())];
        let env = variables.map(|(name, value)| (format!("LASTWORD_{name}"), value.to_owned())).into();
        let config = Config::parse("test", toml, &env, &[]).expect("a good configuration");
        Server::start(config).await.expect("it starts")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Its address, to be asked from many tasks.
    pub(crate) fn at(&self) -> At {
        At(self.address())
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Takes it down in order, as SIGTERM does.
    pub(crate) async fn drain(self) {
        self.server.drain().await;
    }

    /// A request with these headers and body.
    pub(crate) async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        soon(request(self.address(), method, path, headers, body)).await.expect("a response")
    }

    /// GET.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send("GET", path, headers, "").await
    }

    /// Creates a stream; gives back its id.
    pub(crate) async fn create(&self, body: &Value) -> String {
        let response = self.send("POST", "/v1/streams", &[], &body.to_string()).await;
        let (status, state) = (response.status, response.json().await);
        assert_eq!(status, 201, "{state}");
        state["id"].as_str().expect("an id").to_owned()
    }

    /// Creates a stream in which the mock says this, with these further options of the mock's.
    pub(crate) async fn say(&self, text: &str, options: Value) -> String {
        let mut options = options;
        options["text"] = text.into();
        options["delay"] = options.get("delay").cloned().unwrap_or_else(|| "0ms".into());
        self.create(&json!({ "prompt": "say it", "model": "mock/words", "backend_options": options })).await
    }

    /// The state of a stream.
    pub(crate) async fn state(&self, id: &str) -> Value {
        self.get(&format!("/v1/streams/{id}"), &[]).await.json().await
    }

    /// Opens the events of a stream, behind a cursor if one is given.
    pub(crate) async fn events(&self, id: &str, last_event_id: Option<&str>) -> Response {
        let headers: Vec<_> = last_event_id.map(|id| ("last-event-id", id)).into_iter().collect();
        self.get(&format!("/v1/streams/{id}/events"), &headers).await
    }

    /// All events of a stream, to its end.
    pub(crate) async fn whole(&self, id: &str) -> Vec<sse::Event> {
        let (bytes, ending) = soon(self.events(id, None).await.body.rest()).await;
        assert_eq!(ending, Ending::Clean);
        sse::read(&bytes).events
    }
}

/// A base that a lastword had which was drained: the last connection's task may still be letting go of it.
pub(crate) async fn let_go(base: &Path) -> redb::Database {
    soon(async {
        loop {
            match redb::Database::open(base) {
                Err(redb::DatabaseError::DatabaseAlreadyOpen) => tokio::task::yield_now().await,
                opened => break opened.expect("opens"),
            }
        }
    })
    .await
}

/// The words of the default events.
pub(crate) fn text(events: &[sse::Event]) -> String {
    let words = events.iter().filter(|event| event.name == "message").map(|event| {
        let data: Value = serde_json::from_str(&event.data).expect("JSON");
        data["text"].as_str().expect("a text").to_owned()
    });
    words.collect()
}

/// The data of the one event of this name.
pub(crate) fn only(events: &[sse::Event], name: &str) -> Value {
    let mut named = events.iter().filter(|event| event.name == name);
    let event = named.next().unwrap_or_else(|| panic!("no `{name}` in {events:?}"));
    assert!(named.next().is_none(), "more than one `{name}`");
    serde_json::from_str(&event.data).expect("JSON")
}
