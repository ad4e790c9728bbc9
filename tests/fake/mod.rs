//! An upstream that writes exactly the bytes it is given.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use lastword::{
    backend::{Backend, BackendError, http::Config, openai::OpenAi},
    client::Secret,
    event::Event,
    prompt::Prompt,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
};

/// What it does on a connection, after it has read a request.
pub(crate) enum Step {
    Write(Vec<u8>),
    /// Until the test says [`Fake::go_on`].
    WaitForTest,
    /// Until the other side has closed.
    WaitForClose,
    /// Reads another request.
    Request,
    /// Closes so that the other side sees a reset.
    Reset,
    Stall,
}

/// Listens on loopback; dropping it closes every connection.
pub(crate) struct Fake {
    url: String,
    go_on: Arc<Notify>,
    /// The requests it read, once all its connections are through.
    task: JoinHandle<Vec<String>>,
}

impl Fake {
    /// Takes one connection after the other, and does on each what is said for it.
    pub(crate) async fn new(connections: Vec<Vec<Step>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let go_on = Arc::new(Notify::new());
        let waits = Arc::clone(&go_on);
        let task = tokio::spawn(async move {
            let mut requests = Vec::new();
            for steps in connections {
                let (socket, _) = listener.accept().await.unwrap();
                play(socket, steps, &waits, &mut requests).await;
            }
            requests
        });
        Self { url, go_on, task }
    }

    pub(crate) fn url(&self) -> String {
        self.url.clone()
    }

    pub(crate) fn go_on(&self) {
        self.go_on.notify_one();
    }

    /// A backend of it, with a key.
    pub(crate) fn backend(&self) -> OpenAi {
        let mut config = Config::new(&self.url);
        config.api_key = Some(Secret::new(super::KEY));
        OpenAi::new("fake", config).unwrap()
    }

    pub(crate) async fn requests(mut self) -> Vec<String> {
        tokio::time::timeout(Duration::from_secs(10), &mut self.task).await.expect("the upstream is through").unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn play(mut socket: TcpStream, steps: Vec<Step>, waits: &Notify, requests: &mut Vec<String>) {
    if !matches!(steps.first(), Some(Step::Stall)) {
        requests.push(read_request(&mut socket).await);
    }
    for step in steps {
        match step {
            // A reader that has heard enough may have closed.
            Step::Write(bytes) => drop(socket.write_all(&bytes).await),
            Step::WaitForTest => waits.notified().await,
            Step::WaitForClose => assert!(matches!(socket.read(&mut [0; 64]).await, Ok(0) | Err(_))),
            Step::Request => requests.push(read_request(&mut socket).await),
            Step::Reset => socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap(),
            Step::Stall => std::future::pending().await,
        }
    }
}

/// Reads a head and as much body as it announces.
async fn read_request(socket: &mut TcpStream) -> String {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if bytes.len() >= head.len() + 4 + length.unwrap_or(0) {
                return text.into_owned();
            }
        }
        let n = socket.read(&mut buffer).await.unwrap();
        assert_ne!(n, 0, "a whole request");
        bytes.extend_from_slice(&buffer[..n]);
    }
}

/// A response of server-sent events that ends where the connection does.
pub(crate) fn sse(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nconnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// The events of an answer, one line each (signs of life left out), and how it failed.
pub(crate) async fn ask(backend: &OpenAi) -> (Vec<String>, Option<BackendError>) {
    let (mut lines, mut error) = (Vec::new(), None);
    let mut events = backend.generate(&Prompt::default(), "m");
    while let Some(item) = events.next().await {
        assert_eq!(error, None, "nothing follows an error");
        match item {
            Ok(Event::Alive) => {}
            Ok(Event::Attempt(attempt)) => {
                assert_eq!(
                    (attempt.n, &*attempt.backend, &*attempt.protocol, &*attempt.model),
                    (1, "fake", "chat", "m")
                );
                lines.push("attempt".to_owned());
            }
            Ok(Event::PartStart(at, _)) => lines.push(format!("{}.{} {:?}", at.choice, at.part, at.of)),
            Ok(Event::Delta(at, delta)) => lines.push(format!("{}.{} +{}", at.choice, at.part, delta.text)),
            Ok(Event::PartStop(at, _)) => lines.push(format!("{}.{} stop", at.choice, at.part)),
            Ok(Event::Finish(_, finish)) => lines.push(format!("finish {}", finish.raw.unwrap_or_default())),
            Ok(other) => lines.push(format!("{other:?}")),
            Err(failure) => {
                let told = format!("{failure} {failure:?}");
                assert!(!told.contains(super::KEY), "{told}");
                error = Some(failure);
            }
        }
    }
    (lines, error)
}
