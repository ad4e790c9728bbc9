//! The command line: what can be typed, and what its exit codes mean.
//!
//! One file a command. A command that was understood and failed exits with 1; one that was not understood, or whose
//! configuration is wrong, with 2. What is printed goes where it may fail: a reader that has seen enough is no error.

mod bench;
mod chat;
pub mod check;
mod completions;
mod doctor;
mod keys;
mod prompts;
mod remote;
mod screen;
mod serve;
mod store;
mod table;
mod tail;
mod upstream;
mod watch;

use std::{io, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::config::{self, Config, Env, Flag};

/// An AI token-streaming gateway: an answer that was cut off goes on where it was.
#[derive(Debug, Parser)]
#[command(name = "lastword", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Line {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  lastword serve                                            with a mock model, on 127.0.0.1:8080
  lastword serve --backend http://127.0.0.1:11434           in front of any OpenAI-compatible server
  lastword check --probe                                    is the configuration right, and does every backend answer?
  lastword chat 'Tell me a story'                           the answer as it comes, whatever happens to the connection

Or ask in your own way:
  curl -N 127.0.0.1:8080/v1/streams -H 'accept: text/event-stream' -d '{\"prompt\":\"Tell me a story\"}'";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::Serve),
    Check(check::Check),
    Prompts(prompts::Prompts),
    Chat(chat::Chat),
    Tail(tail::Tail),
    Bench(bench::Bench),
    Doctor(doctor::Doctor),
    Store(store::Store),
    Keys(keys::Keys),
    Completions(completions::Completions),
}

/// The exit code after Ctrl-C: what a shell makes of a program that it ended.
const INTERRUPTED: u8 = 130;

/// What was typed cannot be meant.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

/// Does what the command line says.
#[must_use]
pub fn run() -> ExitCode {
    let well = |()| ExitCode::SUCCESS;
    let done = match Line::parse().command {
        Command::Serve(serve) => serve.run().map(well),
        Command::Check(check) => check.run().map(well),
        Command::Prompts(prompts) => prompts.run().map(well),
        Command::Chat(chat) => chat.run(),
        Command::Tail(tail) => tail.run(),
        Command::Bench(bench) => bench.run(),
        Command::Doctor(doctor) => doctor.run(),
        Command::Store(store) => store.run().map(well),
        Command::Keys(keys) => keys.run().map(well),
        Command::Completions(completions) => completions.run().map(well),
    };
    match done {
        Ok(code) => code,
        // Who reads what is printed has seen enough.
        Err(error) if error.downcast_ref().is_some_and(|io: &io::Error| io.kind() == io::ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            screen::tell(&format!("{error:#}"));
            ExitCode::from(if error.is::<config::Error>() || error.is::<Usage>() { 2 } else { 1 })
        }
    }
}

/// The configuration as this process sees it.
fn configuration(file: Option<PathBuf>, flags: &[Flag]) -> anyhow::Result<Config> {
    let working_directory = std::env::current_dir()?;
    Ok(Config::load(file.as_deref(), &working_directory, &environment(), flags)?)
}

/// What is not text cannot be meant for us.
fn environment() -> Env {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
