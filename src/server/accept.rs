//! The accept loop: HTTP/1.0, HTTP/1.1 and HTTP/2 on one port, in the clear or over TLS, each connection one task, all of them
//! waited for.
//!
//! hyper's own builders, not `axum::serve`: 11 KB an open connection instead of 20, and limits on what a client may
//! keep waiting. It knows what a connection may cost, not what is asked or answered on it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep, sleep, sleep_until};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::address::{Addresses, PerAddress};
use super::answer::Answers;
use super::drain::Stop;
use super::io::{Io, Version};
use super::link::Link;
use super::stream::Streams;
use super::tls::Tls;
use crate::seldom::{Alarm, Known};

/// The longest request head, in bytes; a longer one is a 431. Node's default, and hyper's own for HTTP/2. On HTTP/1 it
/// is also the largest read buffer a connection can grow to (hyper starts at 8 KiB whatever is said here).
const MAX_HEAD: u16 = 16 * 1024;

/// What one HTTP/2 stream may have buffered in h2; the default of 400 KB is 20 GB at 50,000 readers.
const STREAM_BUFFER: usize = 32 * 1024;

/// How long to wait after accept failed for want of descriptors or memory, which only time can mend.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often a failing accept is logged, at most.
const ACCEPT_LOG: Duration = Duration::from_secs(1);

/// What a client connection may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the accept to the end of the first request head. Who has not said anything sensible by then is closed.
    pub header_timeout: Duration,
    /// From the end of one answer to the end of the next request's head, on HTTP/1. Longer than the idle timeouts of
    /// load balancers (ALB 60 s, nginx 60 s), or they send a request into a connection that is just being closed.
    pub idle_timeout: Duration,
    /// How long a client may take nothing while there is something for it.
    pub write_timeout: Duration,
    /// Connections at a time; further ones wait in the backlog, since any answer but a 200 ends an EventSource.
    pub max_connections: usize,
    /// Connections at a time of one address, and how many it may open in a second; 0 is any number.
    pub per_address: PerAddress,
    /// Requests at a time on one HTTP/2 connection.
    pub max_streams: u32,
    /// An HTTP/2 connection is pinged this often, and closed when a ping is not answered for as long again.
    pub ping: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(25),
            max_connections: 16_384,
            per_address: PerAddress::default(),
            max_streams: 1_024,
            ping: Duration::from_secs(20),
        }
    }
}

/// Serves `router` on `listener` until `stop` is told; returns when every connection and every answer is gone.
pub async fn accept(listener: TcpListener, tls: Option<Tls>, router: Router, limits: Limits, stop: Stop) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let tasks = TaskTracker::new();
    let server =
        Arc::new(Server { tls, router, http1: http1(&limits), limits, stop: stop.clone(), tasks: tasks.clone() });
    let mut failures = Failures::default();
    let addresses = Arc::new(Addresses::new(server.limits.per_address));
    loop {
        let next = async {
            // The slot first: at the limit the client waits in the backlog.
            let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
            (slot, failures.accept(&listener).await)
        };
        let (slot, (socket, peer)) = select! {
            biased;
            () = stop.draining().cancelled() => break,
            next = next => next,
        };
        let Some(visit) = addresses.visit(peer.ip()) else { continue };
        let server = Arc::clone(&server);
        tasks.spawn(async move {
            server.serve(socket, peer, visit.refused.clone()).await;
            drop((slot, visit));
        });
    }
    drop(listener);
    tasks.close();
    tasks.wait().await;
}

/// The failures of accept: waited out, and counted between two lines of the log.
#[derive(Default)]
struct Failures {
    unlogged: u64,
    logged: Option<Instant>,
}

impl Failures {
    /// The next connection, however long that takes. Cancel safe.
    async fn accept(&mut self, listener: &TcpListener) -> (TcpStream, SocketAddr) {
        loop {
            match listener.accept().await {
                Ok(accepted) => return accepted,
                // A client that left while it was waiting.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.log(&error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn log(&mut self, error: &io::Error) {
        self.unlogged += 1;
        if self.logged.is_none_or(|at| at.elapsed() >= ACCEPT_LOG) {
            warn!(%error, times = self.unlogged, "cannot accept connections; trying again");
            (self.unlogged, self.logged) = (0, Some(Instant::now()));
        }
    }
}

/// What every connection needs.
struct Server {
    tls: Option<Tls>,
    router: Router,
    http1: http1::Builder,
    limits: Limits,
    stop: Stop,
    tasks: TaskTracker,
}

impl Server {
    async fn serve(&self, socket: TcpStream, peer: SocketAddr, refused: Option<Arc<str>>) {
        let link = Link::new(peer, self.tls.is_some(), refused);
        // A token of its own, so that a connection that is woken does not take a lock that all share.
        let drain = self.stop.draining().child_token();
        let first_head = Instant::now() + self.limits.header_timeout;
        let Ok(mut io) = Io::new(socket, Arc::clone(&link), self.limits.write_timeout) else {
            return;
        };
        let driver = Driver { link: &link, drain: &drain, stop: &self.stop, first_head };
        let opening = async {
            Ok(match &self.tls {
                None => (io.version().await?, Socket::Plain(io)),
                Some(tls) => {
                    let (io, version) = tls.accept(io).await?;
                    (version, Socket::Tls(Box::new(io)))
                }
            })
        };
        let opened: io::Result<_> = select! {
            biased;
            opened = opening => opened,
            () = sleep_until(first_head) => return,
            () = drain.cancelled() => return,
        };
        match opened {
            Ok((version, Socket::Plain(io))) => self.speak(io, version, &link, driver).await,
            // Boxed: its state is large, and so would be that of the connections without TLS.
            Ok((version, Socket::Tls(io))) => Box::pin(self.speak(*io, version, &link, driver)).await,
            Err(error) => debug!(%error, "connection failed"),
        }
    }

    /// Answers on a connection until it ends.
    async fn speak<S>(&self, io: S, version: Version, link: &Arc<Link>, driver: Driver<'_>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (io, answers) = (TokioIo::new(io), Answers::new(self.router.clone(), Arc::clone(link)));
        let drain = driver.drain;
        match version {
            Version::Http1 => driver.drive(pin!(self.http1.serve_connection(io, answers))).await,
            // Boxed: it is large, and most connections are HTTP/1.
            Version::Http2 => {
                driver.drive(Box::pin(self.http2(link, drain).serve_connection(io, answers)).as_mut()).await
            }
        }
    }

    fn http2(&self, link: &Arc<Link>, drain: &CancellationToken) -> http2::Builder<Streams> {
        let Limits { write_timeout, max_streams, ping, .. } = self.limits;
        let mut builder = http2::Builder::new(Streams {
            link: Arc::clone(link),
            tasks: self.tasks.clone(),
            write_timeout,
            drain: drain.clone(),
            cuts: Arc::clone(self.stop.cuts()),
        });
        // h2's limits on floods of resets stay as they are: 20 that we have not accepted yet, 1,024 of our own.
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(max_streams)
            .max_header_list_size(MAX_HEAD.into())
            .max_send_buf_size(STREAM_BUFFER)
            .keep_alive_interval(ping)
            .keep_alive_timeout(ping);
        builder
    }
}

fn http1(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // hyper counts its header timeout from the end of the answer before, so it is the idle timeout that it is given;
    // the first head has a deadline of its own.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_header_size(MAX_HEAD.into())
        .max_buf_size(MAX_HEAD.into())
        .half_close(false)
        // A list of pieces a write: what is said again is shared by its readers, and must not be copied for each.
        .writev(true)
        .keep_alive(true)
        .pipeline_flush(false);
    builder
}

/// Drives one connection to its end, or ends it.
struct Driver<'a> {
    link: &'a Link,
    drain: &'a CancellationToken,
    stop: &'a Stop,
    first_head: Instant,
}

impl Driver<'_> {
    async fn drive<C: Connection>(self, mut connection: Pin<&mut C>) {
        let mut first_head = Some(Alarm::at(self.first_head));
        let mut drained = pin!(self.drain.cancelled());
        let mut known = Known::default();
        // The connection comes first, so that a request that has already arrived is answered before a drain ends it.
        let ended = poll_fn(|cx| {
            if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(result));
            }
            if (!known.note(cx) || self.stop.told()) && drained.as_mut().poll(cx).is_ready() {
                return Poll::Ready(None);
            }
            if let Some(alarm) = &mut first_head
                && alarm.poll(cx).is_ready()
            {
                if !self.link.heard() {
                    debug!("no request within the header timeout");
                    return Poll::Ready(Some(Ok(())));
                }
                first_head = None;
            }
            Poll::Pending
        });
        let result = match ended.await {
            Some(result) => result,
            None => {
                connection.as_mut().graceful_shutdown();
                // On HTTP/2 each stream sees to itself.
                let cut = self.link.connection.comes_back().then(|| self.stop.cuts().next()).flatten();
                // Boxed: every connection has room for it, and few need it.
                let mut sleep = cut.map(|at| Box::pin(sleep_until(at)));
                select! {
                    biased;
                    result = &mut connection => result,
                    () = until(&mut sleep) => return self.link.connection.end(),
                    () = self.stop.aborted().cancelled() => return self.link.connection.end(),
                }
            }
        };
        if let Err(error) = result {
            debug!(%error, "connection ended");
        }
    }
}

/// Returns when this time has come; never, without one.
async fn until(time: &mut Option<Pin<Box<Sleep>>>) {
    match time {
        Some(time) => time.await,
        None => std::future::pending().await,
    }
}

/// A client's socket, when it is known what is spoken on it.
enum Socket {
    Plain(Io),
    Tls(Box<TlsStream<Io>>),
}

/// What hyper's two kinds of connection have in common.
trait Connection: Future<Output = hyper::Result<()>> {
    fn graceful_shutdown(self: Pin<&mut Self>);
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection for http1::Connection<TokioIo<S>, Answers> {
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Connection
    for http2::Connection<TokioIo<S>, Answers, Streams>
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}
