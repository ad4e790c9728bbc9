//! The binary as a shell sees it: what goes where, and the exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

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
    let out = lastword(folder.path(), &["serve", "--help"], &[]);
    assert!(text(&out.stdout).contains("lastword serve --backend http"), "{}", text(&out.stdout));
    assert_eq!(out.status.code(), Some(0));
}
