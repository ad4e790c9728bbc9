//! The operator's door to a store: a Unix socket in its folder while a server has it, and the folder itself while none does.
//!
//! Both lead to the same routes (`api/admin.rs`), so a store says the same of itself whichever way it is asked. Who may open the
//! socket's file may do everything; there is no other credential.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, Permissions},
    io,
    os::unix::{
        fs::{DirBuilderExt, PermissionsExt},
        net::SocketAddr,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{anyhow, bail};
use axum::{Router, body::Body};
use futures_util::TryStreamExt;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::server::conn::http1;
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use serde::Deserialize;
use tokio::{
    net::{UnixListener, UnixStream},
    select,
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tower::ServiceExt;
use tracing::warn;

pub use crate::api::admin::{Checked, Fault, Listed, Listing, PAGE, Stats};
use crate::{
    api,
    client::Client,
    gateway::{self, Gateway, Limits},
    route,
    store::{self, Engine, disk},
    telemetry::Metrics,
};

/// The socket's name in the store's folder.
const SOCKET: &str = "admin.sock";

/// How long to wait after accept failed for want of descriptors, which only time can mend.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket of a running server. Dropping it takes it away.
pub(super) struct Admin {
    socket: PathBuf,
    serving: JoinHandle<()>,
}

impl Admin {
    /// Serves the operator's routes in the store's folder, which must be ours. Without a socket there is a warning, and no failure.
    pub(super) fn start(folder: &Path, gateway: Arc<Gateway>) -> Option<Self> {
        let socket = folder.join(SOCKET);
        match listen(folder, &socket) {
            Ok(listener) => {
                let serving = tokio::spawn(serve(listener, api::admin::router(gateway)));
                Some(Self { socket, serving })
            }
            Err(error) => {
                let socket = socket.display();
                warn!(
                    "`lastword store` cannot ask this server: no socket {socket}: {error}; a shorter [store] path may do"
                );
                None
            }
        }
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        self.serving.abort();
        let _ = fs::remove_file(&self.socket);
    }
}

/// The socket is made in a folder that nobody else can enter, and gets its place when it has its mode: nobody else can ever open it.
/// What a killed server left in that place is replaced.
fn listen(folder: &Path, socket: &Path) -> io::Result<UnixListener> {
    SocketAddr::from_pathname(socket)?; // too long for a client to name is of no use
    let private = folder.join("new");
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let made = private.join("s");
    let listening = UnixListener::bind(&made).and_then(|listener| {
        fs::set_permissions(&made, Permissions::from_mode(0o600))?;
        fs::rename(&made, socket)?;
        Ok(listener)
    });
    let _ = fs::remove_dir_all(&private);
    listening
}

/// Ends with whoever drops it, and all its connections with it.
async fn serve(listener: UnixListener, routes: Router) {
    let mut connections = JoinSet::new();
    loop {
        select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => {
                    let routes = TowerToHyperService::new(routes.clone());
                    connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), routes));
                }
                Err(error) => {
                    warn!(%error, "cannot accept on the admin socket; trying again");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// A way to ask a store.
pub enum Door {
    /// A server has it.
    Live(Client),
    /// Nobody else has it: it is open here.
    Here(Router),
}

impl Door {
    /// To the store that this section of the configuration names.
    ///
    /// # Errors
    /// When there is none, or it is open in a process that cannot be asked: says what to do.
    pub async fn open(config: &store::Config) -> anyhow::Result<Self> {
        let folder = config.path.display();
        let socket = config.path.join(SOCKET);
        if UnixStream::connect(&socket).await.is_ok() {
            return Ok(Self::Live(Client::of_socket(&socket)?));
        }
        if !disk::is_there(&config.path) {
            bail!("there is no store in {folder}; --path names its folder, or --config the file with its [store] path");
        }
        // Whatever the engine is now: the folder has a store.
        let config = store::Config { engine: Engine::Disk, ..config.clone() };
        let store = store::open(&config, gateway::condense).map_err(|error| match disk::is_held(&config.path) {
            true => anyhow!(
                "the store in {folder} is open in another process, which does not answer on {}; ask again when that one has \
                 started or ended, or stop it",
                socket.display()
            ),
            false => error.into(),
        })?;
        let nobody = route::Router::new(BTreeMap::new(), BTreeMap::new(), None);
        let gateway = Gateway::new(store, nobody, Limits::default(), Arc::new(Metrics::new()));
        Ok(Self::Here(api::admin::router(gateway)))
    }

    /// What a path of the operator's routes gives.
    ///
    /// # Errors
    /// What the answer says is wrong and what to do, or that there is no answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        self.ask(Method::GET, path).await
    }

    /// Deletes what a path names.
    ///
    /// # Errors
    /// As of [`Door::get`].
    pub async fn delete(&self, path: &str) -> anyhow::Result<()> {
        self.ask(Method::DELETE, path).await.map(drop)
    }

    async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Vec<u8>> {
        let request = Request::builder().method(method).uri(format!("/{path}"));
        let (status, body) = match self {
            Self::Live(client) => {
                let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
                let response = client.pass(path, query, request.body(None)?).await?;
                (response.status(), response.into_body().map_ok(Vec::from).try_concat().await?)
            }
            Self::Here(routes) => {
                let response = routes.clone().oneshot(request.body(Body::empty())?).await?;
                (response.status(), response.into_body().collect().await?.to_bytes().into())
            }
        };
        match status.is_success() {
            true => Ok(body),
            false => Err(refusal(status, &body)),
        }
    }
}

/// A problem as the API tells it.
#[derive(Deserialize)]
struct Refusal {
    detail: String,
    remedy: Option<String>,
}

fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match serde_json::from_slice(body) {
        Ok(Refusal { detail, remedy: Some(remedy) }) => anyhow!("{detail}; {remedy}"),
        Ok(Refusal { detail, remedy: None }) => anyhow!(detail),
        Err(_) => anyhow!("the store answered with status {status}"),
    }
}
