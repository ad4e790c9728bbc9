//! Behind nginx as Debian installs it: what a reader gets there is what lastword said, as it says it, and an answer that
//! is not whole never looks whole. Each claim for both ways nginx can ask: HTTP/1.0, its default, and HTTP/1.1.

use std::{io::ErrorKind, net::SocketAddr, process::Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{BufReader, copy, sink},
    net::TcpListener,
    process::{Child, Command},
};

use crate::common::{
    Body, Ending, Response, TestGateway, only, process::Process, read_until, request, soon, sse, text,
};

/// The paths under which nginx passes requests on, one for each version that it then speaks.
const VERSIONS: [&str; 2] = ["/http10", "/http11"];

/// A running nginx. Dropping it kills it.
struct Nginx {
    address: SocketAddr,
    _child: Child,
    _home: TempDir,
}

impl Nginx {
    /// In front of one gateway, with nginx's own defaults.
    async fn before(gateway: SocketAddr) -> Self {
        Self::start(&format!("http://{gateway}"), "").await
    }

    /// In front of this URL, with these further lines in its `http` section.
    async fn start(url: &str, lines: &str) -> Self {
        loop {
            // nginx takes no port 0. Between the look and its own bind another program may take the port; then again.
            let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = free.local_addr().expect("an address");
            drop(free);
            if let Some(nginx) = Self::start_on(address, url, lines).await {
                return nginx;
            }
        }
    }

    async fn start_on(address: SocketAddr, url: &str, lines: &str) -> Option<Self> {
        let home = tempfile::tempdir().expect("a folder");
        // One process, so that to kill it is to end it. A bound on what its sockets hold (else up to 10 MB), so that lastword
        // feels a client that stalls.
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr notice;
            events {{}}
            http {{
                access_log off;
                client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                {lines}
                server {{
                    listen {address} sndbuf=64k;
                    location /http10/ {{ proxy_pass {url}/; }}
                    location /http11/ {{ proxy_pass {url}/; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}
                }}
            }}"
        );
        std::fs::write(home.path().join("nginx.conf"), config).expect("a file");
        let started = Command::new("nginx")
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(home.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match started {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("this test needs nginx: `apt-get install nginx`, or `tests/run`, which does that")
            }
            started => started.expect("nginx starts"),
        };
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        // Said when it listens.
        match read_until(&mut log, "event method").await {
            Ok(_) => {}
            Err(said) if said.contains("Address already in use") => return None,
            Err(said) => panic!("nginx did not start: {said}"),
        }
        tokio::spawn(async move { copy(&mut log, &mut sink()).await });
        Some(Self { address, _child: child, _home: home })
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        soon(request(self.address, method, path, headers, body)).await.expect("a response")
    }

    /// Asks through nginx for an answer that says this; `more` is the request's, but for the mock's options in `mock`.
    async fn ask(&self, version: &str, text: &str, mock: Value, more: Value) -> String {
        let (mut mock, mut body) = (mock, more);
        mock["text"] = text.into();
        mock["delay"] = mock.get("delay").cloned().unwrap_or_else(|| "0ms".into());
        body["prompt"] = "say it".into();
        body["backend_options"] = mock;
        let response = self.send("POST", &format!("{version}/v1/streams"), &[], &body.to_string()).await;
        let (status, state) = (response.status, response.json().await);
        assert_eq!(status, 201, "{version}: {state}");
        state["id"].as_str().expect("an id").to_owned()
    }

    /// The events through nginx.
    async fn events(&self, version: &str, id: &str, cursor: Option<&str>) -> Response {
        let cursor: Vec<_> = cursor.map(|cursor| ("last-event-id", cursor)).into_iter().collect();
        let response = self.send("GET", &format!("{version}/v1/streams/{id}/events"), &cursor, "").await;
        assert!(response.header("server").is_some_and(|server| server.starts_with("nginx")), "not through nginx");
        response
    }
}

/// Reads until these words have come.
async fn until(body: &mut Body, words: &str) -> Vec<u8> {
    let mut seen = Vec::new();
    while !seen.windows(words.len()).any(|window| window == words.as_bytes()) {
        seen.extend(soon(body.next()).await.unwrap_or_else(|ending| panic!("{ending:?} before {words:?}")));
    }
    seen
}

async fn rest(body: Body) -> (Vec<u8>, Ending) {
    soon(body.rest()).await
}

/// An answer that says two words and then nothing more.
fn stalls() -> Value {
    json!({ "fault": { "kind": "stall", "after": 2 } })
}

#[tokio::test]
async fn a_token_passes_nginx_while_the_answer_goes_on() {
    let gateway = TestGateway::start().await;
    let nginx = Nginx::before(gateway.address()).await;
    for version in VERSIONS {
        let id = nginx.ask(version, "one two three", stalls(), json!({})).await;
        let mut response = nginx.events(version, &id, None).await;
        assert_eq!(response.header("content-type"), Some("text/event-stream"), "{version}");
        let seen = until(&mut response.body, " two").await;
        assert_eq!(gateway.state(&id).await["status"], "running", "{version}");

        let path = format!("{version}/v1/streams/{id}/cancel");
        assert_eq!(nginx.send("POST", &path, &[], "").await.status, 200, "{version}");
        let (more, ending) = rest(response.body).await;
        let events = sse::read(&[seen, more].concat()).events;
        assert_eq!((text(&events).as_str(), ending), ("one two", Ending::Clean), "{version}");
        assert_eq!(only(&events, "end")["status"], "cancelled", "{version}");
    }
}

/// What nginx says in `Host` is its upstream's name, unless it is told to pass the visitor's on.
#[tokio::test]
async fn an_upstream_of_a_name_or_the_visitors_own_name_is_refused_behind_nginx_until_it_is_listed() {
    for (hosts, status) in [("[]", 403), ("[\"lastword\", \"app.example.com\"]", 201)] {
        let gateway = TestGateway::with(&format!("[server]\nhosts = {hosts}")).await;
        let named = format!("upstream lastword {{ server {}; }}", gateway.address());
        let pass = Nginx::start("http://lastword", &named).await;
        let plain =
            Nginx::start(&format!("http://{}", gateway.address()), "proxy_set_header Host app.example.com;").await;
        // Of the two places only the first inherits the header: the other sets one of its own.
        for (nginx, version) in [(&pass, "/http10"), (&pass, "/http11"), (&plain, "/http10")] {
            let response = nginx.send("POST", &format!("{version}/v1/streams"), &[], r#"{"prompt":"x"}"#).await;
            let (got, said) = (response.status, response.text().await);
            assert_eq!(got, status, "{version}: {said}");
            assert_eq!(said.contains("[server] hosts"), status == 403, "{said}");
        }
    }
}

#[tokio::test]
async fn the_first_bytes_pass_nginx_before_the_first_token() {
    let gateway = TestGateway::start().await;
    let nginx = Nginx::before(gateway.address()).await;
    for version in VERSIONS {
        let id = nginx.ask(version, "never", json!({ "first": "1h" }), json!({})).await;
        let mut response = nginx.events(version, &id, None).await;
        until(&mut response.body, "event: start").await;
        // And a reader who comes back to silence.
        let mut response = nginx.events(version, &id, Some("0")).await;
        assert!(soon(response.body.next()).await.is_ok(), "{version}");
    }
}

#[tokio::test]
async fn a_whole_answer_ends_clean_behind_nginx() {
    let gateway = TestGateway::start().await;
    let nginx = Nginx::before(gateway.address()).await;
    for version in VERSIONS {
        let id = nginx.ask(version, "one two three", json!({ "delay": "2ms" }), json!({})).await;
        let (bytes, ending) = rest(nginx.events(version, &id, None).await.body).await;
        let events = sse::read(&bytes).events;
        assert_eq!((text(&events).as_str(), ending), ("one two three", Ending::Clean), "{version}");
        let end = &events.last().expect("an end").id;
        assert_eq!(nginx.events(version, &id, Some(end)).await.status, 204, "{version}");
    }
}

#[tokio::test]
async fn an_aborted_answer_never_looks_whole_behind_nginx() {
    for version in VERSIONS {
        let gateway = TestGateway::start().await;
        let nginx = Nginx::before(gateway.address()).await;
        let id = nginx.ask(version, "one two three", stalls(), json!({})).await;
        let mut body = nginx.events(version, &id, None).await.body;
        until(&mut body, " two").await;
        drop(gateway);
        let (_, ending) = rest(body).await;
        assert_ne!(ending, Ending::Clean, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_was_cut_off_is_not_fooled_and_resumes_exactly_behind_nginx() {
    let gateway = TestGateway::with("[server]\nwrite_timeout = \"200ms\"").await;
    let nginx = Nginx::before(gateway.address()).await;
    // Far more than the sockets on the way hold: the reader stalls, nginx with it, and lastword cuts nginx off.
    let word = format!(" {}", "abcdefgh".repeat(2048));
    let whole = word.repeat(600);
    for version in VERSIONS {
        let id = nginx.ask(version, &word, json!({ "repeat": 600 }), json!({})).await;
        let mut body = nginx.events(version, &id, None).await.body;
        let first = until(&mut body, "abcdefgh").await;
        let reads_nobody =
            async { while !gateway.get("/metrics", &[]).await.text().await.contains("lastword_readers 0") {} };
        soon(reads_nobody).await;
        let (more, ending) = rest(body).await;
        assert_ne!(ending, Ending::Clean, "{version}");
        let seen = sse::read(&[first, more].concat());
        assert!(text(&seen.events).len() < whole.len(), "{version}");

        // On a busy machine nginx may be cut off again: it goes on behind what it has, however often.
        let (mut all, mut cursor, mut ending) = (seen.events, seen.cursor, ending);
        while ending != Ending::Clean {
            let (bytes, end) = rest(nginx.events(version, &id, Some(&cursor)).await.body).await;
            let seen = sse::read(&bytes);
            all.extend(seen.events);
            (cursor, ending) = (if seen.cursor.is_empty() { cursor } else { seen.cursor }, end);
        }
        assert!(text(&all) == whole, "{version}: {} of {} bytes", text(&all).len(), whole.len());
        assert_eq!(only(&all, "end")["status"], "completed", "{version}");
    }
}

#[tokio::test]
async fn an_answer_of_a_killed_process_never_looks_whole_behind_nginx() {
    for version in VERSIONS {
        let hosts = [("LASTWORD_SERVER__HOSTS", "[\"both\"]")];
        let first = Process::start("127.0.0.1:0", &hosts).await;
        let next = Process::start("127.0.0.1:0", &hosts).await;
        let both = format!("upstream both {{ server {}; server {} backup; }}", first.address(), next.address());
        let nginx = Nginx::start("http://both", &both).await;
        let id = nginx.ask(version, "one two three", stalls(), json!({})).await;
        let mut body = nginx.events(version, &id, None).await.body;
        let seen = until(&mut body, " two").await;
        first.kill().await;
        let (_, ending) = rest(body).await;
        assert_ne!(ending, Ending::Clean, "{version}");

        // What was in memory is gone, and that is said; the next process serves.
        let again = nginx.events(version, &id, Some(&sse::read(&seen).cursor)).await;
        assert_eq!(again.status, 404, "{version}");
        assert_eq!(again.json().await["code"], "stream_not_found", "{version}");
        let id = nginx.ask(version, "one two", json!({}), json!({})).await;
        let (bytes, ending) = rest(nginx.events(version, &id, None).await.body).await;
        assert_eq!((text(&sse::read(&bytes).events).as_str(), ending), ("one two", Ending::Clean), "{version}");
    }
}

#[tokio::test]
async fn a_process_told_to_stop_finishes_its_answer_behind_nginx() {
    for version in VERSIONS {
        let process = Process::start("127.0.0.1:0", &[]).await;
        let nginx = Nginx::before(process.address()).await;
        let long = "word ".repeat(30);
        let id = nginx.ask(version, &long, json!({ "delay": "10ms" }), json!({})).await;
        let mut body = nginx.events(version, &id, None).await.body;
        let seen = until(&mut body, "word").await;
        process.terminate().await;
        let (more, ending) = rest(body).await;
        let events = sse::read(&[seen, more].concat()).events;
        assert_eq!((text(&events), ending), (long, Ending::Clean), "{version}");
        assert_eq!(only(&events, "end")["status"], "completed", "{version}");
        assert_eq!(process.exit().await, Some(0), "{version}");
    }
}

#[tokio::test]
async fn an_answer_that_outlasts_the_drain_ends_interrupted_behind_nginx() {
    for version in VERSIONS {
        let gateway = TestGateway::with("[server]\ndrain = \"50ms\"").await;
        let nginx = Nginx::before(gateway.address()).await;
        let id = nginx.ask(version, "one two three", stalls(), json!({})).await;
        let mut body = nginx.events(version, &id, None).await.body;
        let seen = until(&mut body, " two").await;
        soon(gateway.drain()).await;
        let (more, ending) = rest(body).await;
        let events = sse::read(&[seen, more].concat()).events;
        assert_eq!((text(&events).as_str(), ending), ("one two", Ending::Clean), "{version}");
        assert_eq!(only(&events, "end")["status"], "interrupted", "{version}");
    }
}

#[tokio::test]
async fn a_reader_that_leaves_nginx_has_left() {
    let gateway = TestGateway::start().await;
    let nginx = Nginx::before(gateway.address()).await;
    for version in VERSIONS {
        let id = nginx.ask(version, "one two three", stalls(), json!({ "on_disconnect": "cancel" })).await;
        let mut body = nginx.events(version, &id, None).await.body;
        until(&mut body, " two").await;
        drop(body);
        let cancelled = async { while gateway.state(&id).await["status"] != "cancelled" {} };
        soon(cancelled).await;
    }
}

#[tokio::test]
async fn nginx_with_gzip_on_neither_compresses_events_nor_holds_them() {
    let gateway = TestGateway::start().await;
    let gzip = "gzip on; gzip_proxied any; gzip_min_length 1; gzip_http_version 1.0; gzip_comp_level 6;
        gzip_types text/plain text/css text/javascript application/json application/javascript text/xml application/xml;";
    let nginx = Nginx::start(&format!("http://{}", gateway.address()), gzip).await;
    let accept = [("accept-encoding", "gzip, deflate, br")];
    for version in VERSIONS {
        let id = nginx.ask(version, "one two three", stalls(), json!({})).await;
        let path = format!("{version}/v1/streams/{id}");
        let state = nginx.send("GET", &path, &accept, "").await;
        assert_eq!(state.header("content-encoding"), Some("gzip"), "{version}: gzip is on");
        let mut response = nginx.send("GET", &format!("{path}/events"), &accept, "").await;
        assert_eq!(response.header("content-encoding"), None, "{version}");
        until(&mut response.body, " two").await;
    }
}
