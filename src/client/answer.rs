//! One answer, read over any number of connections: what is handed out is the log, to the letter and in order.
//!
//! Each connection begins behind the last event that was handed out. One that breaks, falls silent, or ends before the answer
//! does, is replaced by another. While it is not known which answer it is (the POST has not come through), the POST is repeated under its
//! key. So any future here can be dropped, and nothing is lost by it but time.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::{
    Response,
    lastword::{Ask, Failed, Lastword, Trouble},
    patience::Patience,
};
use crate::{
    id::{Cursor, Seen, StreamId},
    wire::sse::Parser,
};

/// A server gives a sign of life each 15 s. After three that did not come, the connection is dead, whatever the kernel thinks:
/// a laptop that slept has many of those.
const SILENCE: Duration = Duration::from_secs(45);
/// More than a stream can hold.
const LONGEST_EVENT: usize = 64 << 20;

/// An answer that is read. See the module.
#[derive(Debug)]
pub struct Answer {
    lastword: Lastword,
    place: Place,
    /// The last event that was handed out.
    cursor: Option<Cursor>,
    connection: Option<Connection>,
    /// What has come and was not handed out.
    ready: VecDeque<Event>,
    patience: Patience,
    /// Not before then is there another connection.
    due: Option<Instant>,
    resumes: u64,
    over: bool,
}

/// Where the answer is had from.
enum Place {
    Unknown(Ask),
    Known(StreamId),
}

impl std::fmt::Debug for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(_) => f.write_str("unknown"),
            Self::Known(id) => id.fmt(f),
        }
    }
}

#[derive(Debug)]
struct Connection {
    response: Response,
    parser: Parser,
    /// When something came last.
    heard: Instant,
}

/// An event of the native API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id, if it has one.
    pub cursor: Option<Cursor>,
    /// `message` for the next words.
    pub name: String,
    /// As it came.
    pub data: String,
}

/// What happens next.
#[derive(Debug)]
pub enum Step {
    /// The next event. Behind `end` comes nothing but [`Step::Over`]; `reset` means that what came beyond its `after` is not the
    /// answer's, and what follows begins there.
    Event(Event),
    /// There is no connection, and another will be tried for; with the reason.
    Cut(String),
    /// There is nothing behind what was seen.
    Over,
}

impl Answer {
    pub(super) fn asked(lastword: Lastword, ask: Ask) -> Self {
        Self::new(lastword, Place::Unknown(ask), None)
    }

    pub(super) fn known(lastword: Lastword, id: StreamId, after: Option<Cursor>) -> Self {
        Self::new(lastword, Place::Known(id), after)
    }

    fn new(lastword: Lastword, place: Place, cursor: Option<Cursor>) -> Self {
        let (patience, ready) = (lastword.patience(), VecDeque::new());
        Self { lastword, place, cursor, connection: None, ready, patience, due: None, resumes: 0, over: false }
    }

    /// Which it is, as soon as that is known.
    #[must_use]
    pub fn id(&self) -> Option<StreamId> {
        match self.place {
            Place::Known(id) => Some(id),
            Place::Unknown(_) => None,
        }
    }

    /// The last event that was handed out.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// How many connections began behind a cursor.
    #[must_use]
    pub fn resumes(&self) -> u64 {
        self.resumes
    }

    /// Whether [`Answer::next`] has an event at hand.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether there is a connection at the moment.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// Cuts the connection, with what came over it and was not handed out, and lets the next one begin at once.
    pub fn cut(&mut self) {
        self.ready.clear();
        (self.connection, self.due) = (None, None);
    }

    /// What happens next. Cancel safe.
    ///
    /// # Errors
    /// When there will be no more of this answer: it is not there, or out of reach for too long.
    pub async fn next(&mut self) -> Result<Step, Failed> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return self.hand_out(event).map(Step::Event);
            }
            if self.over {
                return Ok(Step::Over);
            }
            let went = match &mut self.connection {
                Some(connection) => connection.read(&mut self.ready).await,
                None => self.connect().await,
            };
            match went {
                Ok(()) => {}
                Err(Trouble::Lasting(failed)) => return Err(self.close(failed)),
                Err(Trouble::Passing { why, wait }) => {
                    let asked = self.connection.take().and_then(|connection| connection.parser.retry());
                    if let Some(milliseconds) = asked {
                        self.patience.retry(milliseconds);
                    }
                    let wait = self.patience.wait(wait, &why).map_err(|failed| self.close(failed))?;
                    self.due = Some(Instant::now() + wait);
                    return Ok(Step::Cut(why));
                }
            }
        }
    }

    fn close(&mut self, failed: Failed) -> Failed {
        (self.over, self.connection) = (true, None);
        failed
    }

    fn hand_out(&mut self, event: Event) -> Result<Event, Failed> {
        #[derive(Deserialize)]
        struct Reset {
            after: Cursor,
        }
        #[derive(Deserialize)]
        struct Denied {
            code: String,
            message: String,
        }
        self.patience.restore();
        self.cursor = event.cursor.or(self.cursor);
        match event.name.as_str() {
            "end" => {
                self.over = true;
                if let Some(connection) = self.connection.take() {
                    connection.response.release();
                }
            }
            "reset" => {
                if let Ok(Reset { after }) = serde_json::from_str(&event.data) {
                    self.cursor = Some(after);
                }
            }
            "denied" => {
                let words = match serde_json::from_str(&event.data) {
                    Ok(Denied { code, message }) => format!("{code}: {message}"),
                    Err(_) => "the credential is no longer good".to_owned(),
                };
                return Err(self.close(Failed::Denied(words)));
            }
            _ => {}
        }
        Ok(event)
    }

    async fn connect(&mut self) -> Result<(), Trouble> {
        if let Some(due) = self.due {
            sleep_until(due).await;
            self.due = None;
        }
        let began = Instant::now();
        let went = match &self.place {
            Place::Unknown(ask) => self.post(ask.body.clone(), ask.key.clone()).await,
            Place::Known(id) => self.get(*id).await,
        };
        if went.is_err() {
            self.patience.spend(began.elapsed());
        }
        went
    }

    async fn post(&mut self, body: Bytes, key: String) -> Result<(), Trouble> {
        let headers = [("idempotency-key".to_owned(), key)];
        let sent = self.lastword.client().post("v1/streams", "text/event-stream", &headers, body.into());
        let response = self.lastword.answer(sent, self.patience.left()).await?;
        let id = response.header("x-stream-id").and_then(|id| id.parse().ok());
        let Some(id) = id else { return Err(self.lastword.stranger("its answer names no stream").into()) };
        self.place = Place::Known(id);
        self.read_on(response)
    }

    async fn get(&mut self, id: StreamId) -> Result<(), Trouble> {
        let seen = self.cursor.map(|cursor| ("last-event-id".to_owned(), cursor.to_string()));
        let (path, headers) = (format!("v1/streams/{id}/events"), seen.as_slice());
        let sent = self.lastword.client().get(&path, "text/event-stream", headers);
        let response = self.lastword.answer(sent, self.patience.left()).await?;
        if response.status() == 204 {
            self.over = true;
            return Ok(());
        }
        self.resumes += u64::from(self.cursor.is_some());
        self.read_on(response)
    }

    fn read_on(&mut self, response: Response) -> Result<(), Trouble> {
        if !response.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")) {
            return Err(self.lastword.stranger("its answer is no event stream").into());
        }
        self.connection = Some(Connection { response, parser: Parser::new(LONGEST_EVENT), heard: Instant::now() });
        Ok(())
    }
}

impl Connection {
    /// Waits for more, and takes the events out of it.
    async fn read(&mut self, ready: &mut VecDeque<Event>) -> Result<(), Trouble> {
        let chunk = match timeout_at(self.heard + SILENCE, self.response.chunk()).await {
            Ok(Ok(Some(chunk))) => chunk,
            Ok(Ok(None)) => return Err(Trouble::passing("the connection was closed in the middle of the answer")),
            Ok(Err(broken)) => return Err(Trouble::passing(broken.to_string())),
            Err(_) => return Err(Trouble::passing("the server fell silent in the middle of the answer")),
        };
        self.heard = Instant::now();
        let mut frames = self.parser.feed(&chunk);
        while let Some(frame) = frames.next().map_err(Failed::from)? {
            let cursor = match Seen::parse(frame.last_event_id) {
                Seen::Short(cursor) | Seen::Long(_, cursor) => Some(cursor),
                Seen::Within(..) | Seen::Unreadable => None, // nobody asked for parts of records
            };
            ready.push_back(Event { cursor, name: frame.event.to_owned(), data: frame.data.to_owned() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{super::Client, *};

    const BEGUN: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"text\":\"one\"}\nid: 7\n\n";

    #[tokio::test]
    async fn a_connection_that_falls_silent_is_given_up_after_three_heartbeats() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("a reader");
            let _request = socket.read(&mut [0; 4096]).await;
            socket.write_all(BEGUN.as_bytes()).await.expect("sent");
            std::future::pending::<()>().await;
        });
        let client = Client::new(&url, Duration::from_secs(5)).expect("a client");
        let mut answer = Lastword::new(client, Duration::from_secs(60)).follow(StreamId::new(), None);
        assert!(matches!(answer.next().await, Ok(Step::Event(event)) if event.cursor == Some(Cursor(7))));
        tokio::time::pause();
        let began = Instant::now();
        let cut = answer.next().await;
        assert!(matches!(&cut, Ok(Step::Cut(why)) if why.contains("fell silent")), "{cut:?}");
        let (waited, second) = (began.elapsed(), Duration::from_secs(1));
        assert!((SILENCE - second..SILENCE + second).contains(&waited), "{waited:?}");
        assert_eq!((answer.cursor(), answer.is_connected()), (Some(Cursor(7)), false));
    }
}
