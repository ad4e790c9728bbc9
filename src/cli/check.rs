//! `lastword check`: is this configuration right, and what does it come to? With `--probe` also: who of those that it names answers?
//!
//! Prints what would be listened on, who would be asked and what could be asked for; never a credential. Serves nothing.

use std::{
    fmt,
    io::{Write, stdout},
    path::PathBuf,
    time::Duration,
};

use anyhow::bail;
use clap::Args;

use super::table::{self, Side, shown};
use crate::{
    config::Config,
    server::upstream::{self, Probe},
};

/// Check a configuration without starting.
///
/// Prints a summary and exits with 0, or says what is wrong and exits with 2. With --probe each backend is asked for one token, all at
/// once; exits with 1 if one of them gives none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword check --config /etc/lastword.toml
  lastword check --probe --within 1m")]
pub struct Check {
    /// The file; else lastword.toml in the working directory, else the built-in defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Ask each backend for one token, and which models it has
    #[arg(long)]
    probe: bool,

    /// How long each may take
    #[arg(long, value_name = "DURATION", default_value = "10s", requires = "probe", value_parser = humantime::parse_duration)]
    within: Duration,

    /// What came of it as JSON, one object a line
    #[arg(long, requires = "probe")]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let config = super::configuration(self.config, &[])?;
        let mut out = stdout().lock();
        if !self.json {
            write!(out, "{}", Summary(&config))?;
        }
        if !self.probe {
            return Ok(());
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let probes = runtime.block_on(upstream::probe(&config, self.within));
        if self.json {
            for probe in &probes {
                writeln!(out, "{}", serde_json::to_string(probe)?)?;
            }
        } else {
            writeln!(out)?;
            print(&mut out, &probes)?;
        }
        out.flush()?;
        let wrong =
            probes.iter().filter_map(|probe| Some(format!("{}; {}", probe.error.as_ref()?, probe.remedy.as_ref()?)));
        match wrong.collect::<Vec<_>>() {
            none if none.is_empty() => Ok(()),
            wrong => bail!(wrong.join("\n          ")),
        }
    }
}

fn print(out: &mut impl Write, probes: &[Probe]) -> std::io::Result<()> {
    let dash = || "-".to_owned();
    let rows: Vec<_> = probes
        .iter()
        .map(|probe| {
            [
                shown(&probe.backend),
                if probe.reachable { "yes" } else { "no" }.to_owned(),
                probe.first_token_ms.map_or_else(dash, |ms| format!("{ms:.0} ms")),
                probe.model.as_deref().map_or_else(dash, shown),
                probe.models.as_ref().map_or_else(dash, |models| models_of(models)),
            ]
        })
        .collect();
    let [left, right] = [Side::Left, Side::Right];
    let head = [("BACKEND", left), ("REACHABLE", left), ("FIRST TOKEN", right), ("ASKED", left), ("MODELS", left)];
    table::write(out, head, &rows)
}

/// How many, and the first of them.
fn models_of(models: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut first: Vec<_> = models.iter().take(SHOWN).map(|model| shown(model)).collect();
    if models.len() > SHOWN {
        first.push("…".to_owned());
    }
    format!("{}: {}", models.len(), first.join(", "))
}

/// A configuration in a few lines.
pub struct Summary<'c>(pub &'c Config);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = self.0;
        match &config.file {
            Some(file) => writeln!(f, "{} is right", file.display())?,
            None => writeln!(f, "no file: the built-in defaults")?,
        }
        let tls = config.server.tls_cert.is_some() || config.server.tls_self_signed;
        writeln!(f, "listens on  {}://{}", if tls { "https" } else { "http" }, config.server.listen)?;
        writeln!(
            f,
            "default     {}",
            config.default_model.as_deref().unwrap_or("none: a request must name its model")
        )?;
        for (name, backend) in &config.backends {
            writeln!(f, "backend     {name}: {backend}")?;
        }
        if let Some(webhooks) = &config.webhooks {
            writeln!(f, "webhooks    {}", webhooks.origin())?;
        }
        for (name, model) in &config.models {
            let route: Vec<_> = model.route.iter().map(ToString::to_string).collect();
            writeln!(f, "model       {name}: {}", route.join(", "))?;
        }
        Ok(())
    }
}
