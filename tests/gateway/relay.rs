//! A relay on the way cuts the connection after every byte of an answer, the head's bytes too; the client goes on behind what it
//! has. In the native protocol by `Last-Event-ID`, in Responses by `starting_after`: nothing is lost, and nothing comes twice.

use std::{
    env, io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use crate::{
    common::{At, Ending, TestGateway, http, request, soon, sse, text},
    resume::{each, none},
};

/// Two connections differ in nothing but their cursor.
const ONE_RETRY: &str = "[server]\nretry_min = \"1s\"\nretry_max = \"1s\"\n";
/// Tokens of several bytes, of several characters of JSON, and with what ends a line.
const TEXT: &str = "H\u{e9} \u{1f30a}\n\"q\" s\\ix\r\n end.\u{301}";

/// After how many bytes the relay cuts.
const CUT: &str = "x-cut";

/// What is asked and how, and what is an event's number there.
#[derive(Clone, Copy, Debug)]
enum Wire {
    Native,
    Responses,
}

use Wire::{Native, Responses};

impl Wire {
    /// Begins an answer that goes on though nobody reads; gives back its id.
    async fn begin(self, at: At, options: Value) -> String {
        if let Native = self {
            return at.say(options, json!({})).await;
        }
        let body = json!({ "model": "mock/words", "input": "say it", "background": true, "backend_options": options });
        let response = at.send("POST", "/v1/responses", &[], &body.to_string()).await.json().await;
        response["id"].as_str().expect("an id").to_owned()
    }

    /// The path behind an event, and the cursor that goes into a header.
    fn behind(self, id: &str, seen: Option<u64>) -> (String, Option<String>) {
        match (self, seen) {
            (Native, seen) => (format!("/v1/streams/{id}/events"), seen.map(|n| n.to_string())),
            (Responses, None) => (format!("/v1/responses/{id}?stream=true"), None),
            (Responses, Some(n)) => (format!("/v1/responses/{id}?stream=true&starting_after={n}"), None),
        }
    }

    fn number(self, event: &sse::Event) -> u64 {
        let number = match self {
            Native => event.id.parse().ok(),
            Responses => serde_json::from_str::<Value>(&event.data).expect("JSON")["sequence_number"].as_u64(),
        };
        number.unwrap_or_else(|| panic!("no number: {event:?}"))
    }

    /// An event without what it has of its connection: in Responses only the last one of a record has an id, and it stays.
    fn read(self, bytes: &[u8]) -> Vec<sse::Event> {
        let mut events = sse::read(bytes).events;
        if let Responses = self {
            events.iter_mut().for_each(|event| event.id.clear());
        }
        events
    }

    fn words(self, events: &[sse::Event]) -> String {
        let Responses = self else { return text(events) };
        let pieces = events.iter().filter(|event| event.name == "response.output_text.delta");
        let piece = |event: &sse::Event| serde_json::from_str::<Value>(&event.data).expect("JSON")["delta"].clone();
        pieces.map(|event| piece(event).as_str().expect("a piece").to_owned()).collect()
    }

    /// What follows an event, to its proper end; nothing if that was the last.
    async fn rest(self, at: At, id: &str, seen: Option<u64>) -> Vec<sse::Event> {
        let (path, cursor) = self.behind(id, seen);
        let headers: Vec<_> = cursor.iter().map(|cursor| ("last-event-id", &**cursor)).collect();
        let response = at.get(&path, &headers).await;
        assert!([200, 204].contains(&response.status), "{}", response.status);
        let (bytes, ending) = soon(response.body.rest()).await;
        assert_eq!(ending, Ending::Clean);
        self.read(&bytes)
    }

    /// What came before the cut.
    async fn first(self, relay: SocketAddr, id: &str, cut: usize) -> Vec<sse::Event> {
        match soon(request(relay, "GET", &self.behind(id, None).0, &[(CUT, &cut.to_string())], "")).await {
            Ok(response) => self.read(&soon(response.body.rest()).await.0),
            Err(_) => vec![], // not even a head
        }
    }

    /// Both together.
    async fn cut_and_resumed(
        self,
        [at, relay]: [SocketAddr; 2],
        id: &str,
        cut: usize,
        between: impl AsyncFnOnce(),
    ) -> Vec<sse::Event> {
        let (at, mut all) = (At(at), self.first(relay, id, cut).await);
        between().await;
        let seen = all.last().map(|event| self.number(event));
        all.extend(self.rest(at, id, seen).await);
        all
    }

    /// How many bytes its answer has on the wire.
    async fn length(self, at: At, id: &str) -> usize {
        let host = at.0;
        let head = format!("GET {} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n", self.behind(id, None).0);
        soon(http::exchange(host, head.as_bytes())).await.expect("an answer").len()
    }
}

/// Passes each connection on, and closes both its sides when so many bytes have come back as the header [`CUT`] says.
async fn relay(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it listens");
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, to));
        }
    });
    address
}

async fn pass(mut client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && client.read_buf(&mut head).await? > 0 {}
    let text = String::from_utf8_lossy(&head);
    let cut = text.lines().find_map(|line| line.strip_prefix(CUT)?.strip_prefix(": ")?.parse().ok());
    let mut server = TcpStream::connect(to).await?;
    server.write_all(&head).await?;
    copy(&mut (&mut server).take(cut.expect("a number")), &mut client).await?;
    socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO))
}

fn options() -> Value {
    match env::var("LASTWORD_TEST").is_ok_and(|test| test == "full") {
        false => json!({ "text": TEXT, "delay": "0ms" }),
        true => json!({
            "reasoning": "Hm, let me\nsee \u{1f30a}",
            "text": TEXT,
            "repeat": 8,
            "tool_call": { "name": "look_up", "arguments": { "the words": "one two \" three" } },
            "delay": "0ms",
        }),
    }
}

async fn a_finished_answer(wire: Wire) {
    let gateway = TestGateway::with(ONE_RETRY).await;
    let (at, options) = (gateway.at(), options());
    let id = wire.begin(at, options.clone()).await;
    let whole = wire.rest(at, &id, None).await;
    let said = TEXT.repeat(options["repeat"].as_u64().unwrap_or(1) as usize);
    assert_eq!(wire.words(&whole), said);
    let numbers: Vec<_> = whole.iter().map(|event| wire.number(event)).collect();
    match wire {
        Native => assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}"),
        Responses => assert!(numbers.iter().copied().eq(0..whole.len() as u64), "{numbers:?}"),
    }
    let length = wire.length(at, &id).await;
    let relay = relay(at.0).await;
    let (id, whole) = (Arc::new(id), Arc::new(whole));
    let wrong = each(0..=length, |cut| {
        let (id, whole) = (id.clone(), whole.clone());
        async move {
            let all = wire.cut_and_resumed([at.0, relay], &id, cut, async || {}).await;
            if all == *whole { Ok(()) } else { Err(format!("{all:?}")) }
        }
    });
    none(&wrong.await);
}

/// Each place is that of an answer of its own, which says on while it is cut.
async fn a_running_answer(wire: Wire) {
    let gateway = TestGateway::with(ONE_RETRY).await;
    let at = gateway.at();
    let options = json!({ "text": TEXT, "repeat": 2, "delay": "5ms" });
    let id = wire.begin(at, options.clone()).await;
    wire.rest(at, &id, None).await;
    let length = wire.length(at, &id).await;
    let (relay, ran) = (relay(at.0).await, Arc::new(AtomicUsize::new(0)));
    let places = || (0..length).step_by(53);
    let wrong = each(places(), |cut| {
        let (options, ran) = (options.clone(), ran.clone());
        async move {
            let id = wire.begin(at, options).await;
            let running = async || {
                let stream = id.trim_start_matches("resp_");
                ran.fetch_add(usize::from(at.state(stream).await["status"] == "running"), Ordering::Relaxed);
            };
            let all = wire.cut_and_resumed([at.0, relay], &id, cut, running).await;
            let whole = wire.rest(at, &id, None).await;
            let said = wire.words(&all);
            if all == whole && said == TEXT.repeat(2) { Ok(()) } else { Err(format!("{said:?} in {all:?}")) }
        }
    });
    none(&wrong.await);
    let (ran, places) = (ran.load(Ordering::Relaxed), places().count());
    assert!(ran > places / 4, "{ran} of {places} were cut while they ran");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_after_any_byte_costs_nothing() {
    a_finished_answer(Native).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_after_any_byte_costs_nothing_in_responses() {
    a_finished_answer(Responses).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_while_it_is_said_costs_nothing() {
    a_running_answer(Native).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_while_it_is_said_costs_nothing_in_responses() {
    a_running_answer(Responses).await;
}
