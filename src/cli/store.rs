//! `lastword store`: look into a store, erase from it, check it; while a server has it or while none does.
//!
//! Each command is a request or a few of them to `server/admin.rs`, and its answer as a person reads it, or with `--json` as it came.
//! Control characters in what clients have named are not shown to a terminal.

mod print;

use std::{
    io::{BufWriter, IsTerminal, StdoutLock, Write, stdout},
    path::PathBuf,
};

use anyhow::bail;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    id::StreamId,
    server::admin::{Checked, Door, Listed, Listing, PAGE, Stats},
};

/// Look into a store, erase from it, check it.
///
/// A store that a server has open is asked through the socket admin.sock in its folder; any other one is opened.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lastword store ls --running
  lastword store show ID --text
  lastword store rm ID
  lastword store check --path /var/lib/lastword/data")]
pub(super) struct Store {
    #[command(subcommand)]
    command: Command,

    /// The file whose [store] is meant; else lastword.toml in the working directory, else the built-in defaults
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// The store's folder, in place of [store] path
    #[arg(long, value_name = "FOLDER", global = true)]
    path: Option<PathBuf>,

    /// As JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How much there is, what it takes, and whether it can be written
    Stats,
    /// List streams, newest first
    ///
    /// On a terminal a table; else the same columns (id, status, created, bytes, records, model), separated by tabs.
    Ls(Ls),
    /// Tell all that is known of a stream, but for what was said
    Show(Show),
    /// Erase streams; what runs is cancelled before
    Rm {
        /// Which ones
        #[arg(required = true, value_name = "ID")]
        ids: Vec<StreamId>,
    },
    /// Walk through all that is kept, and tell what is wrong with it
    ///
    /// Exits with 1 if anything is.
    Check,
}

#[derive(Debug, Args)]
struct Ls {
    /// Only this owner's
    #[arg(long, value_name = "OWNER")]
    owner: Option<String>,

    /// Only what has not ended
    #[arg(long)]
    running: bool,

    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: usize,
}

#[derive(Debug, Args)]
struct Show {
    /// Which one
    id: StreamId,

    /// Also what was said, and the client's labels
    #[arg(long)]
    text: bool,

    /// Only its records, with what was said, each as one line of JSON
    #[arg(long, conflicts_with = "text")]
    records: bool,
}

impl Store {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut store = super::configuration(self.config, &[])?.store;
        if let Some(path) = self.path {
            store.path = path;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let door = Door::open(&store).await?;
            let (out, terminal) = (BufWriter::new(stdout().lock()), stdout().is_terminal());
            let mut asking = Asking { door, out, terminal, json: self.json };
            let done = asking.run(self.command).await;
            asking.out.flush()?;
            done
        })
    }
}

/// A command at work.
struct Asking {
    door: Door,
    out: BufWriter<StdoutLock<'static>>,
    terminal: bool,
    json: bool,
}

impl Asking {
    async fn run(&mut self, command: Command) -> anyhow::Result<()> {
        match command {
            Command::Stats => self.stats().await,
            Command::Ls(ls) => self.list(ls).await,
            Command::Show(Show { id, records: true, .. }) => self.records(id).await,
            Command::Show(Show { id, text, .. }) => self.show(id, text).await,
            Command::Rm { ids } => self.remove(ids).await,
            Command::Check => self.check().await,
        }
    }

    async fn stats(&mut self) -> anyhow::Result<()> {
        let said = self.door.get("store/stats").await?;
        let stats: Stats = serde_json::from_slice(&said)?;
        match self.json {
            true => self.line(&said),
            false => Ok(print::stats(&mut self.out, &stats)?),
        }
    }

    async fn list(&mut self, Ls { owner, running, limit }: Ls) -> anyhow::Result<()> {
        // Percent-encoded to the last letter: it is somebody else's name.
        let owner = owner.map(|owner| owner.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>());
        let owner = owner.map_or_else(String::new, |owner| format!("&owner={owner}"));
        let (mut rows, mut before, mut left) = (Vec::new(), String::new(), limit);
        let more = loop {
            let path = format!("store/streams?running={running}&limit={}{owner}{before}", left.clamp(1, PAGE));
            let Listing { mut streams, next } = serde_json::from_slice(&self.door.get(&path).await?)?;
            streams.truncate(left);
            left -= streams.len();
            match self.terminal && !self.json {
                true => rows.append(&mut streams),
                false => streams.iter().try_for_each(|stream| self.row(stream))?,
            }
            match next {
                Some(next) if left > 0 => before = format!("&before={next}"),
                next => break next.is_some(),
            }
        };
        if self.terminal && !self.json {
            print::table(&mut self.out, &rows)?;
            if more {
                eprintln!("there are more; --limit says how many to list");
            }
        }
        Ok(())
    }

    fn row(&mut self, stream: &Listed) -> anyhow::Result<()> {
        match self.json {
            true => self.line(&serde_json::to_vec(stream)?),
            false => Ok(writeln!(self.out, "{}", print::columns(stream).join("\t"))?),
        }
    }

    async fn show(&mut self, id: StreamId, text: bool) -> anyhow::Result<()> {
        let said = self.door.get(&format!("store/streams/{id}?text={text}")).await?;
        match self.json {
            true => self.line(&said),
            false => Ok(print::stream(&mut self.out, serde_json::from_slice(&said)?)?),
        }
    }

    async fn records(&mut self, id: StreamId) -> anyhow::Result<()> {
        let mut after = 0;
        loop {
            let page = self.door.get(&format!("store/streams/{id}/records?after={after}")).await?;
            let Some(last) = page.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().filter(|last| !last.is_empty())
            else {
                return Ok(());
            };
            after = serde_json::from_slice::<Value>(last)?["cursor"].as_u64().unwrap_or(u64::MAX);
            self.out.write_all(&page)?;
        }
    }

    async fn remove(&mut self, ids: Vec<StreamId>) -> anyhow::Result<()> {
        let mut failed = Vec::new();
        for id in ids {
            match self.door.delete(&format!("store/streams/{id}")).await {
                Err(error) => failed.push(error.to_string()),
                Ok(()) if self.json => self.line(json!({"id": id, "erased": true}).to_string().as_bytes())?,
                Ok(()) => writeln!(self.out, "erased {id}")?,
            }
        }
        match failed.is_empty() {
            true => Ok(()),
            false => bail!(failed.join("\n          ")),
        }
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        let said = self.door.get("store/check").await?;
        let checked: Checked = serde_json::from_slice(&said)?;
        match self.json {
            true => self.line(&said)?,
            false => print::checked(&mut self.out, &checked)?,
        }
        match checked.faults.len() {
            0 => Ok(()),
            1 => bail!("something is wrong with the store"),
            n => bail!("{n} things are wrong with the store"),
        }
    }

    fn line(&mut self, json: &[u8]) -> anyhow::Result<()> {
        self.out.write_all(json)?;
        Ok(self.out.write_all(b"\n")?)
    }
}
