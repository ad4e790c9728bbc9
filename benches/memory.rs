//! What a token costs in memory: allocations on its way to a reader, and bytes while it is kept.
//!
//! One thread does it all, so every allocation is counted: a backend that says what it is told, the generation, the memory
//! store, and readers who poll the bodies that the routes gave them. No sockets. `cargo bench --bench memory`
#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use allocation_counter::measure;
use axum::{
    Router,
    body::Body,
    http::{Request, Response},
};
use futures_util::stream;
use http_body_util::BodyExt;
use lastword::{
    api::{self, Api, Settings},
    auth::{self, Auth},
    backend::{Backend, Clocks, Events},
    event::{At, Attempt, Delta, Event, PartStart},
    gateway::{Ask, Gateway, Limits},
    id::StreamId,
    prompt::Prompt,
    protocol::native,
    route,
    store::memory::Memory,
    telemetry::Metrics,
    template::Templates,
};
use tokio::sync::Semaphore;
use tower::ServiceExt;

const TEXT: &str = " river";

/// Says a token for each permit, and then nothing more; it is done when there will be no more permits.
struct Told {
    text: Cow<'static, str>,
    clocks: Clocks,
    tokens: Arc<Semaphore>,
}

impl Backend for Told {
    fn generate(&self, _: &Prompt, _: &str) -> Events {
        let (tokens, text) = (self.tokens.clone(), self.text.clone());
        Box::pin(stream::unfold(0_u64, move |n| {
            let (tokens, text) = (tokens.clone(), text.clone());
            async move {
                let event = match n {
                    0 => Event::Attempt(Attempt::default()),
                    1 => Event::PartStart(At::default(), PartStart::default()),
                    _ => {
                        tokens.acquire().await.ok()?.forget();
                        Event::Delta(At::default(), Delta { text, logprobs: None })
                    }
                };
                Some((Ok(event), n + 1))
            }
        }))
    }

    fn clocks(&self) -> &Clocks {
        &self.clocks
    }

    fn models(&self) -> Vec<String> {
        vec!["told".to_owned()]
    }
}

struct House {
    gateway: Arc<Gateway>,
    tokens: Arc<Semaphore>,
    routes: Router,
}

impl House {
    fn new() -> Self {
        Self::saying(TEXT.into())
    }

    fn saying(text: Cow<'static, str>) -> Self {
        let tokens = Arc::new(Semaphore::new(0));
        let told = Told { text, clocks: Clocks::default(), tokens: tokens.clone() };
        let backends: BTreeMap<_, Arc<dyn Backend>> = [("up".to_owned(), Arc::new(told) as _)].into();
        let router = route::Router::new(backends, BTreeMap::new(), Some("up/told".to_owned()));
        let store = Arc::new(Memory::new(Duration::MAX, u64::MAX));
        let gateway = Gateway::new(store, router, Limits::default(), Arc::new(Metrics::new()));
        let second = Duration::from_secs(1);
        let settings = Settings {
            heartbeat: second * 15,
            retry: (second, second),
            commit_after: second * 10,
            max_body: Default::default(),
            max_upload: Default::default(),
            body_timeout: second * 60,
            cors: vec![],
            ai_sdk: Default::default(),
            hosts: None,
        };
        let auth = Arc::new(Auth::new(auth::Config::default(), None).expect("a secret"));
        let routes = api::router(Arc::new(Api::new(
            gateway.clone(),
            Arc::new(Templates::new("prompts".into())),
            auth,
            settings,
        )));
        Self { gateway, tokens, routes }
    }

    async fn start(&self) -> StreamId {
        let prompt: Prompt = native::parse(br#"{"prompt":"hi"}"#).expect("a prompt").prompt;
        self.gateway
            .start(Ask { owner: String::new(), prompt, idempotency: None, chat: None })
            .await
            .expect("it starts")
            .id
    }

    /// A reader's body, its first bytes read.
    async fn read(&self, id: StreamId) -> Body {
        self.open(format!("/v1/streams/{id}/events")).await
    }

    async fn open(&self, path: String) -> Body {
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response: Response<Body> = self.routes.clone().oneshot(request).await.expect("a response");
        let mut body = response.into_body();
        body.frame().await.expect("a frame").expect("the start");
        body
    }
}

fn main() {
    let measured = std::env::args().any(|argument| argument == "--bench");
    let (tokens, streams, each) = if measured { (10_000, 1000, 1000) } else { (10, 2, 10) };
    println!("allocations a token (and a reader)");
    let [one, many] = [1, 101].map(|readers| allocations(readers, tokens));
    println!("  one reader, generation and store included (the token's own text not) {one:7.3}");
    println!("  each further reader (budget 0 amortised)                            {:7.4}", (many - one) / 100.0);
    for ended in [false, true] {
        let (bytes, resident) = kept(streams, each, ended);
        let what = if ended { "have ended" } else { "still run" };
        println!(
            "memory of a recorded token, {streams} streams of {each} that {what}, over its own {} bytes",
            TEXT.len()
        );
        println!("  allocated {bytes:6.1} bytes, resident {resident:6.1} bytes (budget 64)");
    }
    let (readers, kib) = if measured { (1000, 1024) } else { (3, 10) };
    let (told, held) = repeated(readers, kib);
    println!("{readers} readers of a response of {kib} KiB, all stuck at its end, which repeats it");
    println!("  {:.1} KiB told to each, {:.2} KiB held for each", told / 1024.0, held / 1024.0);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Per token, when so many follow the stream.
fn allocations(readers: usize, tokens: usize) -> f64 {
    let runtime = runtime();
    let house = House::new();
    let mut bodies = runtime.block_on(async {
        let id = house.start().await;
        let mut bodies = Vec::new();
        for _ in 0..readers {
            bodies.push(house.read(id).await);
        }
        bodies
    });
    let mut say = |tokens: usize| {
        runtime.block_on(async {
            for _ in 0..tokens {
                house.tokens.add_permits(1);
                for body in &mut bodies {
                    body.frame().await.expect("a frame").expect("a token");
                }
            }
        });
    };
    say(tokens / 10); // what is allocated once
    measure(|| say(tokens)).count_total as f64 / tokens as f64
}

/// Bytes per token over its text: as allocated, and as the system sees it.
fn kept(streams: usize, tokens: usize, ended: bool) -> (f64, f64) {
    let runtime = runtime();
    let house = House::new();
    let resident_before = resident();
    let measured = measure(|| {
        runtime.block_on(async {
            for _ in 0..streams {
                let id = house.start().await;
                house.tokens.add_permits(tokens);
                while house.tokens.available_permits() > 0 {
                    tokio::task::yield_now().await;
                }
                if ended {
                    house.gateway.cancel("", id).await.expect("it stops");
                }
            }
        });
    });
    let all = (streams * tokens) as f64;
    let over = |bytes: f64| bytes / all - TEXT.len() as f64;
    (over(measured.bytes_current as f64), over(resident().saturating_sub(resident_before) as f64))
}

/// What the events at the end of an answer tell to each of so many readers, and what they hold of memory for each, when all of them
/// have been given theirs and none has passed them on.
fn repeated(readers: usize, kib: usize) -> (f64, f64) {
    let runtime = runtime();
    let house = House::saying("x".repeat(1024).into());
    let mut bodies = runtime.block_on(async {
        let id = house.start().await;
        house.tokens.add_permits(kib);
        let mut bodies = Vec::new();
        for _ in 0..readers {
            let mut body = house.open(format!("/v1/responses/{id}?stream=true")).await;
            let mut pieces = 0;
            while pieces < kib {
                let frame = body.frame().await.expect("a frame").expect("a token").into_data().expect("data");
                pieces += frame.windows(11).filter(|eleven| *eleven == b"text.delta\n").count();
            }
            bodies.push(body);
        }
        bodies
    });
    let mut told = 0;
    let mut frames = Vec::with_capacity(readers * 256);
    let held = measure(|| {
        runtime.block_on(async {
            house.tokens.close();
            for body in &mut bodies {
                while let Some(frame) = body.frame().await {
                    let frame = frame.expect("to its end").into_data().expect("data");
                    told += frame.len();
                    frames.push(frame);
                }
            }
        });
    });
    (told as f64 / readers as f64, held.bytes_current as f64 / readers as f64)
}

/// The resident memory of this process, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("a number") * 4096
}
