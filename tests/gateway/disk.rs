//! What clients are told when the store's disk is full, and when something else has changed what is on it.
//!
//! The disk is really full, under the real binary: a small file system in memory, in a mount namespace of its own. Where that may not
//! be made, the test says so and does nothing.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    process::Stdio,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use crate::common::{At, Ending, TestGateway, let_go, only, process::Process, soon, sse, text};

/// A small disk. It is gone when this is dropped and all who use it have ended.
struct Disk {
    holder: Child,
    path: PathBuf,
}

impl Disk {
    /// Of 16 MiB, over this folder; or why it cannot be made.
    async fn new(path: &Path) -> Result<Self, String> {
        let mount = "mount -t tmpfs -o size=16m tmpfs \"$0\" && echo mounted && exec cat";
        let holder = Command::new("unshare")
            .args(["-m", "sh", "-c", mount])
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut holder = holder.map_err(|error| format!("unshare: {error}"))?;
        let mut said = BufReader::new(holder.stdout.take().expect("piped")).lines();
        match soon(said.next_line()).await {
            Ok(Some(_)) => Ok(Self { holder, path: path.to_owned() }),
            _ => Err("no file system may be mounted here".to_owned()),
        }
    }

    fn id(&self) -> u32 {
        self.holder.id().expect("it runs")
    }

    /// What else is on this disk, as seen from outside.
    fn filler(&self) -> PathBuf {
        let path = self.path.strip_prefix("/").expect("an absolute path");
        Path::new("/proc").join(self.id().to_string()).join("root").join(path).join("filler")
    }

    /// But for so many bytes.
    fn fill(&self, left: u64) {
        let mut filler = File::create(self.filler()).expect("made");
        let full = loop {
            if let Err(full) = filler.write_all(&[0; 4096]) {
                break full;
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        let length = filler.metadata().expect("there").len();
        filler.set_len(length - left).expect("cut");
    }

    fn make_room(&self) {
        fs::remove_file(self.filler()).expect("removed");
    }

    async fn start(&self) -> Process {
        let mut command = Command::new("nsenter");
        command.args(["-t", &self.id().to_string(), "-m", env!("CARGO_BIN_EXE_lastword")]);
        let path = self.path.join("data");
        let store = [("LASTWORD_STORE__ENGINE", "disk"), ("LASTWORD_STORE__PATH", path.to_str().expect("UTF-8"))];
        Process::start_by(command, "127.0.0.1:0", &store).await
    }
}

async fn ready(at: At) -> (u16, String) {
    let response = at.get("/readyz", &[]).await;
    (response.status, response.text().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_running_answers_end_and_say_why_and_with_room_it_goes_on_without_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = match Disk::new(folder.path()).await {
        Ok(disk) => disk,
        // Past the harness, which keeps to itself what a test says that passes.
        Err(why) => return writeln!(io::stderr(), "skipped, no disk can be filled: {why}").expect("said"),
    };
    let process = disk.start().await;
    let at = At(process.address());
    let words: String = (0..20_000).map(|n| format!("{n} ")).collect();
    let mut ids = Vec::new();
    for _ in 0..8 {
        ids.push(at.say(json!({"text": words, "delay": "3ms"}), json!({})).await);
    }
    let mut readers = Vec::new();
    for id in &ids {
        let mut response = at.events(id, &sse::Client::default()).await;
        let first = response.body.next().await.expect("it has begun");
        readers.push(tokio::spawn(async move {
            let (rest, ending) = soon(response.body.rest()).await;
            assert_eq!(ending, Ending::Clean);
            sse::read(&[first, rest].concat()).events
        }));
    }
    disk.fill(0);
    let mut seen = Vec::new();
    for reader in readers {
        let events = reader.await.expect("it ends");
        let end = only(&events, "end");
        assert_eq!((&end["status"], &end["error"]["code"]), (&json!("failed"), &json!("store_refused")), "{end}");
        assert!(end["error"]["message"].as_str().is_some_and(|why| why.contains("make room")), "{end}");
        assert!(words.starts_with(&text(&events)) && !text(&events).is_empty());
        seen.push(events);
    }
    let (status, why) = ready(at).await;
    assert!(status == 503 && why.contains("make room") && why.contains("data"), "{status} {why}");
    let refused = at.send("POST", "/v1/streams", &[], &json!({"prompt": "more"}).to_string()).await;
    assert_eq!(refused.status, 503);
    let refused: Value = refused.json().await;
    assert_eq!(refused["code"], "store_unavailable", "{refused}");
    disk.make_room();
    soon(async { while ready(at).await.0 != 200 {} }).await;
    let id = at.say(json!({"text": "all is well", "delay": "0ms"}), json!({})).await;
    at.state_when(&id, |state| state["status"] == "completed").await;
    for id in &ids {
        at.state_when(id, |state| state["status"] == "failed").await;
    }
    process.kill().await;
    let process = disk.start().await;
    let at = At(process.address());
    for (id, seen) in ids.iter().zip(&seen) {
        let response = at.events(id, &sse::Client::default()).await;
        let (again, ending) = soon(response.body.rest()).await;
        assert_eq!(ending, Ending::Clean);
        let told = |events: &[sse::Event]| -> Vec<_> {
            events.iter().map(|event| (event.id.clone(), event.data.clone())).collect()
        };
        let (mut again, mut seen) = (told(&sse::read(&again).events), told(seen));
        // Whoever read to the end was shown it from memory; it is stored as it was.
        assert_eq!(again.pop(), seen.pop());
        assert_eq!(again, seen);
    }
    assert_eq!(at.state(&id).await["text"], "all is well");
    process.kill().await;
    fs::remove_file(disk.filler().with_file_name("data").join("reserve")).expect("it was kept");
    disk.fill(1 << 20);
    // Started where there is hardly any room, it tells what it has; with room, it takes more.
    let process = disk.start().await;
    let at = At(process.address());
    assert_eq!(at.state(&id).await["text"], "all is well");
    let (status, why) = ready(at).await;
    assert!(status == 503 && why.contains("make room"), "{status} {why}");
    disk.make_room();
    soon(async { while ready(at).await.0 != 200 {} }).await;
    process.kill().await;
}

#[tokio::test]
async fn a_damaged_answer_is_refused_before_the_head_and_the_others_are_told_as_ever() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = TestGateway::on_disk(folder.path()).await;
    let mut ids = Vec::new();
    for text in ["one", "two"] {
        ids.push(gateway.say(text, json!({})).await);
        gateway.whole(&ids[ids.len() - 1]).await;
    }
    gateway.drain().await;
    soon(change_first_block(&folder.path().join("base.redb"))).await;
    let gateway = TestGateway::on_disk(folder.path()).await;
    let response = gateway.events(&ids[0], None).await;
    assert_eq!(response.status, 500, "an EventSource does not come back");
    let told = response.json().await;
    assert_eq!(told["code"], "stream_damaged", "{told}");
    assert!(told["detail"].as_str().is_some_and(|why| why.contains(&ids[0])), "{told}");
    assert_eq!(text(&gateway.whole(&ids[1]).await), "two");
    assert_eq!(gateway.get("/readyz", &[]).await.status, 200);
    let removed = gateway.send("DELETE", &format!("/v1/streams/{}", ids[0]), &[], "").await;
    assert_eq!(removed.status, 204);
    assert_eq!(gateway.events(&ids[0], None).await.status, 404);
}

/// Of the first stream: ids are in the order in which they were made.
async fn change_first_block(base: &Path) {
    use redb::ReadableTable;
    let base = let_go(base).await;
    let write = base.begin_write().expect("begun");
    {
        let mut blocks = write.open_table(redb::TableDefinition::<&[u8], &[u8]>::new("blocks")).expect("a table");
        let first = blocks.first().expect("readable").expect("there");
        let (key, mut block) = (first.0.value().to_vec(), first.1.value().to_vec());
        drop(first);
        *block.last_mut().expect("bytes") ^= 1;
        blocks.insert(&key[..], &block[..]).expect("put");
    }
    write.commit().expect("committed");
}
