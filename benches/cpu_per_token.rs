//! CPU time per delivered token: lastword beside a reverse proxy that parses and records nothing.
//!
//! Each runs in a process of its own and gets the same streams of the same upstream, in turn, in an order that alternates; what a
//! process used is read from `/proc`. The ratio of each pair is what counts: the machine's mood is in both.
//! `cargo bench --bench cpu_per_token`
#![expect(clippy::print_stdout, reason = "it prints a table")]

#[path = "common/chunk.rs"]
mod chunk;
#[path = "common/client.rs"]
mod client;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/upstream.rs"]
mod upstream;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use client::{Client, EVENTS};
use figures::Sample;
use hyper::{Request, Uri, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::{net::TcpListener, runtime::Runtime};
use upstream::{ask, ask_native};

/// So many streams of so many tokens, so many of them in one write, a write every so often.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    streams: usize,
    tokens: usize,
    together: usize,
    every: Duration,
}

const LOADS: [Load; 3] = [
    Load { name: "1 token a write, 50/s", streams: 100, tokens: 100, together: 1, every: Duration::from_millis(20) },
    Load { name: "32 tokens a write", streams: 50, tokens: 1280, together: 32, every: Duration::from_millis(50) },
    Load { name: "1 token a write, no pause", streams: 20, tokens: 1000, together: 1, every: Duration::ZERO },
];

fn main() {
    let arguments: Vec<_> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if let [_, role, upstream] = &arguments[..]
        && role == "proxy"
    {
        return runtime.block_on(proxy(upstream));
    }
    let measure = arguments.iter().any(|argument| argument == "--bench");
    let upstream = runtime.block_on(upstream::start());
    let proxy = Process::proxy(upstream);
    let lastword = Process::lastword(upstream);
    println!("CPU per delivered token, µs                    proxy   lastword   ratio (95 %)");
    for load in LOADS {
        let load = if measure { load } else { Load { streams: 2, tokens: 64, ..load } };
        // The three in turn, each time in another order.
        let rounds: Vec<_> = (0..if measure { 6 } else { 1 })
            .map(|n| {
                let mut costs = [0.0; 3];
                for turn in [n % 3, (n + 1) % 3, (n + 2) % 3] {
                    costs[turn] = match turn {
                        0 => proxy.cost(&runtime, load, Asking::Chat { prefix: "" }),
                        1 => lastword.cost(&runtime, load, Asking::Native),
                        _ => lastword.cost(&runtime, load, Asking::Chat { prefix: "up/" }),
                    };
                }
                costs
            })
            .collect();
        let direct = Sample::new(rounds.iter().map(|costs| costs[0]));
        for (at, protocol) in [(1, "native"), (2, "chat")] {
            let through = Sample::new(rounds.iter().map(|costs| costs[at]));
            let ratio = Sample::new(rounds.iter().map(|costs| costs[at] / costs[0]));
            let (low, high) = ratio.interval();
            println!(
                "  {:34} {protocol:6} {:7.2} {:10.2}   {:.2} ({low:.2} to {high:.2})",
                load.name,
                direct.median(),
                through.median(),
                ratio.median()
            );
        }
    }
}

/// In which protocol an answer is asked for.
#[derive(Clone, Copy)]
enum Asking {
    Native,
    Chat { prefix: &'static str },
}

/// A server of its own process.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Process {
    fn lastword(upstream: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastword"));
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("LASTWORD_BACKENDS__UP__KIND", "openai")
            .env("LASTWORD_BACKENDS__UP__BASE_URL", format!("http://{upstream}/v1"))
            .current_dir(std::env::temp_dir());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary");
        let log = child.stderr.take().expect("a pipe");
        let address = address(log, "listening on http://");
        Self { child, address }
    }

    fn proxy(upstream: SocketAddr) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["proxy", &upstream.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("this program again");
        let said = child.stdout.take().expect("a pipe");
        let address = address(said, "proxy on ");
        Self { child, address }
    }

    /// CPU time per token, in µs.
    fn cost(&self, runtime: &Runtime, load: Load, asking: Asking) -> f64 {
        let Load { streams, tokens, together, every, .. } = load;
        let (path, body) = match asking {
            Asking::Native => ("/v1/streams", ask_native(tokens, together, every)),
            Asking::Chat { prefix } => ("/v1/chat/completions", ask(prefix, tokens, together, every)),
        };
        let before = self.used();
        let delivered = runtime.block_on(run(self.address, path, &body, streams));
        assert_eq!(delivered, streams * tokens, "every token was delivered");
        (self.used() - before) as f64 / delivered as f64 / 1e3
    }

    /// Nanoseconds on a CPU so far, of all its threads.
    fn used(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        let of = |task: fs::DirEntry| {
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<u64>().ok()
        };
        tasks.filter_map(|task| of(task.ok()?)).sum()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address behind these words in the first line that has them. What follows is read and forgotten.
fn address(from: impl Read + Send + 'static, words: &'static str) -> SocketAddr {
    let mut lines = BufReader::new(from).lines().map_while(Result::ok);
    let found = lines.by_ref().find_map(|line| line.split_once(words)?.1.trim().parse().ok());
    std::thread::spawn(move || lines.for_each(drop));
    found.expect("it says where it listens")
}

/// Reads so many streams at once; gives back how many tokens came.
async fn run(to: SocketAddr, path: &str, body: &str, streams: usize) -> usize {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    TOKENS.store(0, Ordering::Relaxed);
    let reading = (0..streams).map(|_| {
        let (what, body) = (format!("POST {path}"), body.to_owned());
        tokio::spawn(async move {
            let count = |_| _ = TOKENS.fetch_add(1, Ordering::Relaxed);
            Client::connect(to).await.ask(&what, EVENTS, &body, count).await;
        })
    });
    for reader in reading.collect::<Vec<_>>() {
        reader.await.expect("it reads");
    }
    TOKENS.load(Ordering::Relaxed)
}

/// The proxy: passes a request on, and gives the body's chunks as they come. Its sockets are set as lastword's are.
async fn proxy(upstream: &str) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool: Pool<_, Incoming> = Pool::builder(TokioExecutor::new()).build(connector);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("proxy on {}", listener.local_addr().expect("it listens"));
    while let Ok((socket, _)) = listener.accept().await {
        socket.set_nodelay(true).expect("an open socket");
        let (pool, upstream) = (pool.clone(), upstream.to_owned());
        tokio::spawn(async move {
            let pass = service_fn(move |mut request: Request<Incoming>| {
                let uri = Uri::try_from(format!("http://{upstream}{}", request.uri().path())).expect("a path");
                *request.uri_mut() = uri;
                pool.request(request)
            });
            let mut server = http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(75)).max_buf_size(16 * 1024);
            let _ = server.half_close(false).serve_connection(TokioIo::new(socket), pass).await;
        });
    }
}
