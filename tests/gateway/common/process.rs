//! A lastword in a process of its own, for what only a process can suffer: signals.

use std::{env, net::SocketAddr, path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
};

/// Dropping it kills it.
pub(crate) struct Process {
    child: Child,
    address: SocketAddr,
    home: TempDir,
    log: UnboundedReceiver<String>,
}

impl Process {
    /// On this address, in memory, with the mock; these variables are set.
    pub(crate) async fn start(listen: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_lastword")), listen, variables).await
    }

    /// As [`start`](Self::start), by a command that becomes lastword.
    pub(crate) async fn start_by(mut command: Command, listen: &str, variables: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let ours = |name: &str| name.starts_with("LASTWORD_") || name == "OPENAI_API_KEY" || name == "OLLAMA_HOST";
        for (name, _) in env::vars().filter(|(name, _)| ours(name)) {
            command.env_remove(name);
        }
        let mut child = command
            .args(["serve", "--listen", listen])
            .env("LASTWORD_STORE__ENGINE", "memory")
            .envs(variables.iter().copied())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let said = super::read_until(&mut log, "listening on http://").await.expect("it listens");
        let address = said.trim_end().rsplit("http://").next().and_then(|address| address.parse().ok());
        // Read all the time, so that it can go on to log.
        let (lines, log_lines) = unbounded_channel();
        tokio::spawn(async move {
            let mut log = log.lines();
            while let Ok(Some(line)) = log.next_line().await {
                let _ = lines.send(line);
            }
        });
        Self { child, address: address.expect("an address"), home, log: log_lines }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it is running")
    }

    /// `kill -9`; returns when it is gone, with what of its log was not asked for.
    pub(crate) async fn kill(mut self) -> String {
        self.child.kill().await.expect("it was running");
        let mut said = String::new();
        while let Some(line) = super::soon(self.log.recv()).await {
            said += &(line + "\n");
        }
        said
    }

    /// Where it runs, and finds its `lastword.toml`.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// The next line of its log that has this in it.
    pub(crate) async fn says(&mut self, words: &str) -> String {
        let mut before = Vec::new();
        let said = tokio::time::timeout(super::LONG, async {
            while let Some(line) = self.log.recv().await {
                if line.contains(words) {
                    return Some(line);
                }
                before.push(line);
            }
            None
        });
        said.await.ok().flatten().unwrap_or_else(|| panic!("no `{words}` in {before:#?}"))
    }

    /// `kill -TERM`.
    pub(crate) async fn terminate(&self) {
        self.signal("TERM").await;
    }

    /// `kill -NAME`.
    pub(crate) async fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let killed = Command::new("sh").args(["-c", "kill -$1 $0", &id, name]).status().await.expect("a shell");
        assert!(killed.success());
    }

    /// Its exit code, when it has ended by itself.
    pub(crate) async fn exit(self) -> Option<i32> {
        self.exit_within(super::LONG).await
    }

    /// As [`exit`](Self::exit), of one that may take its time.
    pub(crate) async fn exit_within(mut self, most: Duration) -> Option<i32> {
        tokio::time::timeout(most, self.child.wait()).await.expect("it ends on time").expect("an exit").code()
    }
}
