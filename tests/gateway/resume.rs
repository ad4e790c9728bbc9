//! Cut anywhere, come back in any way, and miss nothing.
//!
//! Everywhere the same: a client reads exactly so many bytes of a body, is cut off, and goes on behind the cursor that it then
//! has. What it was told in all is the answer, told once.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::http::Request;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Semaphore, task::JoinSet};

use crate::common::{At, Ending, Response, TestGateway, http, only, soon, sse, sse::Client, text};

/// Ten tokens; some are several bytes, or several characters of JSON, or characters that end a line.
const TEXT: &str = "One zwei\n三 \u{1f30a}four \"five\" s\\ix\r\n sieben \u{2028}eight nine ten.\u{301}";
/// So many times: 300 tokens.
const TIMES: u32 = 30;
/// Two connections differ in nothing but their cursor.
const ONE_RETRY: &str = "[server]\nretry_min = \"1s\"\nretry_max = \"1s\"\n";
/// How many clients are busy at once.
const CLIENTS: usize = 8;

fn words() -> String {
    TEXT.repeat(TIMES as usize)
}

fn options(delay: &str) -> Value {
    json!({ "text": TEXT, "repeat": TIMES, "delay": delay })
}

/// A finished answer, with all bytes of its event stream.
struct Finished {
    _gateway: TestGateway,
    at: At,
    id: String,
    bytes: Vec<u8>,
    words: String,
}

impl Finished {
    async fn new() -> Arc<Self> {
        let gateway = TestGateway::with(ONE_RETRY).await;
        let at = gateway.at();
        let id = at.say(options("0ms"), json!({})).await;
        let (bytes, ending) = soon(at.events(&id, &Client::default()).await.body.rest()).await;
        assert_eq!(ending, Ending::Clean);
        let sse::Reading { events, retry, .. } = sse::read(&bytes);
        assert_eq!(events.iter().filter(|event| event.name == "message").count(), 300);
        assert_eq!(retry, Some(1000));
        Arc::new(Self { _gateway: gateway, at, id, bytes, words: words() })
    }

    /// The first connection, cut after `cut` bytes.
    async fn cut(&self, cut: usize) {
        let first = self.at.events(&self.id, &Client::default()).await;
        let bytes = soon(first.body.cut_after(cut)).await;
        assert!(bytes == self.bytes[..cut], "a replay is the same to the byte, up to {cut}");
    }
}

/// Reads to the end behind the client's cursor, and says what is wrong with all that it then has.
async fn go_on(response: Response, mut client: Client, words: &str) -> Result<(), String> {
    match response.status {
        200 => {
            let (bytes, ending) = soon(response.body.rest()).await;
            client.take(&bytes);
            if ending != Ending::Clean {
                return Err(format!("the body ended in a way that is {ending:?}"));
            }
        }
        204 => {}
        other => return Err(format!("the answer to {:?} is {other}", client.cursor)),
    }
    client.check(words)
}

/// Runs this for each of these, a few at a time; gives back those that went wrong, with what was wrong.
pub(crate) async fn each<F, Fut>(of: impl IntoIterator<Item = usize>, run: F) -> Vec<(usize, String)>
where
    F: Fn(usize) -> Fut,
    Fut: Future<Output = Result<(), String>> + Send + 'static,
{
    let (mut tasks, mut wrong) = (JoinSet::new(), Vec::new());
    let mut of = of.into_iter();
    loop {
        while tasks.len() < CLIENTS
            && let Some(n) = of.next()
        {
            let run = run(n);
            tasks.spawn(async move { (n, run.await) });
        }
        match tasks.join_next().await {
            None => return wrong,
            Some(done) => match done.expect("it ran") {
                (n, Err(what)) => wrong.push((n, what)),
                (_, Ok(())) => {}
            },
        }
    }
}

pub(crate) fn none(wrong: &[(usize, String)]) {
    assert!(wrong.is_empty(), "{} cuts lost something; the first, after {:?}", wrong.len(), wrong[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_after_any_byte_of_a_finished_answer_costs_nothing() {
    let answer = Finished::new().await;
    // What follows a cursor, and how many events were seen before: checked once for each pair, compared to the byte after that.
    let good: Arc<Mutex<HashMap<_, Vec<u8>>>> = Arc::default();
    let wrong = each(0..=answer.bytes.len(), |cut| {
        let (answer, good) = (answer.clone(), good.clone());
        async move {
            answer.cut(cut).await;
            let mut client = Client::default();
            client.take(&answer.bytes[..cut]);
            let rest = answer.at.events(&answer.id, &client).await;
            if rest.status == 204 {
                return client.check(&answer.words);
            }
            let (rest, ending) = soon(rest.body.rest()).await;
            if ending != Ending::Clean {
                return Err(format!("the body ended in a way that is {ending:?}"));
            }
            let place = (client.cursor.clone(), client.events.len());
            match good.lock().expect("sound").get(&place) {
                Some(same) if *same == rest => return Ok(()),
                Some(_) => return Err(format!("another rest than before behind {place:?}")),
                None => {}
            }
            client.take(&rest);
            client.check(&answer.words)?;
            good.lock().expect("sound").insert(place, rest);
            Ok(())
        }
    });
    none(&wrong.await);
    assert_eq!(good.lock().expect("sound").len(), 302, "from the beginning, behind the start, behind each token");
}

/// Events of several names, and of one part that is told in pieces.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_an_answer_of_many_parts_costs_nothing() {
    let gateway = TestGateway::with(ONE_RETRY).await;
    let at = gateway.at();
    let options = json!({
        "reasoning": "Hm, let me\nsee \u{1f30a}",
        "text": "I look it up.",
        "tool_call": { "name": "look_up", "arguments": { "the words": "one two \" three" } },
        "delay": "0ms",
    });
    let id = at.say(options, json!({})).await;
    let (bytes, ending) = soon(at.events(&id, &Client::default()).await.body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    let (bytes, id) = (Arc::new(bytes), Arc::new(id));
    let whole = sse::read(&bytes).events;
    let calls: Vec<_> = whole.iter().filter(|event| event.name == "tool_call").collect();
    assert!(calls.len() > 5 && calls.iter().all(|call| call.data.contains("\"index\":2")), "{calls:?}");
    let wrong = each(0..bytes.len(), |cut| {
        let (bytes, id, whole) = (bytes.clone(), id.clone(), whole.clone());
        async move {
            let mut client = Client::default();
            client.take(&bytes[..cut]);
            let rest = at.events(&id, &client).await;
            if rest.status == 200 {
                client.take(&soon(rest.body.rest()).await.0);
            }
            if client.events == whole { Ok(()) } else { Err(format!("{:?}", client.events)) }
        }
    });
    none(&wrong.await);
}

/// The tail holds what comes at once as one piece, and a cursor lies somewhere in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_within_what_came_at_once_costs_nothing() {
    let answer = Finished::new().await;
    let mut options = options("0ms");
    options["fault"] = json!({ "kind": "stall", "after": 300 });
    let id = Arc::new(answer.at.say(options, json!({})).await);
    let said = answer.bytes.windows(10).position(|ten| ten == b"event: end").expect("an end");
    let cuts = || (0..said).step_by(37);
    let resumed = Arc::new(Semaphore::new(0));
    let mut tasks = JoinSet::new();
    for cut in cuts() {
        let (answer, id, resumed) = (answer.clone(), id.clone(), resumed.clone());
        tasks.spawn(async move {
            let mut client = Client::default();
            let first = answer.at.events(&id, &client).await;
            client.take(&soon(first.body.cut_after(cut)).await);
            let rest = answer.at.events(&id, &client).await;
            resumed.add_permits(1);
            go_on(rest, client, &answer.words).await.map_err(|what| format!("cut after {cut}: {what}"))
        });
    }
    let all = u32::try_from(cuts().count()).expect("a few hundred");
    let _all = soon(resumed.acquire_many(all)).await.expect("never closed");
    answer.at.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.expect("it ran"), Ok(()));
    }
}

/// Where the eager cursor is that of the standard, the test above is about the eager client too. Everywhere else is here.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_moves_its_cursor_at_the_id_line_can_lose_only_between_that_and_the_blank_line() {
    let answer = Finished::new().await;
    let eager = |cut: usize| {
        let mut client = Client::default();
        client.take_eagerly(&answer.bytes[..cut]);
        client
    };
    let differs = |cut: &usize| {
        // The last few events are enough to know a cursor.
        let blank = answer.bytes[..cut.saturating_sub(500)].windows(2).rposition(|two| two == b"\n\n");
        let near = &answer.bytes[blank.map_or(0, |blank| blank + 2)..*cut];
        sse::read(near).cursor != sse::read_eagerly(near).cursor
    };
    let differ: Vec<_> = (0..=answer.bytes.len()).filter(differs).collect();
    let wrong = each(differ, |cut| {
        let (answer, client) = (answer.clone(), eager(cut));
        async move {
            answer.cut(cut).await;
            go_on(answer.at.events(&answer.id, &client).await, client, &answer.words).await
        }
    });
    let wrong: BTreeSet<_> = wrong.await.into_iter().map(|(cut, _)| cut).collect();
    let behind_an_id_line = |cut: &usize| {
        let lines = answer.bytes[..*cut].strip_suffix(b"\n").unwrap_or_default();
        lines.rsplit(|b| *b == b'\n').next().is_some_and(|line| line.starts_with(b"id: "))
    };
    let cannot_be_helped: BTreeSet<_> = (0..=answer.bytes.len()).filter(behind_an_id_line).collect();
    assert_eq!(cannot_be_helped.len(), 302, "once an event");
    assert_eq!(wrong, cannot_be_helped);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_a_running_answer_costs_nothing() {
    let answer = Finished::new().await;
    let mut tasks = JoinSet::new();
    // Primes: the streams' cuts differ, and lie everywhere in an event. Some 250 in all.
    for step in [151, 157, 163, 167] {
        let id = answer.at.say(options("2ms"), json!({})).await;
        for cut in (0..answer.bytes.len()).step_by(step) {
            let (answer, id) = (answer.clone(), id.clone());
            tasks.spawn(async move {
                let mut client = Client::default();
                let first = answer.at.events(&id, &client).await;
                client.take(&soon(first.body.cut_after(cut)).await);
                go_on(answer.at.events(&id, &client).await, client, &answer.words)
                    .await
                    .map_err(|what| format!("cut after {cut}: {what}"))
            });
        }
    }
    assert!(answer.at.metric("lastword_streams_running").await > 0, "they run");
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.expect("it ran"), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_cuts_by_chance_in_one_running_answer_cost_nothing() {
    let gateway = TestGateway::start().await;
    let (at, words) = (gateway.at(), words());
    let mut tasks = JoinSet::new();
    for seed in 0..50 {
        let words = words.clone();
        tasks.spawn(async move {
            let mut chance = fastrand::Rng::with_seed(seed);
            let id = at.say(options("1ms"), json!({})).await;
            let mut client = Client::default();
            for _ in 0..20 {
                let response = at.events(&id, &client).await;
                let cut = chance.usize(..1000);
                client.take(&soon(response.body.cut_after(cut)).await);
            }
            let rest = at.events(&id, &client).await;
            go_on(rest, client, &words).await.map_err(|what| format!("seed {seed}: {what}"))
        });
    }
    while let Some(done) = tasks.join_next().await {
        assert_eq!(done.expect("it ran"), Ok(()));
    }
}

/// The ways to say where one was: what follows the URL, and the header if there is one. `N` is the cursor, `ID` the stream.
const WAYS: [(&str, Option<&str>); 11] = [
    ("", Some("N")),
    ("", Some("ID-N")),
    ("?after=N", None),
    ("?last_event_id=N", None),
    ("?lastEventId=N", None),
    ("?after=ID-N", None),
    ("?last_event_id=ID-N", None),
    ("?lastEventId=ID-N", None),
    ("?lastEventId=N", Some("")),
    ("?after=&last_event_id=N", None),
    ("?after=3&lastEventId=7", Some("N")),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_can_be_given_in_every_way() {
    let answer = Finished::new().await;
    // Where an event is whole, and a little further.
    let cuts = (400..answer.bytes.len()).step_by(997);
    let all = cuts.flat_map(|cut| (0..WAYS.len()).map(move |way| cut * 100 + way));
    let wrong = each(all, |both| {
        let (answer, cut, (query, header)) = (answer.clone(), both / 100, WAYS[both % 100]);
        async move {
            let mut client = Client::default();
            client.take(&answer.bytes[..cut]);
            let cursor = client.cursor.clone().expect("a cursor");
            let fill = |text: &str| text.replace("ID", &answer.id).replace('N', &cursor);
            let header = header.map(fill);
            let headers: Vec<_> = header.iter().map(|value| ("last-event-id", &**value)).collect();
            let path = format!("/v1/streams/{}/events{}", answer.id, fill(query));
            go_on(answer.at.get(&path, &headers).await, client, &answer.words).await
        }
    });
    none(&wrong.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_a_post_is_resumed_by_the_same_post_or_by_get() {
    let gateway = TestGateway::with(ONE_RETRY).await;
    let (at, words) = (gateway.at(), Arc::new(words()));
    let wrong = each((0..20_000).step_by(149), |cut| {
        let words = words.clone();
        async move {
            let body =
                json!({ "prompt": "say it", "model": "mock/words", "backend_options": options("0ms") }).to_string();
            let post = async |client: &Client| {
                let key = format!("cut after {cut}");
                let mut headers = vec![("accept", "text/event-stream"), ("idempotency-key", &*key)];
                headers.extend(client.cursor.iter().map(|cursor| ("last-event-id", &**cursor)));
                at.send("POST", "/v1/streams", &headers, &body).await
            };
            let mut client = Client::default();
            let first = post(&client).await;
            let id = first.header("x-stream-id").expect("an id").to_owned();
            client.take(&soon(first.body.cut_after(cut)).await);
            if let Some(cursor) = &client.cursor {
                assert!(cursor.starts_with(&format!("{id}-")), "the long form: {cursor}");
            }
            let again = post(&client).await;
            assert_eq!(again.header("x-stream-id"), Some(&*id), "the same answer");
            go_on(again, client.clone(), &words).await.map_err(|what| format!("by POST: {what}"))?;
            go_on(at.events(&id, &client).await, client, &words).await.map_err(|what| format!("by GET: {what}"))
        }
    });
    none(&wrong.await);
}

#[tokio::test]
async fn a_cursor_that_cannot_be_served_is_told_so_and_the_rest_follows() {
    let answer = Finished::new().await;
    let end = sse::read(&answer.bytes).cursor;
    let foreign = answer.at.say(options("0ms"), json!({})).await;
    for (cursor, reason) in [
        (format!("{}", end.parse::<u64>().expect("a number") + 1), "ahead"),
        ("18446744073709551615".to_owned(), "ahead"),
        ("18446744073709551616".to_owned(), "unknown"),
        ("nonsense".to_owned(), "unknown"),
        (format!("{foreign}-7"), "unknown"),
        (format!("{}-", answer.id), "unknown"),
    ] {
        let client = Client { cursor: Some(cursor.clone()), ..Client::default() };
        let (bytes, ending) = soon(answer.at.events(&answer.id, &client).await.body.rest()).await;
        assert_eq!(ending, Ending::Clean);
        let events = sse::read(&bytes).events;
        assert_eq!(events[0].name, "reset", "{cursor}");
        let reset = only(&events, "reset");
        assert_eq!(reset["reason"], reason, "{cursor}");
        only(&events, "end");
        // What it keeps up to there, and what follows, are the answer.
        let after = reset["after"].as_u64().expect("a cursor");
        let kept = sse::read(&answer.bytes)
            .events
            .into_iter()
            .filter(|event| event.id.parse::<u64>().is_ok_and(|id| id <= after));
        let all: Vec<_> = kept.chain(events).collect();
        assert_eq!(text(&all), answer.words, "{cursor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_http2_that_is_reset_is_resumed_on_the_same_connection() {
    let answer = Finished::new().await;
    for delay in ["0ms", "1ms"] {
        let id = answer.at.say(options(delay), json!({})).await;
        let mut client = h2_connect(answer.at.0).await;
        for cut in [0, 1, 230, 231, 1000, 4097, 9999] {
            let mut reader = Client::default();
            let bytes = h2_read(&mut client, &id, &reader, cut).await;
            assert!(bytes.len() >= cut);
            reader.take(&bytes[..cut]);
            reader.take(&h2_read(&mut client, &id, &reader, usize::MAX).await);
            assert_eq!(reader.check(&answer.words), Ok(()), "cut after {cut}");
        }
    }
    let at = answer.at;
    at.metric_is("lastword_readers", 0).await;
}

async fn h2_connect(address: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.expect("a connection");
    let (client, connection) = soon(h2::client::handshake(socket)).await.expect("HTTP/2");
    tokio::spawn(connection);
    client
}

/// At least so many bytes of a stream's events, or all; then RST_STREAM.
async fn h2_read(client: &mut h2::client::SendRequest<Bytes>, id: &str, seen: &Client, at_least: usize) -> Vec<u8> {
    let mut request = Request::get(format!("http://localhost/v1/streams/{id}/events"));
    if let Some(cursor) = &seen.cursor {
        request = request.header("last-event-id", cursor);
    }
    let (response, _) = client.send_request(request.body(()).expect("a request"), true).expect("it is sent");
    let mut body = soon(response).await.expect("a response").into_body();
    let mut bytes = Vec::new();
    while bytes.len() < at_least
        && let Some(data) = soon(body.data()).await
    {
        let data = data.expect("no reset but ours");
        body.flow_control().release_capacity(data.len()).expect("it was held");
        bytes.extend_from_slice(&data);
    }
    bytes
}

/// There a body ends where its connection does.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_http_1_0_is_cut_and_resumed_too() {
    let answer = Finished::new().await;
    let wrong = each((0..answer.bytes.len()).step_by(211), |cut| {
        let answer = answer.clone();
        async move {
            let get = async |client: &Client| {
                let cursor = client.cursor.iter().map(|cursor| format!("last-event-id: {cursor}\r\n"));
                let head =
                    format!("GET /v1/streams/{}/events HTTP/1.0\r\n{}\r\n", answer.id, cursor.collect::<String>());
                soon(http::raw(answer.at.0, head.as_bytes(), false)).await.expect("a response")
            };
            let mut client = Client::default();
            let first = get(&client).await;
            client.take(&soon(first.body.cut_after(cut)).await);
            go_on(get(&client).await, client, &answer.words).await
        }
    });
    none(&wrong.await);
}

/// Clients that know no URL but the one in `Location` (LangGraph's) ask there for the rest.
#[tokio::test]
async fn the_location_of_a_post_is_where_its_answer_is_gone_on_with() {
    let gateway = TestGateway::start().await;
    let message = json!([{ "role": "user", "content": "x", "parts": [{ "type": "text", "text": "x" }] }]);
    for (path, input) in [
        ("/v1/chat/completions", "messages"),
        ("/v1/messages", "messages"),
        ("/v1/responses", "input"),
        ("/api/chat", "messages"),
    ] {
        let mut body = json!({ "model": "mock/words", "stream": true, "max_tokens": 9, "backend_options": { "text": "one two", "delay": "0ms" } });
        body[input] = if input == "input" { "x".into() } else { message.clone() };
        if path.starts_with("/v1/messages") || path.starts_with("/v1/chat") {
            body[input][0].as_object_mut().expect("a message").remove("parts");
        }
        let response = gateway.send("POST", path, &[], &body.to_string()).await;
        let place = response.header("location").expect("a place").to_owned();
        let (whole, ending) = soon(response.body.rest()).await;
        assert_eq!(ending, Ending::Clean, "{path}");
        let first = sse::read(&whole).events.into_iter().find(|event| !event.id.is_empty()).expect("an id");
        let rest = gateway.get(&place, &[("last-event-id", &first.id)]).await;
        let (rest, _) = soon(rest.body.rest()).await;
        let told = sse::read(&rest).events;
        let all = sse::read(&whole).events;
        let behind = all.iter().position(|event| event.id == first.id).expect("it is there") + 1;
        let data = |events: &[sse::Event]| events.iter().map(|event| event.data.clone()).collect::<Vec<_>>();
        let numbered = |text: &str| text.replace("\"sequence_number\"", "");
        assert_eq!(data(&told).len(), all.len() - behind, "{path}: {:?}", numbered(&String::from_utf8_lossy(&rest)));
        assert_eq!(data(&told), data(&all[behind..]), "{path}");
        let state = gateway.get(&place, &[("accept", "application/json")]).await;
        assert_eq!(state.json().await["text"], "one two", "{path}");
    }
}
