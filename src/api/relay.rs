//! An application's own paths (`[backends.NAME] kind = "relay"`): requests to them go on as they came. What it answers in events is
//! recorded, and told to its client as it stood on the wire; what else it answers goes through.
//!
//! Beside each path lie those on which its pages come back to an answer: `…/{chat or answer}/stream` (GET), and stop one (`DELETE` there,
//! `POST …/stop` and `…/cancel`). So `useChat`, `WorkflowChatTransport`, LangGraph's client and a plain EventSource resume, and the application
//! knows nothing of it.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{FromRequest, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    Api,
    auth::{self, Caller, NOBODY},
    body::Whole,
    chats::{From, behind, find, resumable},
    connection::{Connection, GaveUp},
    error::Problem,
    events::{Heartbeat, Seat},
    post,
    surface::{decoded, is_plain},
};
use crate::{
    gateway::{self, Known, RelayError, Relaying, Stream, ToRelay},
    id::{Seen, StreamId},
    prompt::Prompt,
    protocol::relayed::{self, Relayed},
};

/// Of a request: what is made anew, or is said to lastword. (What belongs to one connection goes nowhere.)
const NOT_FORWARDED: [HeaderName; 4] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::EXPECT,
    // Events that are packed could not be read.
    header::ACCEPT_ENCODING,
];
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Of an answer's head: what lastword says itself.
const OURS: [HeaderName; 3] =
    [header::CONTENT_LENGTH, header::CACHE_CONTROL, HeaderName::from_static("x-accel-buffering")];

/// Takes the requests to applications out of the way; all others go on.
pub(super) async fn to_applications(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    if path.starts_with("/v1/") {
        return next.run(request).await;
    }
    let returned = of_an_answer(request.method(), &path);
    let returned = returned.and_then(|(base, chat)| Some((api.gateway.relays(base)?, base, chat)));
    let known = api.gateway.relays(&path);
    if returned.is_none() && known.is_none() {
        return next.run(request).await;
    }
    // What is not below a path, however it is written, does not become so behind the application's own.
    if !is_plain(&path) {
        return super::nothing().into_response();
    }
    let (parts, body) = request.into_parts();
    if let Some((of, base, chat)) = returned {
        let chat = decoded(chat).unwrap_or_else(|| chat.to_owned());
        match returns(&api, &parts, &of, (base, &chat)).await {
            Ok(Some(response)) | Err(response) => return response,
            // Below a path of which all goes to the application, this may be one of its own.
            Ok(None) if of.named || known.is_none() => return StatusCode::NO_CONTENT.into_response(),
            Ok(None) => {}
        }
    }
    let Some(known) = known else { return super::nothing().into_response() };
    let answer = async {
        let caller = caller(&api, &parts, &known).await?;
        asked(&api, &caller, known, parts, body).await.map_err(Problem::into_response)
    };
    answer.await.unwrap_or_else(|refused| refused)
}

/// The path of an application and the chat, of a path on which a client comes back to an answer, or stops it.
fn of_an_answer<'p>(method: &Method, path: &'p str) -> Option<(&'p str, &'p str)> {
    let (above, last) = path.rsplit_once('/')?;
    let (base, chat) = above.rsplit_once('/')?;
    let is_one = match last {
        "stream" => matches!(*method, Method::GET | Method::DELETE),
        "stop" | "cancel" => method == Method::POST,
        _ => false,
    };
    (is_one && !chat.is_empty()).then_some((base, chat))
}

/// A client that comes back to an answer, or stops it; nothing if there is none.
async fn returns(
    api: &Arc<Api>,
    parts: &Parts,
    known: &Known,
    (base, chat): (&str, &str),
) -> Result<Option<Response>, Response> {
    let caller = caller(api, parts, known).await?;
    let returned = async {
        let found = match find(api, &caller, chat).await {
            Err(problem) if problem.status() == 404 => None,
            found => found?,
        };
        let Some(id) = found else { return Ok(None) };
        let stream = match relayed_here(api, &caller, id).await {
            Err(problem) if problem.status() == 404 => return Ok(None),
            stream => stream?,
        };
        if parts.method != Method::GET {
            api.gateway.cancel(caller.owner(), id).await?;
            return Ok(Some(post::named(id, StatusCode::NO_CONTENT.into_response())));
        }
        let Query(From { start_index }) = Query::try_from_uri(&parts.uri)?;
        let seen = post::last_event_id(&parts.headers);
        let connection = connection(parts);
        let response = match start_index.filter(|_| seen.is_none()) {
            Some(index) => behind(api, &caller, &stream, Relayed::new(id), &index, connection).await?,
            None => told(api, &caller, id, seen, connection).await?,
        };
        Ok(Some(with_head(id, base, told_again(&stream), response)))
    };
    returned.await.map_err(Problem::into_response)
}

/// A request: to the application, or to the answer that it goes on with.
async fn asked(api: &Arc<Api>, caller: &Caller, known: Known, parts: Parts, body: Body) -> Result<Response, Problem> {
    let Parts { uri, method, headers, .. } = parts.clone();
    let (path, connection) = (uri.path(), connection(&parts));
    let seen = post::last_event_id(&headers);
    if let Some(id) = seen.and_then(|seen| seen.stream()) {
        let stream = relayed_here(api, caller, id).await?;
        let response = told(api, caller, id, seen, connection).await?;
        return Ok(with_head(id, path, told_again(&stream), response));
    }
    let whole = Whole::from_request(Request::from_parts(parts, body), api).await?;
    let idempotency = match method {
        Method::POST => post::idempotency(&headers, &format!("relay {path}"), &whole.bytes)?,
        _ => None,
    };
    if let Some((key, fingerprint)) = &idempotency
        && let Some(id) = api.gateway.find(caller.owner(), key, fingerprint).await?
    {
        let stream = relayed_here(api, caller, id).await?;
        let mut response = told(api, caller, id, None, connection).await?;
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
        return Ok(with_head(id, path, told_again(&stream), response));
    }
    let Known { backend, relaying, .. } = known;
    // The configuration may have been exchanged meanwhile.
    let way = api.gateway.relayable(&backend, path, uri.query()).ok_or_else(super::nothing)?;
    let prompt = Prompt {
        protocol: relayed::NAME.into(),
        model: backend,
        body: serde_json::from_slice(&whole.bytes).ok(),
        on_disconnect: relaying.on_disconnect,
        ..Prompt::default()
    };
    let mut request = gateway::Request::new(None);
    *request.method_mut() = method;
    *request.headers_mut() = forwarded(&headers, &relaying);
    // HTTP/2 has the name in the URL.
    let host = uri.authority().and_then(|host| HeaderValue::try_from(host.as_str()).ok());
    from_whom(request.headers_mut(), headers.get(header::HOST).cloned().or(host), &connection);
    if !whole.bytes.is_empty() {
        request.headers_mut().insert(header::CONTENT_LENGTH, whole.bytes.len().into());
        *request.body_mut() = Some(stream::iter([Ok(whole.bytes.clone())]).boxed());
    }
    let chat = chat(&whole.bytes, &relaying);
    let asked = ToRelay { owner: caller.owner().to_owned(), request, prompt, idempotency, chat };
    let relayed = api.gateway.relay(way, asked).await;
    drop(whole); // its room is for others: from here on it can take long
    match relayed? {
        gateway::Relayed::Stream(started, head) => {
            let response = told(api, caller, started.id, None, connection).await?;
            Ok(with_head(started.id, path, head, response))
        }
        // Why it broke off is told in the log; the client sees a reset, and never a clean end.
        gateway::Relayed::Other(response) => {
            Ok(response.map(|body| Body::from_stream(body.map_err(|_| GaveUp::new()))))
        }
    }
}

/// An answer that came from an application. Any other is not told in its bytes.
async fn relayed_here(api: &Api, caller: &Caller, id: StreamId) -> Result<Stream, Problem> {
    let stream = api.gateway.stream(caller.owner(), id).await?;
    match stream.begin.protocol == relayed::NAME {
        true => Ok(stream),
        false => Err(Problem::no_stream(&id.to_string())),
    }
}

async fn told(
    api: &Arc<Api>,
    caller: &Caller,
    id: StreamId,
    seen: Option<Seen>,
    connection: Connection,
) -> Result<Response, Problem> {
    let seat = Seat::take(api, caller, id, seen, connection).await?;
    Ok(seat.relay(api, Relayed::new(id), |_, _| None, Heartbeat::default()).await?)
}

/// The response with the application's head, and what clients look for who come back: below this path.
fn with_head(id: StreamId, path: &str, head: HeaderMap, mut response: Response) -> Response {
    if response.status() == StatusCode::OK {
        for name in head.keys().filter(|name| !OURS.contains(name)) {
            response.headers_mut().remove(name);
            head.get_all(name).iter().for_each(|value| _ = response.headers_mut().append(name, value.clone()));
        }
        if let Ok(place) = HeaderValue::try_from(format!("{}/{id}/stream", path.trim_end_matches('/'))) {
            response.headers_mut().insert(header::LOCATION, place);
        }
    }
    resumable(id, response)
}

/// What of the application's head those are told, too, who come back.
fn told_again(stream: &Stream) -> HeaderMap {
    let head = stream.begin.head.iter();
    head.filter_map(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse().ok()?))).collect()
}

/// Who asks: as lastword knows it, or as the application tells one person from another.
async fn caller(api: &Api, parts: &Parts, known: &Known) -> Result<Caller, Response> {
    let Parts { method, uri, headers, .. } = parts;
    let Known { backend: name, relaying, .. } = known;
    if relaying.needs_key {
        return auth::who(api, method, uri, headers).await;
    }
    if relaying.identify.is_empty() {
        let owner = if api.auth.known().config().is_on() { format!("relay {name}") } else { NOBODY.to_owned() };
        return Ok(Caller::of_an_application(&owner));
    }
    let mut person = Sha256::new();
    for what in &relaying.identify {
        let value = match what.split_once(':') {
            Some(("cookie", name)) => {
                cookies(headers).find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes())
            }
            Some((_, name)) => headers.get(name).map(HeaderValue::as_bytes),
            None => None,
        };
        let value = value.unwrap_or_default();
        person.update((value.len() as u64).to_le_bytes());
        person.update(value);
    }
    let person = URL_SAFE_NO_PAD.encode(&person.finalize()[..16]);
    Ok(Caller::of_an_application(&format!("relay {name} {person}")))
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let all = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    all.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

/// The headers that go along.
fn forwarded(headers: &HeaderMap, relaying: &Relaying) -> HeaderMap {
    let goes = |name: &HeaderName| {
        let listed = |names: &Vec<String>| {
            names.iter().any(|listed| match listed.strip_suffix('*') {
                Some(start) => name.as_str().starts_with(start),
                None => name.as_str() == listed,
            })
        };
        !NOT_FORWARDED.contains(name)
            && !name.as_str().starts_with("x-lastword-")
            && relaying.forward.as_ref().is_none_or(listed)
    };
    let along = headers.iter().filter(|(name, _)| goes(name));
    let mut along: HeaderMap = along.map(|(name, value)| (name.clone(), value.clone())).collect();
    if let Some(names) = relaying.cookies.as_ref().filter(|_| along.contains_key(header::COOKIE)) {
        let kept = cookies(headers).filter(|(name, _)| names.iter().any(|listed| listed == name));
        let kept: Vec<_> = kept.map(|(name, value)| format!("{name}={value}")).collect();
        along.remove(header::COOKIE);
        if let Ok(kept) = HeaderValue::try_from(kept.join("; "))
            && !kept.is_empty()
        {
            along.insert(header::COOKIE, kept);
        }
    }
    along
}

/// Says for whom it is asked, as proxies do: behind what the one before says of it. How many of them are to be believed, the
/// application knows.
fn from_whom(headers: &mut HeaderMap, host: Option<HeaderValue>, connection: &Connection) {
    if let Some(peer) = connection.peer() {
        let peer = peer.ip().to_canonical().to_string();
        let before = headers.get_all(X_FORWARDED_FOR).into_iter().filter_map(|line| line.to_str().ok());
        let all: Vec<_> = before.chain([&*peer]).collect();
        if let Ok(all) = HeaderValue::try_from(all.join(", ")) {
            headers.insert(X_FORWARDED_FOR, all);
        }
        let scheme = HeaderValue::from_static(if connection.is_secure() { "https" } else { "http" });
        headers.entry(X_FORWARDED_PROTO).or_insert(scheme);
    }
    if let Some(host) = host {
        headers.entry(X_FORWARDED_HOST).or_insert(host);
    }
}

/// The chat that a request's body names.
fn chat(body: &[u8], relaying: &Relaying) -> Option<String> {
    let json: Value = serde_json::from_slice(body).ok()?;
    let named = relaying.chat.iter().find_map(|name| json.get(name)?.as_str());
    named.filter(|chat| !chat.is_empty()).map(str::to_owned)
}

fn connection(parts: &Parts) -> Connection {
    parts.extensions.get().cloned().unwrap_or_default()
}

impl std::convert::From<RelayError> for Problem {
    fn from(error: RelayError) -> Self {
        match error {
            RelayError::Start(error) => error.into(),
            RelayError::Pass(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_stands_behind_those_before_it_and_what_they_say_of_the_rest_stays() {
        let connection = Connection::accepted("[::ffff:192.0.2.1]:9".parse().expect("an address"), true, None);
        let host = Some(HeaderValue::from_static("chat.example"));
        let told = |headers: &HeaderMap| {
            [X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST].map(|name| {
                let all: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str().expect("text")).collect();
                all.join("|")
            })
        };
        let mut headers = HeaderMap::new();
        from_whom(&mut headers, host.clone(), &connection);
        assert_eq!(told(&headers), ["192.0.2.1", "https", "chat.example"]);
        let mut headers = HeaderMap::new();
        for (name, value) in [
            (X_FORWARDED_FOR, "1.1.1.1"),
            (X_FORWARDED_FOR, "2.2.2.2"),
            (X_FORWARDED_PROTO, "http"),
            (X_FORWARDED_HOST, "a"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        from_whom(&mut headers, host, &connection);
        assert_eq!(told(&headers), ["1.1.1.1, 2.2.2.2, 192.0.2.1", "http", "a"]);
    }
}
