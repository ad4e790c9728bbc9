//! What comes back of a request: a head with its body on the way, or how far it came.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};

use super::Pieces;

/// How much, and how long, [`Response::release`] reads to see the end of a body.
const LEFTOVER_BYTES: usize = 64 * 1024;
const LEFTOVER_TIME: Duration = Duration::from_secs(1);

/// A response whose head is here and whose body is on its way.
pub struct Response {
    pub(super) origin: String,
    pub(super) inner: reqwest::Response,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").field("origin", &self.origin).field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Response {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.inner.status().as_u16()
    }

    /// Whether HTTP/2 is spoken.
    #[must_use]
    pub fn is_http2(&self) -> bool {
        self.inner.version() == http::Version::HTTP_2
    }

    /// A header's first value, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.inner.headers().get(name)?.to_str().ok()
    }

    /// How long to wait before another try: `retry-after-ms`, else `retry-after` in seconds or as a date, which is measured by the
    /// server's own clock.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let number = |name| self.header(name)?.trim().parse::<f64>().ok();
        if let Some(ms) = number("retry-after-ms") {
            return Duration::try_from_secs_f64(ms / 1000.0).ok();
        }
        if let Some(seconds) = number("retry-after") {
            return Duration::try_from_secs_f64(seconds).ok();
        }
        let date = |name| httpdate::parse_http_date(self.header(name)?).ok();
        date("retry-after")?.duration_since(date("date")?).ok()
    }

    /// Where a redirect points to, as it may be shown: without query and credentials.
    #[must_use]
    pub fn location(&self) -> Option<String> {
        let mut url = self.inner.url().join(self.header("location")?).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        // Neither can be set on a URL without a host, and there they cannot stand either.
        let _no_host = url.set_username("").and(url.set_password(None));
        Some(url.into())
    }

    /// The next bytes of the body, as they came; nothing at its end. Cancel safe.
    ///
    /// # Errors
    /// When the connection broke before the body's end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.inner.chunk().await.map_err(|error| Error::new(Stage::Body, &self.origin, error))
    }

    /// The body by itself.
    #[must_use]
    pub fn body(self) -> Body {
        Body { origin: self.origin, inner: self.inner.bytes_stream().boxed() }
    }

    /// The body's first `limit` bytes as text, for error messages: of a body that breaks, what came of it.
    pub async fn text(mut self, limit: usize) -> String {
        let mut body = Vec::new();
        while body.len() < limit
            && let Ok(Some(chunk)) = self.chunk().await
        {
            body.extend_from_slice(&chunk);
        }
        body.truncate(limit);
        String::from_utf8_lossy(&body).into_owned()
    }

    /// As [`Body::release`].
    pub fn release(self) {
        self.body().release();
    }
}

/// A body on its way, in pieces as they come. An error is the last of them: the connection broke before the body's end.
pub struct Body {
    origin: String,
    inner: Pieces<reqwest::Error>,
}

impl Body {
    /// Lets go of a body of which all that matters was read. If its end is near, the connection serves the next request;
    /// if not, it is closed. Nobody waits for this: it is a task of at most a second.
    pub fn release(mut self) {
        tokio::spawn(tokio::time::timeout(LEFTOVER_TIME, async move {
            let mut read = 0;
            while read < LEFTOVER_BYTES
                && let Some(Ok(piece)) = self.next().await
            {
                read += piece.len();
            }
        }));
    }
}

impl Stream for Body {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match ready!(self.inner.as_mut().poll_next(cx)) {
            Some(Ok(piece)) => Poll::Ready(Some(Ok(piece))),
            Some(Err(error)) => Poll::Ready(Some(Err(Error::new(Stage::Body, &self.origin, error)))),
            None => Poll::Ready(None),
        }
    }
}

/// How far a request had come when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// No connection stood.
    Connect,
    /// The request was on its way, the response's head was not here.
    Head,
    /// In the middle of the response's body.
    Body,
}

/// A request or its response broke. The text names the origin and the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// How far it had come.
    pub stage: Stage,
    /// The connect clock ran out.
    pub timed_out: bool,
    message: String,
}

impl Error {
    pub(super) fn new(stage: Stage, origin: &str, error: reqwest::Error) -> Self {
        let error = error.without_url();
        let timed_out = error.is_timeout();
        let cause = match timed_out {
            true => "the `connect` clock ran out".to_owned(),
            false if is_untrusted(&error) => format!("{}; {TRUST}", root_cause(&error)),
            false => root_cause(&error),
        };
        let message = match stage {
            Stage::Connect => format!("cannot connect to {origin}: {cause}"),
            Stage::Head => format!("{origin} gave no answer: {cause}"),
            Stage::Body => format!("the connection to {origin} broke in the middle of the answer: {cause}"),
        };
        Self { stage, timed_out, message }
    }
}

/// What to do where a certificate is good, and of an authority that the system does not know.
const TRUST: &str = "SSL_CERT_FILE=FILE.pem trusts the authorities in that file, in place of the system's";

/// Whether nobody who is trusted has signed the other side's certificate.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    use rustls::{CertificateError::UnknownIssuer, Error::InvalidCertificate};
    if let Some(InvalidCertificate(UnknownIssuer)) = error.downcast_ref() {
        return true;
    }
    // An I/O error does not name the error that it holds among its sources.
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    let held = held.map(|held| held as &(dyn std::error::Error + 'static));
    held.into_iter().chain(error.source()).any(is_untrusted)
}

/// The innermost error says what happened; those around it say where, which the caller knows better.
pub(super) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
