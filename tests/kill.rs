//! `kill -9` under load: whatever any reader saw is there after the restart, unchanged, once, and each answer has one end.
//!
//! The real binary, with answers running and readers attached, is killed at a random moment and started again on the same folder,
//! many times over. `LASTWORD_KILLS` says how many.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Answers that run when it is killed.
const STREAMS: usize = 50;
/// Words of an answer: longer than any life.
const WORDS: usize = 2000;

/// A running lastword. Dropping it is `kill -9`.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lastword"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .current_dir(folder)
            .env_clear()
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (found, address) = std::sync::mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for said in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
            let found = found.clone();
            // Reads on to the end, so that the process never waits for room to log.
            thread::spawn(move || {
                for line in BufReader::new(said).lines().map_while(Result::ok) {
                    if let Some((_, address)) = line.split_once("listening on http://") {
                        let _ = found.send(address.trim().to_owned());
                    }
                }
            });
        }
        let address = address.recv_timeout(Duration::from_secs(20)).unwrap();
        Self { child, address }
    }

    fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        let body = body.to_string();
        let length = body.len();
        let head = format!("POST {path} HTTP/1.0\r\nidempotency-key: {key}\r\ncontent-length: {length}\r\n\r\n{body}");
        let (status, body) = answer(self.ask(&head));
        (status, serde_json::from_str(&body).unwrap())
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = answer(self.ask(&format!("GET {path} HTTP/1.0\r\n\r\n")));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    fn ask(&self, request: &str) -> TcpStream {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn answer(mut socket: TcpStream) -> (u16, String) {
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// What a reader has seen: the data of each event, under its id.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    events: BTreeMap<u64, String>,
    ended: bool,
}

impl Seen {
    fn last(&self) -> u64 {
        self.events.keys().next_back().copied().unwrap_or_default()
    }

    /// Reads on from where it stands, until the connection is gone or the answer has ended.
    fn read_on(&mut self, server: &Server, id: &str) {
        let from = match self.last() {
            0 => String::new(),
            last => format!("last-event-id: {last}\r\n"),
        };
        let socket = server.ask(&format!("GET /v1/streams/{id}/events HTTP/1.0\r\n{from}\r\n"));
        self.take(BufReader::new(socket));
    }

    fn take(&mut self, said: impl BufRead) {
        let (mut name, mut data) = (String::new(), String::new());
        for line in said.lines().map_while(Result::ok) {
            match line.split_once(": ") {
                Some(("event", said)) => name = said.to_owned(),
                Some(("data", said)) => data = said.to_owned(),
                Some(("id", said)) => {
                    let (at, last) = (said.parse().unwrap(), self.last());
                    assert!(at == 0 || at > last, "{at} came after {last}");
                    assert!(!self.ended, "something followed the end");
                    assert_ne!(name, "reset", "no cursor that was ever given is unknown: {data}");
                    self.ended = name == "end";
                    if at > 0 {
                        self.events.insert(at, format!("{name} {data}"));
                    }
                    (name, data) = (String::new(), String::new());
                }
                _ => assert!(!line.contains("event: reset"), "{line}"),
            }
        }
    }

    /// The words, in order.
    fn text(&self) -> String {
        let texts = self.events.values().filter_map(|said| {
            let data: Value = serde_json::from_str(said.split_once(' ')?.1).ok()?;
            data["text"].as_str().map(str::to_owned)
        });
        texts.collect()
    }
}

fn words(of: usize) -> String {
    (0..WORDS).map(|n| format!("{of}.{n} ")).collect::<String>().trim_end().to_owned()
}

fn prompt(of: usize) -> Value {
    json!({"prompt": "go", "model": "mock/words", "backend_options": {"text": words(of), "delay": "2ms", "jitter": "2ms"}})
}

#[test]
fn what_a_reader_saw_is_there_after_a_kill_and_each_answer_ends_once() {
    let kills = env::var("LASTWORD_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let store = "[store]\nengine = \"disk\"\n[log]\nfilter = \"info\"\n[backends.mock]\nkind = \"mock\"\n";
    fs::write(folder.path().join("lastword.toml"), store).unwrap();
    let mut left: Vec<(usize, String, Seen)> = Vec::new();
    let (mut ends, mut seen_records) = (0, 0);
    for round in 0..=kills {
        let server = Server::start(folder.path());
        let began = Instant::now();
        // Those of the last life: each reader comes back with its cursor, and is told the rest and the end.
        thread::scope(|scope| {
            for (of, id, seen) in &left {
                let (server, mut seen) = (&server, seen.clone());
                scope.spawn(move || {
                    let before = seen.clone();
                    seen.read_on(server, id);
                    assert!(seen.ended, "stream {id} has no end");
                    assert!(began.elapsed() < Duration::from_secs(10), "an end within a moment");
                    let mut again = Seen::default();
                    again.read_on(server, id);
                    assert_eq!(again, seen, "what was seen has not changed");
                    assert!(before.events.iter().all(|(at, said)| again.events.get(at) == Some(said)));
                    assert!(words(*of).starts_with(&seen.text()), "a prefix of what the model says");
                    let end = seen.events.values().next_back().unwrap();
                    assert!(end.contains("interrupted"), "{end}");
                    let state = server.get(&format!("/v1/streams/{id}"));
                    assert_eq!((&state["status"], &state["cursor"]), (&json!("interrupted"), &json!(seen.last())));
                });
            }
        });
        for (of, id, seen) in left.iter().take(3).filter(|(.., seen)| seen.text().contains(' ')) {
            let (status, again) = server.post("/v1/streams", &format!("key-{of}"), &prompt(*of));
            assert_eq!(again["id"], **id, "the same request finds its answer: {status}, {} was seen", seen.text());
        }
        ends += left.len();
        if round == kills {
            break;
        }
        let streams: Vec<_> = (0..STREAMS).map(|n| round * STREAMS + n).collect();
        let ids = streams.iter().map(|of| {
            let (status, made) = server.post("/v1/streams", &format!("key-{of}"), &prompt(*of));
            assert_eq!(status, 201, "{made}");
            made["id"].as_str().unwrap().to_owned()
        });
        let ids: Vec<_> = ids.collect();
        left = thread::scope(|scope| {
            let readers: Vec<_> = ids
                .iter()
                .map(|id| {
                    let socket = server.ask(&format!("GET /v1/streams/{id}/events HTTP/1.0\r\n\r\n"));
                    scope.spawn(move || {
                        let mut seen = Seen::default();
                        seen.take(BufReader::new(socket));
                        seen
                    })
                })
                .collect();
            thread::sleep(Duration::from_micros(fastrand::u64(0..300_000)));
            drop(server);
            let seen = readers.into_iter().map(|reader| reader.join().unwrap());
            streams.into_iter().zip(ids.clone()).zip(seen).map(|((of, id), seen)| (of, id, seen)).collect()
        });
        seen_records += left.iter().map(|(.., seen)| seen.events.len()).sum::<usize>();
    }
    assert_eq!(ends, kills * STREAMS);
    assert!(kills == 0 || seen_records > 0, "nobody saw anything: it was killed too early");
}
