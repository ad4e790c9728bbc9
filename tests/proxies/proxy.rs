//! A proxy that runs: in a folder of its own, on a free loopback port, without its package's service, and gone with the test.

use std::{
    env, fs,
    io::ErrorKind,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    process::{Command as Now, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{common::LONG, kinds::Kind, page::block};

/// How one is to run.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) kind: &'static Kind,
    /// Which of its versions it asks lastword in.
    pub(crate) version: usize,
    pub(crate) compression: Compression,
    /// After how much silence it cuts off, in seconds.
    pub(crate) silence: Option<u64>,
    /// What of docs/proxies.md is left out, and with what in its place.
    pub(crate) replace: &'static [(&'static str, &'static str)],
    pub(crate) arguments: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Compression {
    Off,
    /// As docs/proxies.md says.
    On,
    /// By these lines.
    By(&'static str),
}

/// Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Proxy {
    setup: Setup,
    address: SocketAddr,
    home: TempDir,
    child: Child,
}

impl Setup {
    pub(crate) fn new(kind: &'static Kind) -> Self {
        Self { kind, version: 0, compression: Compression::Off, silence: None, replace: &[], arguments: &[] }
    }

    /// In a test's messages.
    pub(crate) fn name(&self) -> String {
        format!("{} by HTTP/{}", self.kind.name, self.kind.versions[self.version].0)
    }

    /// Starts it in front of this lastword.
    pub(crate) async fn before(&self, gateway: SocketAddr) -> Proxy {
        loop {
            // None of them takes port 0. Between the look and its own bind another program may take the port; then again.
            let free = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = free.local_addr().expect("an address");
            drop(free);
            let home = tempfile::tempdir().expect("a folder");
            // Those that are started by root go on as somebody else.
            fs::set_permissions(home.path(), fs::Permissions::from_mode(0o777)).expect("its own folder");
            fs::write(home.path().join("config"), self.config(address, gateway, &home)).expect("a file");
            if let Some(child) = self.start(address, &home).await {
                return Proxy { setup: self.clone(), address, home, child };
            }
        }
    }

    /// The words of docs/proxies.md, for this address.
    fn config(&self, address: SocketAddr, gateway: SocketAddr, home: &TempDir) -> String {
        let kind = self.kind;
        let mut text = kind.around.replace("SNIPPET", block(kind.name, 0));
        let mut insert = |behind: &str, more: &str| text = once(&text, behind, &format!("{behind}{more}"));
        if let Some((behind, more)) = kind.versions[self.version].1 {
            insert(behind, more);
        }
        if let Some(seconds) = self.silence {
            insert(kind.silence.0, &kind.silence.1.replace("SECONDS", &seconds.to_string()));
        }
        match (self.compression, kind.compression) {
            (Compression::Off, _) | (_, None) => {}
            (Compression::On, Some(behind)) => insert(behind, block(kind.name, 1)),
            (Compression::By(lines), Some(behind)) => insert(behind, lines),
        }
        for (old, new) in self.replace {
            text = once(&text, old, new);
        }
        if !kind.listen.0.is_empty() {
            text = once(&text, kind.listen.0, kind.listen.1);
        }
        placed(&text.replace("8080", &gateway.port().to_string()), address, home)
    }

    /// Returns when it serves; nothing, if its port was taken.
    async fn start(&self, address: SocketAddr, home: &TempDir) -> Option<Child> {
        let log = home.path().join("log");
        let file = fs::File::create(&log).expect("a file");
        // Debian has them where only root looks by default.
        let path = format!("{}:/usr/sbin", env::var("PATH").unwrap_or_default());
        let arguments =
            self.kind.arguments.iter().chain(self.arguments).map(|argument| placed(argument, address, home));
        let started = Command::new(self.kind.binary)
            .args(arguments)
            .env("PATH", path)
            .env("HOME", home.path())
            .current_dir(home.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the same file"))
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match started {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let package = self.kind.package;
                panic!("this test needs {package}: `apt-get install {package}`, or `tests/run`, which does that")
            }
            started => started.expect("it starts"),
        };
        let since = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("a child") {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let taken = ["in use", "Cannot bind", "Cannot open HTTP Port"].iter().any(|words| said.contains(words));
                assert!(taken, "{} did not start ({status}): {said}", self.name());
                return None;
            }
            if is_taken(address).await {
                return Some(child);
            }
            let said = || fs::read_to_string(&log).unwrap_or_default();
            assert!(since.elapsed() < LONG, "{} does not listen: {}", self.name(), said());
            // Nothing else tells in all of them when they listen.
            sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Proxy {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// `kill -9`, and a new one in its place.
    pub(crate) async fn killed_and_started_again(&mut self) {
        kill(&self.child);
        self.child.wait().await.expect("it was running");
        // Its own children have the port, too, until they are gone.
        let since = Instant::now();
        while is_taken(self.address).await {
            assert!(since.elapsed() < LONG, "{} is killed, and its port is not free", self.setup.name());
            sleep(Duration::from_millis(1)).await;
        }
        self.child = loop {
            if let Some(child) = self.setup.start(self.address, &self.home).await {
                break child;
            }
        };
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        kill(&self.child);
    }
}

/// Whether somebody listens there.
async fn is_taken(address: SocketAddr) -> bool {
    // A socket that asks for a port where nobody listens may be given just this one, and then it is its own peer.
    let other = |socket: &TcpStream| socket.local_addr().ok() != socket.peer_addr().ok();
    TcpStream::connect(address).await.as_ref().is_ok_and(other)
}

/// With the processes that it started itself, which are its group.
fn kill(child: &Child) {
    if let Some(id) = child.id() {
        let _ = Now::new("kill").args(["-KILL", "--", &format!("-{id}")]).stderr(Stdio::null()).status();
    }
}

/// With the one place of these words replaced.
fn once(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "`{old}` stands once in docs/proxies.md: {text}");
    text.replace(old, new)
}

fn placed(text: &str, address: SocketAddr, home: &TempDir) -> String {
    text.replace("HOME", &home.path().to_string_lossy())
        .replace("ADDRESS", &address.to_string())
        .replace("PORT", &address.port().to_string())
}
