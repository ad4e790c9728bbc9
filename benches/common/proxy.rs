//! Proxies that parse and record nothing: what lastword is measured by. Three are made here, whose sockets are set as lastword's are;
//! beside them those that people have, where they are installed.

use std::{convert::Infallible, fs, net::SocketAddr, path::Path, process::Command, time::Duration};

use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use hyper::{Uri, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// How a proxy is made.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Proxy {
    /// The least there can be: hyper's server over hyper's client.
    Hyper,
    /// As one would write it with the libraries that lastword is made of: a route of axum's, the bytes of a response of reqwest's.
    Axum,
    /// The same, and a task of its own reads each answer, so that the answer outlives its reader: a channel is between the two.
    Task,
}

impl Proxy {
    pub(crate) const ALL: [Self; 3] = [Self::Hyper, Self::Axum, Self::Task];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hyper => "hyper",
            Self::Axum => "axum",
            Self::Task => "task",
        }
    }

    /// The proxy of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|proxy| proxy.name() == name)
    }

    /// Serves for ever, and says where.
    pub(crate) async fn run(self, upstream: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        println!("proxy on {}", listener.local_addr().expect("it listens"));
        match self {
            Self::Hyper => over_hyper(listener, upstream).await,
            Self::Axum => over_axum(listener, upstream, false).await,
            Self::Task => over_axum(listener, upstream, true).await,
        }
    }
}

fn server() -> http1::Builder {
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(Duration::from_secs(75)).max_buf_size(16 * 1024);
    server.half_close(false);
    server
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let (socket, peer) = listener.accept().await.expect("a connection");
    socket.set_nodelay(true).expect("an open socket");
    (socket, peer)
}

async fn over_hyper(listener: TcpListener, upstream: &str) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let pool: Pool<_, Incoming> = Pool::builder(TokioExecutor::new()).build(connector);
    loop {
        let (socket, _) = accept(&listener).await;
        let (pool, upstream) = (pool.clone(), upstream.to_owned());
        let pass = service_fn(move |mut request: hyper::Request<Incoming>| {
            let uri = Uri::try_from(format!("http://{upstream}{}", request.uri().path())).expect("a path");
            *request.uri_mut() = uri;
            pool.request(request)
        });
        tokio::spawn(server().serve_connection(TokioIo::new(socket), pass));
    }
}

async fn over_axum(listener: TcpListener, upstream: &str, task: bool) {
    let _ = rustls::crypto::ring::default_provider().install_default(); // reqwest panics without
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).tcp_nodelay(true).build().expect("a client");
    let upstream = upstream.to_owned();
    let router = Router::new().fallback(move |request: Request| {
        let (client, url) = (client.clone(), format!("http://{upstream}{}", request.uri().path()));
        async move { pass(client, url, request, task).await }
    });
    loop {
        let (socket, _) = accept(&listener).await;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(server().serve_connection(TokioIo::new(socket), service));
    }
}

async fn pass(client: reqwest::Client, url: String, request: Request, task: bool) -> Response {
    let (head, body) = request.into_parts();
    let body = reqwest::Body::wrap_stream(body.into_data_stream());
    let asked = client.request(head.method, url).headers(head.headers).body(body).send();
    let mut answer = asked.await.expect("an upstream");
    let mut response = Response::builder().status(answer.status());
    if let Some(kind) = answer.headers().get("content-type") {
        response = response.header("content-type", kind);
    }
    let body = match task {
        false => Body::from_stream(answer.bytes_stream()),
        true => {
            let (to, from) = mpsc::unbounded_channel::<Bytes>();
            tokio::spawn(async move {
                while let Ok(Some(piece)) = answer.chunk().await {
                    let _ = to.send(piece); // whether or not somebody reads
                }
            });
            Body::from_stream(unfold(from, |mut from| async {
                let piece = from.recv().await?;
                Some((Ok::<_, Infallible>(piece), from))
            }))
        }
    };
    response.body(body).expect("a response")
}

/// Those that people have.
pub(crate) const INSTALLED: [&str; 2] = ["nginx", "haproxy"];

/// The command that starts one of them between this port and the upstream, in the foreground, set up to hold nothing back
/// (`docs/proxies.md`). Its files are in `folder`.
pub(crate) fn installed(name: &str, port: u16, upstream: SocketAddr, folder: &Path) -> Command {
    let at = folder.display();
    let (arguments, config) = match name {
        "nginx" => {
            let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                .map(|what| format!("{what}_temp_path {at}/{what};"))
                .concat();
            let config = format!(
                "user root; daemon off; worker_processes auto; pid {at}/pid; error_log {at}/log;
                 events {{ worker_connections 4096; }}
                 http {{ access_log off; {temporary}
                   upstream up {{ server {upstream}; keepalive 256; }}
                   server {{ listen 127.0.0.1:{port}; location / {{
                     proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off;
                   }} }} }}"
            );
            (format!("-c {at}/config -e {at}/log"), config)
        }
        "haproxy" => {
            let config = format!(
                "global\n maxconn 4096\n\
                 defaults\n mode http\n option http-no-delay\n timeout connect 5s\n timeout client 1h\n timeout server 1h\n\
                 frontend in\n bind 127.0.0.1:{port}\n default_backend out\n\
                 backend out\n server up {upstream}\n"
            );
            (format!("-db -f {at}/config"), config)
        }
        other => panic!("{other} is not known here"),
    };
    fs::write(folder.join("config"), config).expect("a folder");
    let mut command = Command::new(name);
    command.args(arguments.split(' ')).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin");
    command
}
