//! The toy server, whose bodies end in every way a body can, and the clients that look at it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Request, StatusCode};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::Stream;
use h2::client::SendRequest;
use lastword::api::connection::{Connection, GaveUp};
use lastword::server::tls::Tls;
use lastword::server::{
    accept::{Limits, accept},
    drain::Stop,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Far longer than anything here takes; what hangs fails.
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) async fn soon<F: Future>(what: F) -> F::Output {
    timeout(LONG, what).await.expect("this should have happened long ago")
}

// ---- the server ----

/// What the toy handlers share with the test.
#[derive(Clone)]
pub(crate) struct Toys {
    /// One message for each streamed body that is dropped: whether it was lastword that ended it.
    dropped: mpsc::UnboundedSender<bool>,
    /// A permit lets one body go on after its token.
    pub(crate) go_on: Arc<Semaphore>,
    pub(crate) answered: Arc<AtomicUsize>,
}

pub(crate) struct Server {
    pub(crate) at: SocketAddr,
    pub(crate) stop: Stop,
    pub(crate) accepting: JoinHandle<()>,
    dropped: mpsc::UnboundedReceiver<bool>,
    pub(crate) toys: Toys,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.abort();
    }
}

/// Every clock far away: a test shortens the one it is about.
pub(crate) fn limits() -> Limits {
    Limits { header_timeout: LONG * 10, idle_timeout: LONG * 10, write_timeout: LONG * 10, ..Limits::default() }
}

pub(crate) const SHORT: Duration = Duration::from_millis(100);

impl Server {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::over(None, limits).await
    }

    pub(crate) async fn over(tls: Option<Tls>, limits: Limits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (sender, dropped) = mpsc::unbounded_channel();
        let toys = Toys { dropped: sender, go_on: Arc::new(Semaphore::new(0)), answered: Arc::default() };
        let router = Router::new()
            .route("/hello", get(hello))
            .route("/peer", get(peer))
            .route("/whole", get(whole))
            .route("/open", get(open))
            .route("/until", get(until))
            .route("/pages/{n}", get(pages))
            .route("/gives-up", get(gives_up))
            .route("/panics", get(panics))
            .route("/flood", get(flood))
            .route("/refuses", post(async || StatusCode::PAYLOAD_TOO_LARGE))
            .with_state(toys.clone());
        let stop = Stop::default();
        let accepting = tokio::spawn(accept(listener, tls, router, limits, stop.clone()));
        Self { at, stop, accepting, dropped, toys }
    }

    /// A client that has sent these bytes.
    pub(crate) async fn client(&self, bytes: impl AsRef<[u8]>) -> Client {
        let mut socket = TcpStream::connect(self.at).await.unwrap();
        socket.set_nodelay(true).unwrap();
        socket.write_all(bytes.as_ref()).await.unwrap();
        Client::new(socket)
    }

    /// A client that is in the middle of an answer.
    pub(crate) async fn reader(&self, version: &str, path: &str) -> Client {
        let mut client = self.client(request(version, path)).await;
        client.until("token").await;
        client
    }

    pub(crate) async fn http2(&self) -> SendRequest<Bytes> {
        self.http2_with(&mut h2::client::Builder::new()).await
    }

    pub(crate) async fn http2_with(&self, builder: &mut h2::client::Builder) -> SendRequest<Bytes> {
        let socket = TcpStream::connect(self.at).await.unwrap();
        let (client, connection) = soon(builder.handshake(socket)).await.unwrap();
        tokio::spawn(connection);
        client
    }

    /// Whether it was lastword that ended the next body to be dropped.
    pub(crate) async fn next_dropped(&mut self) -> bool {
        soon(self.dropped.recv()).await.unwrap()
    }

    /// Every task of the server has come to its end.
    pub(crate) async fn gone(&mut self) {
        soon(&mut self.accepting).await.unwrap();
    }
}

struct Dropped(Connection, mpsc::UnboundedSender<bool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.1.send(self.0.ended_by_us());
    }
}

async fn hello(State(toys): State<Toys>, headers: HeaderMap) -> String {
    toys.answered.fetch_add(1, Ordering::SeqCst);
    headers.len().to_string()
}

async fn peer(connection: Connection) -> String {
    connection.peer().unwrap().to_string()
}

/// A streamed body: one token, and then what `rest` is.
fn body<R>(connection: Connection, toys: Toys, rest: impl FnOnce(Toys) -> R) -> Body
where
    R: Stream<Item = Result<Bytes, GaveUp>> + Send + 'static,
{
    let dropped = Dropped(connection, toys.dropped.clone());
    let rest = rest(toys);
    Body::from_stream(async_stream::stream! {
        let _dropped = dropped;
        yield Ok(Bytes::from_static(b"token\n"));
        for await item in rest {
            yield item;
        }
    })
}

async fn whole(connection: Connection, State(toys): State<Toys>) -> Body {
    body(connection, toys, |_| async_stream::stream! { yield Ok(Bytes::from_static(b"end\n")) })
}

async fn open(connection: Connection, State(toys): State<Toys>) -> Body {
    body(connection, toys, |_| futures_util::stream::pending())
}

async fn until(connection: Connection, State(toys): State<Toys>) -> Body {
    body(connection, toys, |toys| {
        async_stream::stream! {
            toys.go_on.acquire().await.unwrap().forget();
            yield Ok(Bytes::from_static(b"end\n"));
        }
    })
}

/// So many pages of 16 KB, and after a permit the end.
async fn pages(connection: Connection, Path(n): Path<usize>, State(toys): State<Toys>) -> Body {
    body(connection, toys, |toys| {
        async_stream::stream! {
            for _ in 0..n {
                yield Ok(Bytes::from_static(&[b'.'; 16 * 1024]));
            }
            toys.go_on.acquire().await.unwrap().forget();
            yield Ok(Bytes::from_static(b"end\n"));
            // The last bytes are written before the body is known to have ended.
            tokio::task::yield_now().await;
        }
    })
}

async fn gives_up(connection: Connection, State(toys): State<Toys>) -> Body {
    body(connection, toys, |toys| {
        async_stream::stream! {
            toys.go_on.acquire().await.unwrap().forget();
            yield Err(GaveUp::new());
        }
    })
}

async fn panics(connection: Connection, State(toys): State<Toys>) -> Body {
    body(connection, toys, |toys| {
        async_stream::stream! {
            toys.go_on.acquire().await.unwrap().forget();
            if true {
                panic!("a body that panics, as the test wants it");
            }
            yield Ok(Bytes::new());
        }
    })
}

async fn flood(connection: Connection, State(toys): State<Toys>) -> Body {
    body(connection, toys, |_| futures_util::stream::repeat_with(|| Ok(Bytes::from_static(&[b'.'; 16 * 1024]))))
}

// ---- the clients ----

pub(crate) fn request(version: &str, path: &str) -> String {
    format!("GET {path} {version}\r\nhost: here\r\n\r\n")
}

pub(crate) struct Client {
    pub(crate) socket: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket, read: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until all that was read has `what` in it, and forgets that.
    pub(crate) async fn until(&mut self, what: &str) {
        while !self.text().contains(what) {
            let n = soon(self.socket.read_buf(&mut self.read)).await.unwrap();
            assert_ne!(n, 0, "no {what:?} in {:?}", self.text());
        }
        self.read.clear();
    }

    /// Reads to the end: all there was after a FIN, an error after an RST.
    pub(crate) async fn rest(mut self) -> io::Result<String> {
        soon(self.socket.read_to_end(&mut self.read)).await?;
        Ok(self.text())
    }

    pub(crate) async fn sees_reset(self) -> bool {
        self.rest().await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.read).into_owned()
    }
}

pub(crate) async fn ask(client: &mut SendRequest<Bytes>, path: &str) -> h2::RecvStream {
    let request = Request::get(format!("http://here{path}")).body(()).unwrap();
    let (response, _) = client.send_request(request, true).unwrap();
    soon(response).await.unwrap().into_body()
}

/// Reads an HTTP/2 body to its end, giving back the window of what was read.
pub(crate) async fn read(body: &mut h2::RecvStream) -> Result<String, h2::Error> {
    let mut text = Vec::new();
    while let Some(data) = soon(body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend_from_slice(&data);
    }
    Ok(String::from_utf8(text).unwrap())
}

pub(crate) const HTTP1: [&str; 2] = ["HTTP/1.0", "HTTP/1.1"];
