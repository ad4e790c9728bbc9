//! What is asked, what is answered and what opens a door never reaches a log line.

use std::{
    process::Stdio,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    process::Command,
};

use super::EVENTS;
use crate::common::{request, soon};

const SECRETS: [&str; 9] = [
    "prompt-kestrel",
    "system-kestrel",
    "answer-kestrel",
    "reason-kestrel",
    "argument-kestrel",
    "metadata-kestrel",
    "key-kestrel",
    "bearer-kestrel",
    "query-kestrel",
];

/// An upstream that speaks Chat Completions, to anybody, once and again.
async fn upstream(listener: TcpListener) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else { return };
        tokio::spawn(async move {
            let mut request = vec![0; 16 * 1024];
            let _ = stream.read(&mut request).await;
            let chunk = |delta, finish| json!({ "choices": [{ "index": 0, "delta": delta, "finish_reason": finish }] });
            let chunks = [
                chunk(json!({ "role": "assistant", "content": "answer-kestrel" }), json!(null)),
                chunk(json!({ "content": " flies" }), json!("stop")),
            ];
            let body: String = chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(format!("{head}{body}data: [DONE]\n\n").as_bytes()).await;
            let _ = stream.shutdown().await;
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_prompt_answer_or_credential_is_logged_even_when_everything_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let serving = tokio::spawn(upstream(listener));
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\n[log]\nfilter = \"trace\"\n[backends.mock]\nkind = \"mock\"\n\
         [backends.far]\nkind = \"openai\"\nbase_url = \"http://{address}/v1\"\napi_key = \"${{FAR_KEY}}\"\n"
    );
    let file = folder.path().join("lastword.toml");
    std::fs::write(&file, config).expect("written");
    let mut process = Command::new(env!("CARGO_BIN_EXE_lastword"))
        .args(["serve", "--config"])
        .arg(&file)
        .current_dir(folder.path())
        .env_clear()
        .env("FAR_KEY", "key-kestrel")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let log = Arc::new(Mutex::new(String::new()));
    let mut lines = BufReader::new(process.stderr.take().expect("piped")).lines();
    let address = soon(async {
        loop {
            let line = lines.next_line().await.expect("readable").expect("it said where it listens");
            if let Some((_, address)) = line.split_once("listening on http://") {
                return address.trim().parse().expect("an address");
            }
        }
    })
    .await;
    let reading = tokio::spawn({
        let log = log.clone();
        async move {
            while let Ok(Some(line)) = lines.next_line().await {
                *log.lock().expect("whole") += &(line + "\n");
            }
        }
    });

    let options = json!({
        "text": "answer-kestrel flies", "reasoning": "reason-kestrel", "delay": "0ms",
        "tool_call": { "name": "fly", "arguments": { "bird": "argument-kestrel" } },
    });
    let failing = json!({ "text": "answer-kestrel flies", "delay": "0ms", "fault": { "kind": "close", "after": 1 } });
    let bearer = ("authorization", "Bearer bearer-kestrel");
    let asks = [("mock/words", options), ("mock/words", failing), ("far/bird", json!({}))];
    let surfaces = ["/v1/streams", "/v1/chat/completions"];
    for (url, (model, options)) in surfaces.into_iter().flat_map(|url| asks.iter().map(move |ask| (url, ask))) {
        let mut asked = json!({
            "messages": [{ "role": "user", "content": "prompt-kestrel" }], "system": "system-kestrel", "model": model,
            "metadata": { "of": "metadata-kestrel" }, "backend_options": options,
        });
        if url != "/v1/streams" {
            asked["stream"] = true.into();
        }
        let headers = [bearer, EVENTS, ("cookie", "session=bearer-kestrel")];
        let response = soon(request(address, "POST", url, &headers, &asked.to_string())).await.expect("a response");
        assert_eq!(response.status, 200);
        let id = response.header("x-stream-id").expect("an id").to_owned();
        let (events, _) = soon(response.body.rest()).await;
        assert!(String::from_utf8_lossy(&events).contains("answer-kestrel"), "{}", String::from_utf8_lossy(&events));
        for path in ["", "/events?after=1&token=query-kestrel"] {
            let response = soon(request(address, "GET", &format!("/v1/streams/{id}{path}"), &[bearer], "")).await;
            soon(response.expect("a response").body.rest()).await;
        }
    }
    // What is refused is not logged either.
    for body in
        [r#"{"promt":"prompt-kestrel"}"#, "prompt-kestrel", r#"{"prompt":"prompt-kestrel","model":"answer-kestrel"}"#]
    {
        let response = soon(request(address, "POST", "/v1/streams", &[], body)).await.expect("a response");
        assert_eq!(response.status, 400);
    }
    super::until(async || log.lock().expect("whole").matches("stream ended").count() == 6).await;
    process.kill().await.expect("ended");
    soon(reading).await.expect("read to its end");
    serving.abort();
    let log = log.lock().expect("whole").clone();
    assert!(log.contains("TRACE") && log.contains("DEBUG"), "everything is logged: {log}");
    for secret in SECRETS {
        let leak = log.lines().find(|line| line.contains(secret));
        assert_eq!(leak, None, "{secret}");
    }
}
