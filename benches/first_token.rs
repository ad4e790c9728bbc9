//! What lastword adds to an upstream's own delay: until the first token, and to each token of many steady streams.
//!
//! Upstream, lastword and clients share this process and the loopback. The upstream is asked directly and through lastword in
//! turn, each on kept-alive connections, so a difference is lastword's and not the machine's mood. `cargo bench --bench first_token`
#![expect(clippy::print_stdout, reason = "it prints a table")]

#[path = "common/chunk.rs"]
mod chunk;
#[path = "common/client.rs"]
mod client;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/load.rs"]
mod load;
#[path = "common/upstream.rs"]
mod upstream;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use client::{Client, EVENTS};
use figures::Sample;
use lastword::{config::Config, server::Server};
use upstream::{ask, ask_native};

/// How long one part may take, whatever it has measured by then.
const BOUND: Duration = Duration::from_secs(25);
/// The steady state: so many streams, a token of each every `EVERY`.
const STREAMS: usize = 200;
const EVERY: Duration = Duration::from_millis(20);

fn main() {
    // `cargo test --benches` only tries whether it runs.
    let measure = std::env::args().any(|argument| argument == "--bench");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let upstream = upstream::start().await;
        let lastword = gateway(upstream).await;
        first_token(upstream, lastword.address(), if measure { 2000 } else { 3 }).await;
        let (rounds, tokens) = if measure { (3, 150) } else { (1, 3) };
        steady(upstream, lastword.address(), rounds, tokens).await;
    });
}

async fn gateway(upstream: SocketAddr) -> Server {
    let toml = format!("[backends.up]\nkind = \"openai\"\nbase_url = \"http://{upstream}/v1\"\n");
    let env = [("LASTWORD_SERVER__LISTEN".to_owned(), "127.0.0.1:0".to_owned())].into();
    let config = Config::parse("bench", &toml, &env, &[]).expect("a good configuration");
    Server::start(config).await.expect("it starts")
}

/// Time to first token, in ms: directly; through lastword in one POST; in a POST for the stream and a GET for its events.
async fn first_token(upstream: SocketAddr, lastword: SocketAddr, pairs: usize) {
    let body = ask("", 8, 1, Duration::ZERO);
    let native = ask_native("up/", 8, 1, Duration::ZERO);
    let (mut direct, mut through) = (Client::connect(upstream).await, Client::connect(lastword).await);
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < pairs && began.elapsed() < BOUND {
        let straight = timed(&mut direct, "POST /v1/chat/completions", &body).await;
        let post = timed(&mut through, "POST /v1/streams", &native).await;
        let again = timed(&mut direct, "POST /v1/chat/completions", &body).await;
        let asked = Instant::now();
        let state = through.ask("POST /v1/streams", "accept: application/json", &native, |_| ()).await;
        let events = events_url(state);
        let posted = asked.elapsed().as_secs_f64() * 1e3;
        let get = posted + timed(&mut through, &format!("GET {events}"), "").await;
        times.push([straight, post, again, get]);
    }
    println!("time to first token, {} pairs, ms              median (95 %)            p99", times.len());
    let of = |f: &dyn Fn(&[f64; 4]) -> f64| Sample::new(times.iter().skip(times.len() / 20).map(f));
    row("direct", &of(&|t| t[0]));
    row("POST that takes events", &of(&|t| t[1]));
    row("  over direct (budget 1)", &of(&|t| t[1] - t[0]));
    row("POST, then GET events", &of(&|t| t[3]));
    row("  over direct (budget 1)", &of(&|t| t[3] - t[2]));
}

fn row(name: &str, sample: &Sample) {
    let (low, high) = sample.interval();
    println!("  {name:36} {:8.3} ({low:7.3} to {high:7.3}) {:8.3}", sample.median(), sample.at(0.99));
}

async fn timed(client: &mut Client, what: &str, body: &str) -> f64 {
    let asked = Instant::now();
    let mut first = None;
    client.ask(what, EVENTS, body, |_| _ = first.get_or_insert_with(|| asked.elapsed())).await;
    first.expect("a token").as_secs_f64() * 1e3
}

fn events_url(state: &[u8]) -> String {
    let state: serde_json::Value = serde_json::from_slice(state).expect("a state");
    state["events_url"].as_str().expect("where its events are").to_owned()
}

/// The delay of each token, from the upstream's write to the client's read.
async fn steady(upstream: SocketAddr, lastword: SocketAddr, rounds: usize, tokens: usize) {
    let (mut direct, mut through) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        direct.push(delays(upstream, "/v1/chat/completions", &ask("", tokens, 1, EVERY)).await);
        through.push(delays(lastword, "/v1/streams", &ask_native("up/", tokens, 1, EVERY)).await);
    }
    println!("\ndelay of a token, {STREAMS} streams, one token every {EVERY:?} each, ms     p50      p99");
    let of = |rounds: &[Vec<f64>]| Sample::new(rounds.iter().flatten().copied());
    let (direct, through) = (of(&direct), of(&through));
    let line = |name: &str, p50: f64, p99: f64| println!("  {name:60} {p50:8.3} {p99:8.3}");
    line("direct", direct.median(), direct.at(0.99));
    line("through lastword", through.median(), through.at(0.99));
    line("added (budget 0.3, 3)", through.median() - direct.median(), through.at(0.99) - direct.at(0.99));
}

async fn delays(to: SocketAddr, path: &str, body: &str) -> Vec<f64> {
    let all = load::delays(to, &format!("POST {path}"), body, STREAMS).await;
    // The first ones pay for connections and tasks.
    all.iter().flat_map(|own| &own[own.len() / 5..]).map(|wait| *wait as f64 / 1e3).collect()
}
