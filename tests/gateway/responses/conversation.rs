//! What is asked, what is asked next, and what is kept of it.

use std::collections::BTreeSet;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

async fn input_items(at: At, id: &str, query: &str) -> Value {
    let listed = at.get(&format!("{URL}/{id}/input_items{query}"), &[]).await;
    assert_eq!(listed.status, 200);
    listed.json().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_listed_in_pages() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let input: Vec<_> = (0..5).map(|n| json!({ "role": "user", "content": n.to_string() })).collect();
    let whole = response(post(at, &asked(json!({ "text": "x" }), json!({ "input": input }))).await).await;
    let id = id_of(&whole);
    let words = |page: &Value| {
        let items = page["data"].as_array().expect("items").iter();
        items.map(|item| item["content"][0]["text"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let all = input_items(at, &id, "").await;
    assert_eq!(
        (words(&all), &all["object"], &all["has_more"]),
        (["4", "3", "2", "1", "0"].map(str::to_owned).into(), &json!("list"), &json!(false))
    );
    assert_eq!((&all["first_id"], &all["last_id"]), (&all["data"][0]["id"], &all["data"][4]["id"]));
    let ids: BTreeSet<_> = all["data"].as_array().expect("items").iter().map(|item| item["id"].to_string()).collect();
    assert_eq!(ids.len(), 5, "each has its own");
    let mut seen = Vec::new();
    let mut after = String::new();
    loop {
        let page = input_items(at, &id, &format!("?order=asc&limit=2&after={after}")).await;
        seen.extend(words(&page));
        after = page["last_id"].as_str().expect("an id").to_owned();
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
    let none = input_items(at, &id, &format!("?order=asc&after={after}")).await;
    assert_eq!((&none["data"], &none["first_id"], &none["last_id"]), (&json!([]), &Value::Null, &Value::Null));
    for (query, param) in
        [("?limit=0", "limit"), ("?limit=x", "limit"), ("?order=up", "order"), ("?after=msg_1", "after")]
    {
        let error = refused(at.get(&format!("{URL}/{id}/input_items{query}"), &[]).await, 400, "bad_request").await;
        assert_eq!(error["param"], param);
    }
}

/// Clients go on behind the last id that they have, so an item that comes twice has two.
#[tokio::test(flavor = "multi_thread")]
async fn items_of_one_id_are_listed_each_once() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let item = |id: &str, words: &str| json!({ "id": id, "type": "message", "role": "user", "content": words });
    let input =
        json!([item("msg_a", "0"), item("msg_b", "1"), item("msg_a", "2"), item("msg_a", "3"), item("msg_c", "4")]);
    let whole = response(post(at, &asked(json!({ "text": "x" }), json!({ "input": input }))).await).await;
    let id = id_of(&whole);
    for limit in 1..=5 {
        let (mut seen, mut after) = (Vec::new(), String::new());
        for _ in 0..9 {
            let page = input_items(at, &id, &format!("?order=asc&limit={limit}&after={after}")).await;
            let items = page["data"].as_array().expect("items");
            seen.extend(items.iter().map(|item| item["content"][0]["text"].as_str().expect("text").to_owned()));
            after = page["last_id"].as_str().expect("an id").to_owned();
            if page["has_more"] == false {
                break;
            }
        }
        assert_eq!(seen, ["0", "1", "2", "3", "4"], "{limit} at a time");
    }
    let first = input_items(at, &id, "?order=asc&limit=2").await;
    assert_eq!((&first["data"][0]["id"], &first["last_id"]), (&json!("msg_a"), &json!("msg_b")), "the client's own");
}

/// An upstream of this kind that answers so many requests with these events; the bodies of the requests come back.
async fn upstream(kind: &str, events: String, times: usize) -> (TestGateway, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(async move {
        let mut asked = Vec::new();
        for _ in 0..times {
            let (mut socket, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            asked.push(loop {
                socket.read_buf(&mut request).await.expect("a request");
                let text = String::from_utf8_lossy(&request);
                let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
                if let Some(body) = body {
                    break body;
                }
            });
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            socket.write_all(format!("{head}{events}").as_bytes()).await.expect("written");
        }
        asked
    });
    let config = format!("[backends.up]\nkind = \"{kind}\"\nbase_url = \"http://{address}/v1\"");
    (TestGateway::with(&config).await, serving)
}

/// Some of what an upstream says only readers of its own protocol are told. To them the answer has begun with it, to others not.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_begins_with_the_first_that_its_reader_is_told() {
    let item = json!({ "id": "ws_1", "type": "web_search_call", "status": "in_progress" });
    let searches = json!({ "type": "response.output_item.added", "output_index": 0, "item": item });
    let block = json!({ "type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {} });
    let block = json!({ "type": "content_block_start", "index": 0, "content_block": block });
    let delta = json!({ "choices": [{ "index": 0, "delta": { "new": "x" } }] });
    let role = json!({ "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "new": "x" }] });
    let (chat, messages) = ("/v1/chat/completions", "/v1/messages");
    for (kind, said, reader, begins) in [
        ("responses", &searches, URL, true),
        ("responses", &searches, chat, false),
        ("anthropic", &block, messages, true),
        ("anthropic", &block, URL, false),
        ("openai", &delta, chat, true),
        ("openai", &role, chat, false),
        ("openai", &delta, messages, false),
    ] {
        // And then it breaks off.
        let (gateway, upstream) = upstream(kind, format!("data: {said}\n\n"), 1).await;
        let words = json!([{ "role": "user", "content": "Hi" }]);
        let mut body = json!({ "model": "up/m", "stream": true, "messages": words, "max_tokens": 100 });
        if reader == URL {
            body = json!({ "model": "up/m", "stream": true, "input": words });
        }
        let answer = gateway.at().send("POST", reader, &[], &body.to_string()).await;
        assert_eq!(answer.status, if begins { 200 } else { 502 }, "{kind} to {reader}");
        upstream.await.expect("ran");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_continued_conversation_is_put_to_the_upstream_whole() {
    let chunk = json!({ "choices": [{ "index": 0, "delta": { "content": "And so on." }, "finish_reason": "stop" }] });
    let (gateway, upstream) = upstream("openai", format!("data: {chunk}\n\ndata: [DONE]\n\n"), 3).await;
    let at = gateway.at();
    let mut previous = Value::Null;
    for words in ["One?", "Two?", "Three?"] {
        let mut body = json!({ "model": "up/m", "input": words, "instructions": format!("Be {words}") });
        if previous.is_string() {
            body["previous_response_id"] = previous.clone();
        }
        let answer = response(post(at, &body).await).await;
        assert_eq!(answer["previous_response_id"], previous);
        previous = answer["id"].clone();
    }
    let asked = upstream.await.expect("ran");
    let said =
        |message: &Value| (message["role"].as_str().map(str::to_owned), message["content"].as_str().map(str::to_owned));
    let said: Vec<_> = asked[2]["messages"].as_array().expect("messages").iter().map(said).collect();
    let turn = |role: &str, words: &str| (Some(role.to_owned()), Some(words.to_owned()));
    assert_eq!(
        said,
        [
            turn("system", "Be Three?"),
            turn("user", "One?"),
            turn("assistant", "And so on."),
            turn("user", "Two?"),
            turn("assistant", "And so on."),
            turn("user", "Three?"),
        ],
        "all that was said, under the newest instructions alone"
    );
    let items = input_items(at, previous.as_str().expect("an id"), "?order=asc").await;
    assert_eq!(items["data"].as_array().map(Vec::len), Some(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_may_become_as_large_as_a_body() {
    let gateway = TestGateway::with("[server]\nmax_body = \"2KiB\"").await;
    let at = gateway.at();
    let next = async |previous: &Value| {
        post(at, &asked(json!({ "text": "x".repeat(300) }), json!({ "previous_response_id": previous }))).await
    };
    let (mut previous, mut turns) = (Value::Null, 0);
    let refusal = loop {
        let answer = next(&previous).await;
        if answer.status != 200 {
            break refused(answer, 400, "bad_request").await;
        }
        previous = response(answer).await["id"].clone();
        turns += 1;
        assert!(turns < 6, "it has no bound");
    };
    assert!(turns > 2, "{turns}");
    assert_eq!(refusal["param"], "previous_response_id");
    let message = refusal["message"].as_str().expect("a message");
    assert!(message.contains("2.0 KiB") && message.contains("`input`"), "{message}");
    let streams = gateway.get("/v1/streams", &[]).await.json().await;
    assert_eq!(streams["streams"].as_array().map(Vec::len), Some(turns), "nothing was begun");
    refused(next(&previous).await, 400, "bad_request").await;
}

/// What an upstream must have back to go on thinking, it gets, as it gave it.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstreams_thoughts_go_back_to_it() {
    let thought = json!({ "id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "gAAA" });
    let part = json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": "Yes." });
    let message =
        json!({ "id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part] });
    let output = json!([thought, message]);
    let frames = [
        json!({ "type": "response.output_item.done", "output_index": 0, "item": thought }),
        json!({ "type": "response.output_item.done", "output_index": 1, "item": message }),
        json!({ "type": "response.completed", "response": { "status": "completed", "output": output } }),
    ];
    let frames: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
    let (gateway, upstream) = upstream("responses", frames, 2).await;
    let first = json!({ "model": "up/m", "input": "One?", "include": ["reasoning.encrypted_content"], "store": true });
    let first = response(post(gateway.at(), &first).await).await;
    assert_eq!(first["output"], output);
    let more = json!({ "model": "up/m", "input": "Two?", "previous_response_id": first["id"] });
    let second = response(post(gateway.at(), &more).await).await;
    assert_eq!(second["previous_response_id"], first["id"]);
    let asked = upstream.await.expect("ran");
    let words = |words: &str| json!({ "type": "message", "role": "user", "content": words });
    assert_eq!(asked[1]["input"], json!([words("One?"), thought, message, words("Two?")]));
    assert_eq!((asked[1].get("previous_response_id"), &asked[1]["model"]), (None, &json!("m")));
}

/// OpenAI refuses an id of reasoning that it has not kept, and with it the whole request.
#[tokio::test(flavor = "multi_thread")]
async fn thoughts_that_their_upstream_has_not_kept_and_not_sealed_stay_behind_and_are_named() {
    let thought = |id: &str| json!({ "id": id, "type": "reasoning", "summary": [] });
    let sealed = json!({ "id": "rs_2", "type": "reasoning", "summary": [], "encrypted_content": "gAAA" });
    let output = json!([thought("rs_1"), sealed]);
    let done = |n: usize| json!({ "type": "response.output_item.done", "output_index": n, "item": output[n] });
    let response_of = |status: &str| json!({ "status": status, "store": false, "output": output });
    let frames = [
        json!({ "type": "response.created", "response": response_of("in_progress") }),
        done(0),
        done(1),
        json!({ "type": "response.in_progress", "response": { "service_tier": "default" } }),
        json!({ "type": "response.completed", "response": response_of("completed") }),
    ];
    let frames: String = frames.iter().map(|frame| format!("data: {frame}\n\n")).collect();
    let (gateway, upstream) = upstream("responses", frames, 2).await;
    let at = gateway.at();
    let first = json!({ "model": "up/m", "input": "One?", "backend_options": { "store": false } });
    let first = response(post(at, &first).await).await;
    assert_eq!((&first["output"], &first["store"]), (&output, &json!(true)), "here it is kept");
    let mut more = json!({ "model": "up/m", "input": "Two?", "previous_response_id": first["id"] });
    let second = post(at, &more).await;
    assert_eq!(second.header("x-lastword-dropped"), Some("previous_response_id.output[0]"));
    response(second).await;
    more["strict"] = json!(true);
    refused(post(at, &more).await, 400, "unfit_prompt").await;
    let asked = upstream.await.expect("ran");
    let words = |words: &str| json!({ "type": "message", "role": "user", "content": words });
    assert_eq!(asked[1]["input"], json!([words("One?"), sealed, words("Two?")]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_has_ended_and_was_kept_can_be_continued() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let next = async |id: &str| post(at, &asked(json!({ "text": "x" }), json!({ "previous_response_id": id }))).await;
    let running = response(post(at, &asked(fault("stall", 2), json!({ "background": true }))).await).await;
    let error = refused(next(&id_of(&running)).await, 400, "bad_request").await;
    assert_eq!(error["param"], "previous_response_id");
    at.send("POST", &format!("{URL}/{}/cancel", id_of(&running)), &[], "").await;
    let items = input_items(at, &id_of(&response(next(&id_of(&running)).await).await), "?order=asc").await;
    assert_eq!(items["data"][1]["content"][0]["text"], "one two", "as far as it came");
    let fleeting = response(post(at, &asked(json!({ "text": "x" }), json!({ "store": false }))).await).await;
    refused(next(&id_of(&fleeting)).await, 400, "previous_response_not_found").await;
    let native = gateway.say("x", json!({})).await;
    retrieved_when(at, &native, |response| response["status"] == "completed").await;
    response(next(&native).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_to_be_kept_is_gone_soon_after_its_end() {
    let gateway = TestGateway::with("[limits]\nforget_after = \"100ms\"").await;
    let at = gateway.at();
    let whole = response(post(at, &asked(json!({ "text": "one" }), json!({ "store": false }))).await).await;
    assert_eq!(whole["store"], false);
    let id = id_of(&whole);
    let kept = response(post(at, &asked(json!({ "text": "one" }), json!({}))).await).await;
    let gone = async {
        loop {
            let got = at.get(&format!("{URL}/{id}"), &[]).await;
            if got.status != 200 {
                break refused(got, 404, "stream_not_found").await;
            }
            // Of what was asked there was never anything.
            let items = at.get(&format!("{URL}/{id}/input_items"), &[]).await;
            assert!(items.status == 404 || items.json().await["data"] == json!([]));
        }
    };
    soon(gone).await;
    assert_eq!(retrieved(at, &id_of(&kept)).await, kept);
    assert_eq!(input_items(at, &id_of(&kept), "").await["data"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_can_have_every_answer_forgotten() {
    let gateway = TestGateway::with("[limits]\nforget_after = \"100ms\"\nforget_all = true").await;
    let id = gateway.say("one", json!({})).await;
    assert_eq!(crate::common::text(&gateway.whole(&id).await), "one");
    assert_eq!(input_items(gateway.at(), &id, "").await["data"], json!([]), "what was asked is not kept");
    let gone = async { while gateway.get(&format!("/v1/streams/{id}"), &[]).await.status != 404 {} };
    soon(gone).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_finds_its_answer_when_what_it_continued_is_gone() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let first = id_of(&response(post(at, &asked(json!({ "text": "one" }), json!({}))).await).await);
    let again = asked(json!({ "text": "two" }), json!({ "previous_response_id": first })).to_string();
    let key = [("idempotency-key", "k")];
    let second = id_of(&response(at.send("POST", URL, &key, &again).await).await);
    assert_eq!(at.send("DELETE", &format!("{URL}/{first}"), &[], "").await.status, 200);
    let repeated = at.send("POST", URL, &key, &again).await;
    assert_eq!(repeated.header("idempotent-replayed"), Some("true"));
    assert_eq!(id_of(&response(repeated).await), second);
}
