//! CPU time per delivered token, and time from upstream to reader, with the logs in memory and on disk.
//!
//! Each engine runs in a process of its own and gets the same streams of the same upstream, in turn; what a process used is read from
//! `/proc`. The ratio to memory in the same round is what counts: the machine's mood is in both.
//! Then what a folder of finished answers costs: its size, the memory, starting on it, reading anywhere in it.
//! `cargo bench --bench store`
#![expect(clippy::print_stdout, reason = "it prints a table")]

#[path = "common/chunk.rs"]
mod chunk;
#[path = "common/client.rs"]
mod client;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/load.rs"]
mod load;
#[expect(dead_code, reason = "a folder is looked at elsewhere")]
#[path = "common/process.rs"]
mod process;
#[expect(dead_code, reason = "only the native protocol is asked here")]
#[path = "common/upstream.rs"]
mod upstream;

use std::{
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use client::{Client, EVENTS};
use figures::Sample;
use lastword::{
    event::{At, Begin, Delta, End, Event, Status},
    id::{Cursor, NodeId, StreamId},
    record::{self, Record, summary::Summary},
    store::{Durability, Last, NewStream, Store, disk::Disk},
};
use process::{Process, size_of};
use tokio::runtime::Runtime;
use upstream::ask_native;

/// So many streams, a token of each every so often, so many tokens each, in so many rounds. The first is the budget's for the CPU, the
/// second that for the delay.
const LOADS: [(usize, Duration, usize, usize); 2] =
    [(1000, Duration::from_millis(33), 150, 6), (200, Duration::from_millis(20), 250, 10)];

const ENGINES: [(&str, &str); 4] = [("memory", "os"), ("disk", "os"), ("disk", "lazy"), ("disk", "disk")];

fn main() {
    let measure = std::env::args().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let upstream = runtime.block_on(upstream::start());
    let engines = ENGINES.map(|(engine, durability)| lastword(upstream, engine, durability));
    for (streams, every, tokens, rounds) in LOADS {
        let (streams, tokens, rounds) = if measure { (streams, tokens, rounds) } else { (2, 16, 1) };
        compare(&engines, &runtime, (streams, every, tokens), rounds);
    }
    drop(engines);
    kept(&runtime, if measure { ANSWERS } else { 100 });
}

/// The engines under one load, in turn.
fn compare(engines: &[Process; 4], runtime: &Runtime, load: (usize, Duration, usize), rounds: usize) {
    let mut rows = ENGINES.map(|_| Vec::new());
    for round in 0..rounds {
        for n in 0..engines.len() {
            let n = (n + round) % engines.len();
            rows[n].push(cost(&engines[n], runtime, load));
        }
    }
    println!(
        "{} streams, a token every {} ms      µs CPU/token   × memory (95 %)         p50 ms   p99 ms   over memory in the same round",
        load.0,
        load.1.as_millis()
    );
    for (n, (engine, durability)) in ENGINES.iter().enumerate() {
        let cpu = Sample::new(rows[n].iter().map(|row| row.cpu));
        let ratio = Sample::new(rows[n].iter().zip(&rows[0]).map(|(row, memory)| row.cpu / memory.cpu));
        let (low, high) = ratio.interval();
        let of = [|row: &Row| row.p50, |row: &Row| row.p99];
        let [p50, p99] = of.map(|of| Sample::new(rows[n].iter().map(of)).median());
        let [more50, more99] =
            of.map(|of| Sample::new(rows[n].iter().zip(&rows[0]).map(|(row, memory)| of(row) - of(memory))).median());
        println!(
            "  {:34} {:10.2}     {:.2} ({low:.2} to {high:.2})   {p50:10.2} {p99:8.2}   {more50:+.2} {more99:+.2}",
            format!("{engine}, {durability}"),
            cpu.median(),
            ratio.median()
        );
    }
}

/// So many finished answers of so many tokens.
const ANSWERS: usize = 100_000;
const LONG: usize = 500;

/// The size of their JSON is that of the payloads, without what a record adds to them.
fn kept(runtime: &Runtime, answers: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let open =
        |folder: &Path| Disk::open(&folder.join("data"), Durability::Os, Duration::MAX, u64::MAX).expect("opens");
    let store = open(folder.path());
    let mut json = 0;
    let ids: Vec<_> = (0..answers)
        .map(|n| {
            let (id, said) = runtime.block_on(answer(&store, n));
            json += said;
            id
        })
        .collect();
    drop(store);
    let size = size_of(folder.path());
    let began = Instant::now();
    let server = Process::start_in(folder, &[("STORE__RETAIN", "1000d"), ("STORE__MAX_BYTES", "1TiB")]);
    let ready = began.elapsed();
    let mut reads: Vec<f64> = Vec::new();
    runtime.block_on(async {
        let mut client = Client::connect(server.address()).await;
        for n in 0..2000.min(answers) {
            let (id, after) = (ids[n.wrapping_mul(7919) % ids.len()], n * 13 % LONG);
            let began = Instant::now();
            let what = format!("GET /v1/streams/{id}/events?after={after}");
            client.ask(&what, EVENTS, "", |_| {}).await;
            reads.push(began.elapsed().as_secs_f64() * 1e3);
        }
    });
    let reads = Sample::new(reads);
    println!(
        "\n{answers} answers of {LONG} tokens: {:.2} × their JSON on disk; a server on them is ready after {:.0} ms; 2,000 of them read \
         behind some cursor to the end: p50 {:.2} ms, p99 {:.2} ms each, and {} MB resident then",
        size as f64 / json as f64,
        ready.as_secs_f64() * 1e3,
        reads.at(0.5),
        reads.at(0.99),
        server.memory() >> 20
    );
    let folder = server.stop();
    let store = open(folder.path());
    // Its room comes back when it is gone.
    let began = Instant::now();
    runtime.block_on(async {
        for id in &ids {
            store.remove(*id).await.expect("removed");
        }
    });
    store.checkpoint().expect("checkpointed");
    println!("all removed in {:.1} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let smaller = store.shrink(64 << 20).expect("made small"); // as its keeper does from time to time
    println!("made small in {:.1} s: {smaller}", began.elapsed().as_secs_f64());
    drop(store);
    println!("{} MB were, {} MB are left on disk", size >> 20, size_of(folder.path()) >> 20);
}

/// Stores the `n`th finished answer, of words of the documentation; gives back the size of its tokens' payloads.
async fn answer(store: &Disk, n: usize) -> (StreamId, usize) {
    let words: Vec<_> = include_str!("../docs/ARCHITECTURE.md").split_whitespace().collect();
    let begin = Begin { model: "m".into(), backend: "b".into(), protocol: "native".into(), ..Begin::default() };
    let about = serde_json::to_vec(&begin).expect("plain data").into();
    let token = |at: usize| {
        let word = words[(n.wrapping_mul(7919) ^ at.wrapping_mul(104_729)) % words.len()].replace(['"', '\\'], "'");
        Event::Delta(At::default(), Delta { text: format!(" {word}").into(), logprobs: None })
    };
    let end = End { status: Status::Completed, reason: None, usage: None, error: None };
    let events = [Event::Begin(begin)].into_iter().chain((0..LONG).map(token)).chain([Event::End(end)]);
    let (mut batch, mut summary, mut json) = (Vec::new(), Summary::default(), 0);
    for (at, event) in events.enumerate() {
        let mut bytes = BytesMut::new();
        let head = record::write(&mut bytes, at as u32 * 33, &event).expect("recorded");
        summary.take(Cursor(at as u64 + 1), &head, &event);
        if matches!(event, Event::Delta(..)) {
            json += Record::parse(&bytes).expect("whole").payload.len();
        }
        batch.push(bytes.to_vec());
    }
    let id = StreamId::new();
    let prompt = r#"{"model":"m"}"#.into();
    let new =
        NewStream { id, owner: String::new(), created_at: 0, about, prompt, claims: vec![], keep: None, due: false };
    store.create(new).await.expect("created");
    let lease = store.lease(id, NodeId::new()).await.expect("leased");
    let last = Last { summary: serde_json::to_vec(&summary).expect("plain data").into(), release: false };
    store.append(id, lease.next, lease.epoch, batch.into_iter().collect(), Some(last)).await.expect("appended");
    (id, json)
}

/// What one run of one engine came to.
struct Row {
    cpu: f64,
    p50: f64,
    p99: f64,
}

/// What so many streams at once cost a server, with a token every so often and so many each.
fn cost(server: &Process, runtime: &Runtime, (streams, every, tokens): (usize, Duration, usize)) -> Row {
    let body = ask_native("up/", tokens, 1, every);
    let before = server.used();
    let waits = runtime.block_on(load::delays(server.address(), "POST /v1/streams", &body, streams));
    let mut waits = waits.concat();
    let cpu = (server.used() - before) as f64 / waits.len() as f64 / 1e3;
    assert_eq!(waits.len(), streams * tokens, "every token was delivered");
    waits.sort_unstable();
    let at = |share: usize| waits[(waits.len() - 1) * share / 100] as f64 / 1e3;
    Row { cpu, p50: at(50), p99: at(99) }
}

fn lastword(upstream: SocketAddr, engine: &str, durability: &str) -> Process {
    let url = format!("http://{upstream}/v1");
    let up = [("BACKENDS__UP__KIND", "openai"), ("BACKENDS__UP__BASE_URL", &*url)];
    Process::start(&[up[0], up[1], ("STORE__ENGINE", engine), ("STORE__DURABILITY", durability)])
}
