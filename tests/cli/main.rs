//! The binary as a shell sees it: what goes where, and the exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod answers;
mod bench;
mod cuts;
mod doctor;
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
    time::{Duration, Instant},
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
         backend     openai: openai, https://api.openai.com/v1\n\
         backend     push: push\n"
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

/// An upstream that gives one answer to each request, in this order; `http://127.0.0.1:port`, and what it was asked.
fn upstream<const N: usize>(answers: [&'static str; N]) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, asked) = mpsc::channel();
    thread::spawn(move || {
        for answer in answers {
            let (mut connection, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&connection);
            let head = reader.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty());
            let head = head.collect::<Vec<_>>().join("\n");
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            let mut body = vec![0; length.unwrap_or_default()];
            reader.read_exact(&mut body).unwrap();
            connection.write_all(answer.as_bytes()).unwrap();
            tell.send(format!("{head}\n{}", text(&body))).unwrap();
        }
    });
    (url, asked)
}

#[test]
fn an_added_backend_stays_when_the_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &["--backend", "http://127.0.0.1:1/v1", "--model", "gemma"]);
    let listening = &*serving.address;
    fs::write(folder.path().join("lastword.toml"), "[backends.mine]\nkind = \"mock\"\n").unwrap();
    let began = Instant::now();
    while !get(listening, "/v1/models").contains("mine/words") {
        assert!(began.elapsed() < DEADLINE, "it never looked");
    }
    let models = get(listening, "/v1/models");
    assert!(
        models.contains("\"default\":\"upstream/gemma\"") && models.contains("\"id\":\"upstream/gemma\""),
        "{models}"
    );
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
    let (url, asked) = upstream(["HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
         {\"object\":\"list\",\"data\":[{\"id\":\"gemma\"},{\"id\":\"other\"}]}"]);
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
    let (url, asked) = upstream(["HTTP/1.1 404 Not Found\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"]);
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

const LIST: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"data\":[{\"id\":\"big\"},{\"id\":\"small\"}]}";
const TOKEN: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n\
    data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
const KEY: &str = "sk-0123456789";

/// A file with a mock, an upstream at this place, and one more section.
fn with_upstream(folder: &Path, url: &str, more: &str) {
    let up = format!("[backends.up]\nkind = \"openai\"\nbase_url = \"{url}/v1\"\napi_key = \"{KEY}\"\n");
    fs::write(folder.join("lastword.toml"), format!("{up}[backends.mock]\nkind = \"mock\"\n{more}")).unwrap();
}

#[test]
fn a_probe_asks_each_backend_for_one_token_and_its_models() {
    let folder = tempfile::tempdir().unwrap();
    let (url, asked) = upstream([LIST, TOKEN]);
    with_upstream(folder.path(), &url, "");
    let out = lastword(folder.path(), &["check", "--probe"], &[]);
    assert_eq!((text(&out.stderr), out.status.code()), ("", Some(0)));
    let words: Vec<Vec<_>> = text(&out.stdout).lines().map(|line| line.split_whitespace().collect()).collect();
    let [.., head, mock, up] = &words[..] else { panic!("{words:?}") };
    assert_eq!(head[..], ["BACKEND", "REACHABLE", "FIRST", "TOKEN", "ASKED", "MODELS"]);
    assert_eq!([&mock[..2], &mock[3..]].concat(), ["mock", "yes", "ms", "words", "2:", "words,", "echo"]);
    assert_eq!([&up[..2], &up[3..]].concat(), ["up", "yes", "ms", "big", "2:", "big,", "small"]);
    let list = asked.recv_timeout(DEADLINE).unwrap();
    assert!(list.starts_with("GET /v1/models ") && list.contains(KEY), "{list}");
    let question = asked.recv_timeout(DEADLINE).unwrap();
    assert!(question.starts_with("POST /v1/chat/completions ") && question.contains(KEY), "{question}");
    assert!(question.contains("\"model\":\"big\"") && question.contains("\"max_tokens\":1,"), "{question}");
}

#[test]
fn a_probe_asks_for_the_model_that_the_configuration_leads_to() {
    let routes = "[models.fast]\nroute = [\"mock/echo\", \"up/small\"]\n[models.\"o*\"]\nroute = [\"up/*\"]\n";
    for (default, model) in [("fast", "small"), ("up/tiny", "tiny"), ("other", "other")] {
        let folder = tempfile::tempdir().unwrap();
        let (url, _asked) = upstream([LIST, TOKEN]);
        with_upstream(folder.path(), &url, routes);
        let out = lastword(folder.path(), &["check", "--probe", "--json"], &[("LASTWORD_DEFAULT_MODEL", default)]);
        assert_eq!((text(&out.stderr), out.status.code()), ("", Some(0)));
        let up = text(&out.stdout).lines().find(|line| line.contains("\"up\"")).unwrap();
        assert!(up.contains(&format!("\"model\":\"{model}\"")), "{up}");
    }
}

#[test]
fn a_probe_says_who_does_not_answer_and_why_and_shows_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let refuses = "HTTP/1.1 401 Unauthorized\r\nconnection: close\r\n\r\nno sk-0123456789 here";
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let (url, _asked) = upstream([refuses, refuses]);
    let more = format!(
        "[backends.gone]\nkind = \"anthropic\"\nbase_url = \"http://{free}\"\n[backends.silent]\nkind = \"openai\"\n\
         base_url = \"http://{}\"\nmodels = [\"m\"]\n[models.x]\nroute = [\"up/x\"]\n",
        silent.local_addr().unwrap()
    );
    with_upstream(folder.path(), &url, &more);
    let began = Instant::now();
    let out = lastword(folder.path(), &["check", "--probe", "--json", "--within", "500ms"], &[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(began.elapsed() < DEADLINE, "nobody is waited for longer");
    let told: Vec<serde_json::Value> =
        text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reached = told.iter().map(|probe| format!("{}: {}", probe["backend"], probe["reachable"]).replace('"', ""));
    assert_eq!(reached.collect::<Vec<_>>(), ["gone: false", "mock: true", "silent: false", "up: false"]);
    for (at, error, remedy) in [
        (0, "connect", format!("does a server run at http://{free}, base_url of [backends.gone]?")),
        (2, "`silent` gave no token within 500ms", "give it longer with --within".to_owned()),
        (
            3,
            "`up` answered 401: no *** here",
            "is its key right? It is api_key or api_key_file of [backends.up]".to_owned(),
        ),
    ] {
        let (said, does) = (told[at]["error"].as_str().unwrap(), told[at]["remedy"].as_str().unwrap());
        assert!(said.contains(error) && does.contains(&remedy), "{said}; {does}");
        assert!(text(&out.stderr).contains(&format!("{said}; {does}")), "{}", text(&out.stderr));
    }
    assert!(!(text(&out.stdout).to_owned() + text(&out.stderr)).contains(KEY));
}
