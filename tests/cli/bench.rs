//! `bench` against a real server, and against one that loses.

use std::thread;

use serde_json::Value;

use crate::{
    cuts::{end, start},
    server::{Serving, config},
};

#[test]
fn a_bench_agrees_with_the_server_and_finds_nothing_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::start(config(folder.path(), ""), &[]);
    let arguments =
        ["bench", "--json", "--streams", "8", "--tokens", "50", "--rate", "100", "--drop", "1", "--duration", "3s"];
    let (printed, complaints, code) = end(start(folder.path(), &server.url(), &arguments), Vec::new());
    assert_eq!((&*complaints, code), ("", Some(0)), "{printed}");
    let report: Value = serde_json::from_str(&printed).unwrap();
    let number = |name: &str| report[name].as_f64().unwrap();
    let metrics = crate::get(&server.address, "/metrics");
    let metric = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    };
    assert!(number("tokens") > 500.0, "{report}");
    // The end may have come upon one that was on its way.
    let resumes = metric("lastword_resumes_total");
    assert!((0.0..=2.0).contains(&(resumes - number("resumes"))), "{resumes} {report}");
    assert!(number("resumes") > 4.0, "{report}");
    let answers: f64 = report["answers"].as_object().unwrap().values().map(|n| n.as_f64().unwrap()).sum();
    // Beside its words an answer has a few records of its own.
    let words = metric("lastword_records_total") - 5.0 * answers;
    assert!((number("tokens") / words - 1.0).abs() < 0.05, "{words} {report}");
    assert_eq!((number("lost_bytes"), number("doubled_bytes")), (0.0, 0.0));
    assert!(number("seconds") < 10.0 && report["errors"] == serde_json::json!({}), "{report}");
}

#[test]
fn a_bench_sees_what_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::start(config(folder.path(), "delay = \"0ms\"\n"), &[]);
    let thief = thief(&server.address);
    let arguments = ["bench", "--streams", "1", "--tokens", "40", "--delay", "5ms", "--duration", "1s"];
    let (printed, _, code) = end(start(folder.path(), &thief, &arguments), Vec::new());
    assert!(!printed.contains("lost         0 bytes"), "{printed}");
    assert!(printed.contains("doubled      0 bytes"), "{printed}");
    assert_eq!(code, Some(1));
}

/// A relay that makes of one word of each answer another event, which says nothing.
fn thief(to: &str) -> String {
    use std::{
        io::{self, Read, Write},
        net::{Shutdown, TcpListener, TcpStream},
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let to = to.to_owned();
    thread::spawn(move || {
        for mut client in listener.incoming().map_while(Result::ok) {
            let mut server = TcpStream::connect(&to).unwrap();
            let (mut asks, mut hears) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || io::copy(&mut asks, &mut hears));
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(n @ 1..) = server.read(&mut buffer) {
                    let word = b".7\"}\nid";
                    if let Some(at) = buffer[..n].windows(word.len()).position(|window| window == word) {
                        let data = buffer[..at].windows(8).rposition(|window| window == b"{\"text\":").unwrap();
                        buffer[data..data + 8].copy_from_slice(b"{\"tixt\":");
                    }
                    if client.write_all(&buffer[..n]).is_err() {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Both);
            });
        }
    });
    url
}
