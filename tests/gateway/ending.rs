//! Every answer ends, exactly once: whatever the backend does, whatever the store refuses, whoever stops it.
//!
//! Most of it without sockets: a gateway over a store that can be told to fail, and a backend that does what a backend must not.
//! There the clock is paused. What needs sockets comes last, with clocks of milliseconds.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, atomic::Ordering::SeqCst},
    time::Duration,
};

use axum::{body::Body, http::Request};
use bytes::{Bytes, BytesMut};
use bytesize::ByteSize;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use lastword::{
    api::{self, Settings},
    auth::{self, Auth},
    backend::{Backend, BackendError, Clocks, ErrorKind, Events},
    event::{At as Part, Attempt, Begin, Delta, End, Event, Reason, Status},
    gateway::{Ask, Gateway, Limits},
    id::{Cursor, NodeId, Seen, StreamId},
    prompt::{OnDisconnect, Prompt},
    record::{self, Kind, Record, summary::Summary},
    route::Router,
    store::{Batch, Created, Last, Lease, NewStream, Store, StoreError},
    stream::Reader,
    telemetry::Metrics,
    template::Templates,
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};
use tower::ServiceExt;

use crate::common::{At, Ending, TestGateway, faulty::Faulty, only, soon, sse, text};

// ---- a backend that does as it pleases ----

type Play = dyn Fn() -> Events + Send + Sync;

struct Odd {
    play: Box<Play>,
    clocks: Clocks,
}

impl Backend for Odd {
    fn generate(&self, _: &Prompt, _: &str) -> Events {
        (self.play)()
    }

    fn clocks(&self) -> &Clocks {
        &self.clocks
    }
}

fn word(text: &str) -> Result<Event<'static>, BackendError> {
    Ok(Event::Delta(Part::default(), Delta { text: text.to_owned().into(), logprobs: None }))
}

fn attempt() -> Result<Event<'static>, BackendError> {
    Ok(Event::Attempt(Attempt { n: 1, backend: "odd".to_owned(), ..Attempt::default() }))
}

/// What it says, and then what `rest` does.
fn says(rest: impl stream::Stream<Item = Result<Event<'static>, BackendError>> + Send + 'static) -> Events {
    stream::iter([attempt(), word("one"), word(" two")]).chain(rest).boxed()
}

// ---- the two together ----

struct House {
    store: Arc<Faulty>,
    gateway: Arc<Gateway>,
}

impl House {
    fn new(play: impl Fn() -> Events + Send + Sync + 'static) -> Self {
        Self::with(Limits::default(), play)
    }

    fn with(limits: Limits, play: impl Fn() -> Events + Send + Sync + 'static) -> Self {
        let store = Faulty::new();
        let odd = Odd { play: Box::new(play), clocks: Clocks::default() };
        let backends: BTreeMap<String, Arc<dyn Backend>> = [("odd".to_owned(), Arc::new(odd) as _)].into();
        let router = Router::new(backends, BTreeMap::new(), Some("odd/one".to_owned()));
        let gateway = Gateway::new(store.clone(), router, limits, Arc::new(Metrics::new()));
        Self { store, gateway }
    }

    /// A gateway whose backend says what is sent, until the sender is dropped.
    fn told() -> (Self, mpsc::UnboundedSender<&'static str>) {
        let (say, said) = mpsc::unbounded_channel();
        let said = Mutex::new(Some(said));
        let play = move || -> Events {
            let said = said.lock().expect("sound").take().expect("asked once");
            let words = stream::unfold(said, |mut said| async { said.recv().await.map(|text| (word(text), said)) });
            stream::iter([attempt()]).chain(words).boxed()
        };
        (Self::new(play), say)
    }

    /// The same, with an answer that has begun and says nothing yet.
    async fn begun() -> (Self, mpsc::UnboundedSender<&'static str>, StreamId) {
        let (house, say) = Self::told();
        let id = house.start().await;
        while house.log(id).await.kinds.len() < 2 {
            tokio::task::yield_now().await;
        }
        (house, say, id)
    }

    async fn start(&self) -> StreamId {
        self.gateway.start(self.ask(OnDisconnect::Continue, None)).await.expect("started").id
    }

    fn ask(&self, on_disconnect: OnDisconnect, key: Option<&str>) -> Ask {
        let prompt = Prompt { on_disconnect, ..Prompt::default() };
        let idempotency = key.map(|key| (key.to_owned(), Bytes::from_static(b"the same")));
        Ask { owner: String::new(), prompt, idempotency, chat: None }
    }

    /// A reader of all of it, from the first record to the last.
    async fn reads(&self, id: StreamId) -> JoinHandle<Log> {
        let mut attachment = self.gateway.attach("", id, None).await.expect("attached");
        tokio::spawn(async move {
            let mut log = Log::default();
            while log.next(&mut attachment.reader).await {}
            log
        })
    }

    /// The whole log, as the store has it.
    async fn log(&self, id: StreamId) -> Log {
        let mut log = Log::default();
        let all = Cursor(u64::MAX);
        self.gateway
            .records(id, Cursor::START, all, |cursor, record| log.take(cursor, record))
            .await
            .expect("readable");
        log
    }

    async fn summary(&self, id: StreamId) -> Summary {
        self.gateway.stream("", id).await.expect("known").summary.expect("ended")
    }

    fn ended(&self) -> u64 {
        let rendered = self.gateway.metrics().render();
        let ended = rendered.lines().filter(|line| line.starts_with("lastword_streams_ended_total{"));
        ended.map(|line| line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number")).sum()
    }

    /// Reads this stream to its end; then what was read is what is stored, and it ends once, as the summary says.
    async fn ends(&self, id: StreamId) -> Log {
        let read = soon(self.reads(id).await).await.expect("it ran");
        // The supervisor is gone when it has said that it is.
        soon(async {
            while self.gateway.metrics().streams_running.get() > 0 || self.ended() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        let stored = self.log(id).await;
        assert_eq!(read, stored);
        let ends: Vec<_> = stored.kinds.iter().filter(|kind| **kind == Kind::End).collect();
        assert_eq!(ends.len(), 1, "{stored:?}");
        assert_eq!(stored.kinds.last(), Some(&Kind::End));
        let end = stored.end();
        let summary = self.summary(id).await;
        assert_eq!(summary.status, Some(end.status));
        assert_eq!(summary.error, end.error);
        assert_eq!(summary.cursor, Cursor(stored.kinds.len() as u64));
        assert_eq!(self.ended(), 1, "it is counted once");
        stored
    }
}

/// What was read of a log.
#[derive(Debug, Default, PartialEq)]
struct Log {
    kinds: Vec<Kind>,
    said: String,
    end: Option<Event<'static>>,
}

impl Log {
    fn take(&mut self, cursor: Cursor, record: &Record<'_>) {
        self.kinds.push(record.head.kind);
        assert_eq!(cursor.0, self.kinds.len() as u64, "no gap and no repetition");
        match record.event().expect("readable") {
            Event::Delta(_, delta) => self.said += &delta.text,
            Event::End(end) => self.end = Some(Event::End(end)),
            _ => {}
        }
    }

    /// Takes the next page; false at the end.
    async fn next(&mut self, reader: &mut Reader) -> bool {
        let Some(page) = soon(reader.next(1000)).await.expect("readable") else { return false };
        for (cursor, bytes) in page.records() {
            self.take(cursor, &Record::parse(bytes).expect("a record"));
        }
        true
    }

    fn end(&self) -> End {
        match &self.end {
            Some(Event::End(end)) => end.clone(),
            _ => panic!("no end in {self:?}"),
        }
    }

    fn code(&self) -> String {
        self.end().error.map(|error| error.code.into_owned()).unwrap_or_default()
    }
}

// ---- backends ----

fn panics() -> Result<Event<'static>, BackendError> {
    panic!("a bug in a backend")
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a bug in a backend's destructor");
    }
}

#[tokio::test(start_paused = true)]
async fn whatever_a_backend_does_its_answer_ends_once() {
    type Case = (&'static str, fn() -> Events, Status, &'static str, &'static str);
    let cases: [Case; 11] = [
        ("says all", || says(stream::empty()), Status::Completed, "", "one two"),
        ("says nothing", || stream::empty().boxed(), Status::Completed, "", ""),
        ("panics at once", || panic!("a bug in a backend"), Status::Failed, "internal", ""),
        (
            "panics when it is asked for more",
            || says(stream::once(async { panics() })),
            Status::Failed,
            "internal",
            "one two",
        ),
        (
            "panics when it is dropped",
            || {
                let bomb = Bomb;
                says(stream::poll_fn(move |_| {
                    let _ = &bomb;
                    std::task::Poll::Ready(None)
                }))
            },
            Status::Failed,
            "internal",
            "one two",
        ),
        (
            "fails",
            || says(stream::iter([Err(BackendError::new(ErrorKind::Truncated, "cut")), word(" three")])),
            Status::Failed,
            "upstream_truncated",
            "one two",
        ),
        (
            "fails at once",
            || stream::iter([Err(BackendError::new(ErrorKind::Refused, "no")), word("one")]).boxed(),
            Status::Failed,
            "upstream_refused",
            "",
        ),
        ("never says anything", || stream::pending().boxed(), Status::Failed, "upstream_timeout", ""),
        ("falls silent", || says(stream::pending()), Status::Failed, "upstream_timeout", "one two"),
        (
            "goes on after its end",
            || {
                let mut polls = 0;
                says(stream::poll_fn(move |_| {
                    polls += 1;
                    std::task::Poll::Ready((polls > 1).then(|| word(" three")))
                }))
            },
            Status::Completed,
            "",
            "one two",
        ),
        (
            "lives and says nothing",
            || {
                says(stream::unfold((), |()| async {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    Some((Ok(Event::Alive), ()))
                }))
            },
            Status::Failed,
            "upstream_timeout",
            "one two",
        ),
    ];
    for (what, play, status, code, said) in cases {
        let house = House::new(play);
        let id = house.start().await;
        let log = house.ends_within_hours(id).await;
        assert_eq!((log.end().status, &*log.code(), &*log.said), (status, code, said), "a backend that {what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_supervisors_own_records_are_not_taken_from_a_backend() {
    let end = || Event::End(End { status: Status::Completed, reason: None, usage: None, error: None });
    let begin = || Event::Begin(Begin::default());
    let plays: [fn() -> Event<'static>; 2] = [end, begin];
    for own in plays {
        let house = House::new(move || says(stream::iter([Ok(own()), word(" three")])));
        let id = house.start().await;
        let log = house.ends(id).await;
        assert_eq!((log.end().status, &*log.said), (Status::Failed, "one two"));
        assert_eq!(log.kinds.iter().filter(|kind| **kind == Kind::Begin).count(), 1);
        assert_eq!(log.code(), "upstream_malformed");
    }
}

impl House {
    /// As [`House::ends`], of an answer that a clock of minutes must end first.
    async fn ends_within_hours(&self, id: StreamId) -> Log {
        let ended = async {
            while self.gateway.stream("", id).await.expect("known").summary.is_none() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(3 * 60 * 60), ended).await.expect("it ends");
        self.ends(id).await
    }
}

// ---- stores ----

fn refusals() -> [StoreError; 2] {
    let room = bytesize::ByteSize::mib(1);
    [
        StoreError::Full { used: room, max: room, remedy: "make room" },
        StoreError::Unavailable("the disk is gone".to_owned()),
    ]
}

#[tokio::test(start_paused = true)]
async fn when_the_store_refuses_readers_are_told_at_once_and_the_end_is_stored_later() {
    for error in refusals() {
        // Behind begin, attempt and a word; behind begin; not even begin.
        for (good, said) in [(3, "one"), (1, ""), (0, "")] {
            let (house, say) = House::told();
            house.store.refuse(good, error.clone());
            let began = Instant::now();
            let id = house.start().await;
            let reading = house.reads(id).await;
            for word in ["one", " two", " three"] {
                // One batch each.
                let _ = say.send(word);
                for _ in 0..20 {
                    tokio::task::yield_now().await;
                }
            }
            let read = soon(reading).await.expect("it ran");
            assert_eq!(began.elapsed(), Duration::ZERO, "at once");
            assert_eq!((read.end().status, &*read.code(), &*read.said), (Status::Failed, "store_refused", said));
            let state = house.gateway.stream("", id).await.expect("known");
            assert!(state.summary.is_none(), "it is not in the store yet");
            // Who has seen the end is not told that there is no such record.
            let end = Seen::Short(Cursor(read.kinds.len() as u64));
            let again = house.gateway.attach("", id, Some(end)).await.expect("attached");
            assert_eq!(again.from, lastword::gateway::Place::Ended);
            // Nor does a cancel wait for the store, or change anything.
            house.gateway.cancel("", id).await.expect("cancelled");
            assert_eq!(began.elapsed(), Duration::ZERO, "at once");
            tokio::time::sleep(Duration::from_secs(60)).await;
            assert_eq!(house.gateway.metrics().streams_running.get(), 1, "it tries on");
            house.store.mend();
            tokio::time::sleep(Duration::from_secs(6)).await;
            assert_eq!(house.gateway.metrics().streams_running.get(), 0, "it has stored it");
            assert_eq!(house.ends(id).await, read);
        }
    }
}

/// Also to who counts events. How it stands is told as it is stored: that is certain.
#[tokio::test(start_paused = true)]
async fn an_end_that_is_shown_and_not_yet_stored_can_be_gone_on_from() {
    let house = House::new(|| says(stream::empty()));
    house.store.refuse(2, StoreError::Unavailable("the disk is gone".to_owned()));
    let id = house.start().await;
    let ask = async |path: &str| {
        let settings = Settings {
            heartbeat: Duration::from_secs(15),
            retry: (Duration::from_secs(1), Duration::from_secs(1)),
            commit_after: Duration::from_secs(10),
            max_body: ByteSize::mib(1),
            max_upload: ByteSize::mib(1),
            body_timeout: Duration::from_secs(1),
            cors: Vec::new(),
            ai_sdk: Default::default(),
            hosts: None,
        };
        let auth = Arc::new(Auth::new(auth::Config::default(), None).expect("a secret"));
        let api = api::Api::new(house.gateway.clone(), Arc::new(Templates::new("prompts".into())), auth, settings);
        let request = Request::get(path).body(Body::empty()).expect("a request");
        let response = api::router(Arc::new(api)).oneshot(request).await.expect("a response");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a whole body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("UTF-8"))
    };
    let path = format!("/v1/responses/{id}");
    let (_, told) = soon(ask(&format!("{path}?stream=true"))).await;
    let numbers: Vec<&str> =
        told.split("\"sequence_number\":").skip(1).map(|rest| rest.split(',').next().unwrap_or_default()).collect();
    let last: usize = numbers.last().expect("events").parse().expect("a number");
    assert!(told.contains("event: response.completed\n") && last > 5, "{told}");
    let behind = async |number: usize| ask(&format!("{path}?stream=true&starting_after={number}")).await;
    assert_eq!(soon(behind(last)).await, (200, String::new()));
    let (_, end) = soon(behind(last - 1)).await;
    assert!(end.contains("event: response.completed\n") && end.matches("event: ").count() == 1, "{end}");
    assert_eq!(soon(behind(last + 1)).await.0, 400);
    assert!(soon(ask(&path)).await.1.contains(r#""status":"in_progress""#));
    house.store.mend();
    house.ends(id).await;
    assert!(soon(ask(&path)).await.1.contains(r#""status":"completed""#));
    assert_eq!(soon(behind(last)).await, (200, String::new()), "and it is the same when it is stored");
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_whole_answer_that_the_store_refuses_is_shown_as_it_is() {
    for error in refusals() {
        let (house, say) = House::told();
        let id = house.start().await;
        let reading = house.reads(id).await;
        say.send("one").expect("heard");
        while house.log(id).await.said.is_empty() {
            tokio::task::yield_now().await;
        }
        house.store.refuse(0, error);
        drop(say);
        let read = soon(reading).await.expect("it ran");
        assert_eq!((read.end().status, &*read.said), (Status::Completed, "one"));
        house.store.mend();
        assert_eq!(house.ends(id).await, read);
    }
}

/// A store far away can lose the answer to an append that was done.
#[tokio::test(start_paused = true)]
async fn an_append_that_was_done_though_the_store_said_no_is_in_the_log_once() {
    // Begin; the attempt; a word; the end.
    for (good, said, status) in
        [(0, "", Status::Failed), (1, "", Status::Failed), (2, "one", Status::Failed), (3, "one", Status::Completed)]
    {
        let (house, say) = House::told();
        house.store.lying.store(true, SeqCst);
        house.store.refuse(good, StoreError::Unavailable("no answer".to_owned()));
        let id = house.start().await;
        let mut late = house.gateway.attach("", id, None).await.expect("attached").reader;
        let _ = say.send("one");
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
        drop(say);
        tokio::time::sleep(Duration::from_secs(1)).await;
        house.store.mend();
        let log = house.ends(id).await;
        assert_eq!((log.end().status, &*log.said), (status, said), "{good} appends were good");
        // Who came before all that and looks only now.
        let mut read = Log::default();
        while read.next(&mut late).await {}
        assert_eq!(read, log, "{good} appends were good");
    }
}

/// Nothing was said to anybody, so the same request may be made again: also when something was heard that could not be stored.
#[tokio::test(start_paused = true)]
async fn a_key_is_free_again_when_nothing_was_said_that_a_reader_could_see() {
    let house = House::new(|| says(stream::empty()));
    house.store.refuse(1, StoreError::Unavailable("the disk is gone".to_owned()));
    let first = house.gateway.start(house.ask(OnDisconnect::Continue, Some("key"))).await.expect("started").id;
    assert_eq!(soon(house.reads(first).await).await.expect("it ran").said, "");
    house.store.mend();
    assert_eq!(house.ends(first).await.code(), "store_refused");
    let second = house.gateway.start(house.ask(OnDisconnect::Continue, Some("key"))).await.expect("started");
    assert!(!second.again, "{second:?}");
}

fn recorded(events: &[Event<'_>]) -> Batch {
    let records = events.iter().map(|event| {
        let mut out = BytesMut::new();
        record::write(&mut out, 7, event).expect("recorded");
        out
    });
    records.collect()
}

#[tokio::test(start_paused = true)]
async fn a_fenced_writer_writes_no_more_and_readers_follow_the_new_one() {
    let (house, say) = House::told();
    let id = house.start().await;
    let mut reader = house.gateway.attach("", id, None).await.expect("attached").reader;
    let mut log = Log::default();
    say.send("one").expect("heard");
    while log.said != "one" {
        assert!(log.next(&mut reader).await);
    }
    let Lease { epoch, next } = house.store.lease(id, NodeId::new()).await.expect("leased");
    say.send(" lost").expect("heard");
    // It finds out, and lets go.
    soon(async {
        while house.gateway.metrics().streams_running.get() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert_eq!(house.log(id).await, log, "nothing was written behind the new writer's back");
    assert_eq!(house.ended(), 0, "it is not its end");

    let two = recorded(&[word(" two").expect("a word")]);
    house.store.append(id, next, epoch, two, None).await.expect("appended");
    while log.said != "one two" {
        assert!(log.next(&mut reader).await);
    }
    let end = End { status: Status::Completed, reason: Some(Reason::Stop), usage: None, error: None };
    let summary = Summary { status: Some(Status::Completed), ..Summary::default() };
    let last = Last { summary: serde_json::to_vec(&summary).expect("JSON").into(), release: false };
    let end = recorded(&[Event::End(end)]);
    house.store.append(id, next.plus(1), epoch, end, Some(last)).await.expect("appended");
    while log.next(&mut reader).await {}
    assert_eq!(log.end().status, Status::Completed);
    assert_eq!(house.log(id).await, log);
}

/// A reader far behind reads the store, which has a record a moment before the tail shows it. If it is cut off in that moment,
/// its cursor is good.
#[tokio::test(start_paused = true)]
async fn a_cursor_that_only_the_store_has_yet_is_served() {
    let (house, say, id) = House::begun().await;
    house.store.slow.store(true, SeqCst);
    say.send("one").expect("heard");
    while house.log(id).await.said.is_empty() {
        tokio::task::yield_now().await;
    }
    let seen = Cursor(house.log(id).await.kinds.len() as u64);
    let attachment = house.gateway.attach("", id, Some(Seen::Short(seen))).await.expect("attached");
    assert_eq!(attachment.from, lastword::gateway::Place::Cursor(seen));
    house.store.slow.store(false, SeqCst);
    house.store.appended.add_permits(1);
    drop(say);
    let mut reader = attachment.reader;
    let page = soon(reader.next(1000)).await.expect("readable").expect("the end");
    let behind: Vec<_> = page.records().map(|(cursor, _)| cursor).collect();
    assert_eq!(behind, [seen.plus(1)], "the end, and nothing twice");
}

/// The backend's wake-up may come while its supervisor waits for the store, which is when it does not ask for more.
#[tokio::test(start_paused = true)]
async fn what_comes_while_the_store_takes_its_time_is_not_missed() {
    let (house, say, id) = House::begun().await;
    let seen = Cursor(house.log(id).await.kinds.len() as u64);
    let mut reader = house.gateway.attach("", id, Some(Seen::Short(seen))).await.expect("attached").reader;
    house.store.slow.store(true, SeqCst);
    say.send("one").expect("heard");
    while house.log(id).await.said.is_empty() {
        tokio::task::yield_now().await;
    }
    say.send("two").expect("heard");
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert_eq!(house.log(id).await.said, "one", "the other waits");
    house.store.appended.add_permits(2);
    while reader.place() < seen.plus(2) {
        soon(reader.next(1000)).await.expect("readable").expect("a word");
    }
    assert_eq!(house.log(id).await.said, "onetwo");
    house.store.slow.store(false, SeqCst);
    drop(say);
}

// ---- orphans ----

impl House {
    /// A stream that somebody created, with these records, and then was no more.
    async fn orphan(&self, events: &[Event<'_>]) -> StreamId {
        let id = StreamId::new();
        let new = NewStream {
            id,
            owner: String::new(),
            created_at: 1,
            about: serde_json::to_vec(&Begin::default()).expect("JSON").into(),
            prompt: Bytes::new(),
            claims: vec![],
            due: false,
            keep: None,
        };
        assert_eq!(self.store.create(new).await, Ok(Created::New));
        if !events.is_empty() {
            let Lease { epoch, next } = self.store.lease(id, NodeId::new()).await.expect("leased");
            self.store.append(id, next, epoch, recorded(events), None).await.expect("appended");
        }
        self.store.orphans.lock().expect("sound").push(id);
        id
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_whose_writer_is_gone_or_never_came_is_closed_as_interrupted() {
    let half = [Event::Begin(Begin::default()), word("half").expect("a word")];
    for events in [&half[..], &[]] {
        let house = House::new(|| stream::pending().boxed());
        let id = house.orphan(events).await;
        let reading = house.reads(id).await;
        let tending = tokio::spawn(house.gateway.clone().tend());
        let read = soon(reading).await.expect("it ran");
        assert_eq!((read.end().status, &*read.code()), (Status::Interrupted, "interrupted"));
        assert_eq!(read.kinds.len(), events.len() + 1);
        assert_eq!(house.ends(id).await, read);
        tending.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_log_whose_writer_is_gone_gets_its_end_all_the_same() {
    let house = House::new(|| stream::pending().boxed());
    let id = house.orphan(&[Event::Begin(Begin::default()), word("half").expect("a word")]).await;
    house.store.damaged.store(true, SeqCst);
    let tending = tokio::spawn(house.gateway.clone().tend());
    let closed = async {
        while !house.store.meta(id).await.expect("meta").closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    soon(closed).await;
    house.store.damaged.store(false, SeqCst);
    let read = house.ends(id).await;
    assert_eq!((read.end().status, read.kinds.len()), (Status::Interrupted, 3));
    tending.abort();
}

#[tokio::test(start_paused = true)]
async fn leases_are_renewed_also_while_an_orphan_cannot_be_closed() {
    let house = House::new(|| stream::pending().boxed());
    let id = house.orphan(&[]).await;
    house.store.refuse(0, StoreError::Unavailable("the disk is gone".to_owned()));
    let tending = tokio::spawn(house.gateway.clone().tend());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let renewed = house.store.renewed.load(SeqCst);
    assert!((10..=14).contains(&renewed), "every 5 s: {renewed} times");
    house.store.mend();
    assert_eq!(house.ends_within_hours(id).await.end().status, Status::Interrupted);
    tending.abort();
}

// ---- cancel ----

#[tokio::test(start_paused = true)]
async fn a_cancel_takes_no_time_in_any_phase_and_the_second_does_nothing() {
    type Case = (&'static str, fn() -> Events);
    let plays: [Case; 4] = [
        ("waiting for the head", || stream::pending().boxed()),
        ("waiting for content", || stream::iter([attempt()]).chain(stream::pending()).boxed()),
        ("stalled", || says(stream::pending())),
        ("streaming", || {
            says(stream::unfold((), |()| async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                Some((word(" more"), ()))
            }))
        }),
    ];
    for (phase, play) in plays {
        let house = House::new(play);
        let id = house.start().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let began = Instant::now();
        house.gateway.cancel("", id).await.expect("cancelled");
        assert_eq!(began.elapsed(), Duration::ZERO, "{phase}");
        house.gateway.cancel("", id).await.expect("cancelled");
        let log = house.ends(id).await;
        assert_eq!((log.end().status, log.end().error), (Status::Cancelled, None), "{phase}");
        house.gateway.cancel("", id).await.expect("cancelled");
        assert_eq!(house.ends(id).await, log, "{phase}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_of_many_stops_counts() {
    let house = House::new(|| says(stream::pending()));
    let id = house.start().await;
    let gateway = &house.gateway;
    let (a, b, c, ()) = tokio::join!(
        gateway.cancel("", id),
        gateway.cancel("", id),
        gateway.remove("nobody", id),
        gateway.drain(Duration::ZERO)
    );
    assert_eq!((a, b, c), (Ok(()), Ok(()), Err(StoreError::Unknown(id))));
    assert_eq!(house.ends(id).await.end().status, Status::Cancelled);
}

// ---- bounds ----

#[tokio::test(start_paused = true)]
async fn an_answer_larger_than_a_stream_may_be_fails_with_what_was_said() {
    let endless = || stream::iter([attempt()]).chain(stream::repeat_with(|| word("x"))).boxed();
    let bytes = Limits { stream_bytes: bytesize::ByteSize(5_000), ..Limits::default() };
    let records = Limits { stream_records: 100, ..Limits::default() };
    for (limits, key) in [(bytes, "stream_bytes"), (records, "stream_records")] {
        let house = House::with(limits, endless);
        let id = house.start().await;
        let log = house.ends(id).await;
        let error = log.end().error.expect("an error");
        assert_eq!((log.end().status, log.end().reason), (Status::Failed, Some(Reason::Budget)));
        assert_eq!(&*error.code, "stream_too_large");
        assert!(error.message.contains(key), "{}", error.message);
        assert!(log.said.len() > 90 && log.kinds.len() <= 400, "{} records", log.kinds.len());
        if key == "stream_records" {
            assert_eq!(log.kinds.len(), 101, "as many as may be, and the end");
        }
    }
}

// ---- over sockets ----

async fn end_of(at: At, id: &str) -> Value {
    let (bytes, ending) = soon(at.events(id, &sse::Client::default()).await.body.rest()).await;
    assert_eq!(ending, Ending::Clean);
    only(&sse::read(&bytes).events, "end")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_of_running_streams_refuses_and_a_slot_is_free_after_an_end() {
    let gateway = TestGateway::with("[limits]\nrunning_streams = 2\n").await;
    let at = gateway.at();
    let stalls = json!({ "text": "a", "delay": "0ms", "fault": { "kind": "stall", "after": 1 } });
    let first = at.say(stalls.clone(), json!({})).await;
    let panics = json!({ "text": "a b", "delay": "0ms", "fault": { "kind": "panic", "after": 1 } });
    let body = json!({ "prompt": "more", "model": "mock/words", "backend_options": stalls }).to_string();
    for options in [stalls.clone(), panics] {
        let second = at.say(options.clone(), json!({})).await;
        if options == stalls {
            let refused = at.send("POST", "/v1/streams", &[], &body).await;
            assert_eq!(refused.status, 503);
            assert!(refused.header("retry-after").is_some());
            assert_eq!(refused.json().await["code"], "too_many_streams");
            at.send("POST", &format!("/v1/streams/{second}/cancel"), &[], "").await;
        }
        only(&gateway.whole(&second).await, "end");
        at.metric_is("lastword_streams_running", 1).await;
    }
    assert_eq!(at.state(&first).await["status"], "running");
    // The slot goes a moment after the count.
    let taken = async { while at.send("POST", "/v1/streams", &[], &body).await.status != 201 {} };
    soon(taken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_never_answers_is_let_go_within_50_ms_of_a_cancel() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1", upstream.local_addr().expect("an address"));
    let gateway = TestGateway::with(&format!("[backends.dead]\nkind = \"openai\"\nbase_url = \"{url}\"\n")).await;
    let at = gateway.at();
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let id = gateway.create(&json!({ "prompt": "hi", "model": "dead/model" })).await;
        let (mut asked, _) = soon(upstream.accept()).await.expect("a connection");
        let mut request = Vec::new();
        soon(asked.read_buf(&mut request)).await.expect("a request");
        let began = Instant::now();
        let cancelled = at.send("POST", &format!("/v1/streams/{id}/cancel"), &[], "").await;
        assert_eq!(cancelled.status, 200);
        assert_eq!(cancelled.json().await["status"], "cancelled");
        // The upstream sees it too.
        while let Ok(1..) = soon(asked.read_buf(&mut request)).await {}
        best = best.min(began.elapsed());
        assert_eq!(end_of(at, &id).await["status"], "cancelled");
    }
    // A busy machine may be late; what is always late is wrong.
    assert!(best <= Duration::from_millis(50), "{best:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_ends_a_running_answer_and_then_there_is_no_such_stream() {
    let gateway = TestGateway::start().await;
    let at = gateway.at();
    let id = at.say(json!({ "text": "word ", "repeat": 100_000, "delay": "5ms" }), json!({})).await;
    let mut body = at.events(&id, &sse::Client::default()).await.body;
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|four| four == b"word") {
        bytes.extend(soon(body.next()).await.expect("no end yet"));
    }
    assert_eq!(at.send("DELETE", &format!("/v1/streams/{id}"), &[], "").await.status, 204);
    let (rest, ending) = soon(body.rest()).await;
    bytes.extend(rest);
    let events = sse::read(&bytes).events;
    assert_eq!((ending, &only(&events, "end")["status"]), (Ending::Clean, &json!("cancelled")));
    assert!(text(&events).starts_with("word"));
    assert_eq!(at.get(&format!("/v1/streams/{id}"), &[]).await.status, 404);
    assert_eq!(at.events(&id, &sse::Client::default()).await.status, 404);
    assert_eq!(at.send("DELETE", &format!("/v1/streams/{id}"), &[], "").await.status, 404);
    at.metric_is("lastword_streams_running", 0).await;
}

/// A port on which connections are never made: its queue is full.
async fn blackhole() -> (TcpSocketListener, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let listener = socket.listen(0).expect("listening");
    let address = listener.local_addr().expect("an address");
    let mut waiting = Vec::new();
    while let Ok(connected) =
        tokio::time::timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(connected.expect("a connection"));
    }
    ((listener, waiting), format!("http://{address}/v1"))
}

type TcpSocketListener = (TcpListener, Vec<tokio::net::TcpStream>);

#[tokio::test(flavor = "multi_thread")]
async fn each_of_the_five_clocks_ends_an_answer_and_says_which_it_was() {
    let (_full, nowhere) = blackhole().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let mute = format!("http://{}/v1", silent.local_addr().expect("an address"));
    let gateway = TestGateway::with(&format!(
        r#"
        [backends.connect]
        kind = "openai"
        base_url = "{nowhere}"
        timeouts = {{ connect = "50ms" }}
        [backends.head]
        kind = "openai"
        base_url = "{mute}"
        timeouts = {{ head = "50ms" }}
        [backends.first]
        kind = "mock"
        first = "1h"
        timeouts = {{ first = "50ms" }}
        [backends.silence]
        kind = "mock"
        fault = {{ kind = "stall", after = 3 }}
        delay = "0ms"
        timeouts = {{ silence = "50ms" }}
        [backends.total]
        kind = "mock"
        repeat = 1000000
        delay = "5ms"
        timeouts = {{ total = "100ms" }}
        "#
    ))
    .await;
    let at = gateway.at();
    for (clock, code) in [
        ("connect", "upstream_timeout"),
        ("head", "upstream_timeout"),
        ("first", "upstream_timeout"),
        ("silence", "upstream_timeout"),
        ("total", "deadline"),
    ] {
        let id = gateway.create(&json!({ "prompt": "hi", "model": format!("{clock}/words") })).await;
        let end = end_of(at, &id).await;
        assert_eq!((&end["status"], &end["error"]["code"]), (&json!("failed"), &json!(code)), "{clock}: {end}");
        let message = end["error"]["message"].as_str().expect("a message");
        assert!(message.contains(&format!("`{clock}`")), "{clock}: {message}");
        assert_eq!(end["reason"], if clock == "total" { json!("deadline") } else { Value::Null });
        let said = at.state(&id).await["text"].as_str().unwrap_or_default().len();
        assert_eq!(said > 0, matches!(clock, "silence" | "total"), "{clock}: what was said stands");
    }
}
