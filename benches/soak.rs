//! Mixed load for a long time, over what a store may keep: do memory and disk level off, and is every answer still whole?
//!
//! So many clients at once start answers of the mock's, read them with cuts and resumes, read old ones again, cancel, erase, leave, and
//! ask for some that are not to be kept. The store may keep little and not for long, so that it is full after a few minutes.
//! `cargo bench --bench soak` takes an hour; `LASTWORD_SOAK=5m` says otherwise.
#![expect(clippy::print_stdout, reason = "it prints a table")]

#[expect(dead_code, reason = "what a token costs is measured elsewhere")]
#[path = "common/process.rs"]
mod process;

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use lastword::wire::sse::Parser;
use process::{Process, size_of};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

const CLIENTS: usize = 60;
/// What the store may keep: less than what is said in `RETAIN`.
const MAX_BYTES: &str = "24MiB";
const RETAIN: &str = "10m";
/// How many finished answers are read again by chance.
const REMEMBERED: usize = 2000;

struct Soak {
    http: Client,
    base: String,
    until: Instant,
    /// Finished answers that should still be there, as their ids and how many words they have.
    finished: Mutex<VecDeque<(String, usize)>>,
    counts: [AtomicU64; 5],
}

const NAMES: [&str; 5] = ["answers", "resumes", "replays", "cancelled", "gone"];

fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("LASTWORD_SOAK").map_or("1h".to_owned(), |asked| asked);
    let time = humantime::parse_duration(&asked).expect("LASTWORD_SOAK is a duration");
    let time = if measure { time } else { Duration::from_secs(2) };
    rustls::crypto::ring::default_provider().install_default().expect("the first one");
    let server =
        Process::start(&[("STORE__MAX_BYTES", MAX_BYTES), ("STORE__RETAIN", RETAIN), ("LIMITS__FORGET_AFTER", "5s")]);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let soak = Arc::new(Soak {
        http: Client::builder().no_proxy().build().expect("a client"),
        base: format!("http://{}", server.address()),
        until: Instant::now() + time,
        finished: Mutex::default(),
        counts: Default::default(),
    });
    let clients: Vec<_> = (0..CLIENTS).map(|n| runtime.spawn(soak.clone().client(n as u64))).collect();
    println!("   minute   memory KiB   disk KiB  {}", NAMES.map(|name| format!("{name:>10}")).concat());
    let step = Duration::from_secs(60).min(time / 2);
    let mut rows = Vec::new();
    while Instant::now() < soak.until {
        std::thread::sleep(step.min(soak.until.saturating_duration_since(Instant::now())));
        let row = (server.memory() >> 10, size_of(server.folder()) >> 10);
        let counts: String = soak.counts.iter().map(|count| format!("{:>10}", count.load(Relaxed))).collect();
        println!("{:9} {:12} {:10}  {counts}", rows.len() + 1, row.0, row.1);
        rows.push(row);
    }
    for client in clients {
        runtime.block_on(client).expect("every answer was whole");
    }
    // The first third is for filling up.
    let (second, third) = rows[rows.len() / 3..].split_at((rows.len() - rows.len() / 3) / 2);
    let most = |rows: &[(u64, u64)], of: fn(&(u64, u64)) -> u64| rows.iter().map(of).max().unwrap_or(1).max(1) as f64;
    let grown = [|row: &(u64, u64)| row.0, |row: &(u64, u64)| row.1].map(|of| most(third, of) / most(second, of));
    println!("the last third over the one before, at most: memory {:.2} x, disk {:.2} x", grown[0], grown[1]);
}

impl Soak {
    async fn client(self: Arc<Self>, n: u64) {
        let mut chance = fastrand::Rng::with_seed(n);
        while Instant::now() < self.until {
            match chance.u8(0..10) {
                0 => self.again(&mut chance).await,
                1 => self.forgotten(&mut chance).await,
                kind => self.answer(&mut chance, kind).await,
            }
        }
    }

    /// One of the mock's answers, of numbered words: read with cuts, and then cancelled, erased, left or kept.
    async fn answer(&self, chance: &mut fastrand::Rng, kind: u8) {
        let words = chance.usize(10..400);
        let text: String = (0..words).map(|n| format!("{n} ")).collect();
        let delay = format!("{}ms", chance.u8(2..25));
        let ask = json!({ "prompt": "soak", "backend_options": { "text": text, "delay": delay } });
        let made =
            self.http.post(format!("{}/v1/streams", self.base)).body(ask.to_string()).send().await.expect("it answers");
        assert_eq!(made.status(), StatusCode::CREATED);
        let made: Value = serde_json::from_slice(&made.bytes().await.expect("a body")).expect("JSON");
        let id = made["id"].as_str().expect("an id").to_owned();
        self.count(0);
        match kind {
            2 => return, // nobody ever reads it
            3 => {
                let mut reader = Reader::default();
                reader.read(self.events(&id, "").await, chance.usize(1..words)).await;
                let url = format!("{}/v1/streams/{id}/cancel", self.base);
                assert!(self.http.post(url).send().await.expect("it answers").status().is_success());
                reader.read(self.events(&id, &reader.seen.clone()).await, usize::MAX).await;
                assert!(text.starts_with(&reader.text) && reader.ended);
                self.count(3);
                return;
            }
            _ => {}
        }
        let mut reader = Reader::default();
        while !reader.ended {
            let cut = if chance.u8(0..3) > 0 { chance.usize(1..200) } else { usize::MAX };
            reader.read(self.events(&id, &reader.seen.clone()).await, cut).await;
            self.count(1);
        }
        assert_eq!(reader.text, text, "stream {id}");
        if kind == 4 {
            let erased = self.http.delete(format!("{}/v1/streams/{id}", self.base)).send().await.expect("it answers");
            assert!(erased.status().is_success());
            return;
        }
        let mut finished = self.finished.lock().expect("whole");
        finished.push_back((id, words));
        if finished.len() > REMEMBERED {
            finished.pop_front();
        }
    }

    /// An old answer, from its beginning: whole, or gone by its age or for want of room.
    async fn again(&self, chance: &mut fastrand::Rng) {
        let chosen = {
            let finished = self.finished.lock().expect("whole");
            let n = chance.usize(0..finished.len().max(1));
            finished.get(n).cloned()
        };
        let Some((id, words)) = chosen else { return };
        let response = self.events(&id, "").await;
        if response.status() == StatusCode::GONE {
            self.count(4);
            return;
        }
        let mut reader = Reader::default();
        reader.read(response, usize::MAX).await;
        let text: String = (0..words).map(|n| format!("{n} ")).collect();
        assert!(reader.ended && reader.text == text, "stream {id}");
        self.count(2);
    }

    /// One that is not to be kept.
    async fn forgotten(&self, chance: &mut fastrand::Rng) {
        let ask = json!({ "model": "mock/words", "input": "soak", "store": false, "stream": true,
            "backend_options": { "text": "forget it ", "repeat": chance.u8(1..60), "delay": "5ms" } });
        let answer = self
            .http
            .post(format!("{}/v1/responses", self.base))
            .body(ask.to_string())
            .send()
            .await
            .expect("it answers");
        assert_eq!(answer.status(), StatusCode::OK);
        let whole = answer.text().await.expect("a whole body");
        assert!(whole.contains("event: response.completed"));
        self.count(0);
    }

    async fn events(&self, id: &str, seen: &str) -> Response {
        let ask = self.http.get(format!("{}/v1/streams/{id}/events", self.base)).header("last-event-id", seen);
        ask.send().await.expect("it answers")
    }

    fn count(&self, n: usize) {
        self.counts[n].fetch_add(1, Relaxed);
    }
}

/// What a client has of an answer.
#[derive(Default)]
struct Reader {
    text: String,
    seen: String,
    ended: bool,
}

impl Reader {
    /// Reads on, and hangs up after so many events.
    async fn read(&mut self, response: Response, mut events: usize) {
        if response.status() == StatusCode::NO_CONTENT {
            self.ended = true;
            return;
        }
        assert_eq!(response.status(), StatusCode::OK);
        let (mut parser, mut body) = (Parser::new(1 << 20), response.bytes_stream());
        while let Some(bytes) = body.next().await {
            let bytes = bytes.expect("nobody cuts a connection here but this");
            let mut frames = parser.feed(&bytes);
            while let Some(frame) = frames.next().expect("events") {
                match frame.event {
                    "message" => {
                        let data: Value = serde_json::from_str(frame.data).expect("JSON");
                        self.text.push_str(data["text"].as_str().expect("text"));
                    }
                    "end" => self.ended = true,
                    "reset" => panic!("a reset: {}", frame.data),
                    _ => {}
                }
                self.seen = frame.last_event_id.to_owned();
                events -= 1;
                if events == 0 {
                    return;
                }
            }
        }
    }
}
