//! Nothing is lost or doubled, whatever becomes of the connection and of the server.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

use crate::server::{Serving, config};

const CUTS: usize = 20;
/// Words of all sorts, each with its number.
const WORDS: usize = 600;

fn words() -> String {
    let sorts = ["水は", "急がない\n", "\u{1f469}\u{200d}\u{1f680}", "e\u{301}", "\t\"quoted\"", "a\\b", "\u{2028}"];
    (0..WORDS).map(|n| format!("{n}{} ", sorts[n % sorts.len()])).collect()
}

/// A relay in front of a server. It cuts its first connections after a few bytes of the response, in turn with a FIN and a reset.
pub(crate) struct Relay {
    pub(crate) url: String,
    /// Where to; nobody is there while it is nothing.
    to: Arc<Mutex<Option<String>>>,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl Relay {
    pub(crate) fn new(to: &str, cuts: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (to, connections) = (Arc::new(Mutex::new(Some(to.to_owned()))), Arc::new(AtomicUsize::new(0)));
        let (target, count) = (to.clone(), connections.clone());
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let n = count.fetch_add(1, SeqCst);
                let target = target.lock().unwrap().clone();
                let Some(server) = target.and_then(|target| TcpStream::connect(target).ok()) else { continue };
                // The first is cut before there is a head: the POST is on its way, and nobody knows which answer it is.
                let left = (n < cuts).then(|| if n == 0 { 0 } else { fastrand::usize(1..1500) });
                relay(client, server, left, n % 2 == 0);
            }
        });
        Self { url, to, connections }
    }

    /// The server is gone, or is there again.
    pub(crate) fn turn(&self, to: Option<&str>) {
        *self.to.lock().unwrap() = to.map(str::to_owned);
    }
}

/// Carries bytes both ways. What goes to the client ends after so many.
fn relay(client: TcpStream, server: TcpStream, left: Option<usize>, reset: bool) {
    let (mut asks, mut hears) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    thread::spawn(move || io::copy(&mut asks, &mut hears));
    thread::spawn(move || {
        let (mut client, mut server, mut left) = (client, server, left.unwrap_or(usize::MAX));
        let mut buffer = [0; 4096];
        while left > 0 {
            let Ok(n @ 1..) = server.read(&mut buffer) else { break };
            let n = n.min(left);
            if client.write_all(&buffer[..n]).is_err() {
                break;
            }
            left -= n;
        }
        if left == 0 && buffer[0] == 0 {
            // The request has come through, if nothing of the response has.
            let _ = server.peek(&mut buffer);
        }
        if reset {
            let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
        }
        // Both sides have another thread's hand on them.
        let _ = server.shutdown(Shutdown::Both);
        let _ = client.shutdown(if reset { Shutdown::Read } else { Shutdown::Both });
    });
}

/// Starts lastword with this server, and nothing on stdin.
pub(crate) fn start(folder: &Path, url: &str, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lastword"))
        .current_dir(folder)
        .args(arguments)
        .env_clear()
        .env("LASTWORD_URL", url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Reads until it has printed so much; what it printed.
pub(crate) fn until(child: &mut Child, bytes: usize) -> Vec<u8> {
    let mut printed = vec![0; bytes];
    child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
    printed
}

/// What it printed in all, with what was read of it before, what it complained of, and its exit code.
pub(crate) fn end(child: Child, mut before: Vec<u8>) -> (String, String, Option<i32>) {
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    before.extend(stdout);
    (String::from_utf8(before).unwrap(), String::from_utf8(stderr).unwrap(), status.code())
}

#[test]
fn chat_that_is_cut_twenty_times_prints_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), &words(), "1ms");
    let relay = Relay::new(&server.address, CUTS);
    let (printed, complaints, code) = end(start(folder.path(), &relay.url, &["chat", "go"]), Vec::new());
    assert_eq!(printed, words(), "{complaints}");
    assert_eq!((&*complaints, code), ("", Some(0)));
    assert_eq!(server.state()["text"], words());
    assert!(relay.connections.load(SeqCst) > CUTS, "it was cut {CUTS} times");
}

#[test]
fn tail_that_is_cut_twenty_times_prints_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), &words(), "1ms");
    let relay = Relay::new(&server.address, CUTS);
    let (printed, complaints, code) = end(start(folder.path(), &relay.url, &["tail", &server.ask()]), Vec::new());
    assert_eq!(printed, words(), "{complaints}");
    assert_eq!((&*complaints, code), ("", Some(0)));
    assert!(relay.connections.load(SeqCst) > CUTS, "it was cut {CUTS} times");
}

#[test]
fn what_is_printed_across_a_kill_is_what_the_answer_was() {
    for command in ["chat", "tail"] {
        let folder = tempfile::tempdir().unwrap();
        let server =
            Serving::start(config(folder.path(), "text = \"a river \"\nrepeat = 100000\ndelay = \"1ms\"\n"), &[]);
        let relay = Relay::new(&server.address, 0);
        let id = if command == "tail" { server.ask() } else { "go".to_owned() };
        let mut child = start(folder.path(), &relay.url, &[command, &id]);
        let before = until(&mut child, 1000);
        relay.turn(None);
        server.kill();
        // It has tried, and nobody was there.
        let tried = relay.connections.load(SeqCst);
        while relay.connections.load(SeqCst) == tried {
            thread::yield_now();
        }
        let server = Serving::start(folder.path(), &[]);
        relay.turn(Some(&server.address));
        let (printed, complaints, code) = end(child, before);
        let state = server.state();
        assert_eq!((state["status"].as_str(), &state["text"]), (Some("interrupted"), &printed.as_str().into()));
        assert!(complaints.starts_with("lastword: the answer was interrupted: interrupted: "), "{complaints}");
        assert!(complaints.ends_with("; ask again\n"), "{complaints}");
        assert_eq!(code, Some(1));
    }
}

#[test]
fn who_gives_up_says_how_to_get_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::start(config(folder.path(), "repeat = 1000\ndelay = \"1ms\"\n"), &[]);
    let relay = Relay::new(&server.address, 0);
    let mut child = start(folder.path(), &relay.url, &["chat", "go", "--reconnect-for", "200ms"]);
    let before = until(&mut child, 100);
    let id = server.state()["id"].as_str().unwrap().to_owned();
    server.kill();
    let (printed, complaints, code) = end(child, before);
    assert!(printed.starts_with("A river does not hurry"), "{printed}");
    assert!(complaints.starts_with("lastword: gave up after 200ms without a connection: "), "{complaints}");
    let (_, from) = complaints.trim_end().split_once(&format!("; for the rest: lastword tail {id} --from ")).unwrap();
    // And so it is.
    let server = Serving::start(folder.path(), &[]);
    let (rest, _, _) = end(start(folder.path(), &server.url(), &["tail", &id, "--from", from]), Vec::new());
    assert_eq!(server.state()["text"], printed + &rest);
    assert_eq!(code, Some(1));
}
