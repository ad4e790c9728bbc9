//! In a real terminal: what a person sees, and what the keys do.

use std::{
    env,
    io::ErrorKind,
    process::{Command, Output},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::{
    cuts::Relay,
    server::{Serving, config},
};

/// Longer than anything takes that is waited for.
const LONG: Duration = Duration::from_secs(60);

/// A terminal of 100 columns in which lastword runs, and after it its exit code is told. Dropping it ends all that runs in it.
struct Terminal {
    folder: TempDir,
}

impl Terminal {
    fn run(url: &str, command: &str, variables: &[(&str, &str)]) -> Self {
        let terminal = Self { folder: tempfile::tempdir().unwrap() };
        let lastword = env!("CARGO_BIN_EXE_lastword");
        // Ctrl-C is meant for the command, and not for the shell around it.
        let script = format!("trap : INT; {lastword} {command}; echo \"[exit $?]\"; exec cat");
        let size = ["-x", "100", "-y", "40"];
        let set: Vec<_> =
            variables.iter().chain(&[("LASTWORD_URL", url)]).map(|(name, value)| format!("{name}={value}")).collect();
        let set = set.iter().flat_map(|set| ["-e", set]);
        let arguments: Vec<_> =
            ["new-session", "-d"].into_iter().chain(size).chain(set).chain(["sh", "-c", &script]).collect();
        terminal.tmux(&arguments);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.env_clear().env("PATH", env::var_os("PATH").unwrap()).current_dir(self.folder.path());
        match command.args(["-u", "-f", "/dev/null", "-S", "socket"]).args(arguments).output() {
            Ok(Output { status, stdout, .. }) if status.success() => String::from_utf8(stdout).unwrap(),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("this test needs tmux: `apt-get install tmux`, or `tests/run`, which does that")
            }
            other => panic!("tmux {arguments:?}: {other:?}"),
        }
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// All that stands there, a line that was too wide as one.
    fn text(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-S", "-"])
    }

    /// The same, with what makes it colourful.
    fn colours(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J", "-e", "-S", "-"])
    }

    /// Waits until these words stand there; all that does.
    fn until(&self, words: &str) -> String {
        self.until_such(|text| text.contains(words))
    }

    fn until_such(&self, such: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        loop {
            let text = self.text();
            if such(&text) {
                return text;
            }
            assert!(began.elapsed() < LONG, "this is not what was waited for:\n{text}");
        }
    }

    /// Waits for the end; all but what lastword itself said, on one line.
    fn answer(&self, code: u8) -> String {
        let text = self.until("[exit ");
        assert!(text.contains(&format!("[exit {code}]")), "{text}");
        let (answer, _) = text.split_once("[exit ").unwrap();
        answer.lines().filter(|line| !line.starts_with("lastword: ")).collect()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

/// Numbered words, more than are waited for.
fn words() -> String {
    (0..100_000).map(|n| format!("w{n} ")).collect()
}

#[test]
fn thoughts_are_dimmed_and_nothing_a_model_says_is_obeyed() {
    let folder = tempfile::tempdir().unwrap();
    let mock = "reasoning = \"let me think\"\ntext = \"so \\u001b[2J\\u001b[31mbe it\"\ndelay = \"0ms\"\n";
    let server = Serving::start(config(folder.path(), mock), &[]);
    let terminal = Terminal::run(&server.url(), "chat go", &[]);
    terminal.until("[exit 0]");
    // The terminal tells of a change where the next letter stands.
    let seen = terminal.colours();
    let (thought, said) = seen.split_once("\n\n\u{1b}[0m").unwrap_or_else(|| panic!("{seen:?}"));
    assert_eq!(thought, "\u{1b}[2mlet me think");
    assert!(said.contains("mso [2J[31mbe it\n[exit 0]\n"), "{seen:?}");
    let terminal = Terminal::run(&server.url(), "chat go", &[("NO_COLOR", "1")]);
    terminal.until("[exit 0]");
    let plain = "let me think\n\nso [2J[31mbe it\n[exit 0]\n";
    assert!(terminal.colours().starts_with(plain), "{:?}", terminal.colours());
}

#[test]
fn ctrl_c_stops_the_answer() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), &words(), "5ms");
    let terminal = Terminal::run(&server.url(), "chat go", &[]);
    terminal.until("w20 ");
    terminal.press("C-c");
    let answer = terminal.answer(130).replace("^C", "");
    let state = server.state();
    assert_eq!(state["status"], "cancelled");
    // The key itself makes the terminal forget what was on its way to it: a word may be missing, and none is made up.
    let mut said = state["text"].as_str().unwrap().split(' ');
    assert!(answer.split_whitespace().all(|seen| said.any(|said| said == seen)), "{answer}\n{state}");
}

#[test]
fn ctrl_c_leaves_an_answer_that_is_only_watched() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), &words(), "5ms");
    let id = server.ask();
    let terminal = Terminal::run(&server.url(), &format!("tail {id}"), &[]);
    terminal.until("w20 ");
    terminal.press("C-c");
    let text = terminal.until("[exit 130]");
    assert!(text.contains(&format!("lastword: left; for the rest: lastword tail {id} --from ")), "{text}");
    assert_eq!(server.state()["status"], "running");
}

#[test]
fn an_answer_goes_on_behind_each_note_of_a_cut() {
    let folder = tempfile::tempdir().unwrap();
    let words: String = (0..150).map(|n| format!("w{n} ")).collect();
    let server = Serving::saying(folder.path(), &words, "5ms");
    let relay = Relay::new(&server.address, 4);
    let terminal = Terminal::run(&relay.url, "chat go", &[]);
    assert_eq!(terminal.answer(0).trim_end(), words.trim_end());
    // One that brings nothing is no cut of its own.
    let notes = terminal.text().matches("; reconnecting, for at most 2m\n").count();
    assert!((1..=4).contains(&notes), "{}", terminal.text());
    assert!(terminal.colours().contains("lastword: \u{1b}[2m"), "{:?}", terminal.colours());
}

#[test]
fn a_restart_in_mid_answer_is_seen_and_survived() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::saying(folder.path(), &words(), "5ms");
    let address = server.address.clone();
    let terminal = Terminal::run(&server.url(), "chat go", &[]);
    terminal.until("w20 ");
    server.kill();
    terminal.until("; reconnecting, for at most 2m\n");
    let server = Serving::start_at(&address, folder.path(), &[]);
    let answer = terminal.answer(1);
    let state = server.state();
    assert_eq!((state["status"].as_str(), state["text"].as_str()), (Some("interrupted"), Some(answer.trim_end())));
    assert!(terminal.text().contains("lastword: the answer was interrupted: "), "{}", terminal.text());
}

#[test]
fn a_bench_shows_how_it_goes_and_ctrl_c_ends_it_with_its_result() {
    let folder = tempfile::tempdir().unwrap();
    let server = Serving::start(config(folder.path(), ""), &[]);
    let terminal = Terminal::run(&server.url(), "bench --streams 4 --tokens 2000 --duration 1h", &[]);
    let going = " tokens/s, 0 answers, 0 resumes, lost 0, doubled 0, errors 0";
    terminal.until_such(|text| text.contains(going) && !text.contains(": 0 tokens/s"));
    terminal.press("C-c");
    let text = terminal.until("[exit 130]");
    assert!(!text.contains("tokens/s"), "{text}");
    for line in ["lost         0 bytes\n", "doubled      0 bytes\n", "errors       0\n", "token delay  p50 "] {
        assert!(text.contains(line), "{text}");
    }
}
