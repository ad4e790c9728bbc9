//! `lastword bench`: drive a deployment as many readers at once would, and see whether each gets its answer to the letter.
//!
//! What it holds does not grow with time: the answers of the moment, and two histograms.

mod reader;
mod tally;

use std::{
    io::{IsTerminal, Write, stderr, stdout},
    mem,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::Args;
use serde_json::Value;
use tokio::{
    select,
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{Instant, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use self::{
    reader::{Load, Reader, Who},
    tally::{Report, Tally},
};
use super::{INTERRUPTED, remote::Remote};

/// The mock's, if nothing is said.
const DELAY: Duration = Duration::from_millis(20);
/// How often the progress line is written.
const TICK: Duration = Duration::from_millis(500);
/// How long the last answers may take to end, once they were cancelled.
const FAREWELL: Duration = Duration::from_secs(10);

/// Drive a deployment, and verify what comes out of it.
///
/// So many readers ask, read to the end, compare what they were told with what was said, and ask again. With --drop they are cut off at
/// random and resume. A model that is not the mock's costs what it costs. Exits with 1 if anything was lost or doubled, or nothing
/// was heard.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword bench --streams 100 --rate 50 --drop 0.5
  lastword bench --url https://answers.example.com --model fast --prompt 'Tell me about rivers' --streams 4
  lastword bench --duration 1m --json | jq .first_token_ms.p99")]
pub(super) struct Bench {
    /// How many answers at a time
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    streams: u32,

    /// For how long; what runs then is cancelled, and compared like the rest
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,

    /// How probable it is that a reader is cut off within a second, from 0 to 1
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    drop: f64,

    /// Who is asked [default: mock/words, the mock]
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// What another model than the mock is asked
    #[arg(long, value_name = "TEXT", requires = "model", default_value = "Tell me a long story about rivers.")]
    prompt: String,

    /// How long an answer is; another model takes it for its limit
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    tokens: u32,

    /// How many tokens the mock says in a second [default: 50]
    #[arg(long, value_name = "N", conflicts_with_all = ["delay", "model"], value_parser = rate)]
    rate: Option<f64>,

    /// The time between two tokens of the mock
    #[arg(long, value_name = "TIME", conflicts_with = "model", value_parser = humantime::parse_duration)]
    delay: Option<Duration>,

    /// The result as one JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

fn probability(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|p| (0.0..=1.0).contains(p)).ok_or_else(|| "write a number from 0 to 1".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let within = |rate: &f64| (0.001..=1e6).contains(rate);
    text.parse().ok().filter(within).ok_or_else(|| "write a number from 0.001 to 1000000".to_owned())
}

impl Bench {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(self.drive())
    }

    async fn drive(self) -> anyhow::Result<ExitCode> {
        let (lastword, load) = (self.remote.lastword()?, Arc::new(self.load()));
        // That nobody is there is told once, and at once.
        let _models: Value = lastword.get("v1/models").await?;
        let (tally, stop) = (Arc::new(Tally::new()), CancellationToken::new());
        let mut readers = JoinSet::new();
        for n in 0..self.streams {
            let (lastword, load, tally, stop) = (lastword.clone(), load.clone(), tally.clone(), stop.clone());
            readers.spawn(Reader { n, lastword, load, tally, stop }.run());
        }
        let interrupted = self.wait(&tally, &stop, &mut readers).await?;
        let report = tally.report();
        match self.json {
            true => writeln!(stdout(), "{}", serde_json::to_string(&report)?)?,
            false => write!(stdout(), "{report}")?,
        }
        Ok(match (report.is_good(), interrupted) {
            (false, _) => ExitCode::FAILURE,
            (true, true) => ExitCode::from(INTERRUPTED),
            (true, false) => ExitCode::SUCCESS,
        })
    }

    fn load(&self) -> Load {
        let delay = self.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)).or(self.delay).unwrap_or(DELAY);
        let who = match &self.model {
            Some(model) => Who::Model { model: model.clone(), prompt: self.prompt.clone() },
            None => Who::Mock { delay },
        };
        Load { who, tokens: self.tokens, drop: self.drop }
    }

    /// Waits for the readers, and tells a person how it goes. Whether Ctrl-C was pressed.
    async fn wait(&self, tally: &Tally, stop: &CancellationToken, readers: &mut JoinSet<()>) -> anyhow::Result<bool> {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let (mut tick, watched) = (interval(TICK), stderr().is_terminal());
        let mut until = Instant::now() + self.duration;
        let mut interrupted = false;
        loop {
            select! {
                done = readers.join_next() => if done.is_none() { break },
                _ = tick.tick(), if watched => progress(&tally.report()),
                _ = interrupts.recv() => {
                    let again = mem::replace(&mut interrupted, true);
                    until = Instant::now() + if again { Duration::ZERO } else { FAREWELL };
                    stop.cancel();
                }
                () = sleep_until(until) => {
                    if stop.is_cancelled() {
                        tally.failed("it did not end in time", readers.len() as u64);
                        break;
                    }
                    until = Instant::now() + FAREWELL;
                    stop.cancel();
                }
            }
        }
        if watched {
            let _nobody_looks = stderr().write_all(b"\r\x1b[K");
        }
        Ok(interrupted)
    }
}

/// Writes over itself. A terminal that is too narrow shows what fits.
fn progress(report: &Report) {
    let _nobody_looks = write!(stderr(), "\r\x1b[K\x1b[?7l{}\x1b[?7h", report.line());
}
