//! What the application is told of answers that have ended: with a right signature, once where all is well, and at least once whatever
//! happens to it or to lastword.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinSet,
};

use crate::common::{At, TestGateway, let_go, process::Process, soon};

/// 32 bytes.
const KEY: &[u8] = b"a key that nobody else may know.";

fn secret() -> String {
    format!("whsec_{}", STANDARD.encode(KEY))
}

/// What the endpoint does with a request.
#[derive(Clone, Debug)]
enum Answer {
    Status(u16),
    /// With this header.
    With(u16, &'static str),
    /// Nothing, until the test says so; then 200.
    Hold,
}

/// The application: it shows what it was told, and answers each request with the next of these, and at last with 200.
struct Endpoint {
    address: SocketAddr,
    told: mpsc::UnboundedReceiver<Told>,
    go_on: Arc<Notify>,
    _serving: JoinSet<()>,
}

/// One request.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    head: String,
    body: Vec<u8>,
}

impl Endpoint {
    async fn new(answers: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
        let (telling, told) = mpsc::unbounded_channel();
        let go_on = Arc::new(Notify::new());
        let held = go_on.clone();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(serve(socket, answers.clone(), telling.clone(), held.clone()));
            }
        });
        Self { address, told, go_on, _serving: serving }
    }

    /// The section; `more` are lines of it.
    fn section(&self, more: &str) -> String {
        let (address, secret) = (self.address, secret());
        format!("[webhooks]\nurl = \"http://{address}/hooks?from=here\"\nsecret = \"{secret}\"\n{more}\n")
    }

    async fn told(&mut self) -> Told {
        soon(self.told.recv()).await.expect("it listens")
    }

    /// It was told no more than the test has seen.
    fn is_quiet(&mut self) -> bool {
        self.told.try_recv().is_err()
    }
}

async fn serve(
    mut socket: TcpStream,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    telling: mpsc::UnboundedSender<Told>,
    held: Arc<Notify>,
) {
    let mut bytes = Vec::new();
    loop {
        let told = loop {
            if let Some(told) = Told::read(&mut bytes) {
                break told;
            }
            if !matches!(socket.read_buf(&mut bytes).await, Ok(1..)) {
                return;
            }
        };
        let answer = answers.lock().expect("whole").pop_front().unwrap_or(Answer::Status(200));
        let (go_on, _) = (held.notified(), telling.send(told));
        let (status, header) = match answer {
            Answer::Status(status) => (status, String::new()),
            Answer::With(status, header) => (status, format!("{header}\r\n")),
            Answer::Hold => {
                go_on.await;
                (200, String::new())
            }
        };
        let response = format!("HTTP/1.1 {status} Said\r\n{header}content-length: 2\r\n\r\nok");
        let _ = socket.write_all(response.as_bytes()).await;
    }
}

impl Told {
    /// The first whole request of these bytes.
    fn read(bytes: &mut Vec<u8>) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let told = Self { head, body: Vec::new() };
        let length: usize = told.header("content-length")?.parse().expect("a length");
        let body = bytes.get(end..end + length)?.to_vec();
        bytes.drain(..end + length);
        Some(Self { body, ..told })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    fn id(&self) -> &str {
        self.header("webhook-id").expect("an id")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// As who holds the secret would look at it.
    fn is_signed(&self) {
        let (id, at) = (self.id(), self.header("webhook-timestamp").expect("a time"));
        let signed = [format!("{id}.{at}.").as_bytes(), &self.body].concat();
        let signature = self.header("webhook-signature").and_then(|all| all.strip_prefix("v1,")).expect("a signature");
        let signature = STANDARD.decode(signature).expect("base64");
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, KEY), &signed, &signature).expect("it is right");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("later").as_secs();
        assert!(now.abs_diff(at.parse().expect("seconds")) < 60, "{at}");
    }

    /// It tells of this stream, and that it ended so.
    fn is_of(&self, id: &str, status: &str) {
        self.is_signed();
        let json = self.json();
        assert_eq!((self.id(), &json["type"]), (&*format!("msg_{id}"), &json!(format!("stream.{status}"))));
        assert_eq!((&json["data"]["id"], &json["data"]["status"]), (&json!(id), &json!(status)));
        assert_eq!(json["timestamp"], json["data"]["ended_at"]);
    }
}

const FAST: &str = "backoff = [\"10ms\", \"20ms\"]";
const DELIVERED: &str = "lastword_webhooks_total{outcome=\"delivered\"}";
const RETRIED: &str = "lastword_webhooks_total{outcome=\"retried\"}";
const GIVEN_UP: &str = "lastword_webhooks_total{outcome=\"given_up\"}";
const DUE: &str = "lastword_webhooks_due";

/// Whether nothing is left to be told, and what is counted.
async fn counted(at: At, name: &str, value: u64) {
    at.metric_is(name, value).await;
    at.metric_is(DUE, 0).await;
}

/// One that has let go of the folder.
async fn drained(gateway: TestGateway, folder: &Path) {
    soon(gateway.drain()).await;
    drop(let_go(&folder.join("base.redb")).await);
}

#[tokio::test]
async fn an_answer_that_nobody_watched_is_told_once_signed_with_its_state_to_the_letter() {
    let mut endpoint = Endpoint::new(&[]).await;
    let gateway = TestGateway::with(&endpoint.section("")).await;
    let body = json!({
        "prompt": "say it", "model": "mock/words", "metadata": { "chat": 9_007_199_254_740_993_u64 },
        "backend_options": { "text": "It is \"saved\": ü.", "reasoning": "hm", "delay": "0ms",
            "tool_call": { "name": "weather", "arguments": { "city": "Berlin" } } },
    });
    let id = gateway.create(&body).await;
    let told = endpoint.told().await;
    told.is_of(&id, "completed");
    assert!(told.head.starts_with("POST /hooks?from=here HTTP/1.1\r\n"), "{}", told.head);
    assert_eq!(told.header("content-type"), Some("application/json"));
    assert!(told.header("user-agent").is_some_and(|agent| agent.starts_with("lastword/")), "{}", told.head);
    let state = gateway.get(&format!("/v1/streams/{id}"), &[]).await.text().await;
    let told = String::from_utf8(told.body).expect("text");
    let (_, data) = told.split_once(",\"data\":").expect("data");
    assert_eq!(data.strip_suffix('}'), Some(&*state), "byte by byte");
    counted(gateway.at(), DELIVERED, 1).await;
    assert!(endpoint.is_quiet());
}

#[tokio::test]
async fn every_way_to_end_is_told_or_those_that_were_asked_for() {
    let mut endpoint = Endpoint::new(&[]).await;
    let gateway = TestGateway::with(&endpoint.section("")).await;
    let failed = gateway.say("one two three", json!({ "fault": { "kind": "error", "after": 1 } })).await;
    let told = endpoint.told().await;
    told.is_of(&failed, "failed");
    assert_eq!(told.json()["data"]["text"], "one");
    let cancelled = gateway.say("one two three", json!({ "delay": "1h" })).await;
    gateway.send("POST", &format!("/v1/streams/{cancelled}/cancel"), &[], "").await;
    endpoint.told().await.is_of(&cancelled, "cancelled");

    let gateway = TestGateway::with(&endpoint.section("events = [\"failed\"]")).await;
    let completed = gateway.say("one", json!({})).await;
    gateway.whole(&completed).await;
    let failed = gateway.say("one", json!({ "fault": { "kind": "close", "after": 1 } })).await;
    endpoint.told().await.is_of(&failed, "failed");
    counted(gateway.at(), DELIVERED, 1).await;
    assert!(endpoint.is_quiet());
}

#[tokio::test]
async fn what_the_endpoint_refuses_is_told_again_under_the_same_id_until_it_takes_it() {
    let answers = [Answer::Status(500), Answer::With(302, "location: /elsewhere"), Answer::Status(404)];
    let mut endpoint = Endpoint::new(&answers).await;
    let gateway = TestGateway::with(&endpoint.section(FAST)).await;
    let id = gateway.say("at last", json!({})).await;
    let first = endpoint.told().await;
    for _ in 0..3 {
        let again = endpoint.told().await;
        again.is_of(&id, "completed");
        assert_eq!((again.id(), &again.body), (first.id(), &first.body));
        assert!(again.head.starts_with("POST /hooks?from=here"), "a redirect is not followed: {}", again.head);
    }
    counted(gateway.at(), DELIVERED, 1).await;
    assert_eq!(gateway.at().metric(RETRIED).await, 3);
    assert!(endpoint.is_quiet());
}

#[tokio::test]
async fn an_endpoint_that_says_how_long_is_asked_no_sooner() {
    let mut endpoint = Endpoint::new(&[Answer::With(503, "retry-after-ms: 300")]).await;
    let gateway = TestGateway::with(&endpoint.section(FAST)).await;
    let id = gateway.say("later", json!({})).await;
    endpoint.told().await;
    let began = std::time::Instant::now();
    endpoint.told().await.is_of(&id, "completed");
    assert!(began.elapsed() > Duration::from_millis(250), "{:?}", began.elapsed());
}

#[tokio::test]
async fn what_the_endpoint_never_takes_is_given_up() {
    // Gone is gone,
    let mut endpoint = Endpoint::new(&[Answer::Status(410)]).await;
    let gateway = TestGateway::with(&endpoint.section(FAST)).await;
    gateway.say("one", json!({})).await;
    endpoint.told().await;
    counted(gateway.at(), GIVEN_UP, 1).await;
    // and what is behind it is told all the same.
    let next = gateway.say("two", json!({})).await;
    endpoint.told().await.is_of(&next, "completed");
    counted(gateway.at(), DELIVERED, 1).await;

    let endpoint = Endpoint::new(&vec![Answer::Status(500); 1000]).await;
    let gateway = TestGateway::with(&endpoint.section(&format!("{FAST}\ngive_up_after = \"500ms\""))).await;
    gateway.say("one", json!({})).await;
    counted(gateway.at(), GIVEN_UP, 1).await;
    assert_ne!(gateway.at().metric(RETRIED).await, 0);
}

#[tokio::test]
async fn what_is_erased_is_told_no_more() {
    let mut endpoint = Endpoint::new(&vec![Answer::Status(500); 1000]).await;
    let gateway = TestGateway::with(&endpoint.section(FAST)).await;
    let id = gateway.say("one", json!({})).await;
    endpoint.told().await;
    assert_eq!(gateway.send("DELETE", &format!("/v1/streams/{id}"), &[], "").await.status, 204);
    gateway.at().metric_is(DUE, 0).await;
}

#[tokio::test]
async fn an_answer_that_is_not_to_be_kept_is_told_while_it_is_there() {
    let mut endpoint = Endpoint::new(&[Answer::Status(500)]).await;
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = TestGateway::on_disk_with(&endpoint.section(FAST), folder.path()).await;
    let body = json!({ "model": "mock/words", "input": "say it", "store": false,
        "backend_options": { "text": "hush", "delay": "0ms" } });
    let response = gateway.send("POST", "/v1/responses", &[], &body.to_string()).await;
    let id = response.header("x-stream-id").expect("an id").to_owned();
    endpoint.told().await.is_of(&id, "completed");
    let told = endpoint.told().await;
    told.is_of(&id, "completed");
    assert_eq!(told.json()["data"]["text"], "hush");
    counted(gateway.at(), DELIVERED, 1).await;
}

#[tokio::test]
async fn what_could_not_be_told_before_a_restart_is_told_after_it_and_what_was_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut endpoint = Endpoint::new(&[Answer::Status(200), Answer::Status(503), Answer::Status(503)]).await;
    let section = endpoint.section("backoff = [\"1h\"]");
    let gateway = TestGateway::on_disk_with(&section, folder.path()).await;
    gateway.say("taken", json!({})).await;
    endpoint.told().await;
    counted(gateway.at(), DELIVERED, 1).await;
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        ids.push(gateway.say(text, json!({})).await);
        endpoint.told().await;
    }
    gateway.at().metric_is(RETRIED, 2).await;
    assert_eq!(gateway.at().metric(DUE).await, 2);
    drained(gateway, folder.path()).await;
    assert!(endpoint.is_quiet(), "a drain tries nothing again");

    let gateway = TestGateway::on_disk_with(&section, folder.path()).await;
    let mut told = [endpoint.told().await, endpoint.told().await];
    told.sort_by_key(|told| told.json()["data"]["id"].to_string());
    for (told, id) in told.iter().zip(&ids) {
        told.is_of(id, "completed");
    }
    counted(gateway.at(), DELIVERED, 2).await;
    drained(gateway, folder.path()).await;

    let gateway = TestGateway::on_disk_with(&section, folder.path()).await;
    let last = gateway.say("last", json!({})).await;
    endpoint.told().await.is_of(&last, "completed");
    counted(gateway.at(), DELIVERED, 1).await;
    assert!(endpoint.is_quiet());
}

#[tokio::test]
async fn a_drain_waits_for_what_is_under_way_but_not_for_an_endpoint_that_says_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut endpoint = Endpoint::new(&[Answer::Hold, Answer::Hold]).await;
    let section = endpoint.section("[server]\ndrain = \"100ms\"");
    let gateway = TestGateway::on_disk_with(&section, folder.path()).await;
    let taken = gateway.say("taken", json!({})).await;
    endpoint.told().await.is_of(&taken, "completed");
    let go_on = endpoint.go_on.clone();
    tokio::join!(drained(gateway, folder.path()), async {
        // By now the drain waits for it, or will.
        tokio::task::yield_now().await;
        go_on.notify_waiters();
    });

    let gateway = TestGateway::on_disk_with(&section, folder.path()).await;
    let held = gateway.say("held", json!({})).await;
    let running = gateway.say("one two three", json!({ "delay": "1h" })).await;
    endpoint.told().await.is_of(&held, "completed");
    drained(gateway, folder.path()).await;
    // What the drain itself has ended is told once, when it has.
    endpoint.told().await.is_of(&running, "interrupted");

    let gateway = TestGateway::on_disk_with(&section, folder.path()).await;
    endpoint.told().await.is_of(&held, "completed");
    counted(gateway.at(), DELIVERED, 1).await;
    assert!(endpoint.is_quiet());
}

/// A lastword of its own on this folder.
async fn process(endpoint: &Endpoint, folder: &Path) -> Process {
    let url = format!("http://{}/hooks", endpoint.address);
    let (folder, secret) = (folder.to_string_lossy(), secret());
    let variables = [
        ("LASTWORD_STORE__ENGINE", "disk"),
        ("LASTWORD_STORE__PATH", &*folder),
        ("LASTWORD_WEBHOOKS__URL", &url),
        ("LASTWORD_WEBHOOKS__SECRET", &secret),
    ];
    Process::start("127.0.0.1:0", &variables).await
}

#[tokio::test]
async fn who_is_killed_between_an_end_and_its_delivery_tells_it_again_and_tells_what_ran() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut endpoint = Endpoint::new(&[Answer::Status(500), Answer::Hold]).await;
    let killed = process(&endpoint, folder.path()).await;
    let at = At(killed.address());
    let refused = at.say(json!({ "text": "a word that no log holds", "delay": "0ms" }), json!({})).await;
    endpoint.told().await.is_of(&refused, "completed");
    at.metric_is(RETRIED, 1).await;
    let running = at.say(json!({ "text": "one two three", "delay": "1h" }), json!({})).await;
    let ended = at.say(json!({ "text": "a word that no log holds", "delay": "0ms" }), json!({})).await;
    let first = endpoint.told().await;
    first.is_of(&ended, "completed");
    let mut log = killed.kill().await;

    let again = process(&endpoint, folder.path()).await;
    let mut told = [endpoint.told().await, endpoint.told().await, endpoint.told().await];
    told.sort_by_key(|told| told.json()["data"]["id"].to_string());
    told[0].is_of(&refused, "completed");
    told[1].is_of(&running, "interrupted");
    told[2].is_of(&ended, "completed");
    assert_eq!((told[2].id(), &told[2].body), (first.id(), &first.body));
    counted(At(again.address()), DELIVERED, 3).await;
    log += &again.kill().await;
    assert!(log.contains("could not be told of an answer"), "{log}");
    for hidden in [&secret()[..], "no log holds", "say it", "/hooks"] {
        assert!(!log.contains(hidden), "{hidden}: {log}");
    }
}

#[tokio::test]
async fn an_endpoint_that_takes_its_time_holds_up_no_answer_and_its_time_is_over_some_day() {
    let mut endpoint = Endpoint::new(&vec![Answer::Hold; 8]).await;
    let gateway = TestGateway::with(&endpoint.section(&format!("timeout = \"700ms\"\n{FAST}"))).await;
    let mut ids = Vec::new();
    for n in 0..40 {
        let text = format!("answer {n}");
        ids.push(gateway.say(&text, json!({})).await);
        assert_eq!(crate::common::text(&gateway.whole(&ids[n]).await), text);
    }
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(endpoint.told().await.id().to_owned());
    }
    // A place is free when the time of one is over; then all are told, those that were held once more.
    counted(gateway.at(), DELIVERED, 40).await;
    assert_eq!(gateway.at().metric(RETRIED).await, 8);
    let mut told = Vec::new();
    for _ in 0..40 {
        told.push(endpoint.told().await.id().to_owned());
    }
    told.sort();
    let mut all: Vec<_> = ids.iter().map(|id| format!("msg_{id}")).collect();
    all.sort();
    assert_eq!(told, all);
    assert!(held.iter().all(|held| told.contains(held)) && endpoint.is_quiet());
}

#[tokio::test]
async fn an_answer_is_told_well_within_a_second() {
    let mut endpoint = Endpoint::new(&[]).await;
    let gateway = TestGateway::with(&endpoint.section("")).await;
    for _ in 0..3 {
        let id = gateway.say("one", json!({})).await;
        gateway.whole(&id).await;
        let began = std::time::Instant::now();
        endpoint.told().await.is_of(&id, "completed");
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
