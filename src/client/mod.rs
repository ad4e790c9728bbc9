//! The one HTTP client: reqwest is named here and nowhere else.
//!
//! A [`Client`] speaks with one origin, whose headers and query it adds to each request. A body comes back as it arrives;
//! dropping the [`Response`] closes the connection (HTTP/2: resets the stream), which is how a cancel stops a model. Redirects
//! are not followed, since a prompt and a key are meant for the origin that was configured. The environment's proxy
//! (`HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`) is used for `https` only and never for loopback: what is spoken to in the clear
//! is near. No error's text holds a path, a query or a credential.
//!
//! [`Lastword`] is a client of another lastword, and [`Answer`] reads one of its answers over any number of connections.

mod answer;
pub mod doctor;
mod lastword;
mod patience;
mod response;
mod secret;

use std::{fmt, net::IpAddr, path::Path, time::Duration};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use reqwest::{
    Method, Url,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
};

use self::response::root_cause;
pub use self::{
    answer::{Answer, Event, Step},
    lastword::{Ask, End, Failed, Fault, Lastword, State},
    response::{Body, Error, Response, Stage},
    secret::{Secret, Secrets},
};

/// How long an idle connection is kept. Python and Node servers let go of one after 5 s, and a request that crosses their
/// good-bye is lost; near servers are quick to reach again, far ones (TLS) are worth more patience.
const IDLE_NEAR: Duration = Duration::from_secs(4);
const IDLE_FAR: Duration = Duration::from_secs(60);

/// A body that is handed on in pieces, as they come.
pub type Pieces<E> = BoxStream<'static, Result<Bytes, E>>;

/// Why a body that is handed on stopped in the middle: its sender's affair.
pub type Broken = Box<dyn std::error::Error + Send + Sync>;

/// An origin cannot be spoken to as it is configured. The text says why, and repeats no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// A client of one origin. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    /// With the configured query.
    base: Url,
    headers: HeaderMap,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("origin", &self.origin()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client of what lies under `base_url`, with or without a slash at its end. `connect` bounds the time until a
    /// connection (TLS included) stands; no other clock is kept here.
    ///
    /// # Errors
    /// When the URL is not a plain `http` or `https` one, or TLS finds no root certificates.
    pub fn new(base_url: &str, connect: Duration) -> Result<Self, Unusable> {
        let unusable = |why: &str| Unusable(why.to_owned());
        let base = parsed(base_url, "http://host:port/v1")?;
        if has_credential(&base) {
            return Err(unusable("holds a user name or password; give the credential as `api_key` or in `headers`"));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(unusable("holds a query or fragment; parameters belong in `query`"));
        }
        Self::of(base, connect)
    }

    /// A client of this one URL, query and all: requests go to the empty path below it.
    ///
    /// # Errors
    /// As of [`Client::new`].
    pub fn of_url(url: &str, connect: Duration) -> Result<Self, Unusable> {
        let url = parsed(url, "https://host/path")?;
        if has_credential(&url) || url.fragment().is_some() {
            return Err(Unusable("holds a user name, a password or a fragment; leave them out".to_owned()));
        }
        Self::of(url, connect)
    }

    fn of(base: Url, connect: Duration) -> Result<Self, Unusable> {
        let http = connections(&base, connect)
            .build()
            .map_err(|error| Unusable(format!("cannot be reached with TLS: {}", root_cause(&error.without_url()))))?;
        Ok(Self { http, base, headers: HeaderMap::new() })
    }

    /// A client of whoever listens on this Unix socket.
    ///
    /// # Errors
    /// As of [`Client::new`].
    pub fn of_socket(socket: &Path) -> Result<Self, Unusable> {
        let base = Url::parse("http://lastword").map_err(|why| Unusable(why.to_string()))?;
        let http = connections(&base, IDLE_NEAR).unix_socket(socket).build();
        let http = http.map_err(|error| Unusable(root_cause(&error)))?;
        Ok(Self { http, base, headers: HeaderMap::new() })
    }

    /// Sends this header with every request.
    ///
    /// # Errors
    /// When the name or the value has bytes that no header may have.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, Unusable> {
        let name = HeaderName::try_from(name).map_err(|_| Unusable("is not a header's name".to_owned()))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            Unusable("has a value that no header can carry (a line break, a control character)".to_owned())
        })?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(self)
    }

    /// Sends this query parameter with every request.
    #[must_use]
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.base.query_pairs_mut().append_pair(name, value);
        self
    }

    /// `http://host:port`, as it may be shown.
    #[must_use]
    pub fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether it is this machine.
    #[must_use]
    pub fn is_near(&self) -> bool {
        is_loopback(&self.base)
    }

    /// The path of the base URL.
    #[must_use]
    pub fn base_path(&self) -> &str {
        self.base.path()
    }

    /// Posts JSON to a path below the base URL and waits for the response's head. Of a header that is also configured for each
    /// request, the configured value counts. Cancel safe: dropping the future gives the request up.
    ///
    /// # Errors
    /// When there is no connection, or it breaks before the head is here. Every status is a success at this level.
    pub async fn post(
        &self,
        path: &str,
        accept: &'static str,
        headers: &[(String, String)],
        json: Vec<u8>,
    ) -> Result<Response, Error> {
        let request = self.request(Method::POST, path, accept).header(CONTENT_TYPE, "application/json").body(json);
        self.send(self.with(headers, request)).await
    }

    /// Gets a path below the base URL; headers as in [`Client::post`]. Cancel safe.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub async fn get(&self, path: &str, accept: &'static str, headers: &[(String, String)]) -> Result<Response, Error> {
        self.send(self.with(headers, self.request(Method::GET, path, accept))).await
    }

    /// Erases what is at a path below the base URL. Cancel safe.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub async fn delete(&self, path: &str) -> Result<Response, Error> {
        self.send(self.request(Method::DELETE, path, "*/*")).await
    }

    /// Asks what may be asked of a path below the base URL; headers as in [`Client::post`]. Cancel safe.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub async fn options(&self, path: &str, headers: &[(String, String)]) -> Result<Response, Error> {
        self.send(self.with(headers, self.request(Method::OPTIONS, path, "*/*"))).await
    }

    /// Of a header that is also configured, the configured value counts.
    fn with(&self, headers: &[(String, String)], request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let more = headers.iter().filter(|(name, _)| !self.headers.contains_key(name));
        more.fold(request, |request, (name, value)| request.header(name, value))
    }

    /// Hands a request on to a path below the base URL, with this query behind the configured one, and waits for the response's
    /// head. Of a header or parameter that is also configured, the configured value counts. The path is sent to the letter: its
    /// segments are the caller's to look at. Cancel safe: dropping the future, or the body later, gives the request up.
    ///
    /// # Errors
    /// As [`Client::post`]; also when the request's own body breaks off.
    pub async fn pass(
        &self,
        path: &str,
        query: Option<&str>,
        request: http::Request<Option<Pieces<Broken>>>,
    ) -> Result<http::Response<Body>, Error> {
        let (head, body) = request.into_parts();
        let mut headers = head.headers;
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
        let mut request = self.http.request(head.method, self.below(path, query)).headers(headers);
        if let Some(body) = body {
            request = request.body(reqwest::Body::wrap_stream(body));
        }
        let answered = self.send(request).await?;
        let mut response = http::Response::new(());
        *response.status_mut() = answered.inner.status();
        *response.headers_mut() = answered.inner.headers().clone();
        Ok(response.map(|()| answered.body()))
    }

    /// The URL of a path as a client wrote it.
    fn below(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = self.base.clone();
        if !path.is_empty() {
            url.set_path(&format!("{}/{path}", self.base.path().trim_end_matches('/')));
        }
        let ours: Vec<_> = self.base.query_pairs().map(|(name, _)| name.into_owned()).collect();
        let theirs = query.unwrap_or_default().split('&').filter(|pair| {
            url.set_query(Some(pair));
            url.query_pairs().next().is_some_and(|(name, _)| !ours.iter().any(|ours| *ours == name))
        });
        let all: Vec<_> = self.base.query().into_iter().chain(theirs).collect();
        url.set_query((!all.is_empty()).then(|| all.join("&")).as_deref());
        url
    }

    fn request(&self, method: Method, path: &str, accept: &'static str) -> reqwest::RequestBuilder {
        let mut url = self.base.clone();
        // An empty path is the base itself.
        if !path.is_empty()
            && let Ok(mut segments) = url.path_segments_mut()
        {
            segments.pop_if_empty().extend(path.split('/'));
        }
        self.http.request(method, url).header(ACCEPT, accept).headers(self.headers.clone())
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Error> {
        let origin = self.origin();
        match request.send().await {
            Ok(inner) => Ok(Response { origin, inner }),
            Err(error) if error.is_connect() => Err(Error::new(Stage::Connect, &origin, error)),
            Err(error) => Err(Error::new(Stage::Head, &origin, error)),
        }
    }
}

fn parsed(url: &str, example: &str) -> Result<Url, Unusable> {
    let url = Url::parse(url).map_err(|why| Unusable(format!("is not a URL ({why}); write \"{example}\"")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(Unusable("must begin with http:// or https://".to_owned())),
    }
}

fn has_credential(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// How connections to this origin are made and kept.
fn connections(base: &Url, connect: Duration) -> reqwest::ClientBuilder {
    let far = base.scheme() == "https";
    let builder = reqwest::Client::builder()
        .user_agent(concat!("lastword/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(connect)
        .tcp_nodelay(true)
        .pool_idle_timeout(if far { IDLE_FAR } else { IDLE_NEAR })
        .http2_keep_alive_interval(Duration::from_secs(20))
        .http2_keep_alive_timeout(Duration::from_secs(20));
    // reqwest takes the process's crypto provider, and panics without one. Whoever installed one before us has chosen.
    let _chosen_before = rustls::crypto::ring::default_provider().install_default();
    match (far, is_loopback(base)) {
        (true, false) => builder,
        (true, true) => builder.no_proxy(),
        // No certificate is ever looked at, so none are loaded: a machine without any can still ask its neighbour.
        (false, _) => builder.no_proxy().tls_certs_only([]),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || host.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONNECT: Duration = Duration::from_secs(1);

    #[test]
    fn a_base_url_is_http_and_holds_nothing_secret() {
        for (url, why) in [
            ("localhost:8000/v1", "http://"),
            ("not a url", "is not a URL"),
            ("ftp://host/", "http://"),
            ("https://me:pass@host/v1", "api_key"),
            ("https://host/v1?key=pass", "`query`"),
        ] {
            let error = Client::new(url, CONNECT).expect_err(url).to_string();
            assert!(error.contains(why) && !error.contains("pass@") && !error.contains("key=pass"), "{url}: {error}");
        }
    }

    #[test]
    fn a_path_is_put_below_the_base_with_or_without_a_slash() {
        for base in ["http://host:8000/v1", "http://host:8000/v1/"] {
            let client = Client::new(base, CONNECT).expect("a client").query("api-version", "2 3");
            let request = client.request(Method::POST, "chat/completions", "*/*").build().expect("a request");
            assert_eq!(request.url().as_str(), "http://host:8000/v1/chat/completions?api-version=2+3");
            assert_eq!(client.origin(), "http://host:8000");
        }
    }

    #[test]
    fn a_path_that_is_handed_on_is_kept_to_the_letter_and_the_configured_query_wins() {
        let client = Client::new("http://host/v1/", CONNECT).expect("a client");
        assert_eq!(client.below("files", None).as_str(), "http://host/v1/files");
        let client = client.query("api-version", "2 3");
        for (path, query, url) in [
            ("files/a%20b%2Fc:d", None, "files/a%20b%2Fc:d?api-version=2+3"),
            ("files", Some("limit=2&x=%20&limit=3&flag"), "files?api-version=2+3&limit=2&x=%20&limit=3&flag"),
            ("files", Some("api-version=1&api%2Dversion=1&a=b"), "files?api-version=2+3&a=b"),
            ("files", Some(""), "files?api-version=2+3"),
        ] {
            assert_eq!(client.below(path, query).as_str(), format!("http://host/v1/{url}"));
        }
    }

    #[test]
    fn loopback_has_many_names() {
        for (url, loopback) in [
            ("http://127.0.0.1:1", true),
            ("http://127.8.8.8", true),
            ("https://[::1]:1", true),
            ("http://localhost", true),
            ("http://10.0.0.1", false),
            ("https://localhost.example.com", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).expect(url)), loopback, "{url}");
        }
    }
}
