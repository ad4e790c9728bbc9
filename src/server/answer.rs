//! The service hyper calls, and the body it sends: the router, watched.
//!
//! Every body passes through [`Answer`], so no handler can forget to say that its answer has begun or is whole. It
//! looks only at how the body ends; the bytes are not its business.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tower::Service as _;

use super::link::{Link, Unfinished};
use super::stream::Stream;

/// The router as one connection sees it.
#[derive(Clone)]
pub(super) struct Answers {
    router: Router,
    link: Arc<Link>,
}

impl Answers {
    pub(super) fn new(router: Router, link: Arc<Link>) -> Self {
        Self { router, link }
    }
}

impl hyper::service::Service<Request<Incoming>> for Answers {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        self.link.hear();
        let Self { mut router, link } = self.clone();
        Box::pin(async move {
            let stream = Stream::current();
            let connection = stream.as_ref().map_or(&link.connection, Stream::connection);
            connection.begin();
            request.extensions_mut().insert(connection.clone());
            let response = router.call(request).await?;
            Ok(response.map(|body| Answer::new(body, &link, stream)))
        })
    }
}

/// A response body, and what its connection must know of it.
pub(super) struct Answer {
    body: Body,
    /// Goes with the body. hyper drops a body that has ended before it writes the end of the message, so that end is
    /// followed by a FIN; after a body that failed it writes nothing more, so there the reset stays armed.
    _unfinished: Option<Unfinished>,
    stream: Option<Stream>,
}

impl Answer {
    fn new(body: Body, link: &Arc<Link>, stream: Option<Stream>) -> Self {
        use http_body::Body as _;
        // With a Content-Length a truncated answer is seen for what it is, also after a FIN.
        let streamed = body.size_hint().exact().is_none();
        Self { body, _unfinished: streamed.then(|| link.begin()), stream }
    }
}

impl http_body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(stream) = &self.stream {
            stream.record(polled.is_ready());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
