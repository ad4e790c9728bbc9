//! An application that answers as each request's own body tells it, and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinHandle,
};

/// Dropping it closes every connection.
pub(crate) struct App {
    address: SocketAddr,
    state: Arc<State>,
    hung_up: mpsc::UnboundedReceiver<()>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    asked: Mutex<Vec<String>>,
    go_on: Notify,
}

impl App {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(State::default());
        let (tell, hung_up) = mpsc::unbounded_channel();
        let shared = state.clone();
        let task = tokio::spawn(async move {
            let mut tasks = tokio::task::JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                tasks.spawn(serve(socket, shared.clone(), tell.clone()));
            }
        });
        Self { address, state, hung_up, task }
    }

    /// A section of the configuration, with more keys of it.
    pub(crate) fn relay(&self, more: &str) -> String {
        format!("[backends.app]\nkind = \"relay\"\nurl = \"http://{}/api/chat\"\n{more}\n", self.address)
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets one answer that waits go on.
    pub(crate) fn go_on(&self) {
        self.state.go_on.notify_one();
    }

    /// The requests so far, as they came.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.state.asked.lock().expect("not poisoned").clone()
    }

    /// Waits until a connection was closed by the other side in the middle of an answer.
    pub(crate) async fn hung_up(&mut self) {
        self.hung_up.recv().await.expect("a hang-up");
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The body says what is answered: `head` (lines), `parts` (written one by one; `null` waits for the test), `end` (`clean`, `reset`).
async fn serve(mut socket: TcpStream, state: Arc<State>, hung_up: mpsc::UnboundedSender<()>) {
    let Some(request) = read_request(&mut socket).await else { return };
    let body = request.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let told: Value = serde_json::from_str(body).unwrap_or_default();
    state.asked.lock().expect("not poisoned").push(request.clone());
    let head = told["head"].as_str().unwrap_or("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8");
    let parts = told["parts"].as_array().cloned().unwrap_or_default();
    if told["late"] == true {
        state.go_on.notified().await;
    }
    let _ = socket.write_all(format!("{head}\r\ntransfer-encoding: chunked\r\n\r\n").as_bytes()).await;
    for part in parts {
        let Some(text) = part.as_str() else {
            let mut one = [0; 1];
            tokio::select! {
                () = state.go_on.notified() => continue,
                _ = socket.read(&mut one) => {
                    let _ = hung_up.send(());
                    return;
                }
            }
        };
        // One byte for one character: so also what is no UTF-8 can be said.
        let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect();
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(&bytes);
        chunk.extend_from_slice(b"\r\n");
        let _ = socket.write_all(&chunk).await;
    }
    match told["end"].as_str() {
        Some("reset") => socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO)).expect("an option"),
        _ => _ = socket.write_all(b"0\r\n\r\n").await,
    }
}

async fn read_request(socket: &mut TcpStream) -> Option<String> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, _)) = text.split_once("\r\n\r\n") {
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if bytes.len() >= head.len() + 4 + length.unwrap_or(0) {
                return Some(text.into_owned());
            }
        }
        match socket.read(&mut buffer).await {
            Ok(n @ 1..) => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
}
