//! What the doctor says of a server that is reached without and with something bad in between.

use std::{
    io::{Read, Write},
    mem,
    net::{Shutdown, TcpListener, TcpStream},
    process::{Command, Output},
    thread,
    time::Duration,
};

use serde_json::Value;

use super::server::{Serving, config};

/// What lies in between does this.
#[derive(Clone, Copy, PartialEq)]
enum Bad {
    /// Hands a response on when it is whole.
    Buffers,
    /// Takes this header out of requests.
    Takes(&'static str),
    /// Gives up when nothing came for so long.
    Impatient(Duration),
    /// Says that it packs what may be packed.
    Packs,
    /// Says 502 to all.
    Lost,
}

/// A proxy that speaks HTTP/1.1, one request a connection; gone with the process.
fn proxy(to: &str, bad: Bad) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let to = to.to_owned();
    thread::spawn(move || {
        for near in listener.incoming() {
            let (near, to) = (near.unwrap(), to.clone());
            thread::spawn(move || pass(near, &to, bad));
        }
    });
    address
}

fn pass(mut near: TcpStream, to: &str, bad: Bad) -> Option<()> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        near.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    if bad == Bad::Lost {
        return near.write_all(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").ok();
    }
    let head = String::from_utf8(head).ok()?;
    let is = |line: &str, name: &str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
    let length = head.lines().find(|line| is(line, "content-length"));
    let length = length.map_or(0, |line| line.split_once(':').unwrap().1.trim().parse().unwrap());
    let mut body = vec![0; length];
    near.read_exact(&mut body).ok()?;
    let taken = |line: &&str| !matches!(bad, Bad::Takes(name) if is(line, name));
    let lines: Vec<_> = head.trim_end().lines().filter(taken).collect();
    let mut far = TcpStream::connect(to).ok()?;
    write!(far, "{}\r\nconnection: close\r\n\r\n", lines.join("\r\n")).ok()?;
    far.write_all(&body).ok()?;
    if let Bad::Impatient(patience) = bad {
        far.set_read_timeout(Some(patience)).ok()?;
    }
    let mut packs = bad == Bad::Packs && lines.iter().any(|line| is(line, "accept-encoding") && line.contains("gzip"));
    let (mut whole, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match far.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(n) if bad == Bad::Buffers => whole.extend_from_slice(&piece[..n]),
            Ok(n) => {
                if mem::take(&mut packs) {
                    let (status, rest) = piece[..n].split_at(b"HTTP/1.1 200 OK\r\n".len());
                    near.write_all(&[status, b"content-encoding: gzip\r\n", rest].concat()).ok()?;
                } else {
                    near.write_all(&piece[..n]).ok()?;
                }
            }
        }
    }
    near.write_all(&whole).ok()?;
    near.shutdown(Shutdown::Both).ok()
}

fn doctor(address: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastword"));
    let patience: &[_] = if arguments.contains(&"--patience") { &[] } else { &["--patience", "600ms"] };
    command.args(["doctor", address, "--json"]).args(patience).args(arguments).env_clear().output().unwrap()
}

/// How each check went, and what was said of it.
fn findings(out: &Output) -> Vec<(String, String, String)> {
    let text = |value: &Value, member: &str| value[member].as_str().unwrap_or_default().to_owned();
    let lines = super::text(&out.stdout).lines().map(|line| serde_json::from_str(line).unwrap());
    lines.map(|line: Value| (text(&line, "check"), text(&line, "verdict"), text(&line, "finding"))).collect()
}

/// All verdicts are these but for the named checks; what was said of those.
#[track_caller]
fn only(out: &Output, bad: &[(&str, &str)]) -> String {
    let mut said = String::new();
    for (check, verdict, finding) in findings(out) {
        // In the clear, on this machine; and nobody named an origin.
        let usual = if matches!(&*check, "http/2" | "cors") { "note" } else { "ok" };
        let expected = bad.iter().find(|(name, _)| *name == check).map_or(usual, |(_, verdict)| verdict);
        assert!(expected == "*" || verdict == expected, "{check} is {verdict}, not {expected}: {finding}");
        if bad.iter().any(|(name, _)| *name == check) {
            said += &finding;
        }
    }
    let failed = bad.iter().any(|(_, verdict)| *verdict == "fail");
    assert_eq!(out.status.code(), Some(i32::from(failed)), "{}", super::text(&out.stderr));
    said
}

fn serving(folder: &std::path::Path) -> Serving {
    let arguments = config(folder, "");
    let file = folder.join("lastword.toml");
    let more = "[server]\nheartbeat = \"100ms\"\ncors = [\"https://app.example.com\"]\n";
    let text = std::fs::read_to_string(&file).unwrap().replace("[server]\n", more);
    std::fs::write(&file, text).unwrap();
    Serving::start(arguments, &[])
}

#[test]
fn a_server_with_nothing_in_between_is_well_and_nothing_is_left_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = serving(folder.path());
    let out = doctor(&server.address, &[]);
    // With so little patience no heartbeat counts: those within the first second may be the head's.
    assert_eq!(
        only(&out, &[("silence", "note")]),
        "an answer stayed open for 600ms of silence; too short to see a heartbeat"
    );
    let checks: Vec<_> = findings(&out).into_iter().map(|(check, ..)| check).collect();
    assert_eq!(checks, ["reached", "http/2", "clock", "words", "compression", "resume", "silence", "cors"]);
    assert!(super::get(&server.address, "/v1/streams").contains("\"streams\":[]"));
    let out = doctor(&server.address, &["--origin", "https://app.example.com", "--patience", "2s"]);
    assert!(only(&out, &[("cors", "ok"), ("silence", "ok")]).contains("may ask, and resume"));
}

#[test]
fn a_certificate_that_only_this_machine_shall_trust_is_told_how_to_trust() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let arguments = config(folder.path(), "");
    let file = folder.path().join("lastword.toml");
    let more = format!("[server]\ntls_cert = {certificate:?}\ntls_key = {key:?}\n");
    let text = std::fs::read_to_string(&file).unwrap().replace("[server]\n", &more);
    std::fs::write(&file, text).unwrap();
    let server = Serving::start(arguments, &[]);
    let url = format!("https://localhost:{}", server.address.rsplit_once(':').unwrap().1);
    let said = only(&doctor(&url, &[]), &[("reached", "fail")]);
    assert!(said.contains("SSL_CERT_FILE=FILE.pem trusts"), "{said}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lastword"));
    command.args(["doctor", &url, "--json", "--patience", "600ms"]).env_clear().env("SSL_CERT_FILE", &certificate);
    only(&command.output().unwrap(), &[("silence", "note"), ("http/2", "ok")]);
}

#[test]
fn each_thing_in_the_way_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let server = serving(folder.path());
    let through = |bad, arguments: &[&str]| doctor(&proxy(&server.address, bad), arguments);
    let silence = ("silence", "note");

    let out = through(Bad::Buffers, &[]);
    // How much of it comes in one piece is the kernel's affair: there may be something to cut, or not.
    assert!(only(&out, &[("words", "fail"), ("resume", "*"), silence]).contains("holds them back"));

    let out = through(Bad::Takes("last-event-id"), &[]);
    assert!(only(&out, &[("resume", "fail"), silence]).contains("`Last-Event-ID` does not come through"));

    let out = through(Bad::Packs, &[]);
    assert!(only(&out, &[("compression", "warn"), silence]).contains("packed as `gzip`, word by word"));

    let origin = ["--origin", "https://app.example.com"];
    let out = through(Bad::Takes("origin"), &origin);
    assert!(only(&out, &[("cors", "fail"), silence]).contains("may not ask"));

    let out = doctor(&server.address, &["--origin", "https://other.example.com"]);
    assert!(only(&out, &[("cors", "fail"), silence]).contains("may not ask"));

    let quiet = tempfile::tempdir().unwrap();
    let quiet = Serving::start(config(quiet.path(), ""), &[]); // a heartbeat every 15 s
    let out = doctor(&proxy(&quiet.address, Bad::Impatient(Duration::from_millis(300))), &[]);
    assert!(only(&out, &[("silence", "fail")]).contains("was cut off after 0."));

    let out = through(Bad::Lost, &[]);
    assert_eq!(out.status.code(), Some(1));
    let [(check, verdict, said)] = &findings(&out)[..] else { panic!("one finding") };
    assert_eq!((&**check, &**verdict), ("reached", "fail"));
    assert!(said.contains("/healthz is 502"), "{said}");
}

#[test]
fn a_server_without_a_mock_says_which_flag_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lastword.toml");
    std::fs::write(&file, "[backends.up]\nkind = \"openai\"\nbase_url = \"http://127.0.0.1:9/v1\"\n").unwrap();
    let server = Serving::start(folder.path(), &[]);
    let out = doctor(&server.address, &[]);
    assert_eq!(out.status.code(), Some(1));
    assert!(super::text(&out.stdout).contains("name a model of its own with --model"), "{}", super::text(&out.stdout));
}
