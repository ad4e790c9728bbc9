//! `lastword check`: is this configuration right, and what does it come to?
//!
//! Prints what would be listened on, who would be asked and what could be asked for; never a credential. Starts nothing.

use std::{
    fmt,
    io::{self, Write as _},
    path::PathBuf,
};

use clap::Args;

use crate::config::Config;

/// Check a configuration without starting.
///
/// Prints a summary and exits with 0, or says what is wrong and exits with 2.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lastword check --config /etc/lastword.toml && systemctl reload lastword")]
pub struct Check {
    /// The file; else lastword.toml in the working directory, else the built-in defaults
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Check {
    pub(super) fn run(self) -> anyhow::Result<()> {
        Ok(write!(io::stdout(), "{}", Summary(&super::configuration(self.config, &[])?))?)
    }
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
        for (name, model) in &config.models {
            let route: Vec<_> = model.route.iter().map(ToString::to_string).collect();
            writeln!(f, "model       {name}: {}", route.join(", "))?;
        }
        Ok(())
    }
}
