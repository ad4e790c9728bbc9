//! CPU time per delivered token, and reader: lastword in each of its protocols, beside reverse proxies that parse and record nothing
//! (`common/proxy.rs`), and each protocol beside the native one.
//!
//! Server and proxies run in processes of their own and get the same streams of the same upstream, in turn, in an order that
//! alternates; what a process used is read from `/proc`. The ratio of each pair is what counts: the machine's mood is in both.
//! Where a stream has several readers, each token counts once for each of them.
//! `cargo bench --bench cpu_per_token`; with names behind it (`-- relay ai_sdk`), of those alone. With `LASTWORD_BESIDE=PATH:PATH`, other
//! builds of lastword take their turns, too: the one way to see a change that is smaller than the machine's mood. `ROUNDS` is how many
//! rounds, for the same; 6 where it is not said.
#![expect(clippy::print_stdout, reason = "it prints a table")]

#[path = "common/chunk.rs"]
mod chunk;
#[path = "common/client.rs"]
mod client;
#[path = "common/figures.rs"]
mod figures;
#[path = "common/proxy.rs"]
mod proxy;
#[path = "common/upstream.rs"]
mod upstream;

use std::{
    env, fs,
    io::{BufRead, BufReader, Read},
    iter,
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use client::{Client, EVENTS};
use figures::Sample;
use proxy::{INSTALLED, Proxy, installed};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use upstream::{ask, ask_native, model, now};

/// So many streams of so many tokens and readers, so many of them in one write, a write every so often.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    cases: &'static [Case],
    streams: usize,
    readers: usize,
    tokens: usize,
    together: usize,
    every: Duration,
}

const LOADS: [Load; 5] = [
    Load {
        name: "1 token a write, 50/s",
        cases: &ALL,
        streams: 100,
        readers: 1,
        tokens: 100,
        together: 1,
        every: Duration::from_millis(20),
    },
    Load {
        name: "1 token a write, 400 streams, 67/s",
        cases: &OF_APPLICATIONS,
        streams: 400,
        readers: 1,
        tokens: 100,
        together: 1,
        every: Duration::from_millis(15),
    },
    Load {
        name: "1 token a write, 50/s, 100 readers",
        cases: &OVER_CHAT,
        streams: 2,
        readers: 100,
        tokens: 100,
        together: 1,
        every: Duration::from_millis(20),
    },
    Load {
        name: "32 tokens a write",
        cases: &OVER_CHAT_AND_RELAYED,
        streams: 50,
        readers: 1,
        tokens: 1280,
        together: 32,
        every: Duration::from_millis(50),
    },
    Load {
        name: "1 token a write, no pause",
        cases: &OVER_CHAT_AND_RELAYED,
        streams: 20,
        readers: 1,
        tokens: 1000,
        together: 1,
        every: Duration::ZERO,
    },
];

/// A client of this protocol, whose answer comes from an upstream of that one.
#[derive(Clone, Copy)]
struct Case {
    client: Protocol,
    upstream: Protocol,
}

#[derive(Clone, Copy, PartialEq)]
enum Protocol {
    Native,
    Chat,
    Responses,
    Messages,
    /// An application's bytes, which here are chunks of Chat Completions.
    Relay,
    AiSdk,
}

use Protocol::{AiSdk, Chat, Messages, Native, Relay, Responses};

/// Native is the first over its upstream, since those that follow are put beside it.
const ALL: [Case; 10] = [
    Case { client: Native, upstream: Chat },
    Case { client: Chat, upstream: Chat },
    Case { client: Responses, upstream: Chat },
    Case { client: Messages, upstream: Chat },
    Case { client: AiSdk, upstream: Chat },
    Case { client: Relay, upstream: Chat },
    Case { client: Native, upstream: Responses },
    Case { client: Responses, upstream: Responses },
    Case { client: Native, upstream: Messages },
    Case { client: Messages, upstream: Messages },
];
const OVER_CHAT: [Case; 4] = [ALL[0], ALL[1], ALL[2], ALL[3]];
const OF_APPLICATIONS: [Case; 3] = [ALL[0], ALL[4], ALL[5]];
const OVER_CHAT_AND_RELAYED: [Case; 6] = [ALL[0], ALL[1], ALL[2], ALL[3], ALL[4], ALL[5]];

impl Case {
    fn name(self) -> String {
        format!("{} of {}", self.client.name(), self.upstream.name())
    }
}

impl Protocol {
    /// Its name, and that of the backend that speaks it.
    fn name(self) -> &'static str {
        match self {
            Native => "native",
            Chat => "chat",
            Responses => "responses",
            Messages => "messages",
            Relay => "relay",
            AiSdk => "ai_sdk",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Native => "/v1/streams",
            Chat => "/v1/chat/completions",
            Responses => "/v1/responses",
            Messages => "/v1/messages",
            Relay => "/relayed",
            AiSdk => "/api/chat",
        }
    }

    /// `prefix` is the name of the backend and `/`, or nothing.
    fn body(self, prefix: &str, Load { tokens, together, every, .. }: Load) -> String {
        let model = model(tokens, together, every);
        match self {
            Native => ask_native(prefix, tokens, together, every),
            Chat => ask(prefix, tokens, together, every),
            Relay => ask("", tokens, together, every),
            AiSdk => {
                let messages = r#"[{"role":"user","parts":[{"type":"text","text":"hi"}]}]"#;
                format!(r#"{{"model":"{prefix}{model}","messages":{messages}}}"#)
            }
            Responses => format!(r#"{{"model":"{prefix}{model}","input":"hi","stream":true}}"#),
            Messages => {
                let messages = r#"[{"role":"user","content":"hi"}]"#;
                format!(r#"{{"model":"{prefix}{model}","max_tokens":4096,"messages":{messages},"stream":true}}"#)
            }
        }
    }

    /// How often it tells a token: Responses says it all again in the last four events.
    fn times_told(self) -> usize {
        if self == Responses { 5 } else { 1 }
    }
}

fn main() {
    let arguments: Vec<_> = env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    if let [_, role, upstream] = &arguments[..]
        && let Some(proxy) = Proxy::named(role)
    {
        return runtime.block_on(proxy.run(upstream));
    }
    let (flags, names): (Vec<_>, Vec<_>) = arguments[1..].iter().partition(|argument| argument.starts_with("--"));
    let measure = flags.iter().any(|flag| *flag == "--bench");
    let upstream = runtime.block_on(upstream::start());
    let ours = Proxy::ALL.map(|proxy| (proxy.name(), Process::proxy(proxy, upstream)));
    let theirs = INSTALLED.into_iter().filter_map(|name| Some((name, Process::installed(name, upstream)?)));
    let proxies: Vec<_> = ours.into_iter().chain(theirs).collect();
    let count = env::var("ROUNDS").map_or(6, |count| count.parse().expect("a number of rounds"));
    let others = env::var("LASTWORD_BESIDE").unwrap_or_default();
    let builds: Vec<_> =
        iter::once(env!("CARGO_BIN_EXE_lastword")).chain(others.split(':').filter(|path| !path.is_empty())).collect();
    let lastwords: Vec<_> = builds.iter().map(|path| Process::lastword(path, upstream)).collect();
    println!("CPU per delivered token and reader, µs; the ratios with their intervals (95 %)");
    println!("  {:22} {:>7}   {:22} {:22} beside native", "", "µs", "over hyper", "over task");
    for load in LOADS {
        let load = if measure { load } else { Load { streams: 2, tokens: 64, readers: load.readers.min(2), ..load } };
        let asked = |case: &Case| names.is_empty() || names.iter().any(|name| case.name().contains(&**name));
        let asked = load.cases.iter().copied().filter(asked);
        let cases: Vec<_> = asked.flat_map(|case| (0..builds.len()).map(move |build| (case, build))).collect();
        // All in turn, each time in another order. The proxies are first, and are asked as often as there are readers.
        let all = proxies.len() + cases.len();
        let mut rounds = vec![vec![0.0; all]; if measure { count } else { 1 }];
        for (n, costs) in rounds.iter_mut().enumerate() {
            for turn in (0..all).map(|turn| (turn + n) % all) {
                costs[turn] = match proxies.get(turn) {
                    Some((_, proxy)) => proxy.cost(&runtime, load, Chat, ""),
                    None => {
                        let (Case { client, upstream }, build) = cases[turn - proxies.len()];
                        lastwords[build].cost(&runtime, load, client, &format!("{}/", upstream.name()))
                    }
                };
            }
        }
        let names = proxies.iter().map(|(name, _)| format!("proxy: {name}")).chain(cases.iter().map(
            |(case, build)| match build {
                0 => case.name(),
                n => format!("  {}", builds[*n].rsplit('/').next().unwrap_or_default()),
            },
        ));
        let native = |(case, build): &(Case, usize)| case.client == Native && *build == 0;
        let natives = (0..cases.len()).map(|at| Some(proxies.len() + cases[..=at].iter().rposition(native)?));
        let beside = proxies.iter().map(|_| None).chain(natives);
        println!("{}", load.name);
        show(names.zip(beside), &rounds);
    }
}

/// A row for each name, with what it is put beside.
fn show(rows: impl Iterator<Item = (String, Option<usize>)>, rounds: &[Vec<f64>]) {
    let cost = |at: usize| Sample::new(rounds.iter().map(|costs| costs[at])).median();
    let ratio = |at: usize, beside: usize| {
        let ratio = Sample::new(rounds.iter().map(|costs| costs[at] / costs[beside]));
        let (low, high) = ratio.interval();
        format!("{:.2} ({low:.2} to {high:.2})", ratio.median())
    };
    let [hyper, task] = [Proxy::Hyper, Proxy::Task].map(|proxy| proxy as usize);
    for (at, (name, beside)) in rows.enumerate() {
        let beside = beside.filter(|beside| *beside != at).map(|beside| ratio(at, beside)).unwrap_or_default();
        println!("  {name:22} {:7.2}   {:22} {:22} {beside}", cost(at), ratio(at, hyper), ratio(at, task));
    }
}

/// A server of its own process, or more than one.
struct Process {
    child: Child,
    address: SocketAddr,
    _folder: Option<TempDir>,
}

impl Process {
    fn lastword(path: &str, upstream: SocketAddr) -> Self {
        let mut command = Command::new(path);
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("LASTWORD_STORE__ENGINE", "memory")
            .current_dir(env::temp_dir());
        for (name, kind) in [("CHAT", "openai"), ("RESPONSES", "responses"), ("MESSAGES", "anthropic")] {
            command.env(format!("LASTWORD_BACKENDS__{name}__KIND"), kind);
            command.env(format!("LASTWORD_BACKENDS__{name}__BASE_URL"), format!("http://{upstream}/v1"));
        }
        command.env("LASTWORD_BACKENDS__RELAY__KIND", "relay");
        command.env("LASTWORD_BACKENDS__RELAY__URL", format!("http://{upstream}/v1/chat/completions"));
        command.env("LASTWORD_BACKENDS__RELAY__PATHS", r#"["/relayed"]"#);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary");
        let log = child.stderr.take().expect("a pipe");
        let address = address(log, "listening on http://");
        Self { child, address, _folder: None }
    }

    fn proxy(proxy: Proxy, upstream: SocketAddr) -> Self {
        let mut command = Command::new(env::current_exe().expect("this program"));
        command.args([proxy.name(), &upstream.to_string()]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("this program again");
        let said = child.stdout.take().expect("a pipe");
        let address = address(said, "proxy on ");
        Self { child, address, _folder: None }
    }

    /// A proxy that people have; nothing, where it is not installed.
    fn installed(name: &str, upstream: SocketAddr) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let mut command = installed(name, address.port(), upstream, folder.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        while TcpStream::connect(address).is_err() {
            assert_eq!(child.try_wait().expect("a child"), None, "{name} does not start");
            std::thread::yield_now();
        }
        Some(Self { child, address, _folder: Some(folder) })
    }

    /// CPU time per token and reader, in µs.
    fn cost(&self, runtime: &Runtime, load: Load, client: Protocol, prefix: &str) -> f64 {
        let body = client.body(prefix, load);
        let before = self.used();
        let told = runtime.block_on(run(self.address, client.path(), &body, load));
        let delivered = load.streams * load.readers * load.tokens;
        assert_eq!(told, delivered * client.times_told(), "every token was delivered to every reader");
        (self.used() - before) as f64 / delivered as f64 / 1e3
    }

    /// Nanoseconds on a CPU so far, of all threads of all its processes.
    fn used(&self) -> u64 {
        let of = |task: fs::DirEntry| {
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<u64>().ok()
        };
        let tasks = |id| fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten();
        self.family().into_iter().flat_map(tasks).filter_map(|task| of(task.ok()?)).sum()
    }

    /// Its process and those that it has started.
    fn family(&self) -> Vec<u32> {
        let parent = |id: u32| {
            let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
        };
        let all =
            fs::read_dir("/proc").expect("Linux").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut family = vec![self.child.id()];
        family.extend(all.filter(|id| parent(*id) == Some(self.child.id())));
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // All at once: a child would outlive its parent.
        let _ = Command::new("kill").arg("-KILL").args(self.family().iter().map(u32::to_string)).status();
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

/// Reads so many streams at once, each with its readers; gives back how many tokens came.
async fn run(to: SocketAddr, path: &str, body: &str, Load { streams, readers, .. }: Load) -> usize {
    static TOKENS: AtomicUsize = AtomicUsize::new(0);
    TOKENS.store(0, Ordering::Relaxed);
    let began = now();
    let reading = (0..streams * readers).map(|n| {
        let (what, body) = (format!("POST {path}"), body.to_owned());
        // A repeated request attaches to the stream that the first one began.
        let headers = format!("{EVENTS}\r\nidempotency-key: {began}-{}", n / readers);
        tokio::spawn(async move {
            let count = |_| _ = TOKENS.fetch_add(1, Ordering::Relaxed);
            Client::connect(to).await.ask(&what, &headers, &body, count).await;
        })
    });
    for reader in reading.collect::<Vec<_>>() {
        reader.await.expect("it reads");
    }
    TOKENS.load(Ordering::Relaxed)
}
