//! Requests that are handed on to the upstream as they are, to the paths that the operator allows.
//!
//! Who asked is not known here, and what is asked is not looked at: only the operator's headers and query are added. What an upstream
//! says of its own account to whoever holds the account's key stays here.

use std::sync::Arc;

use ::http::{HeaderMap, HeaderName, header};
use futures_util::{FutureExt, StreamExt, TryStreamExt};

use super::Upstream;
use crate::{
    backend::{BackendError, BadConfig, Request, Response, Way},
    client::Body,
};

/// What belongs to one connection.
const OF_A_CONNECTION: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// What belongs to the upstream's origin, and not to the answer.
const NOT_OURS: [HeaderName; 4] = [
    header::ALT_SVC,
    header::STRICT_TRANSPORT_SECURITY,
    // A session of the operator's is nothing for the client.
    header::SET_COOKIE,
    header::SERVER,
];

/// Whose account it is, and which pages may ask, is said by lastword and not by its upstream.
const NOT_THEIRS: [&str; 3] = ["openai-organization", "openai-project", "anthropic-organization-id"];

/// The paths below the base URL to which requests are handed on: each one path, or with `/*` behind it also all below it.
#[derive(Debug)]
pub(super) struct Paths(Vec<String>);

impl Paths {
    pub(super) fn new(paths: Vec<String>) -> Result<Self, BadConfig> {
        for path in &paths {
            let plain = path.strip_suffix('*').map_or(path.as_str(), |start| start.strip_suffix('/').unwrap_or(start));
            let bare = plain.trim_matches('/');
            let bare = bare.strip_prefix("v1/").unwrap_or(bare);
            let good = path == "*"
                || (bare == plain && !bare.is_empty() && !bare.contains(['*', '?', '#', '%']))
                    && (*path == bare || *path == format!("{bare}/*"));
            if !good {
                let bare = bare.split(['*', '?', '#', '%']).next().filter(|bare| !bare.is_empty()).unwrap_or("files");
                let problem = format!(
                    "has `{path}`, which is no path below base_url; write \"{bare}\", or \"{bare}/*\" for all below it too"
                );
                return Err(BadConfig::new("pass_through", problem));
            }
        }
        Ok(Self(paths))
    }

    fn have(&self, path: &str) -> bool {
        self.0.iter().any(|allowed| match allowed.strip_suffix('*') {
            Some("") => true,
            // `audio/*` is `audio` and all below it.
            Some(below) => path.starts_with(below) || Some(path) == below.strip_suffix('/'),
            None => allowed == path,
        })
    }
}

impl Upstream {
    /// The way to this path, if it is allowed.
    pub(in crate::backend) fn way(self: &Arc<Self>, path: &str, query: Option<&str>) -> Option<Way> {
        if !self.pass_through.have(path) {
            return None;
        }
        let (upstream, path, query) = (Arc::clone(self), path.to_owned(), query.map(str::to_owned));
        Some(Box::new(move |request| upstream.pass(path, query, request).boxed()))
    }

    async fn pass(
        self: Arc<Self>,
        path: String,
        query: Option<String>,
        request: Request,
    ) -> Result<Response, BackendError> {
        let response = self.client.pass(&path, query.as_deref(), request).await;
        let response = response.map_err(|error| self.presentable(error.into()))?;
        let (mut head, body) = response.into_parts();
        without(&mut head.headers);
        Ok(Response::from_parts(head, body.map_err(move |error| self.presentable(error.into())).boxed()))
    }
}

/// To an application of the user's own, whose headers are for its clients.
impl Upstream {
    /// Hands a request on, and gives back the response, both without what belongs to one connection.
    pub(in crate::backend) async fn relay(
        &self,
        path: &str,
        query: Option<&str>,
        mut request: Request,
    ) -> Result<::http::Response<Body>, BackendError> {
        without_connection(request.headers_mut());
        let response = self.client.pass(path, query, request).await;
        let mut response = response.map_err(|error| self.presentable(error.into()))?;
        without_connection(response.headers_mut());
        Ok(response)
    }
}

/// Takes away what belongs to one connection: by its nature, or because a `Connection` header says so.
fn without_connection(headers: &mut HeaderMap) {
    let all = headers.get_all(header::CONNECTION).into_iter().filter_map(|names| names.to_str().ok());
    let named: Vec<HeaderName> =
        all.flat_map(|names| names.split(',')).filter_map(|name| name.trim().parse().ok()).collect();
    named.iter().chain(&OF_A_CONNECTION).for_each(|name| _ = headers.remove(name));
}

/// Takes away what is not the answer's.
fn without(headers: &mut HeaderMap) {
    without_connection(headers);
    NOT_OURS.iter().for_each(|name| _ = headers.remove(name));
    let cors: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("access-control-")).cloned().collect();
    cors.iter().for_each(|name| _ = headers.remove(name));
    NOT_THEIRS.iter().for_each(|name| _ = headers.remove(*name));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_allowed_by_its_name_or_by_what_lies_above_it() {
        let paths = ["embeddings", "files", "audio/*"].map(str::to_owned);
        let paths = Paths::new(paths.into()).expect("paths");
        for allowed in ["embeddings", "files", "audio", "audio/", "audio/speech", "audio/a/b"] {
            assert!(paths.have(allowed), "{allowed}");
        }
        for other in ["", "file", "files/", "files/x", "audios", "audiox/y", "embeddings2", "x/embeddings"] {
            assert!(!paths.have(other), "{other}");
        }
        assert!(Paths::new(vec!["*".to_owned()]).expect("all").have("any/thing"));
        assert!(!Paths::new(Vec::new()).expect("none").have("files"));
    }

    #[test]
    fn of_a_response_only_the_answer_is_told() {
        let mut headers = HeaderMap::new();
        for (name, kept) in [
            ("connection", false),
            ("x-hop", false),
            ("x-other-hop", false),
            ("transfer-encoding", false),
            ("keep-alive", false),
            ("set-cookie", false),
            ("alt-svc", false),
            ("openai-organization", false),
            ("access-control-allow-origin", false),
            ("content-type", true),
            ("content-length", true),
            ("content-encoding", true),
            ("retry-after", true),
            ("x-request-id", true),
            ("x-ratelimit-remaining-tokens", true),
            ("openai-processing-ms", true),
        ] {
            let value = if name == "connection" { "x-hop, X-Other-Hop" } else { "kept" };
            headers.insert(name, value.parse().expect("a value"));
            if !kept {
                headers.append(name, "also".parse().expect("a value"));
            }
        }
        without(&mut headers);
        assert_eq!(headers.len(), 7, "{headers:?}");
        assert!(headers.values().all(|value| value == "kept"), "{headers:?}");
    }
}
