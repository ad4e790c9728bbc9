//! `lastword completions`: for a shell, what can be typed.

use std::io::{Write, stdout};

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Line;

/// Print what a shell needs to complete lastword's commands
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword completions bash > ~/.local/share/bash-completion/completions/lastword
  lastword completions zsh > ~/.zfunc/_lastword
  lastword completions fish > ~/.config/fish/completions/lastword.fish")]
pub(super) struct Completions {
    /// Which shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self) -> anyhow::Result<()> {
        // Not straight to stdout: a reader that has gone would be a panic.
        let mut script = Vec::new();
        generate(self.shell, &mut Line::command(), "lastword", &mut script);
        Ok(stdout().write_all(&script)?)
    }
}
