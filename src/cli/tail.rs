//! `lastword tail`: join an answer that somebody asked for.

use std::process::ExitCode;

use clap::Args;

use super::{
    remote::Remote,
    screen::Screen,
    watch::{CtrlC, Watch},
};
use crate::id::{Cursor, StreamId};

/// Join an answer that runs, or read one again.
///
/// From its beginning, unless said otherwise, to its end. A connection that breaks is made anew, and the answer goes on where it was.
/// Ctrl-C leaves; the answer goes on. Exits with 0 if the answer completed, 1 if it did not, 130 after Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword tail 01a202f9e96a73189eefcb6605ecdbc2
  lastword tail 01a202f9e96a73189eefcb6605ecdbc2 --from 13
  lastword tail 01a202f9e96a73189eefcb6605ecdbc2 --new --json")]
pub(super) struct Tail {
    /// Which one: the stream's id
    id: StreamId,

    /// Only what is behind this event
    #[arg(long, value_name = "CURSOR")]
    from: Option<u64>,

    /// Only what comes from now on
    #[arg(long, conflicts_with = "from")]
    new: bool,

    /// Each event as one line of JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    remote: Remote,
}

impl Tail {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let lastword = self.remote.lastword()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let from = match self.new {
                true => Some(lastword.state(self.id).await?.cursor),
                false => self.from.map(Cursor),
            };
            let answer = lastword.follow(self.id, from);
            let patience = self.remote.patience().to_string();
            let screen = Screen::new(self.json);
            Watch { lastword, answer, screen, ctrl_c: CtrlC::Leaves, patience }.run().await
        })
    }
}
