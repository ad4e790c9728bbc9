//! `chat` and `tail` in a pipe: what is printed, what is asked, and what becomes of each kind of response.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    cuts::{end, start, until},
    server::{ID, Script, Serving, config, events, problem},
};

const END: &str = "event: end\ndata: {\"status\":\"completed\"}\nid: 9\n\n";

fn word(n: u64) -> String {
    format!("data: {{\"text\":\"{n} \"}}\nid: {n}\n\n")
}

/// What the command prints to which of these responses, its complaints, its exit code, and what was asked.
fn play(arguments: &[&str], responses: Vec<String>) -> (String, String, Option<i32>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let script = Script::new(responses);
    let (printed, complaints, code) = end(start(folder.path(), &script.url, arguments), Vec::new());
    (printed, complaints, code, script.asked())
}

#[test]
fn a_pipe_gets_the_text_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let mock = "text = \"one \\u001b[31mtwo\\n\"\nreasoning = \"well\"\ndelay = \"0ms\"\n";
    let server = Serving::start(config(folder.path(), mock), &[]);
    let (printed, complaints, code) = end(start(folder.path(), &server.url(), &["chat", "go"]), Vec::new());
    assert_eq!((&*printed, &*complaints, code), ("one \u{1b}[31mtwo\n", "", Some(0)));
}

#[test]
fn what_is_piped_in_stands_behind_the_argument() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), "x", "0ms");
    let ask = |arguments: &[&str], piped: &str| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lastword"))
            .current_dir(folder.path())
            .args(["chat", "--url", &server.address, "--model", "mock/echo"])
            .args(arguments)
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(piped.as_bytes()).unwrap();
        end(child, Vec::new())
    };
    assert_eq!(ask(&[], "piped\n"), ("piped\n".to_owned(), String::new(), Some(0)));
    assert_eq!(ask(&["said"], "piped"), ("said\n\npiped".to_owned(), String::new(), Some(0)));
    assert_eq!(ask(&["said"], ""), ("said".to_owned(), String::new(), Some(0)));
    let (_, complaints, code) = ask(&[], " \n");
    assert_eq!(
        (&*complaints, code),
        ("lastword: there is no prompt; say lastword chat \"…\", or pipe one in\n", Some(2))
    );
}

#[test]
fn a_template_takes_the_prompt_and_values_of_its_types() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), "x", "0ms");
    let ask = |arguments: &[&str]| {
        let all = [&["chat", "--model", "mock/echo", "--template"], arguments].concat();
        end(start(folder.path(), &server.url(), &all), Vec::new())
    };
    let (printed, complaints, code) = ask(&["summarise", "--var", "sentences=1", "3 words here"]);
    assert!(printed.contains("in at most 1 sentence,") && printed.ends_with("\n3 words here"), "{printed}");
    assert_eq!((&*complaints, code), ("", Some(0)));
    // A text is a text, also when it looks like a number.
    let (printed, _, _) = ask(&["summarise", "--var", "text=42"]);
    assert!(printed.ends_with("\n42"), "{printed}");
    for (arguments, complaint, expected) in [
        (&["summarise", "--var", "text=a", "b"][..], "the template has all it needs; leave the prompt out", 2),
        (&["translate", "Good day"], "is the prompt `text` or `to`? Give all but one of them with --var", 2),
        (&["translate", "--var", "to=French"], "400 bad_request: `text` ", 1),
        (&["sumarise", "x"], "did you mean `summarise`?", 1),
    ] {
        let (printed, complaints, code) = ask(arguments);
        assert!(complaints.contains(complaint), "{arguments:?}: {complaints}");
        assert_eq!((&*printed, code), ("", Some(expected)), "{arguments:?}");
    }
}

#[test]
fn json_is_one_line_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), "one two\n three", "0ms");
    let id = server.ask();
    let (printed, _, code) = end(start(folder.path(), &server.url(), &["tail", &id, "--json"]), Vec::new());
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["event"].as_str(), lines[0]["data"]["id"].as_str()), (Some("start"), Some(&*id)));
    let text: String = lines.iter().filter_map(|line| line["data"]["text"].as_str()).collect();
    assert_eq!(text, "one two\n three");
    assert_eq!(lines.last().unwrap()["data"]["status"], "completed");
    assert!(lines.iter().map(|line| line["id"].as_u64().unwrap()).is_sorted());
    assert_eq!(code, Some(0));
}

#[test]
fn tail_joins_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), "one two three", "0ms");
    let id = server.ask();
    let tail = |more: &[&str]| end(start(folder.path(), &server.url(), &[&["tail", &id], more].concat()), Vec::new());
    assert_eq!(tail(&[]).0, "one two three");
    let cursor = server.state()["cursor"].as_u64().unwrap();
    // Behind the last word come three records without one, and the end.
    assert_eq!(tail(&["--from", &(cursor - 5).to_string()]), (" three".to_owned(), String::new(), Some(0)));
    assert_eq!(tail(&["--new"]), (String::new(), String::new(), Some(0)));
    let (printed, complaints, code) = tail(&["--from", "99"]);
    assert_eq!((&*printed, code), ("", Some(0)));
    let told = format!("lastword: the answer has no such event; what follows begins behind event {}\n", cursor - 1);
    assert_eq!(complaints, told);
}

#[test]
fn an_answer_that_fails_exits_with_1_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let mock = "delay = \"0ms\"\nfault = { kind = \"reset\", after = 2 }\n";
    let server = Serving::start(config(folder.path(), mock), &[]);
    let (printed, complaints, code) = end(start(folder.path(), &server.url(), &["chat", "go"]), Vec::new());
    assert_eq!((&*printed, code), ("A river", Some(1)));
    assert!(complaints.starts_with("lastword: the answer failed: upstream_truncated: "), "{complaints}");
    // So does who only hears of it.
    let id = server.state()["id"].as_str().unwrap().to_owned();
    let (printed, complaints, code) = end(start(folder.path(), &server.url(), &["tail", &id, "--new"]), Vec::new());
    assert!(complaints.starts_with("lastword: the answer failed: upstream_truncated: "), "{complaints}");
    assert_eq!((&*printed, code), ("", Some(1)));
}

#[test]
fn a_server_that_was_never_there_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["chat", "go"][..], &["tail", ID], &["bench"]] {
        let (_, complaints, code) = end(start(folder.path(), "http://127.0.0.1:1", arguments), Vec::new());
        assert!(complaints.starts_with("lastword: cannot connect to http://127.0.0.1:1: "), "{complaints}");
        assert!(complaints.contains("is `lastword serve` running there?"), "{complaints}");
        assert_eq!(code, Some(1));
    }
}

#[test]
fn an_interrupt_stops_the_answer_and_all_that_was_said_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::start(config(folder.path(), "repeat = 1000\ndelay = \"1ms\"\n"), &[]);
    let mut child = start(folder.path(), &server.url(), &["chat", "go"]);
    let before = until(&mut child, 100);
    let kill = Command::new("sh").args(["-c", "kill -INT $0", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let (printed, complaints, code) = end(child, before);
    let state = server.state();
    assert_eq!((state["status"].as_str(), state["text"].as_str()), (Some("cancelled"), Some(&*printed)));
    assert_eq!((&*complaints, code), ("", Some(130)));
}

#[test]
fn who_has_seen_enough_is_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::start(config(folder.path(), "repeat = 1000\ndelay = \"1ms\"\n"), &[]);
    for arguments in [&["chat", "go"][..], &["chat", "--json", "go"]] {
        let mut child = start(folder.path(), &server.url(), arguments);
        until(&mut child, 1);
        child.stdout = None;
        assert_eq!(end(child, Vec::new()), (String::new(), String::new(), Some(0)));
    }
}

#[test]
fn a_body_that_ends_before_the_answer_does_is_gone_on_with() {
    let (printed, complaints, code, asked) = play(
        &["chat", "go"],
        vec![
            events(&format!(
                "{}{}",
                word(1).replace("id: 1", &format!("retry: 1\nid: {ID}-1")),
                "data: {\"text\":\"half"
            )),
            events(":\nretry: 1\n\n"),
            events(&format!("{}{END}", word(2))),
        ],
    );
    assert_eq!((&*printed, &*complaints, code), ("1 2 ", "", Some(0)));
    assert!(
        asked[0].starts_with("POST /v1/streams?chunking=token ") && asked[0].contains("\r\nidempotency-key: "),
        "{}",
        asked[0]
    );
    for again in &asked[1..] {
        assert!(again.starts_with(&format!("GET /v1/streams/{ID}/events?chunking=token ")), "{again}");
        assert!(again.contains("\r\nlast-event-id: 1\r\n"), "{again}");
    }
}

#[test]
fn a_post_that_is_cut_is_repeated_under_its_key() {
    let (printed, _, code, asked) = play(
        &["chat", "go"],
        vec![
            String::new(),
            problem("503 Service Unavailable", "retry-after: 0\r\n", "draining"),
            events(&format!("{}{END}", word(1))),
        ],
    );
    assert_eq!((&*printed, code), ("1 ", Some(0)));
    let keys: Vec<_> = asked.iter().map(|asked| asked.split_once("idempotency-key: ").unwrap().1).collect();
    // The key and, behind it, the body.
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    assert!(keys[0].ends_with("{\"prompt\":\"go\"}"), "{keys:?}");
}

#[test]
fn a_server_that_is_busy_is_waited_for_and_one_that_refuses_is_not() {
    let cut = || events(&word(1).replace("id:", "retry: 1\nid:"));
    let stranger = "HTTP/1.1 500 Internal Server Error\r\nconnection: close\r\ncontent-length: 4\r\n\r\noops";
    let busy =
        ["429 Too Many Requests", "503 Service Unavailable", "502 Bad Gateway"].map(|busy| problem(busy, "", "busy"));
    for busy in busy.into_iter().chain([stranger.to_owned()]) {
        let responses = vec![cut(), busy, events(&format!("{}{END}", word(2)))];
        let (printed, complaints, code, _) = play(&["tail", ID], responses);
        assert_eq!((&*printed, &*complaints, code), ("1 2 ", "", Some(0)));
    }
    for (refusal, code) in [
        ("404 Not Found", "stream_not_found"),
        ("410 Gone", "stream_expired"),
        ("401 Unauthorized", "denied"),
        ("500 Internal Server Error", "broken_template"),
    ] {
        let (printed, complaints, exit, asked) = play(&["tail", ID], vec![cut(), problem(refusal, "", code), cut()]);
        assert_eq!(complaints, format!("lastword: {} {code}: it is so; do this\n", &refusal[..3]));
        assert_eq!((&*printed, exit, asked.len()), ("1 ", Some(1), 2));
    }
}

#[test]
fn the_time_that_the_server_asks_for_is_waited() {
    let cut = |retry: u64| events(&word(1).replace("id:", &format!("retry: {retry}\nid:")));
    let rest = || events(&format!("{}{END}", word(2)));
    let busy = problem("429 Too Many Requests", "retry-after: 2\r\n", "busy");
    for responses in [vec![cut(2000), rest()], vec![cut(1), busy, rest()]] {
        let began = Instant::now();
        let (printed, _, code, _) = play(&["tail", ID], responses);
        assert_eq!((&*printed, code), ("1 2 ", Some(0)));
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    }
}

#[test]
fn what_a_reset_takes_back_is_told_and_not_passed_off_as_the_answer() {
    let first = format!("{}{}{}", word(1), word(2), word(3).replace("id:", "retry: 1\nid:"));
    let reset = "event: reset\ndata: {\"reason\":\"ahead\",\"after\":1}\n\n";
    let reset = reset.replace("\n\n", "\nretry: 1\n\n");
    let again = word(2).replace('2', "two").replace("id: two", "id: 2");
    let responses = || vec![events(&first), events(&reset), events(&again), events(END)];
    let (printed, complaints, code, asked) = play(&["tail", ID], responses());
    assert_eq!(printed, "1 2 3 two ");
    let mut lines = complaints.lines();
    let told = "lastword: what was printed behind event 1 is not in the answer; what follows begins there";
    assert_eq!(lines.next(), Some(told));
    let told = format!("lastword: what was printed is not the answer; for the answer: lastword tail {ID}");
    assert_eq!((lines.next(), code), (Some(&*told), Some(1)));
    for (asked, seen) in asked[1..].iter().zip([3, 1, 2]) {
        assert!(asked.contains(&format!("last-event-id: {seen}\r\n")), "{asked}");
    }
    // A machine was told, and may know what to do.
    let (printed, complaints, code, _) = play(&["tail", ID, "--json"], responses());
    assert!(printed.contains("{\"event\":\"reset\",\"data\":{\"reason\":\"ahead\",\"after\":1}}\n"), "{printed}");
    assert_eq!((&*complaints, code), ("", Some(0)));
}

#[test]
fn a_credential_goes_along_and_who_is_denied_does_not_come_back() {
    let folder = tempfile::tempdir().unwrap();
    let denied = "event: denied\ndata: {\"code\":\"key_expired\",\"message\":\"it was good until noon\"}\n\n";
    let script = Script::new(vec![events(&format!("{}{denied}", word(1)))]);
    let chat = |variable: &str| {
        Command::new(env!("CARGO_BIN_EXE_lastword"))
            .current_dir(folder.path())
            .args(["chat", "go", "--key-env", "MINE", "--url", &script.url])
            .env_clear()
            .env(variable, "sk-12345")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    };
    let out = chat("OTHER");
    assert_eq!(
        (crate::text(&out.stderr), out.status.code()),
        ("lastword: --key-env: the environment variable `MINE` is not set\n", Some(2))
    );
    let out = chat("MINE");
    assert_eq!(crate::text(&out.stdout), "1 ");
    assert_eq!(crate::text(&out.stderr), "lastword: denied: key_expired: it was good until noon\n");
    assert_eq!((out.status.code(), script.asked().len()), (Some(1), 1));
    assert!(script.asked()[0].contains("\r\nauthorization: Bearer sk-12345\r\n"), "{:?}", script.asked());
}

#[test]
fn who_is_no_lastword_is_told_so() {
    let hello = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    let moved = "HTTP/1.1 301 Moved\r\nlocation: https://elsewhere/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    for (response, told) in [(hello, "names no stream"), (moved, "it redirects to https://elsewhere/")] {
        let (_, complaints, code, _) = play(&["chat", "go"], vec![response.to_owned()]);
        assert!(complaints.contains(" and is no lastword: ") && complaints.contains(told), "{complaints}");
        assert_eq!(code, Some(1));
    }
    let (_, complaints, _, _) = play(&["tail", ID], vec![hello.to_owned()]);
    assert!(complaints.contains("its answer is no event stream"), "{complaints}");
}
