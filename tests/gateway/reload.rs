//! The configuration changes while answers run: they end as they began, and new ones are answered by whoever is there now.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    time::Duration,
};

use lastword::{
    config::{Config, Env},
    server::{Server, reload::Source},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::common::{At, Ending, process::Process, soon, sse::Client};

/// A file of which a lastword makes what it can, each few milliseconds.
struct House {
    server: Server,
    file: PathBuf,
    folder: TempDir,
}

impl House {
    async fn of(config: &str) -> Self {
        Self::looking(config, Duration::from_millis(5)).await
    }

    /// One that looks only when it is told to.
    async fn told(config: &str) -> Self {
        Self::looking(config, Duration::MAX).await
    }

    async fn looking(config: &str, look: Duration) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("lastword.toml");
        fs::write(&file, config).expect("written");
        Self::in_folder(folder, file, look).await
    }

    async fn in_folder(folder: TempDir, file: PathBuf, look: Duration) -> Self {
        let variables = [("LASTWORD_SERVER__LISTEN", "127.0.0.1:0"), ("LASTWORD_STORE__ENGINE", "memory")];
        let env: Env = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let (path, home) = (file.clone(), folder.path().to_owned());
        let read = move || Ok(Config::load(Some(&path), &home, &env, &[])?);
        let mut server = Server::start(read().expect("a good configuration")).await.expect("it starts");
        server.watch(Source { file: file.clone(), read: Box::new(read), look });
        Self { server, file, folder }
    }

    fn at(&self) -> At {
        At(self.server.address())
    }

    fn write(&self, config: &str) {
        fs::write(&self.file, config).expect("written");
    }

    /// Writes it, has it read, and waits until it was.
    async fn tell(&self, config: &str, result: &str) {
        let name = format!("lastword_config_reloads_total{{result=\"{result}\"}}");
        let before = self.count(&name).await;
        self.write(config);
        self.server.reload();
        soon(async { while self.count(&name).await == before {} }).await;
    }

    async fn count(&self, name: &str) -> u64 {
        let text = self.at().get("/metrics", &[]).await.text().await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_default()
    }
}

/// Waits until the default model is this one.
async fn default_is(at: At, model: &str) {
    let told = async || at.get("/v1/models", &[]).await.json().await["default"] == model;
    soon(async { while !told().await {} }).await;
}

/// Asks the default model; gives back the stream's id and the backend that answers.
async fn ask(at: At) -> (String, String) {
    let response = at.send("POST", "/v1/streams", &[], "{\"prompt\":\"say it\"}").await;
    let (status, state) = (response.status, response.json().await);
    assert_eq!(status, 201, "{state}");
    let member = |name: &str| state[name].as_str().expect("a text").to_owned();
    (member("id"), member("backend"))
}

/// The `n`th configuration, and what its one backend says.
fn version(n: usize) -> (String, String) {
    let config = format!(
        "default_model = \"b{n}/words\"\n[backends.b{n}]\nkind = \"mock\"\ntext = \"v{n} \"\nrepeat = 100\ndelay = \"20ms\"\n"
    );
    (config, format!("v{n} ").repeat(100))
}

/// Reads an answer to its end.
async fn read(at: At, id: String, text: String) -> Result<(), String> {
    let mut client = Client::default();
    let (bytes, ending) = soon(at.events(&id, &client).await.body.rest()).await;
    client.take(&bytes);
    assert_eq!(ending, Ending::Clean);
    client.check(&text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_answers_run_on_while_everything_is_exchanged_and_every_second_file_is_rubbish() {
    let (config, text) = version(0);
    let house = House::told(&config).await;
    let at = house.at();
    let mut readers = JoinSet::new();
    for _ in 0..100 {
        let (id, backend) = ask(at).await;
        assert_eq!(backend, "b0");
        readers.spawn(read(at, id, text.clone()));
    }
    let rubbish = [
        "[backends.b1]\nkind = \"mcok\"\n",
        "[backends",
        "default_model = \"b0/words\"\n[backends.x]\nkind = \"mock\"\n",
        "\u{0}\u{0}\u{0}",
    ];
    let ended = AtomicUsize::new(0);
    let swaps = async {
        let (mut n, mut late) = (0, Vec::new());
        while n < 40 && ended.load(SeqCst) < 100 {
            n += 1;
            let (config, text) = version(n);
            house.tell(&config, "applied").await;
            house.tell(rubbish[n % rubbish.len()], "refused").await;
            assert_eq!(at.get("/readyz", &[]).await.status, 200, "what is there is good enough");
            let (id, backend) = ask(at).await;
            assert_eq!(backend, format!("b{n}"), "the newest that was right");
            late.push(tokio::spawn(read(at, id, text)));
        }
        (n, late)
    };
    let reads = async {
        while let Some(reader) = readers.join_next().await {
            assert_eq!(reader.expect("it ran"), Ok(()));
            ended.fetch_add(1, SeqCst);
        }
    };
    let ((n, late), ()) = tokio::join!(swaps, reads);
    assert!(n >= 5, "while they ran: {n}");
    for reader in late {
        assert_eq!(reader.await.expect("it ran"), Ok(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_seen_however_it_is_saved() {
    let house = House::of(&version(0).0).await;
    let (at, beside) = (house.at(), house.folder.path().join("new"));
    default_is(at, "b0/words").await;
    house.write(&version(1).0);
    default_is(at, "b1/words").await;
    // As editors do: another file takes its place, or it is moved away first.
    fs::write(&beside, version(2).0).expect("written");
    fs::rename(&beside, &house.file).expect("renamed");
    default_is(at, "b2/words").await;
    fs::rename(&house.file, house.folder.path().join("lastword.toml~")).expect("renamed");
    house.write(&version(3).0);
    default_is(at, "b3/words").await;
    let turned = |to: &Path, link: &Path| {
        symlink(to, &beside).expect("linked");
        fs::rename(&beside, link).expect("renamed");
    };
    let other = house.folder.path().join("other");
    fs::write(&other, version(4).0).expect("written");
    turned(&other, &house.file);
    default_is(at, "b4/words").await;
    fs::write(&other, version(5).0).expect("written");
    default_is(at, "b5/words").await;
}

/// The folder of a ConfigMap: the file is a link through `..data`, and that link turns.
#[tokio::test(flavor = "multi_thread")]
async fn the_turn_of_a_mounted_config_map_is_seen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for n in 0..2 {
        fs::create_dir(path(&format!("..{n}"))).expect("a folder");
        fs::write(path(&format!("..{n}/lastword.toml")), version(n).0).expect("written");
    }
    symlink("..0", path("..data")).expect("linked");
    symlink("..data/lastword.toml", path("lastword.toml")).expect("linked");
    symlink("..1", path("..new")).expect("linked");
    let (new, data, file) = (path("..new"), path("..data"), path("lastword.toml"));
    let house = House::in_folder(folder, file, Duration::from_millis(5)).await;
    default_is(house.at(), "b0/words").await;
    fs::rename(new, data).expect("renamed");
    default_is(house.at(), "b1/words").await;
}

/// Says on each connection which one it is, and which key it was asked with.
async fn upstream() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        for n in 1.. {
            let (socket, _) = listener.accept().await.expect("a connection");
            tokio::spawn(answer(socket, n));
        }
    });
    url
}

async fn answer(socket: TcpStream, n: usize) {
    let mut socket = BufReader::new(socket);
    let (mut line, mut key) = (String::new(), String::new());
    while socket.read_line(&mut line).await.is_ok_and(|n| n > 0) {
        if let Some(told) = line.strip_prefix("authorization: Bearer ") {
            key = told.trim().to_owned();
        }
        if line == "\r\n" {
            let body = format!("{n} {key}");
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
            socket.write_all((head + &body).as_bytes()).await.expect("written");
        }
        line.clear();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_did_not_change_keeps_its_connections_and_a_new_key_in_a_file_is_taken() {
    let up = format!(
        "[backends.up]\nkind = \"openai\"\nbase_url = \"{}\"\napi_key_file = \"key\"\npass_through = [\"echo\"]\n",
        upstream().await
    );
    let folder = tempfile::tempdir().expect("a folder");
    let (file, key) = (folder.path().join("lastword.toml"), folder.path().join("key"));
    fs::write(&file, &up).expect("written");
    fs::write(&key, "first").expect("written");
    let house = House::in_folder(folder, file, Duration::from_millis(5)).await;
    let at = house.at();
    let echo = async || soon(at.get("/v1/echo", &[]).await.text()).await;
    assert_eq!(echo().await, "1 first");
    house.write(&format!("default_model = \"other/words\"\n{up}[backends.other]\nkind = \"mock\"\n"));
    default_is(at, "other/words").await;
    assert_eq!(echo().await, "1 first", "the same connection");
    fs::write(&key, "second").expect("written");
    soon(async { while echo().await != "2 second" {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_prompts_is_exchanged_with_the_rest() {
    let house = House::told("").await;
    fs::create_dir(house.folder.path().join("mine")).expect("a folder");
    fs::write(house.folder.path().join("mine/greet.md"), "Good day.").expect("written");
    let names = async || {
        let list: Value = house.at().get("/v1/prompts", &[]).await.json().await;
        list["prompts"].as_array().expect("a list").iter().any(|prompt| prompt["name"] == "greet")
    };
    assert!(!names().await);
    house.tell("[prompts]\npath = \"mine\"\n", "applied").await;
    assert!(names().await);
    house.tell("", "applied").await;
    assert!(!names().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_what_is_wrong_and_what_waits_and_sighup_is_at_once() {
    let mut lastword = Process::start("127.0.0.1:0", &[]).await;
    let (at, file) = (At(lastword.address()), lastword.home().join("lastword.toml"));
    let (running, text) =
        (at.say(json!({ "text": "word ", "repeat": 300, "delay": "10ms" }), json!({})).await, "word ".repeat(300));
    let reader = tokio::spawn(read(at, running, text));
    lastword.signal("HUP").await;
    lastword.says("the configuration is read again: nothing new").await;
    // It had no file; now there is one, and nobody says so.
    fs::write(&file, "[backends.b]\nkind = \"mock\"\n").expect("written");
    lastword
        .says("is read again: backend `b` added, backend `mock` removed, backend `push` removed, no default model")
        .await;
    for (config, wrong) in [
        (
            "[backends.b]\nkind = \"mock\"\n\n[backends.c]\nknid = \"mock\"\n",
            "lastword.toml:4: [backends.c] has no `kind`",
        ),
        (
            "[backends.b]\nkind = \"mock\"\ntxet = \"secret\"\n",
            "lastword.toml:3: unknown key `txet` in [backends.b]; did you mean `text`?",
        ),
    ] {
        fs::write(&file, config).expect("written");
        lastword.signal("HUP").await;
        let refused = lastword.says("is wrong now, the one before it stays: ").await;
        assert!(refused.contains(wrong) && !refused.contains("secret"), "{refused}");
        assert_eq!(at.get("/readyz", &[]).await.status, 200);
    }
    let fixed = "[server]\nheartbeat = \"1s\"\nlisten = \"127.0.0.1:1\"\n[limits]\nrunning_streams = 5\n";
    fs::write(&file, format!("{fixed}[backends.b]\nkind = \"mock\"\n")).expect("written");
    lastword.signal("HUP").await;
    lastword.says("the configuration is read again: nothing new").await;
    // The flag wins over what the file says of `listen`.
    lastword.says("takes effect after a restart: server.heartbeat, limits.running_streams").await;
    fs::remove_file(&file).expect("removed");
    lastword.signal("HUP").await;
    lastword.says("there is no file there to be read again").await;
    let models = at.get("/v1/models", &[]).await.text().await;
    assert!(models.contains("b/words") && !models.contains("mock/words"), "{models}");
    assert_eq!(reader.await.expect("it ran"), Ok(()), "who ran through all this saw nothing of it");
}
