//! `lastword store` as a shell sees it: on a store that a server has open, and on one that nobody has.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use redb::{ReadableTable, TableDefinition};
use serde_json::{Value, json};
use tempfile::TempDir;

const LASTWORD: &str = env!("CARGO_BIN_EXE_lastword");
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with a configuration; its store is in `data`.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let config = "[store]\nengine = \"disk\"\n[server]\ndrain = \"10ms\"\n[backends.mock]\nkind = \"mock\"\n";
    fs::write(folder.path().join("lastword.toml"), config).unwrap();
    folder
}

/// A running lastword. Dropping it is `kill -9`.
struct Server {
    child: Child,
    address: String,
    /// What it said before it listened.
    said: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let mut command = Command::new(LASTWORD);
        command.args(["serve", "--listen", "127.0.0.1:0"]).current_dir(folder).env_clear().stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = String::new();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it did not start: {said}"));
            match line.split_once("listening on http://") {
                Some((_, address)) => break address.trim().to_owned(),
                None => said.push_str(&line),
            }
        };
        // Read on, so that the process never waits for room to log.
        thread::spawn(move || lines.for_each(drop));
        Self { child, address, said }
    }

    fn ask(&self, request: &str) -> BufReader<TcpStream> {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(request.as_bytes()).unwrap();
        BufReader::new(socket)
    }

    fn post(&self, header: &str, body: &Value) -> BufReader<TcpStream> {
        let (body, length) = (body.to_string(), body.to_string().len());
        self.ask(&format!("POST /v1/streams HTTP/1.0\r\n{header}content-length: {length}\r\n\r\n{body}"))
    }

    /// A stream that says this and ends; its id.
    fn ended(&self, text: &str, key: &str) -> String {
        let options = json!({"text": text, "delay": "0ms", "reasoning": "hush"});
        let body = json!({"prompt": "x", "backend_options": options, "metadata": {"label": "secret"}});
        let head = format!("accept: text/event-stream\r\nidempotency-key: {key}\r\n");
        let said = whole(self.post(&head, &body));
        assert!(said.contains("event: end\ndata: {\"status\":\"completed\""), "{said}");
        said.lines().find_map(|line| line.strip_prefix("x-stream-id: ")).unwrap().to_owned()
    }

    /// A stream that has begun to speak and will not end; its id, and a reader of it that has been told so much.
    fn running(&self) -> (String, BufReader<TcpStream>) {
        let body = json!({"prompt": "x", "backend_options": {"text": "for ever and ever", "delay": "1h"}});
        let mut reader = self.post("accept: text/event-stream\r\nidempotency-key: r\r\n", &body);
        let (mut id, mut line) = (String::new(), String::new());
        while !line.starts_with("data: {\"text\"") {
            line.clear();
            assert_ne!(reader.read_line(&mut line).unwrap(), 0);
            id = line.strip_prefix("x-stream-id: ").map_or(id, |id| id.trim().to_owned());
        }
        (id, reader)
    }

    /// Ends it in order.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn whole(mut reader: impl Read) -> String {
    let mut said = String::new();
    reader.read_to_string(&mut said).unwrap();
    said
}

fn store(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(LASTWORD).arg("store").args(arguments).current_dir(folder).env_clear().output().unwrap()
}

/// What a command that must succeed prints.
fn told(folder: &Path, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = store(folder, arguments);
    assert!(status.success() && stderr.is_empty(), "{arguments:?}: {}", String::from_utf8(stderr).unwrap());
    String::from_utf8(stdout).unwrap()
}

/// The error of a command that must fail with this code, and what it printed all the same.
fn refused(folder: &Path, arguments: &[&str], code: i32) -> (String, String) {
    let Output { status, stdout, stderr } = store(folder, arguments);
    assert_eq!(status.code(), Some(code), "{arguments:?}");
    (String::from_utf8(stderr).unwrap(), String::from_utf8(stdout).unwrap())
}

fn lines(json: &str) -> Vec<Value> {
    json.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

fn bytes_of(id: &str) -> Vec<u8> {
    (0..16).map(|n| u8::from_str_radix(&id[2 * n..2 * n + 2], 16).unwrap()).collect()
}

/// Changes a table of a stopped store: every entry whose key holds this id.
fn change(folder: &Path, table: &'static str, id: &str, mut change: impl FnMut(Vec<u8>) -> Option<Vec<u8>>) {
    let id = bytes_of(id);
    let base = redb::Database::open(folder.join("data/base.redb")).unwrap();
    let write = base.begin_write().unwrap();
    let mut found = 0;
    {
        let mut table = write.open_table(Table::new(table)).unwrap();
        let entries = table.iter().unwrap().map(|entry| {
            let (key, value) = entry.unwrap();
            (key.value().to_vec(), value.value().to_vec())
        });
        let entries: Vec<_> = entries.collect();
        let about = |(key, value): &&(Vec<u8>, Vec<u8>)| key.windows(16).any(|part| part == id) || *value == id;
        for (key, value) in entries.iter().filter(about) {
            found += 1;
            match change(value.clone()) {
                Some(value) => _ = table.insert(&key[..], &value[..]).unwrap(),
                None => _ = table.remove(&key[..]).unwrap(),
            }
        }
    }
    write.commit().unwrap();
    assert_ne!(found, 0, "nothing about the stream");
}

#[test]
fn a_store_says_the_same_of_itself_live_and_stopped() {
    let folder = folder();
    let server = Server::start(folder.path());
    let (first, second) = (server.ended("one two three", "k1"), server.ended("four five", "k2"));
    let (third, _reader) = server.running();
    let ask = || {
        let asked = [
            vec!["ls"],
            vec!["ls", "--json"],
            vec!["show", &first],
            vec!["show", &first, "--text"],
            vec!["show", &second, "--json"],
            vec!["show", &third, "--text"],
            vec!["show", &second, "--records"],
        ];
        let mut told: Vec<_> = asked.iter().map(|asked| told(folder.path(), asked)).collect();
        let mut stats = lines(&self::told(folder.path(), &["stats", "--json"])).remove(0);
        assert!(stats["files"].take().as_object().unwrap().values().all(|bytes| bytes.as_u64() > Some(0)));
        told.push(stats.to_string());
        told
    };
    let live = ask();
    let status = |line: &str| line.split('\t').map(str::to_owned).take(2).collect::<Vec<_>>();
    let expected = [[&third, "running"], [&second, "completed"], [&first, "completed"]];
    assert_eq!(live[0].lines().map(status).collect::<Vec<_>>(), expected);
    assert!(live[2].contains("records     {\"attempt\":1,\"begin\":1,\"delta\":"), "{}", live[2]);
    assert!(live[2].contains("claims      {\"key\":\"k1\",\"kind\":\"idempotency\"}"), "{}", live[2]);
    assert!(!["one", "hush", "secret"].iter().any(|word| live[2].contains(word)), "{}", live[2]);
    assert!(live[3].ends_with("\nreasoning:\nhush\n\ntext:\none two three\n"), "{}", live[3]);
    assert!(live[5].ends_with("\ntext:\nfor\n"), "{}", live[5]);
    let records = lines(&live[6]);
    let cursors: Vec<_> = records.iter().map(|record| record["cursor"].as_u64().unwrap()).collect();
    assert_eq!(cursors, (1..=cursors.len() as u64).collect::<Vec<_>>());
    assert_eq!((&records[0]["kind"], &records.last().unwrap()["kind"]), (&json!("begin"), &json!("end")));
    let text = records.iter().filter(|record| record["kind"] == "delta" && record["of"] == "text");
    assert_eq!(text.map(|record| record["data"]["text"].as_str().unwrap()).collect::<String>(), "four five");
    let stats: Value = serde_json::from_str(live.last().unwrap()).unwrap();
    assert_eq!((&stats["running"], &stats["finished"], &stats["writable"]), (&json!(1), &json!(2), &json!(true)));
    let all = lines(&live[1]);
    assert_eq!(stats["bytes"], all.iter().map(|stream| stream["bytes"].as_u64().unwrap()).sum::<u64>());
    assert_eq!(stats["oldest"], all[2]["created_at"]);
    drop(server);
    assert_eq!(ask(), live);
    assert_eq!(ask(), live, "and looking changes nothing");
}

#[test]
fn a_list_is_as_long_and_of_whom_it_was_asked_for() {
    let folder = folder();
    let server = Server::start(folder.path());
    let ended: Vec<_> = (0..5).map(|n| server.ended("x", &format!("k{n}"))).collect();
    let (running, _reader) = server.running();
    let ids = |arguments: &[&str]| {
        let told = told(folder.path(), &[&["ls"], arguments].concat());
        told.lines().map(|line| line[..32].to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--limit", "3"]), [&*running, &*ended[4], &*ended[3]]);
    assert_eq!(ids(&["--running"]), [&*running]);
    assert_eq!(ids(&["--owner", ""]).len(), 6);
    assert_eq!(ids(&["--owner", "", "--running"]), [&*running]);
    assert_eq!(ids(&["--owner", "ann&b"]), Vec::<String>::new());
    assert_eq!(ids(&["--limit", "0"]), Vec::<String>::new());
}

#[test]
fn a_damaged_block_is_found_and_named_and_the_others_are_fine() {
    let folder = folder();
    let server = Server::start(folder.path());
    let (good, bad) = (server.ended("one two", "k1"), server.ended("three four", "k2"));
    assert!(told(folder.path(), &["check"]).ends_with(": all is well\n"));
    server.stop();
    change(folder.path(), "blocks", &bad, |mut block| {
        *block.last_mut().unwrap() ^= 1;
        Some(block)
    });
    let look = || {
        let (error, out) = refused(folder.path(), &["check"], 1);
        let found = format!(
            "{bad}: the block of records from 1 on is damaged; restore the folder from a copy, or give the answer up: \
             lastword store rm {bad}\nchecked 2 streams with "
        );
        assert!(out.starts_with(&found) && !out.contains(&good), "{out}");
        assert_eq!(error, "lastword: something is wrong with the store\n");
        let (_, json) = refused(folder.path(), &["check", "--json"], 1);
        let json = lines(&json).remove(0);
        assert_eq!((&json["streams"], &json["faults"][0]["stream"]), (&json!(2), &json!(bad)));
        assert!(told(folder.path(), &["show", &good, "--text"]).ends_with("\ntext:\none two\n"));
        assert!(told(folder.path(), &["show", &bad]).contains("\ndamage      "));
        let (error, _) = refused(folder.path(), &["show", &bad, "--records"], 1);
        assert!(error.contains(&bad) && error.contains("is damaged; remove the stream"), "{error}");
    };
    look();
    let server = Server::start(folder.path());
    look();
    assert_eq!(told(folder.path(), &["rm", &bad]), format!("erased {bad}\n"));
    assert!(told(folder.path(), &["check"]).starts_with("checked 1 streams with "));
    server.stop();
    assert!(told(folder.path(), &["check"]).ends_with(": all is well\n"));
}

#[test]
fn a_damaged_stream_that_was_running_keeps_no_server_from_starting() {
    let folder = folder();
    let server = Server::start(folder.path());
    let (good, (bad, _reader)) = (server.ended("one two", "k1"), server.running());
    drop(server);
    told(folder.path(), &["stats"]); // what was in the log is in the base now
    change(folder.path(), "blocks", &bad, |_| Some(b"rubbish".to_vec()));
    let server = Server::start(folder.path());
    let (_, out) = refused(folder.path(), &["check"], 1);
    assert!(out.starts_with(&format!("{bad}: the block of records from 1 on is damaged; ")), "{out}");
    assert!(told(folder.path(), &["show", &good, "--text"]).ends_with("one two\n"));
    told(folder.path(), &["rm", &bad]);
    assert!(told(folder.path(), &["check"]).ends_with(": all is well\n"));
    drop(server);
}

#[test]
fn tables_that_do_not_agree_are_found() {
    let folder = folder();
    let server = Server::start(folder.path());
    let (ended, (running, _reader)) = (server.ended("one two", "k1"), server.running());
    let long = server.ended(&"word ".repeat(5000), "k2");
    drop(server);
    told(folder.path(), &["stats"]);
    let sound = fs::read(folder.path().join("data/base.redb")).unwrap();
    let gone: fn(Vec<u8>) -> Option<Vec<u8>> = |_| None;
    let torn: fn(Vec<u8>) -> Option<Vec<u8>> = |row| Some(row[..9].to_vec());
    let other: fn(Vec<u8>) -> Option<Vec<u8>> = |_| Some(vec![7; 16]);
    let bytes = bytes_of(&running);
    let theirs = |_| Some(bytes.clone());
    for (table, id, how, what) in [
        ("prompts", &ended, &gone as &dyn Fn(Vec<u8>) -> Option<Vec<u8>>, "its prompt is missing"),
        ("owners", &ended, &gone, "its owner's list does not name it"),
        ("finished", &ended, &gone, "the list of finished streams does not name it"),
        ("blocks", &ended, &gone, "its log goes to record 0, and should go to "),
        ("streams", &ended, &torn, "what is known of it cannot be read"),
        ("streams", &ended, &gone, "an owner's list names it wrongly"),
        ("streams", &ended, &gone, "the list of finished streams names it wrongly"),
        ("streams", &ended, &gone, "there is a prompt of it, and no stream"),
        ("streams", &ended, &gone, "there are records of it, and no stream"),
        ("streams", &ended, &gone, "it holds an idempotency key or a chat, and is no stream"),
        ("streams", &ended, &gone, "max_bytes is kept by the first"),
        ("claims", &ended, &theirs, "it holds an idempotency key or a chat that it never claimed"),
        ("claims", &ended, &other, "it holds an idempotency key or a chat, and is no stream"),
        ("condensed", &long, &torn, "the records from 1 on are whole, and what they are in short is damaged"),
        ("streams", &long, &gone, "there are records of it in short, and no stream"),
        ("prompts", &running, &gone, "its prompt is missing"),
        ("claims", &running, &gone, "it runs, and does not hold the idempotency key that it was created with"),
        ("open", &running, &gone, "the list of running streams does not name it"),
        ("streams", &running, &gone, "the list of running streams names it wrongly"),
    ] {
        change(folder.path(), table, id, how);
        let (_, out) = refused(folder.path(), &["check"], 1);
        assert!(out.contains(what), "{table}, {what}: {out}");
        fs::write(folder.path().join("data/base.redb"), &sound).unwrap();
    }
    assert!(told(folder.path(), &["check"]).ends_with(": all is well\n"));
}

#[test]
fn who_reads_a_running_stream_is_told_its_end_before_it_is_erased() {
    let folder = folder();
    let server = Server::start(folder.path());
    let (id, reader) = server.running();
    assert_eq!(lines(&told(folder.path(), &["rm", &id, "--json"])), [json!({"id": id, "erased": true})]);
    let rest = whole(reader);
    assert!(rest.contains("event: end\ndata: {\"status\":\"cancelled\""), "{rest}");
    assert!(whole(server.ask(&format!("GET /v1/streams/{id} HTTP/1.0\r\n\r\n"))).starts_with("HTTP/1.0 404"));
}

#[test]
fn on_a_stopped_store_a_running_stream_is_erased_at_once() {
    let folder = folder();
    let server = Server::start(folder.path());
    let (id, _reader) = server.running();
    drop(server);
    let began = Instant::now();
    assert_eq!(told(folder.path(), &["rm", &id]), format!("erased {id}\n"));
    assert!(began.elapsed() < Duration::from_millis(900), "nobody is waited for: {:?}", began.elapsed());
    assert_eq!(told(folder.path(), &["ls"]), "");
    assert!(told(folder.path(), &["check"]).ends_with(": all is well\n"));
}

#[test]
fn what_cannot_be_done_is_said_with_what_to_do() {
    let folder = folder();
    let unknown = "0".repeat(32);
    let (error, _) = refused(folder.path(), &["ls"], 1);
    assert_eq!(
        error,
        format!(
            "lastword: there is no store in {}/data; --path names its folder, or --config the file with its [store] path\n",
            folder.path().display()
        )
    );
    assert!(!folder.path().join("data").exists(), "looking for a store makes none");
    let server = Server::start(folder.path());
    let id = server.ended("x", "k");
    for arguments in [&["show", &unknown][..], &["rm", &unknown], &["show", &unknown, "--records"]] {
        let (error, _) = refused(folder.path(), arguments, 1);
        assert_eq!(error, format!("lastword: there is no stream {unknown}; lastword store ls lists those there are\n"));
    }
    let (error, out) = refused(folder.path(), &["rm", &unknown, &id], 1);
    assert!(error.contains(&unknown), "{error}");
    assert_eq!(out, format!("erased {id}\n"), "one that is not there keeps no other");
    let (error, _) = refused(folder.path(), &["show", "x1"], 2);
    assert!(error.contains("a stream id is 32 lower-case hex digits"), "{error}");
    fs::remove_file(folder.path().join("data/admin.sock")).unwrap();
    let (error, _) = refused(folder.path(), &["ls"], 1);
    assert!(error.contains("is open in another process, which does not answer on "), "{error}");
    assert!(error.contains("data/admin.sock; ask again when that one has started or ended, or stop it"), "{error}");
    drop(server);
    assert_eq!(told(folder.path(), &["ls"]), "");
}

#[test]
fn a_folder_can_be_named_without_its_configuration() {
    let (folder, elsewhere) = (folder(), tempfile::tempdir().unwrap());
    let server = Server::start(folder.path());
    let id = server.ended("x", "k");
    let data = folder.path().join("data");
    let path = ["ls", "--path", data.to_str().unwrap()];
    assert!(told(elsewhere.path(), &path).starts_with(&id));
    drop(server);
    assert!(told(elsewhere.path(), &path).starts_with(&id));
    let config = folder.path().join("lastword.toml");
    assert!(told(elsewhere.path(), &["ls", "--config", config.to_str().unwrap()]).starts_with(&id));
}

#[test]
fn only_its_user_can_open_the_socket_and_a_clean_end_takes_it_away() {
    let folder = folder();
    let socket = folder.path().join("data/admin.sock");
    let server = Server::start(folder.path());
    let about = fs::symlink_metadata(&socket).unwrap();
    assert_eq!((about.file_type().is_socket(), about.permissions().mode() & 0o777), (true, 0o600));
    let mut asked = UnixStream::connect(&socket).unwrap();
    asked.write_all(b"GET /store/stats HTTP/1.0\r\nhost: lastword\r\n\r\n").unwrap();
    let said = whole(asked);
    assert!(said.starts_with("HTTP/1.0 200") && said.contains("\"engine\":\"disk\""), "{said}");
    assert!(whole(server.ask("GET /store/stats HTTP/1.0\r\n\r\n")).starts_with("HTTP/1.0 404"), "nobody else is told");
    drop(server);
    assert!(socket.exists(), "a kill leaves it");
    let server = Server::start(folder.path());
    assert!(told(folder.path(), &["stats"]).starts_with("engine      disk, "), "and the next server replaces it");
    server.stop();
    assert!(!socket.exists());
    assert_eq!(fs::read_dir(folder.path().join("data")).unwrap().count(), 5, "base, lock, log, reserve, ticket.key");
}

#[test]
fn a_socket_that_nobody_listens_on_is_no_server() {
    let folder = folder();
    let server = Server::start(folder.path());
    let id = server.ended("x", "k");
    server.stop();
    drop(UnixListener::bind(folder.path().join("data/admin.sock")).unwrap());
    assert!(told(folder.path(), &["ls"]).starts_with(&id));
}

#[test]
fn a_path_too_long_for_a_socket_is_warned_of_and_served_all_the_same() {
    let folder = folder();
    // By one byte; where it is made there is room.
    let path = "d".repeat(108 - format!("{}//admin.sock", folder.path().display()).len());
    let config = format!("[store]\nengine = \"disk\"\npath = \"{path}\"\n[backends.mock]\nkind = \"mock\"\n");
    fs::write(folder.path().join("lastword.toml"), config).unwrap();
    let server = Server::start(folder.path());
    assert!(server.said.contains("WARN") && server.said.contains("a shorter [store] path may do"), "{}", server.said);
    let id = server.ended("x", "k");
    let (error, _) = refused(folder.path(), &["ls"], 1);
    assert!(error.contains("is open in another process"), "{error}");
    drop(server);
    assert!(told(folder.path(), &["ls"]).starts_with(&id));
}

#[test]
fn a_pipe_that_is_closed_ends_it_without_a_word() {
    let folder = folder();
    let server = Server::start(folder.path());
    // More than a pipe and a buffer hold.
    let id = server.ended(&"word ".repeat(5000), "k");
    for server in [Some(server), None] {
        let mut command = Command::new(LASTWORD);
        command.args(["store", "show", &id, "--records"]).current_dir(folder.path()).env_clear();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        assert!(first.starts_with("{\"cursor\":1,"), "{first}");
        let out = child.wait_with_output().unwrap();
        assert_eq!((String::from_utf8(out.stderr).unwrap(), out.status.code()), (String::new(), Some(0)));
        drop(server);
    }
}

#[test]
fn a_table_is_only_for_a_terminal() {
    let folder = folder();
    let server = Server::start(folder.path());
    server.ended("x", "k");
    let piped = told(folder.path(), &["ls"]);
    assert_eq!(piped.trim_end().split('\t').count(), 6, "{piped}");
    assert!(!piped.contains("STATUS"), "{piped}");
}
