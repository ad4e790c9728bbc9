//! One connection with an answer on it: what came, and when.

use tokio::time::Instant;

use super::super::Response;
use crate::wire::sse::Parser;

/// More than any answer that is asked for here.
const LONGEST: usize = 16 << 20;

/// What was heard so far.
#[derive(Debug)]
pub(super) struct Listening {
    response: Response,
    parser: Parser,
    /// The stream, by its header.
    pub(super) id: Option<String>,
    /// The `start` event came.
    pub(super) started: bool,
    /// The `end` event came.
    pub(super) ended: bool,
    /// All that was said.
    pub(super) text: String,
    /// When each event with words came.
    pub(super) words: Vec<Instant>,
    /// When anything came.
    pub(super) signs: Vec<Instant>,
    /// When the last was looked for.
    pub(super) over: Instant,
    /// Why there is no more, if the end did not come.
    pub(super) broke: Option<String>,
}

impl Listening {
    pub(super) fn new(response: Response) -> Self {
        let id = response.header("x-stream-id").map(str::to_owned);
        let parser = Parser::new(LONGEST);
        let (started, ended, text) = (false, false, String::new());
        Self {
            response,
            parser,
            id,
            started,
            ended,
            text,
            words: vec![],
            signs: vec![],
            over: Instant::now(),
            broke: None,
        }
    }

    /// The last event's id.
    pub(super) fn cursor(&self) -> &str {
        self.parser.last_event_id()
    }

    /// Reads what comes next; false when nothing will.
    pub(super) async fn next(&mut self) -> bool {
        let chunk = self.response.chunk().await;
        self.over = Instant::now();
        let chunk = match chunk {
            Ok(Some(chunk)) => chunk,
            Ok(None) => {
                self.broke = (!self.ended).then(|| "it was ended in the middle, as if it were whole".to_owned());
                return false;
            }
            Err(error) => {
                self.broke = (!self.ended).then(|| error.to_string());
                return false;
            }
        };
        let now = Instant::now();
        self.signs.push(now);
        let mut frames = self.parser.feed(&chunk);
        loop {
            match frames.next() {
                Ok(Some(frame)) => match frame.event {
                    "start" => {
                        self.started = true;
                        if self.id.is_none() {
                            self.id = text_of(frame.data, "id");
                        }
                    }
                    "message" => {
                        self.words.push(now);
                        self.text += &text_of(frame.data, "text").unwrap_or_default();
                    }
                    "end" => self.ended = true,
                    _ => {}
                },
                Ok(None) => return true,
                Err(error) => {
                    self.broke = Some(error.to_string());
                    return false;
                }
            }
        }
    }

    pub(super) async fn hear_out(&mut self) {
        while self.next().await {}
    }
}

fn text_of(data: &str, member: &str) -> Option<String> {
    serde_json::from_str::<serde_json::Value>(data).ok()?[member].as_str().map(str::to_owned)
}
