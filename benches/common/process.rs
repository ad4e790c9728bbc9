//! A lastword in a process of its own, with a folder of its own, and what the two take of the machine.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

/// Dropping it kills it.
pub(crate) struct Process {
    child: Running,
    address: SocketAddr,
    folder: TempDir,
}

struct Running(Child);

impl Process {
    /// With the built-in defaults but for these variables (`STORE__ENGINE` is `LASTWORD_STORE__ENGINE`). `LASTWORD_BIN` names another
    /// build than this one.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), variables)
    }

    /// In this folder.
    pub(crate) fn start_in(folder: TempDir, variables: &[(&str, &str)]) -> Self {
        let binary = std::env::var_os("LASTWORD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_lastword").into());
        let mut command = Command::new(binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0"])
            .env("LASTWORD_LOG__FILTER", "lastword::server=info,warn")
            .envs(variables.iter().map(|(name, value)| (format!("LASTWORD_{name}"), value)))
            .current_dir(folder.path());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary");
        let log = child.stderr.take().expect("a pipe");
        let address = address(log, "listening on http://");
        Self { child: Running(child), address, folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it keeps its answers.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it, and leaves the folder.
    pub(crate) fn stop(self) -> TempDir {
        self.folder
    }

    /// Nanoseconds on a CPU so far, of all its threads.
    pub(crate) fn used(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.0.id())).expect("it runs");
        let of = |task: fs::DirEntry| {
            let times = fs::read_to_string(task.path().join("schedstat")).ok()?;
            times.split(' ').next()?.parse::<u64>().ok()
        };
        tasks.filter_map(|task| of(task.ok()?)).sum()
    }

    /// Bytes of memory that are its own.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.0.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|kb| kb.parse::<u64>().ok()).unwrap_or_default() * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The address behind these words in the first line that has them. What follows is read and forgotten.
fn address(from: impl Read + Send + 'static, words: &'static str) -> SocketAddr {
    let mut lines = BufReader::new(from).lines().map_while(Result::ok);
    let found = lines.by_ref().find_map(|line| line.split_once(words)?.1.trim().parse().ok());
    std::thread::spawn(move || lines.for_each(drop));
    found.expect("it says where it listens")
}

/// The bytes that a folder takes of its disk.
pub(crate) fn size_of(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).expect("a folder").filter_map(Result::ok);
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(it) if it.is_dir() => size_of(&entry.path()),
        Ok(it) => it.blocks() * 512,
        Err(_) => 0,
    };
    entries.map(of).sum()
}
