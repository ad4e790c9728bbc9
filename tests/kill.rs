//! `kill -9` under load: whatever any reader saw is there after the restart, unchanged, once, and each answer has one end.
//!
//! The real binary, with answers running and readers attached, is killed at a random moment and started again on the same folder,
//! many times over, on several folders at once; now and then while it starts. `LASTWORD_KILLS` says how many times in all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    mem,
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Folders, each with a lastword of its own: what they wait for they wait for together.
const FOLDERS: usize = 4;
/// Answers that begin in each life.
const STREAMS: usize = 12;
/// Words of an answer: some end in their life, some are longer than any.
const WORDS: [usize; 3] = [4, 25, 2000];

/// A running lastword. Dropping it is `kill -9`.
struct Server {
    child: Child,
    address: String,
}

/// Dropping it does nothing.
fn spawn(folder: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lastword"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .current_dir(folder)
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut child = spawn(folder);
        let (found, lines) = std::sync::mpsc::channel();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        for said in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
            let found = found.clone();
            // Reads on to the end, so that the process never waits for room to log.
            thread::spawn(move || {
                for line in BufReader::new(said).lines().map_while(Result::ok) {
                    let _ = found.send(line);
                }
            });
        }
        drop(found);
        let mut said = Vec::new();
        loop {
            match lines.recv_timeout(Duration::from_secs(20)) {
                Ok(line) => match line.split_once("listening on http://") {
                    Some((_, address)) => return Self { child, address: address.trim().to_owned() },
                    None => said.push(line),
                },
                Err(error) => panic!("it does not listen ({error}), and says {said:#?}"),
            }
        }
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
    (0..WORDS[of % WORDS.len()]).map(|n| format!("{of}.{n} ")).collect::<String>().trim_end().to_owned()
}

fn prompt(of: usize) -> Value {
    json!({"prompt": "go", "model": "mock/words", "backend_options": {"text": words(of), "delay": "4ms", "jitter": "2ms"}})
}

/// An answer, and what each of its readers has seen of it.
struct Answer {
    of: usize,
    id: String,
    seen: Vec<Seen>,
}

impl Answer {
    fn begin(server: &Server, of: usize) -> Self {
        let (status, made) = server.post("/v1/streams", &format!("key-{of}"), &prompt(of));
        assert_eq!(status, 201, "{made}");
        Self { of, id: made["id"].as_str().unwrap().to_owned(), seen: Vec::new() }
    }

    /// After a kill: each reader comes back with its cursor, and is told the rest and the end. All have seen the same.
    fn check(&self, server: &Server) {
        let mut whole = Seen::default();
        whole.read_on(server, &self.id);
        assert!(whole.ended, "stream {} has no end", self.id);
        for before in &self.seen {
            let mut seen = before.clone();
            if !seen.ended {
                seen.read_on(server, &self.id);
            }
            assert!(
                before.events.iter().all(|(at, said)| whole.events.get(at) == Some(said)),
                "what was seen is there"
            );
            assert_eq!(seen, whole, "a reader that comes back has all of it, once");
        }
        let (said, words, end) = (whole.text(), words(self.of), whole.events.values().next_back().unwrap());
        let status = if end.contains("completed") { "completed" } else { "interrupted" };
        assert!(end.contains(status), "{end}");
        assert!(if status == "completed" { said == words } else { words.starts_with(&said) }, "{status}: {said}");
        let state = server.get(&format!("/v1/streams/{}", self.id));
        assert_eq!((&state["status"], &state["cursor"]), (&json!(status), &json!(whole.last())));
        // Who asked and was not told of the answer asks again, and pays once.
        if said.contains(' ') {
            let (status, again) = server.post("/v1/streams", &format!("key-{}", self.of), &prompt(self.of));
            assert_eq!(again["id"], self.id, "{status}");
        }
    }
}

/// One life: what the last one left is checked, answers begin, readers come, and it is killed. Gives back what is left.
fn live(folder: &Path, left: &[Answer], began: usize, chance: &mut fastrand::Rng) -> Vec<Answer> {
    if chance.u8(0..4) == 0 {
        let mut child = spawn(folder);
        thread::sleep(Duration::from_micros(chance.u64(0..100_000)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let server = Server::start(folder);
    let up = Instant::now();
    left.iter().for_each(|answer| answer.check(&server));
    assert!(up.elapsed() < Duration::from_secs(10), "an end within a moment");
    if began == 0 {
        return Vec::new();
    }
    let mut answers: Vec<_> = (began..began + STREAMS).map(|of| Answer::begin(&server, of)).collect();
    thread::scope(|scope| {
        let readers: Vec<_> = answers
            .iter()
            .map(|answer| {
                let request = format!("GET /v1/streams/{}/events HTTP/1.0\r\n\r\n", answer.id);
                [server.ask(&request), server.ask(&request)].map(|socket| {
                    scope.spawn(move || {
                        let mut seen = Seen::default();
                        seen.take(BufReader::new(socket));
                        seen
                    })
                })
            })
            .collect();
        thread::sleep(Duration::from_micros(chance.u64(0..250_000)));
        drop(server);
        for (answer, readers) in answers.iter_mut().zip(readers) {
            answer.seen = readers.map(|reader| reader.join().unwrap()).into();
        }
    });
    answers
}

#[test]
fn what_a_reader_saw_is_there_after_a_kill_and_each_answer_ends_once() {
    let kills = match env::var("LASTWORD_KILLS") {
        Ok(kills) => kills.parse().unwrap(),
        Err(_) if env::var("LASTWORD_TEST").is_ok_and(|test| test == "full") => 1000,
        Err(_) => 200,
    };
    let seen: usize = thread::scope(|scope| {
        let folders: Vec<_> =
            (0..FOLDERS).map(|n| scope.spawn(move || kill_over_and_over(n, kills / FOLDERS))).collect();
        folders.into_iter().map(|folder| folder.join().unwrap()).sum()
    });
    assert!(seen > kills, "nobody saw anything: it was killed too early");
}

/// Gives back how many records were seen before a kill.
fn kill_over_and_over(n: usize, kills: usize) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let durability = if n == 0 { "disk" } else { "os" };
    let config = format!(
        "[store]\nengine = \"disk\"\ndurability = \"{durability}\"\n[log]\nfilter = \"info\"\n[backends.mock]\nkind = \"mock\"\n"
    );
    fs::write(folder.path().join("lastword.toml"), config).unwrap();
    let (mut chance, mut left, mut records) = (fastrand::Rng::new(), Vec::new(), 0);
    for life in 1..=kills {
        left = live(folder.path(), &mem::take(&mut left), life * STREAMS, &mut chance);
        records += left.iter().flat_map(|answer| &answer.seen).map(|seen| seen.events.len()).sum::<usize>();
    }
    live(folder.path(), &left, 0, &mut chance);
    records
}
