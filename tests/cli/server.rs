//! What a command speaks to: a real server, or one that says exactly what the test wants.

use std::{
    collections::VecDeque,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

/// A server that is killed at the test's end (`kill -9`), and what it says until it listens, without the times.
pub(crate) struct Serving {
    child: Child,
    pub(crate) said: String,
    pub(crate) address: String,
}

impl Serving {
    pub(crate) fn start(folder: &Path, arguments: &[&str]) -> Self {
        Self::start_at("127.0.0.1:0", folder, arguments)
    }

    pub(crate) fn start_at(listen: &str, folder: &Path, arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lastword"));
        command.current_dir(folder).args(["serve", "--listen", listen]).args(arguments).env_clear();
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let (mut said, mut line) = (String::new(), String::new());
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "it does not start: {said}");
            said.push_str(line.split_once(": ").map_or(&*line, |(_, message)| message));
        }
        let address = said.trim_end().rsplit_once("://").unwrap().1.to_owned();
        // So that it can go on to log.
        thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, said, address }
    }

    /// With a mock that says this, so long between two tokens, and readers that come back at once.
    pub(crate) fn saying(folder: &Path, text: &str, delay: &str) -> Self {
        Self::start(config(folder, &format!("text = {}\ndelay = \"{delay}\"\n", Value::from(text))), &[])
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The one answer that there is.
    pub(crate) fn state(&self) -> Value {
        let list = json(&crate::get(&self.address, "/v1/streams"));
        let streams = list["streams"].as_array().unwrap();
        assert_eq!(streams.len(), 1, "one answer, whatever happened to the POST");
        json(&crate::get(&self.address, &format!("/v1/streams/{}", streams[0]["id"].as_str().unwrap())))
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts an answer; its id.
    pub(crate) fn ask(&self) -> String {
        let mut connection = TcpStream::connect(&self.address).unwrap();
        let body = r#"{"prompt":"go","model":"mock/words"}"#;
        let length = body.len();
        write!(connection, "POST /v1/streams HTTP/1.0\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        let mut response = String::new();
        connection.read_to_string(&mut response).unwrap();
        json(&response)["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a configuration with such a mock, the default.
pub(crate) fn config<'f>(folder: &'f Path, mock: &str) -> &'f Path {
    let server = "default_model = \"mock/words\"\n[server]\nretry_min = \"1ms\"\nretry_max = \"2ms\"\n";
    fs::write(folder.join("lastword.toml"), format!("{server}[backends.mock]\nkind = \"mock\"\n{mock}")).unwrap();
    folder
}

fn json(response: &str) -> Value {
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    // A body of unknown length is one chunk here.
    let body = if head.contains("chunked") { body.split("\r\n").nth(1).unwrap() } else { body };
    serde_json::from_str(body).unwrap_or_else(|_| panic!("{response}"))
}

/// A server that gives these responses, one a connection, and remembers what it was asked.
pub(crate) struct Script {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Script {
    pub(crate) fn new(responses: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (mut left, heard) = (VecDeque::from(responses), asked.clone());
        thread::spawn(move || {
            while let Some(response) = left.pop_front() {
                let (mut connection, _) = listener.accept().unwrap();
                let request = read_request(&mut connection);
                heard.lock().unwrap().push(request);
                connection.write_all(response.as_bytes()).unwrap();
            }
        });
        Self { url, asked }
    }

    /// The requests, heads and bodies.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn read_request(connection: &mut TcpStream) -> String {
    let mut reader = BufReader::new(connection);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "a whole head");
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    head + std::str::from_utf8(&body).unwrap()
}

/// The id of the stream that [`Script`]s tell of.
pub(crate) const ID: &str = "01a202f9e96a73189eefcb6605ecdbc2";

/// A whole body of events, ended as HTTP ends one: whether the answer has ended is for the events to say.
pub(crate) fn events(events: &str) -> String {
    let length = events.len();
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nx-stream-id: {ID}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{events}"
    )
}

/// A refusal.
pub(crate) fn problem(status: &str, headers: &str, code: &str) -> String {
    let body = format!("{{\"code\":\"{code}\",\"detail\":\"it is so\",\"remedy\":\"do this\"}}");
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}")
}
