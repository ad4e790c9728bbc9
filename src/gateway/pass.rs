//! Requests that are no answer's: what an upstream can do beside generating is handed on to it, where the operator allows it, and
//! nothing is kept.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use super::{Gateway, RouteError};
use crate::{
    backend::{Backend, BackendError, ErrorKind, Way},
    event::Failure,
    route::Upstream,
};

// What a route hands on, and what it gets.
pub use crate::backend::{Request, Response};

/// The way to one path of one upstream.
pub struct Passage {
    /// The upstream's name for the model that the request names, if it names one.
    pub model: Option<String>,
    backend: String,
    head: Duration,
    way: Way,
}

/// Why a request is not handed on, or came to nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PassError {
    /// The operator has not allowed it.
    #[error("{}", not_allowed(backend.as_deref()))]
    NotAllowed {
        /// The backend that would take it, if the request says which.
        backend: Option<String>,
    },
    /// Several backends take it.
    #[error("`{}` take this, and the request does not say which is meant", .0.join("`, `"))]
    WhichBackend(Vec<String>),
    /// No such model, or no such backend.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// This process is about to end.
    #[error("the server is shutting down")]
    Draining,
    /// The upstream did not answer.
    #[error("{}", .0.message)]
    Upstream(Failure),
}

fn not_allowed(backend: Option<&str>) -> String {
    match backend {
        Some(name) => format!("there is nothing here, and the backend `{name}` does not pass this path through"),
        None => "there is nothing here, and no backend passes this path through".to_owned(),
    }
}

impl Gateway {
    /// Who takes a request to this path: the backend that it names; else the one that its model leads to first; else the only one
    /// that does.
    ///
    /// # Errors
    /// When nobody does, or several.
    pub fn passage(
        &self,
        path: &str,
        query: Option<&str>,
        backend: Option<&str>,
        model: Option<&str>,
    ) -> Result<Passage, PassError> {
        if self.draining() {
            return Err(PassError::Draining);
        }
        let router = self.router();
        let passage = |name: &str, backend: &Arc<dyn Backend>, model: Option<String>| {
            let way = backend.way(path, query)?;
            Some(Passage { model, backend: name.to_owned(), head: backend.clocks().head, way })
        };
        if let Some(name) = backend {
            let chosen = router.backend(name)?;
            // The name of a model that leads to other backends only is this one's own.
            let there = |model: &str| {
                let route = router.resolve(Some(model)).ok()?.route;
                route.into_iter().find(|station| station.backend == name).map(|station: Upstream| station.model)
            };
            let passage = passage(name, chosen, model.map(|model| there(model).unwrap_or_else(|| model.to_owned())));
            return passage.ok_or_else(|| PassError::NotAllowed { backend: Some(name.to_owned()) });
        }
        let mut all = router.backends().filter_map(|(name, backend)| passage(name, backend, None));
        if let Some(model) = model {
            if all.next().is_none() {
                return Err(PassError::NotAllowed { backend: None }); // whatever the model
            }
            let target = router.resolve(Some(model))?;
            let passage = passage(&target.backend_name, &target.backend, Some(target.upstream_model));
            return passage.ok_or(PassError::NotAllowed { backend: Some(target.backend_name) });
        }
        let first = all.next().ok_or(PassError::NotAllowed { backend: None })?;
        let mut others: Vec<_> = all.map(|passage| passage.backend).collect();
        match others.is_empty() {
            true => Ok(first),
            false => {
                others.insert(0, first.backend);
                Err(PassError::WhichBackend(others))
            }
        }
    }
}

impl Passage {
    /// Hands the request on, and waits for the response's head: as long as the backend's clock allows, counted from when the last
    /// piece of the request was taken. Cancel safe: dropping the future, or the body that it gave, gives the request up.
    ///
    /// # Errors
    /// [`PassError::Upstream`]: no response.
    pub async fn send(self, request: Request) -> Result<Response, PassError> {
        let Self { backend, head, way, .. } = self;
        let moved = Arc::new(Mutex::new(Instant::now()));
        let taken = Arc::clone(&moved);
        let request = request.map(|body| {
            let noted = move |piece| {
                *taken.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
                piece
            };
            body.map(|body| body.map(noted).boxed())
        });
        let deadline = || *moved.lock().unwrap_or_else(PoisonError::into_inner) + head;
        let response = way(request);
        tokio::pin!(response);
        let error = loop {
            let until = deadline();
            tokio::select! {
                response = &mut response => match response {
                    Ok(response) => return Ok(response),
                    Err(error) => break error,
                },
                () = sleep_until(until) => {
                    if deadline() <= Instant::now() {
                        let clock = humantime::format_duration(head);
                        let detail = format!("`{backend}` gave no answer: the `head` clock ran out after {clock}");
                        break BackendError::new(ErrorKind::Timeout, detail);
                    }
                }
            }
        };
        Err(PassError::Upstream(error.into()))
    }
}
