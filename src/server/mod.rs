//! The one place that assembles: store, backends, gateway, routes, layers, sockets; and takes them down again in order.
//!
//! Going down: nothing new is accepted, running answers finish within the drain's deadline, the rest end as interrupted, readers
//! get their ends, and whatever connection is left then is reset.

pub mod accept;
pub mod address;
pub mod admin;
mod answer;
pub mod config;
pub mod drain;
mod io;
mod layers;
mod link;
pub mod reload;
mod stream;
pub mod tls;
pub mod upstream;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, anyhow, bail};
use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use self::{
    accept::Limits,
    address::PerAddress,
    admin::Admin,
    drain::Stop,
    reload::{InForce, Source, Watch},
    tls::Tls,
};
use crate::{
    api::{self, Api, Settings},
    auth::Auth,
    config::Config,
    gateway::{self, Gateway},
    store::{self, Engine},
    telemetry::Metrics,
    template::Templates,
    webhook::Webhooks,
};

/// How long readers have to take the ends of their answers, when all answers have ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT, then drains. A second signal ends it at once. The configuration is read again from `source` when
/// its files change, and on SIGHUP.
///
/// # Errors
/// When the address cannot be listened on, or a backend cannot be made.
pub async fn run(config: Config, source: Source) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let mut told_to_stop = async || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let passed = ListenFd::from_env().take_tcp_listener(0).context("the socket that was passed on (LISTEN_FDS)")?;
    let mut server = Server::start_on(passed, config).await?;
    server.watch(source);
    tell_the_manager(NotifyState::Ready);
    loop {
        tokio::select! {
            Some(()) = hangup.recv() => server.reload(),
            () = told_to_stop() => break,
        }
    }
    tell_the_manager(NotifyState::Stopping);
    tokio::select! {
        () = server.drain() => info!("drained"),
        () = told_to_stop() => warn!("told twice: ending at once"),
    }
    Ok(())
}

/// Says to systemd how far it is; to nobody, where nobody asked for it (`NOTIFY_SOCKET`).
fn tell_the_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        debug!(%error, "the service manager was not told");
    }
}

/// The task that tells the application of answers, and how it is told to close.
struct Telling {
    task: JoinHandle<()>,
    closing: CancellationToken,
}

impl Telling {
    fn begin(webhooks: Arc<Webhooks>) -> Self {
        let closing = CancellationToken::new();
        Self { task: tokio::spawn(webhooks.tend(closing.clone())), closing }
    }

    /// What is under way may be finished until then.
    async fn close(mut self, until: Instant) {
        self.closing.cancel();
        let _ = timeout_at(until, &mut self.task).await;
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A running server. Dropping it ends it at once.
pub struct Server {
    address: SocketAddr,
    /// Before the gateway, which holds the store: the socket is in its folder, and goes while that is still locked.
    _admin: Option<Admin>,
    gateway: Arc<Gateway>,
    stop: Stop,
    drain: Duration,
    accepting: JoinHandle<()>,
    tending: JoinHandle<()>,
    telling: Option<Telling>,
    in_force: Option<InForce>,
    /// Tells the watch to look now.
    now: Arc<Notify>,
    watching: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens, and serves from now on.
    ///
    /// # Errors
    /// When the address cannot be listened on, or a backend cannot be made.
    pub async fn start(config: Config) -> anyhow::Result<Self> {
        Self::start_on(None, config).await
    }

    /// As [`Server::start`], on a socket that somebody else listens on and passes on, if there is one, in place of the configured
    /// address: who holds it (systemd) goes on listening while one process ends and the next begins.
    ///
    /// # Errors
    /// As of [`Server::start`].
    pub async fn start_on(passed: Option<std::net::TcpListener>, config: Config) -> anyhow::Result<Self> {
        let opened = reload::open(&config.backends, &BTreeMap::new())?;
        let router = reload::router(&opened, &config);
        let templates = Arc::new(Templates::new(config.prompts.path.clone()));
        let Config { server, store, limits, .. } = config.clone();
        let gateway = Gateway::new(store::open(&store, gateway::condense)?, router, limits, Arc::new(Metrics::new()));
        let webhooks = config.webhooks.clone().map(|section| Webhooks::new(section, gateway.clone())).transpose();
        let webhooks = webhooks.map_err(|(key, what)| anyhow!("webhooks.{key} {what}"))?;
        let folder = (store.engine == Engine::Disk).then_some(&*store.path);
        let auth = Arc::new(Auth::new(config.auth.clone(), folder).context("the secret that tickets are signed with")?);
        let tls = Tls::new(&server).map_err(|error| anyhow!("TLS: {error}"))?;
        let listener = match passed {
            Some(passed) => {
                passed.set_nonblocking(true)?;
                TcpListener::from_std(passed)?
            }
            None => TcpListener::bind(server.listen).await.with_context(|| {
                format!("cannot listen on {}; [server] listen or --listen names another address", server.listen)
            })?,
        };
        let address = listener.local_addr()?;
        // Of the configured address that is checked with the configuration; this may be another.
        if !address.ip().is_loopback() && !config.auth.is_on() && !config.auth.off {
            bail!(
                "{address} can be reached from elsewhere, and nobody would need a key; `lastword keys new NAME` makes one"
            );
        }
        let settings = Settings {
            heartbeat: server.heartbeat,
            retry: (server.retry_min, server.retry_max),
            commit_after: server.commit_after,
            max_body: server.max_body,
            max_upload: server.max_upload,
            body_timeout: server.body_timeout,
            cors: server.cors.clone(),
            ai_sdk: server.ai_sdk,
            hosts: (address.ip().is_loopback() && server.hosts != ["*"]).then_some(server.hosts),
        };
        let routes = layers::around(
            api::router(Arc::new(Api::new(gateway.clone(), templates.clone(), auth.clone(), settings))),
            &server.cors,
        );
        let limits = Limits {
            header_timeout: server.header_timeout,
            write_timeout: server.write_timeout,
            max_connections: server.max_connections,
            per_address: PerAddress {
                connections: server.address_connections,
                per_second: server.address_connections_per_second,
            },
            ..Limits::default()
        };
        let stop = Stop::default();
        let accepting = tokio::spawn(accept::accept(listener, tls.clone(), routes, limits, stop.clone()));
        let tending = tokio::spawn(gateway.clone().tend());
        let telling = webhooks.map(Telling::begin);
        let admin = (store.engine == Engine::Disk).then(|| Admin::start(&store.path, gateway.clone()));
        if !address.ip().is_loopback() && !config.auth.is_on() {
            warn!("authentication is off: everybody who can reach {address} can ask and read");
        }
        let scheme = if tls.is_some() { "https" } else { "http" };
        info!("listening on {scheme}://{address}");
        Ok(Self {
            address,
            _admin: admin.flatten(),
            in_force: Some(InForce { config, opened, gateway: gateway.clone(), templates, auth }),
            gateway,
            stop,
            drain: server.drain,
            accepting,
            tending,
            telling,
            now: Arc::default(),
            watching: None,
        })
    }

    /// Reads the configuration again when its files change, from now on, and takes over what can be changed while answers run. A
    /// second call does nothing.
    pub fn watch(&mut self, source: Source) {
        if let Some(in_force) = self.in_force.take() {
            self.watching = Some(tokio::spawn(reload::watch(Watch::new(source, in_force), self.now.clone())));
        }
    }

    /// Has the configuration read again at once, if it is watched.
    pub fn reload(&self) {
        self.now.notify_one();
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it serves.
    #[must_use]
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Takes it down in order; returns when all is gone, at most the drain's deadline and a few seconds later.
    pub async fn drain(mut self) {
        // First refuse, then close: a client on an open connection is told why.
        self.gateway.refuse_new();
        self.stop.drain(self.drain);
        info!("draining for at most {}", humantime::format_duration(self.drain));
        let until = Instant::now() + self.drain;
        self.gateway.drain(self.drain).await;
        let telling = self.telling.take();
        let told = async {
            if let Some(telling) = telling {
                telling.close(until.max(Instant::now() + LAST_WORDS)).await;
            }
        };
        let heard = async {
            if timeout(LAST_WORDS, &mut self.accepting).await.is_err() {
                self.stop.abort();
                let _ = timeout(LAST_WORDS, &mut self.accepting).await;
            }
        };
        tokio::join!(told, heard);
        let _ = (&mut self.tending).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.abort();
        self.accepting.abort();
        self.tending.abort();
        self.watching.iter().for_each(JoinHandle::abort);
    }
}
