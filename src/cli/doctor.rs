//! `lastword doctor`: is something in the way between here and a deployed lastword?

use std::{
    io::{Write, stdout},
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{remote::Key, screen::has_colours, table::shown};
use crate::client::doctor::{self, Finding, Verdict};

/// Look at a deployed lastword from the outside, and say in words what is in the way.
///
/// Whether words come one by one, are packed or held back; whether a silent answer stays open; whether a reader that was cut off comes
/// back; HTTP/2, CORS, the clock. The mock of the server is asked (a few short answers, removed behind it), or --model.
/// Exits with 0 if all works, 1 if something does not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword doctor https://answers.example.com
  lastword doctor https://answers.example.com --origin https://app.example.com --patience 5m
  lastword doctor 127.0.0.1:8080 --patience 1s --json")]
pub(super) struct Doctor {
    /// Where it is reached, as its clients reach it
    url: String,

    /// Who is asked, where there is no mock: less can be looked at then
    #[arg(long, short, value_name = "NAME")]
    model: Option<String>,

    /// How long an answer is to be silent, to see who cuts it off
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = humantime::parse_duration)]
    patience: Duration,

    /// The origin of a page that asks from elsewhere: https://app.example.com
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,

    /// Each finding as one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    key: Key,
}

impl Doctor {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let client = self.key.client(&self.url, "URL")?;
        let doctor = doctor::Doctor { client, model: self.model, patience: self.patience, origin: self.origin };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (mut out, mut done, mut failed) = (stdout().lock(), Ok(()), false);
        let coloured = has_colours(&out);
        runtime.block_on(doctor.examine(|finding| {
            failed |= finding.verdict == Verdict::Fail;
            if done.is_ok() {
                done = match self.json {
                    true => {
                        serde_json::to_string(&finding).map_err(Into::into).and_then(|line| writeln!(out, "{line}"))
                    }
                    false => print(&mut out, &finding, coloured),
                };
            }
        }));
        done?;
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn print(out: &mut impl Write, finding: &Finding, coloured: bool) -> std::io::Result<()> {
    let (word, colour) = match finding.verdict {
        Verdict::Ok => ("ok", 32),
        Verdict::Note => ("note", 36),
        Verdict::Warn => ("warn", 33),
        Verdict::Fail => ("FAIL", 31),
    };
    let word = if coloured { format!("\x1b[{colour}m{word:4}\x1b[0m") } else { format!("{word:4}") };
    writeln!(out, "{word}  {:11}  {}", finding.check, shown(&finding.finding))?;
    if let Some(remedy) = &finding.remedy {
        writeln!(out, "{:19}{}", "", shown(remedy))?;
    }
    out.flush()
}
