//! One process ends and the next begins, while somebody else (here the test, elsewhere systemd) holds the socket: nobody is refused,
//! and every reader gets to an end that is told.

use std::{
    io::ErrorKind,
    net::TcpListener,
    os::fd::OwnedFd,
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::{process::Command, sync::oneshot, task::JoinSet, time::timeout};

use crate::common::{At, Ending, http::raw, only, process::Process, soon, sse::Client, text};

/// A socket that listens as long as the test does.
struct Socket(TcpListener);

impl Socket {
    fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a port");
        socket.listen(4096).expect("it listens"); // as systemd has it
        Self(socket.into())
    }

    fn at(&self) -> At {
        At(self.0.local_addr().expect("an address"))
    }

    /// A lastword on it, as systemd starts one: the socket is descriptor 3, and the environment says so.
    async fn serve(&self, variables: &[(&str, &str)]) -> Process {
        let passed: OwnedFd = self.0.try_clone().expect("the same socket").into();
        // What starts it sets its stdin again; so the socket comes as stdout, which it does not use.
        let mut command = Command::new("sh");
        let become_it = "LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" \"$@\" 3<&1 >/dev/null";
        command.args(["-c", become_it, env!("CARGO_BIN_EXE_lastword")]).stdout(Stdio::from(passed));
        Process::start_by(command, "127.0.0.1:1", variables).await
    }
}

/// Reads an answer to its end, over any number of connections. Each of them must be taken by somebody, sooner or later.
async fn follow(at: At, id: String, mut attached: Option<oneshot::Sender<()>>) -> (Client, usize) {
    let (mut client, mut connections) = (Client::default(), 0);
    loop {
        let cursor = client.cursor.as_ref().map(|cursor| format!("last-event-id: {cursor}\r\n")).unwrap_or_default();
        let head = format!("GET /v1/streams/{id}/events HTTP/1.1\r\nhost: localhost\r\n{cursor}\r\n");
        connections += 1;
        let response =
            match timeout(Duration::from_secs(60), raw(at.0, head.as_bytes(), false)).await.expect("an answer") {
                Ok(response) => response,
                Err(error) => {
                    assert_ne!(error.kind(), ErrorKind::ConnectionRefused, "the socket is always there");
                    continue; // reset before the head: as any other cut
                }
            };
        assert_eq!(response.status, 200);
        let _ = attached.take().map(|attached| attached.send(()));
        let (bytes, ending) = timeout(Duration::from_secs(60), response.body.rest()).await.expect("an end");
        client.take(&bytes);
        let ended = client.events.last().is_some_and(|event| event.name == "end");
        assert_eq!(ending == Ending::Clean, ended, "less and a smile");
        if ended {
            return (client, connections);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_under_running_answers_refuses_nobody_and_fools_nobody() {
    let full = std::env::var("LASTWORD_TEST").is_ok_and(|form| form == "full");
    let (answers, drain) = if full { (200, Duration::from_secs(30)) } else { (40, Duration::from_secs(4)) };
    let folder = tempfile::tempdir().expect("a folder");
    let drain_text = format!("{}s", drain.as_secs());
    let variables = [
        ("LASTWORD_STORE__ENGINE", "disk"),
        ("LASTWORD_STORE__PATH", folder.path().to_str().expect("UTF-8")),
        ("LASTWORD_SERVER__DRAIN", &*drain_text),
    ];
    let socket = Socket::new();
    let at = socket.at();
    let mut first = socket.serve(&variables).await;
    assert_eq!(first.address(), at.0, "not where --listen says");
    // Half of them end within a third of the window, the others never.
    let words = 50;
    let delay = format!("{}ms", drain.as_millis() / 3 / words);
    let (mut readers, mut all_attached) = (JoinSet::new(), Vec::new());
    for n in 0..answers {
        let repeat = if n % 2 == 0 { words } else { 1_000_000 };
        let id = at.say(json!({ "text": "word ", "repeat": repeat, "delay": delay }), json!({})).await;
        let (sender, attached) = oneshot::channel();
        readers.spawn(async move { (n, follow(at, id, Some(sender)).await) });
        all_attached.push(attached);
    }
    soon(join_all(all_attached)).await;
    let told = Instant::now();
    first.terminate().await;
    first.says("draining for at most").await;
    // Somebody asks meanwhile. The old one hears nothing any more.
    let asking = tokio::spawn(async move {
        loop {
            let asked = r#"{"prompt":"x","model":"mock/echo"}"#;
            let head = format!(
                "POST /v1/streams HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{asked}",
                asked.len()
            );
            match timeout(Duration::from_secs(60), raw(at.0, head.as_bytes(), false)).await.expect("an answer") {
                Ok(response) if response.status == 201 => return told.elapsed(),
                Ok(response) => panic!("{}", response.status),
                Err(error) => assert_ne!(error.kind(), ErrorKind::ConnectionRefused),
            }
        }
    });
    assert_eq!(first.exit_within(drain + Duration::from_secs(4)).await, Some(0));
    let ended = told.elapsed();
    assert!(ended < drain + Duration::from_secs(4), "{ended:?}");
    let second = socket.serve(&variables).await;
    assert!(asking.await.expect("heard") >= ended, "it waited for the new one");
    let mut resumed = 0;
    while let Some(done) = readers.join_next().await {
        let (n, (client, connections)) = done.expect("to its end");
        let (end, said) = (only(&client.events, "end"), text(&client.events));
        assert_eq!(client.check(&said), Ok(()));
        match n % 2 {
            0 => assert_eq!((&end["status"], said), (&json!("completed"), "word ".repeat(words as usize))),
            _ => {
                assert_eq!(
                    (&end["status"], &end["error"]["code"]),
                    (&json!("interrupted"), &Value::from("interrupted"))
                );
                assert!(connections > 1, "it was sent away, and came back");
                resumed += 1;
            }
        }
    }
    assert_eq!(resumed, answers / 2);
    second.terminate().await;
    assert_eq!(second.exit().await, Some(0));
}
