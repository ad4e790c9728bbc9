//! Answers that the user's own code generates: it appends, readers read, and nothing is lost or taken twice.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::common::{TestGateway, let_go, soon, text};

const SHORT: &str = "[backends.push]\nkind = \"push\"\nlease = \"150ms\"\n";

async fn create(gateway: &TestGateway) -> String {
    gateway.create(&json!({ "model": "push/mine" })).await
}

fn line(text: &str) -> String {
    format!("{}\n", json!({ "text": text }))
}

const END: &str = "{\"event\":\"end\",\"data\":{\"status\":\"completed\"}}\n";

/// Appends; the status and what is said.
async fn push(gateway: &TestGateway, id: &str, query: &str, body: &str) -> (u16, Value) {
    let response = gateway.send("POST", &format!("/v1/streams/{id}/events{query}"), &[], body).await;
    (response.status, response.json().await)
}

/// A request whose body goes on.
struct Pushing(TcpStream);

impl Pushing {
    async fn begin(gateway: &TestGateway, id: &str, query: &str) -> Self {
        let mut socket = TcpStream::connect(gateway.address()).await.expect("a connection");
        let head = format!(
            "POST /v1/streams/{id}/events{query} HTTP/1.1\r\nhost: {}\r\ntransfer-encoding: chunked\r\n\r\n",
            gateway.address()
        );
        socket.write_all(head.as_bytes()).await.expect("sent");
        Self(socket)
    }

    async fn say(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.write_all(chunk.as_bytes()).await.expect("sent");
    }

    /// Ends the body; the response.
    async fn end(mut self) -> String {
        self.0.write_all(b"0\r\n\r\n").await.expect("sent");
        self.response().await
    }

    async fn response(mut self) -> String {
        let mut bytes = Vec::new();
        let mut buffer = [0; 1024];
        while !String::from_utf8_lossy(&bytes).ends_with('}') {
            let n = soon(self.0.read(&mut buffer)).await.expect("read");
            assert_ne!(n, 0, "a response: {}", String::from_utf8_lossy(&bytes));
            bytes.extend_from_slice(&buffer[..n]);
        }
        String::from_utf8(bytes).expect("UTF-8")
    }
}

#[tokio::test]
async fn what_is_appended_in_one_request_or_in_many_is_read() {
    let gateway = TestGateway::start().await;
    let id = create(&gateway).await;
    assert_eq!(push(&gateway, &id, "?at=0", &line("The")).await, (200, json!({ "next": 1, "status": "running" })));
    let mut pushing = Pushing::begin(&gateway, &id, "?at=1").await;
    let whole = line(" river") + "\n" + &line(" runs.");
    for piece in whole.as_bytes().chunks(3) {
        pushing.say(std::str::from_utf8(piece).expect("ASCII")).await;
    }
    assert!(pushing.end().await.contains(r#"{"next":3,"status":"running"}"#));
    let more = "{\"event\":\"place\",\"data\":{\"x\":1}}\n{\"event\":\"usage\",\"data\":{\"output_tokens\":3}}\n"
        .to_owned()
        + END;
    assert_eq!(push(&gateway, &id, "?at=3", &more).await, (200, json!({ "status": "completed" })));
    let events = gateway.whole(&id).await;
    assert_eq!(text(&events), "The river runs.");
    assert!(events.iter().any(|event| event.name == "place" && event.data == "{\"x\":1}"));
    let state = gateway.state(&id).await;
    assert_eq!(
        (&state["text"], &state["usage"]["output_tokens"], &state["reason"]),
        (&json!("The river runs."), &json!(3), &json!("stop"))
    );
    assert_eq!(state["attempts"][0]["protocol"], "push");
}

#[tokio::test]
async fn events_that_are_sent_again_are_taken_once_and_a_gap_is_refused() {
    let gateway = TestGateway::start().await;
    let id = create(&gateway).await;
    let all: Vec<_> = (0..5).map(|n| line(&n.to_string())).collect();
    for (at, upto) in [(0, 2), (0, 2), (0, 3), (1, 4), (4, 5), (0, 5)] {
        let (status, said) = push(&gateway, &id, &format!("?at={at}"), &all[at..upto].concat()).await;
        assert_eq!(status, 200, "{said}");
    }
    let (status, problem) = push(&gateway, &id, "?at=7", &line("7")).await;
    assert_eq!((status, &problem["code"], &problem["field"]), (409, &json!("events_missing"), &json!("at")));
    assert!(problem["remedy"].as_str().expect("a remedy").contains("at=5"), "{problem}");
    assert_eq!(push(&gateway, &id, "?at=5", END).await.0, 200);
    assert_eq!(
        push(&gateway, &id, "?at=5", END).await,
        (200, json!({ "status": "completed" })),
        "its response was lost"
    );
    assert_eq!(push(&gateway, &id, "", END).await.1["code"], "stream_ended");
    assert_eq!(gateway.state(&id).await["text"], "01234");
}

#[tokio::test]
async fn a_producer_that_is_cut_off_at_any_byte_and_sends_all_again_is_taken_once() {
    let gateway = TestGateway::start().await;
    let whole = line("Looking.")
        + "{\"event\":\"tool_call\",\"data\":{\"index\":0,\"id\":\"c1\",\"name\":\"look\",\"arguments\":\"{}\"}}\n"
        + &line(" There.")
        + END;
    let mut uncut = None;
    for cut in 0..=whole.len() {
        let id = create(&gateway).await;
        let mut pushing = Pushing::begin(&gateway, &id, "?producer=a&at=0").await;
        if cut > 0 {
            pushing.say(&whole[..cut]).await;
        }
        drop(pushing);
        let (status, said) = push(&gateway, &id, "?producer=a&at=0", &whole).await;
        assert_eq!((status, &said["status"]), (200, &json!("completed")), "cut at {cut}: {said}");
        let state = gateway.state(&id).await;
        let told = (state["text"].clone(), state["tool_calls"].clone(), state["cursor"].clone());
        assert_eq!(&told, uncut.get_or_insert(told.clone()), "cut at {cut}");
        assert_eq!(told.0, "Looking. There.");
    }
}

#[tokio::test]
async fn a_second_producer_is_refused_and_the_same_one_takes_over_from_itself() {
    let gateway = TestGateway::start().await;
    let id = create(&gateway).await;
    let mut first = Pushing::begin(&gateway, &id, "?producer=a&at=0").await;
    first.say(&line("one")).await;
    gateway.events(&id, None).await; // the request is there
    soon(async {
        while gateway.state(&id).await["text"] != "one" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for other in ["", "?producer=b", "?at=1", "?producer=b&at=1"] {
        let (status, problem) = push(&gateway, &id, other, &line("mine")).await;
        assert_eq!((status, &problem["code"]), (409, &json!("other_producer")), "{other}");
    }
    // Its connection is gone without a word, and it knows nothing of what became of its events.
    let (status, said) = push(&gateway, &id, "?producer=a&at=0", &(line("one") + &line(" two"))).await;
    assert_eq!((status, &said["next"]), (200, &json!(2)));
    assert!(first.response().await.contains("other_producer"));
    let (status, problem) = push(&gateway, &id, "?producer=b&at=2", &line("mine")).await;
    assert_eq!((status, &problem["code"]), (409, &json!("other_producer")));
    assert_eq!(push(&gateway, &id, "?producer=a&at=2", END).await.0, 200);
    assert_eq!(gateway.state(&id).await["text"], "one two");
}

#[tokio::test]
async fn a_producer_that_is_not_heard_of_leaves_an_interrupted_answer() {
    let gateway = TestGateway::with(SHORT).await;
    let id = create(&gateway).await;
    push(&gateway, &id, "", &line("one")).await;
    let events = gateway.whole(&id).await;
    let end: Value = serde_json::from_str(&events.last().expect("an end").data).expect("JSON");
    assert_eq!((&end["status"], &end["error"]["code"]), (&json!("interrupted"), &json!("producer_gone")));
    assert_eq!(push(&gateway, &id, "", &line("two")).await.1["code"], "stream_ended");
    assert_eq!(push(&gateway, &id, "?at=1", &line("two")).await, (200, json!({ "status": "interrupted" })));
    // One that says now and then that it lives is waited for.
    let id = create(&gateway).await;
    let mut pushing = Pushing::begin(&gateway, &id, "").await;
    let mut beat = tokio::time::interval(std::time::Duration::from_millis(50));
    for _ in 0..8 {
        beat.tick().await;
        pushing.say("\n").await;
    }
    pushing.say(END).await;
    assert!(pushing.response().await.contains("completed"));
}

#[tokio::test]
async fn a_line_that_is_no_event_is_named_and_those_before_it_stay() {
    let gateway = TestGateway::start().await;
    let id = create(&gateway).await;
    let (status, problem) =
        push(&gateway, &id, "", &(line("one") + "{\"event\":\"message\",\"data\":{\"text\":7}}\n" + &line("two")))
            .await;
    assert_eq!((status, &problem["field"]), (400, &json!("data.text")));
    assert!(problem["detail"].as_str().expect("a detail").starts_with("event 1: "), "{problem}");
    assert_eq!(push(&gateway, &id, "?at=1", &(line(" two") + END)).await.0, 200);
    assert_eq!(gateway.state(&id).await["text"], "one two");
}

#[tokio::test]
async fn a_cancel_is_told_to_the_producer_and_so_is_a_failure_to_the_readers() {
    let gateway = TestGateway::start().await;
    let id = create(&gateway).await;
    let mut pushing = Pushing::begin(&gateway, &id, "").await;
    pushing.say(&line("one")).await;
    gateway.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
    assert!(pushing.response().await.contains(r#"{"status":"cancelled"}"#));
    let id = create(&gateway).await;
    let failed = "{\"event\":\"end\",\"data\":{\"status\":\"failed\",\"error\":{\"code\":\"no_tea\",\"message\":\"out of tea\"}}}\n";
    assert_eq!(push(&gateway, &id, "", failed).await.1, json!({ "status": "failed" }));
    let error = &gateway.state(&id).await["error"];
    assert_eq!((&error["type"], &error["message"]), (&json!("no_tea"), &json!("out of tea")));
    let id = create(&gateway).await;
    assert_eq!(
        push(&gateway, &id, "", "{\"event\":\"end\",\"data\":{\"status\":\"cancelled\"}}").await.1,
        json!({ "status": "cancelled" })
    );
}

#[tokio::test]
async fn only_answers_of_ones_own_code_are_appended_to() {
    let gateway = TestGateway::start().await;
    let id = gateway.say("on and on", json!({ "repeat": 9999, "delay": "5ms" })).await;
    assert_eq!(push(&gateway, &id, "", &line("x")).await.1["code"], "not_pushed");
    let unknown = "0".repeat(32);
    assert_eq!(push(&gateway, &unknown, "", &line("x")).await.0, 404);
    assert_eq!(push(&gateway, &id, "?at=x", "").await.1["field"], "at");
    let response = gateway.send("POST", "/v1/streams", &[], "{\"model\":\"mock/words\"}").await;
    assert_eq!((response.status, response.json().await["field"].clone()), (400, json!("prompt")));
}

#[tokio::test]
async fn a_crash_of_lastword_interrupts_it_and_the_producer_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = TestGateway::on_disk_with("[server]\ndrain = \"50ms\"\n", folder.path()).await;
    let id = create(&gateway).await;
    push(&gateway, &id, "?at=0", &line("one")).await;
    soon(async {
        while gateway.state(&id).await["text"] != "one" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    gateway.drain().await;
    drop(let_go(&folder.path().join("base.redb")).await);
    let gateway = TestGateway::on_disk(folder.path()).await;
    assert_eq!(push(&gateway, &id, "?at=1", &line("two")).await.1, json!({ "status": "interrupted" }));
    assert_eq!(gateway.state(&id).await["text"], "one");
}
