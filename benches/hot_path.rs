//! The way of a token within the process: parse, record, frame; tail and readers; a resume in a long log.
//!
//! Each step stands beside a baseline in the same group that does nothing but move the same bytes. `cargo bench --bench hot_path`
#![expect(clippy::print_stdout, reason = "it prints what criterion does not: a high percentile")]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use lastword::{
    event::{At, Attempt, Delta, Event, Json, Opaque, PartStart, PartType, Tool},
    id::{Cursor, NodeId, StreamId},
    protocol::{
        Decode, Encode,
        chat::{self, ChatDecode, ChatEncode},
        messages::MessagesEncode,
        native::Native,
        responses::{self, ResponsesEncode},
    },
    record::{self, Record},
    store::{Chunk, Durability, NewStream, Store, batch::Packer, disk::Disk, memory::Memory},
    stream::{Reader, Tail, condense, fold, skim},
    wire::sse::Parser,
};
use tokio::sync::broadcast;

#[path = "common/chunk.rs"]
mod chunk;
#[path = "common/figures.rs"]
mod figures;

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2)).sample_size(40);
    targets = token, readers, resume
}
criterion_main!(benches);

/// What a generation and a reader do with the bytes of an upstream, without the tasks around it.
struct Path {
    parser: Parser,
    decode: ChatDecode,
    events: Vec<Event<'static>>,
    packer: Packer,
    next: Cursor,
}

/// What a reader does with the records: one protocol's frames.
struct Framed<E> {
    encoder: E,
    out: BytesMut,
}

impl Path {
    fn new() -> Self {
        Self {
            parser: Parser::new(2 << 20).error_field(),
            decode: ChatDecode::default(),
            events: Vec::new(),
            packer: Packer::default(),
            next: Cursor(1),
        }
    }

    fn parse(&mut self, bytes: &[u8]) {
        let mut frames = self.parser.feed(bytes);
        while let Ok(Some(frame)) = frames.next() {
            self.decode.frame(frame.event, frame.data, &mut self.events).expect("a chunk");
        }
    }

    fn record(&mut self, events: &[Event<'_>]) -> Chunk {
        for event in events {
            self.packer.push(|out| record::write(out, 1234, event));
        }
        let chunk = self.packer.take().at(self.next);
        self.next = chunk.last().plus(1);
        chunk
    }

    fn all<E: Encode>(&mut self, bytes: &[u8], framed: &mut Framed<E>) -> Bytes {
        self.parse(bytes);
        let events = std::mem::take(&mut self.events);
        let chunk = self.record(&events);
        self.events = events;
        self.events.clear();
        framed.frame(&chunk)
    }
}

impl<E: Encode> Framed<E> {
    /// For a reader to whom the begin of an answer was told.
    fn new(encoder: E) -> Self {
        let mut framed = Self { encoder, out: BytesMut::new() };
        let begun = [Event::Attempt(Attempt::default()), Event::PartStart(At::default(), PartStart::default())];
        for (_, bytes) in Path::new().record(&begun).records() {
            framed.encoder.skip(&Record::parse(bytes).expect("a record"));
        }
        framed
    }

    fn frame(&mut self, chunk: &Chunk) -> Bytes {
        for (cursor, bytes) in chunk.records() {
            self.encoder.encode(cursor, &Record::parse(bytes).expect("a record"), &mut self.out);
        }
        self.out.split().freeze()
    }
}

/// A token on its way from an upstream's bytes to a reader's, beside a reader's part of it alone.
fn frames<E: Encode>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, encoder: E) {
    let one = format!("data: {}\n\n", chunk::chunk(" river"));
    let mut framed = Framed::new(encoder);
    let chunk = Path::new().record(&[delta(" river")]);
    group.bench_function(format!("frame as {name}"), |b| b.iter(|| framed.frame(black_box(&chunk))));
    let mut path = Path::new();
    group.bench_function(format!("all as {name}"), |b| b.iter(|| path.all(black_box(one.as_bytes()), &mut framed)));
}

fn delta(text: &'static str) -> Event<'static> {
    Event::Delta(At::default(), Delta { text: text.into(), logprobs: None })
}

fn token(c: &mut Criterion) {
    let one = format!("data: {}\n\n", chunk::chunk(" river"));
    let many = one.repeat(32);
    let mut group = c.benchmark_group("token");
    group.throughput(Throughput::Elements(1));
    let mut copy = BytesMut::new();
    group.bench_function("copy", |b| {
        b.iter(|| {
            copy.extend_from_slice(black_box(one.as_bytes()));
            copy.split().freeze()
        });
    });
    let mut path = Path::new();
    group.bench_function("parse", |b| {
        b.iter(|| {
            path.parse(black_box(one.as_bytes()));
            path.events.clear();
        });
    });
    // Padded as OpenAI does, so that no chunk is like the one before; and with something in each that nobody knows.
    for (name, member) in [("parse in full", "obfuscation"), ("parse in full, with a member unknown", "timings")] {
        let one = |n| one.replacen("\"choices\"", &format!("\"{member}\":\"{n}\",\"choices\""), 1);
        let (mut path, chunks, mut n) = (Path::new(), [one(1), one(2)], 0);
        group.bench_function(name, |b| {
            b.iter(|| {
                n += 1;
                path.parse(black_box(chunks[n % 2].as_bytes()));
                path.events.clear();
            });
        });
    }
    let events = [delta(" river")];
    group.bench_function("record", |b| b.iter(|| path.record(black_box(&events))));
    let id = StreamId::new();
    frames(&mut group, "native", Native::short());
    frames(&mut group, "chat", ChatEncode::new(chat::Envelope::new(id, 0, "model"), false));
    frames(&mut group, "responses", ResponsesEncode::new(responses::Envelope::new(id, 0, "model", None)));
    frames(&mut group, "messages", MessagesEncode::new(id, "model"));
    group.throughput(Throughput::Elements(32));
    group.bench_function("copy 32 together", |b| {
        b.iter(|| {
            copy.extend_from_slice(black_box(many.as_bytes()));
            copy.split().freeze()
        });
    });
    let mut native = Framed::new(Native::short());
    group.bench_function("all 32 together", |b| b.iter(|| path.all(black_box(many.as_bytes()), &mut native)));
}

/// One record is published and every reader takes it, each a task of its own; beside the same with a broadcast of the payload,
/// and with a plain copy for each.
fn readers(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = c.benchmark_group("readers");
    for n in [1, 10, 1000_u64] {
        group.throughput(Throughput::Elements(n));
        group.bench_function(format!("log, {n}"), |b| b.iter_custom(|times| runtime.block_on(through_log(n, times))));
        group.bench_function(format!("broadcast, {n}"), |b| {
            b.iter_custom(|times| runtime.block_on(through_broadcast(n, times)));
        });
        let payload = [7_u8; 48];
        group.bench_function(format!("copy, {n}"), |b| {
            b.iter(|| (0..n).for_each(|_| _ = black_box(Bytes::copy_from_slice(black_box(&payload)))));
        });
    }
}

async fn through_log(n: u64, times: u64) -> Duration {
    let (tail, store): (_, Arc<dyn Store>) = (Arc::new(Tail::new(Cursor::START)), Arc::new(memory()));
    let taken = Arc::new(AtomicU64::new(0));
    for _ in 0..n {
        let mut reader = Reader::new(StreamId::new(), store.clone(), Some(tail.clone()), Cursor::START);
        let taken = taken.clone();
        tokio::spawn(async move {
            while let Ok(Some(page)) = reader.next(16 * 1024).await {
                taken.fetch_add(page.records().count() as u64, Ordering::Relaxed);
            }
        });
    }
    let (mut path, events) = (Path::new(), [delta(" river")]);
    each(n, times, &taken, || tail.publish(path.record(&events), false)).await
}

async fn through_broadcast(n: u64, times: u64) -> Duration {
    let (sender, _) = broadcast::channel::<Bytes>(128);
    let taken = Arc::new(AtomicU64::new(0));
    for _ in 0..n {
        let (mut receiver, taken) = (sender.subscribe(), taken.clone());
        tokio::spawn(async move {
            while let Ok(payload) = receiver.recv().await {
                taken.fetch_add(u64::from(!payload.is_empty()), Ordering::Relaxed);
            }
        });
    }
    let payload = Bytes::copy_from_slice(&[7; 48]);
    each(n, times, &taken, || _ = sender.send(payload.clone())).await
}

/// Publishes so many times, each time until all have taken it.
async fn each(n: u64, times: u64, taken: &AtomicU64, mut publish: impl FnMut()) -> Duration {
    tokio::task::yield_now().await;
    let began = Instant::now();
    for time in 1..=times {
        publish();
        while taken.load(Ordering::Relaxed) < n * time {
            tokio::task::yield_now().await;
        }
    }
    began.elapsed()
}

fn memory() -> Memory {
    Memory::new(Duration::MAX, u64::MAX)
}

/// The first page behind a cursor by chance, the fold of what is before it included.
const RECORDS: u64 = 100_000;

/// A log of so many records: tokens, and a tool call now and then. `beside`: before each token a record of what an upstream of Chat
/// Completions said with it, such as its timings.
async fn log(store: &dyn Store, beside: bool) -> StreamId {
    let id = StreamId::new();
    let (owner, about, prompt, claims) = (String::new(), Bytes::new(), Bytes::new(), vec![]);
    store
        .create(NewStream { id, owner, created_at: 0, about, prompt, claims, keep: None, due: false })
        .await
        .expect("created");
    let lease = store.lease(id, NodeId::new()).await.expect("leased");
    let (mut packer, mut path) = (Packer::default(), Path::new());
    let json = serde_json::from_str(r#"{"chunk":{"timings":{"prompt_n":5,"predicted_n":7,"predicted_ms":83.178}}}"#);
    let json: Json = json.expect("JSON");
    for n in 0..RECORDS {
        let event = match n % 1000 {
            0 => {
                let at = At { choice: 0, part: (n / 1000) as u16, of: PartType::ToolCall };
                Event::PartStart(at, PartStart { tool: Some(Tool::default()), ..PartStart::default() })
            }
            n if beside && n % 2 == 1 => {
                let name = ":next 0".to_owned();
                Event::Opaque(Opaque { protocol: "chat".into(), name, json: json.clone() })
            }
            _ => delta(" river"),
        };
        packer.push(|out| record::write(out, 1, &event));
        let batch = packer.take();
        let at = path.next;
        path.next = at.plus(1);
        store.append(id, at, lease.epoch, batch, None).await.expect("appended");
    }
    id
}

/// The first frames behind a cursor.
async fn first_frames<E: Encode>(store: &Arc<dyn Store>, id: StreamId, after: Cursor, mut encoder: E) -> BytesMut {
    if E::FOLDS && after > Cursor::START {
        let short = |runs: &[(Record<'_>, u32)]| {
            runs.iter().for_each(|(record, times)| encoder.skip_run(record, *times));
            true
        };
        let from = skim(store.as_ref(), id, after, short).await.expect("a fold");
        let skip = |cursor, record: &Record<'_>| {
            if cursor <= after {
                encoder.skip(record);
            }
        };
        fold(store.as_ref(), None, id, from, after, skip).await.expect("a fold");
    }
    let mut reader = Reader::new(id, store.clone(), None, after);
    let page = reader.next(16 * 1024).await.expect("readable").expect("more");
    let mut out = BytesMut::new();
    for (cursor, bytes) in page.records() {
        encoder.encode(cursor, &Record::parse(bytes).expect("a record"), &mut out);
    }
    out
}

fn resume(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let open = |durability| Disk::open_condensing(folder.path(), durability, Duration::MAX, u64::MAX, condense);
    let disk = Arc::new(open(Durability::Os).expect("opens"));
    let stores: [(&str, Arc<dyn Store>); 2] = [("memory", Arc::new(memory())), ("disk", disk.clone())];
    let logs = stores.map(|(name, store)| {
        let (plain, beside) = runtime.block_on(async { (log(&*store, false).await, log(&*store, true).await) });
        (name, store, plain, beside)
    });
    disk.checkpoint().expect("checkpointed");
    let envelope = |id| chat::Envelope::new(id, 0, "model");
    let mut group = c.benchmark_group("resume in 100,000 records");
    for (name, store, plain, _) in &logs {
        let native = |after| runtime.block_on(first_frames(store, *plain, after, Native::short()));
        let chance = || Cursor(fastrand::u64(0..RECORDS));
        group.bench_function(format!("{name}, at a cursor by chance"), |b| b.iter(|| native(chance())));
        group.bench_function(format!("{name}, at the first cursor"), |b| b.iter(|| native(Cursor::START)));
    }
    group.finish();
    // A budget is for the slow ones too, and a mean hides them.
    let measure = std::env::args().any(|argument| argument == "--bench");
    for (name, store, plain, beside) in &logs {
        let row = |protocol: &str, resume: &dyn Fn(Cursor)| {
            let times = (0..if measure { 1000 } else { 1 }).map(|n| {
                let after = if n % 2 == 0 { Cursor(RECORDS - 1) } else { Cursor(fastrand::u64(1..RECORDS)) };
                let began = Instant::now();
                resume(after);
                began.elapsed().as_secs_f64() * 1e3
            });
            let times = figures::Sample::new(times);
            let (low, high) = times.interval();
            let (p50, p99) = (times.median(), times.at(0.99));
            println!("resume, {name}, {protocol:32} p50 {p50:.2} ms ({low:.2} to {high:.2}), p99 {p99:.2} ms");
        };
        let frames = |id, after, encoder| _ = black_box(runtime.block_on(first_frames(store, id, after, encoder)));
        row("native", &|after| _ = black_box(runtime.block_on(first_frames(store, *plain, after, Native::short()))));
        row("chat", &|after| frames(*plain, after, ChatEncode::new(envelope(*plain), false)));
        row("chat, timings beside each token", &|after| {
            frames(*beside, after, ChatEncode::new(envelope(*beside), false))
        });
        row("messages", &|after| {
            let encoder = MessagesEncode::new(*plain, "model");
            _ = black_box(runtime.block_on(first_frames(store, *plain, after, encoder)));
        });
        row("responses", &|after| {
            let encoder = ResponsesEncode::new(responses::Envelope::new(*plain, 0, "model", None));
            _ = black_box(runtime.block_on(first_frames(store, *plain, after, encoder)));
        });
    }
}
