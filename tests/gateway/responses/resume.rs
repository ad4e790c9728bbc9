//! Cut anywhere, come back behind the last number, and miss nothing: as `tests/gateway/resume.rs`, in this protocol. Connections are
//! cut in `tests/gateway/relay.rs`.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use super::*;

/// An answer of many parts, with characters of all kinds.
fn options() -> Value {
    json!({
        "reasoning": "Hm, let me\nsee \u{1f30a}",
        "text": "One zwei\n三 \u{1f30a}four \"five\" s\\ix\r\n sieben \u{2028}eight.\u{301}",
        "tool_call": { "name": "look_up", "arguments": { "the words": "one two \" three" } },
    })
}

/// The events without what belongs to a connection.
fn blocks(body: &str) -> Vec<&str> {
    let begins = body.find("event: ").unwrap_or(body.len());
    body[begins..].split_inclusive("\n\n").filter(|block| block.ends_with("\n\n")).collect()
}

fn number(block: &str) -> u64 {
    events(block)[0]["sequence_number"].as_u64().expect("a number")
}

async fn behind(at: At, id: &str, number: Option<u64>) -> Response {
    let after = number.map(|number| format!("&starting_after={number}")).unwrap_or_default();
    at.get(&format!("{URL}/{id}?stream=true{after}"), &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_after_any_byte_costs_nothing() {
    let gateway = TestGateway::with("[server]\nretry_min = \"1s\"\nretry_max = \"1s\"\n").await;
    let at = gateway.at();
    let whole = rest(post(at, &asked(options(), stream())).await.body).await;
    let id = id_of(&events(&whole)[0]["response"]);
    let wanted = blocks(&whole);
    assert!(wanted.len() > 30, "{}", wanted.len());
    // What follows a number is asked once for each, and each cut of the body ends behind one of them.
    let mut tails = BTreeMap::new();
    for seen in (0..=wanted.len() as u64).map(|n| n.checked_sub(1)) {
        let response = behind(at, &id, seen).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("text/event-stream")));
        tails.insert(seen, rest(response.body).await);
    }
    for cut in 0..=whole.len() {
        let Some(came) = whole.get(..cut) else { continue };
        let came = blocks(came);
        let seen = came.last().map(|block| number(block));
        let all: Vec<_> = came.into_iter().chain(blocks(&tails[&seen])).collect();
        assert_eq!(all, wanted, "cut after {cut}");
    }
    assert_eq!(tails[&Some(wanted.len() as u64 - 1)], "", "who has all is told that by an empty body");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_a_running_answer_costs_nothing() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let mut tasks = JoinSet::new();
    for seed in 0..30 {
        tasks.spawn(async move {
            let mut chance = fastrand::Rng::with_seed(seed);
            let mut options = options();
            (options["repeat"], options["delay"]) = (json!(20), json!("1ms"));
            let began = response_of(post(at, &asked(options, json!({ "background": true }))).await).await;
            let id = id_of(&began);
            let mut all: Vec<String> = Vec::new();
            for cut in 0..=12 {
                let seen = all.last().map(|block| number(block));
                let response = behind(at, &id, seen).await;
                assert_eq!(response.status, 200, "seed {seed}, behind {seen:?}");
                let came = match cut {
                    12 => rest(response.body).await,
                    _ => {
                        String::from_utf8_lossy(&soon(response.body.cut_after(chance.usize(..5000))).await).into_owned()
                    }
                };
                all.extend(blocks(&came).into_iter().map(str::to_owned));
            }
            let whole = rest(behind(at, &id, None).await.body).await;
            assert_eq!(all, blocks(&whole), "seed {seed}");
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("nothing was lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_of_an_event_works_too() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let body = asked(options(), stream()).to_string();
    let whole = rest(at.send("POST", URL, &[], &body).await.body).await;
    let id = id_of(&events(&whole)[0]["response"]);
    for (place, _) in whole.match_indices("id: ") {
        let (cursor, missing) = whole[place + 4..].split_once("\n\n").expect("an event");
        let header = [("last-event-id", cursor)];
        let path = format!("{URL}/{id}?stream=true&starting_after=3");
        for response in [at.send("POST", URL, &header, &body).await, at.get(&path, &header).await] {
            if missing.is_empty() {
                assert_eq!(response.status, 204, "it has seen the end");
                continue;
            }
            assert_eq!(blocks(&rest(response.body).await).concat(), missing, "behind {cursor}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_nobody_was_told_is_refused() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let running = response_of(post(at, &asked(fault("stall", 2), json!({ "background": true }))).await).await;
    let id = id_of(&running);
    retrieved_when(at, &id, |response| response["output"][0]["content"][0]["text"] == "one two").await;
    let told = [("created", 0), ("queued", 1), ("in_progress", 2), ("item", 3), ("part", 4), ("one", 5), ("two", 6)];
    let (_, last) = told[told.len() - 1];
    for (number, words) in [
        ("7", "the last event so far is 6"),
        ("18446744073709551615", "6"),
        ("-1", "not a number"),
        ("x", "not a number"),
    ] {
        let error =
            refused(at.get(&format!("{URL}/{id}?stream=true&starting_after={number}"), &[]).await, 400, "bad_request")
                .await;
        assert_eq!(error["param"], "starting_after");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{error}");
    }
    // The last one is a place to wait at.
    let waiting = behind(at, &id, Some(last)).await;
    at.send("POST", &format!("{URL}/{id}/cancel"), &[], "").await;
    let events = events(&rest(waiting.body).await);
    assert_eq!(types(&events), ["response.incomplete"]);
    assert_eq!(events[0]["sequence_number"], 7);
    refused(behind(at, &id, Some(8)).await, 400, "bad_request").await;
    assert_eq!(rest(behind(at, &id, Some(7)).await.body).await, "");
}

/// What repeats the whole is made once, and told to each to the byte.
#[tokio::test(flavor = "multi_thread")]
async fn many_readers_of_a_long_answer_get_the_same_bytes() {
    let gateway = TestGateway::with("[server]\nretry_min = \"1s\"\nretry_max = \"1s\"\n").await;
    let at = gateway.at();
    let options = json!({ "text": "a long \"answer\" ".repeat(1000), "repeat": 4 });
    let began = response_of(post(at, &asked(options, json!({ "background": true }))).await).await;
    let id = id_of(&began);
    let mut tasks = JoinSet::new();
    for _ in 0..20 {
        let id = id.clone();
        tasks.spawn(async move { rest(behind(at, &id, None).await.body).await });
    }
    let first = tasks.join_next().await.expect("readers").expect("ran");
    while let Some(done) = tasks.join_next().await {
        assert!(done.expect("ran") == first);
    }
    let late = behind(at, &id, None).await;
    assert!(rest(late.body).await == first);
    let events = events(&first);
    let said = words(&events);
    assert_eq!(said, "a long \"answer\" ".repeat(4000));
    assert_eq!(events.last().expect("events")["response"]["output"][0]["content"][0]["text"], *said);
}
