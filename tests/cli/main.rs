//! The binary as a shell sees it: what goes where, and the exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod bench;
mod cuts;
mod server;
mod terminal;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Output},
    sync::mpsc,
    thread,
    time::Duration,
};

use server::Serving;

/// Runs lastword in an empty environment.
fn lastword(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastword"));
    command.current_dir(folder).args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn check_prints_a_summary_and_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let out = lastword(folder.path(), &["check"], &[("OPENAI_API_KEY", "hush")]);
    assert_eq!(
        text(&out.stdout),
        "no file: the built-in defaults\n\
         listens on  http://127.0.0.1:8080\n\
         default     none: a request must name its model\n\
         backend     mock: mock\n\
         backend     openai: openai, https://api.openai.com/v1\n"
    );
    assert_eq!((text(&out.stderr), out.status.code()), ("", Some(0)));
}

#[test]
fn check_says_what_is_wrong_and_exits_with_2() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("lastword.toml"), "[server]\nlisen = \"x\"\n").unwrap();
    let out = lastword(folder.path(), &["check"], &[]);
    assert_eq!(text(&out.stdout), "");
    assert_eq!(
        text(&out.stderr),
        "lastword: lastword.toml:2: unknown key `lisen` in [server]; did you mean `listen`?\n"
    );
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn prompts_lists_what_there_is_and_says_what_is_broken() {
    let folder = tempfile::tempdir().unwrap();
    let out = lastword(folder.path(), &["prompts"], &[]);
    assert!(
        text(&out.stdout).contains("summarise: Say in a few sentences what a text says\n"),
        "{}",
        text(&out.stdout)
    );
    assert!(text(&out.stdout).contains("\n  sentences    how many, at most (else 3)\n"), "{}", text(&out.stdout));
    assert_eq!((text(&out.stderr), out.status.code()), ("", Some(0)));
    fs::create_dir(folder.path().join("prompts")).unwrap();
    fs::write(folder.path().join("prompts/mine.md"), "{{ nothing }}").unwrap();
    let out = lastword(folder.path(), &["prompts", "--json"], &[]);
    assert_eq!(text(&out.stdout).lines().count(), 3);
    assert!(text(&out.stderr).starts_with("lastword: the template `mine` is broken: "), "{}", text(&out.stderr));
    assert_eq!(out.status.code(), Some(1));
}

#[test]
fn serve_does_not_start_with_a_wrong_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let key = ["serve", "--backend", "http://127.0.0.1:1", "--backend-key-env", "KEY"];
    let out = lastword(folder.path(), &key, &[]);
    assert_eq!(
        text(&out.stderr),
        "lastword: --backend-key-env: backends.upstream.api_key: the environment variable `KEY` is not set\n"
    );
    assert_eq!(out.status.code(), Some(2));
}

#[test]
fn alone_it_says_how_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let out = lastword(folder.path(), &[], &[]);
    assert!(text(&out.stderr).contains("Usage: lastword <COMMAND>"), "{}", text(&out.stderr));
    for command in ["serve", "check", "prompts", "chat", "tail", "bench", "store", "completions"] {
        let out = lastword(folder.path(), &[command, "--help"], &[]);
        assert!(text(&out.stdout).contains(&format!("\n  lastword {command}")), "{}", text(&out.stdout));
        assert_eq!(out.status.code(), Some(0));
    }
}

#[test]
fn completions_know_the_commands_and_their_flags() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let out = lastword(folder.path(), &["completions", shell], &[]);
        assert!(text(&out.stdout).contains("reconnect-for"), "{shell}");
    }
}

/// An upstream that gives one answer to one request; `http://127.0.0.1:port`, and what it was asked.
fn upstream(answer: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = mpsc::channel();
    thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let head = BufReader::new(&connection).lines().map(Result::unwrap).take_while(|line| !line.is_empty());
        let head = head.collect::<Vec<_>>().join("\n");
        connection.write_all(answer.as_bytes()).unwrap();
        tell.send(head).unwrap();
    });
    (url, asked)
}

/// The response, head and body.
fn get(address: &str, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    connection.read_to_string(&mut response).unwrap();
    response
}

/// By the time the server listens the upstream was asked, or never will be.
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn the_first_model_of_an_added_backend_is_the_default() {
    let folder = tempfile::tempdir().unwrap();
    let (url, asked) = upstream(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
         {\"object\":\"list\",\"data\":[{\"id\":\"gemma\"},{\"id\":\"other\"}]}",
    );
    let serving = Serving::start(folder.path(), &["--backend", &url]);
    assert!(asked.recv_timeout(DEADLINE).unwrap().starts_with("GET /v1/models HTTP/1.1\n"));
    let said = &serving.said;
    assert!(said.contains(&format!("--backend has no path: taken as {url}/v1\n")), "{said}");
    assert!(said.contains("the default model is upstream/gemma, the first that --backend lists"), "{said}");
    let models = get(&serving.address, "/v1/models");
    assert!(models.contains("upstream/gemma") && models.contains("upstream/other"), "{models}");
}

#[test]
fn an_added_backend_without_a_list_is_asked_for_default() {
    let folder = tempfile::tempdir().unwrap();
    let (url, asked) = upstream("HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let serving = Serving::start(folder.path(), &["--backend", &url]);
    asked.recv_timeout(DEADLINE).unwrap();
    assert!(serving.said.contains("--backend is asked for a model called `default`, since "), "{}", serving.said);
}

#[test]
fn a_named_model_of_an_added_backend_is_not_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    // Nobody listens there, and nobody is asked.
    let serving = Serving::start(folder.path(), &["--backend", "http://127.0.0.1:1/v1", "--model", "gemma"]);
    assert!(!serving.said.contains("--backend"), "{}", serving.said);
    assert!(serving.said.contains("listening on http://127.0.0.1:"), "{}", serving.said);
}
