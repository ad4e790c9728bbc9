//! One reader of many: asks, reads to the end, compares, asks again.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    select,
    time::{Instant, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use super::tally::Tally;
use crate::{
    client::{Answer, Ask, End, Event, Failed, Lastword, Step},
    id::Cursor,
};

/// Between an answer that failed and the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// What is asked for, and what is done to those who ask.
pub(super) struct Load {
    pub(super) who: Who,
    pub(super) tokens: u32,
    /// How probable it is that a reader is cut off within a second.
    pub(super) drop: f64,
}

/// Who is asked.
pub(super) enum Who {
    Mock { delay: Duration },
    Model { model: String, prompt: String },
}

pub(super) struct Reader {
    pub(super) n: u32,
    pub(super) lastword: Lastword,
    pub(super) load: Arc<Load>,
    pub(super) tally: Arc<Tally>,
    pub(super) stop: CancellationToken,
}

impl Reader {
    pub(super) async fn run(self) {
        for round in 0.. {
            if self.stop.is_cancelled() {
                break;
            }
            if let Err(failed) = self.answer(round).await {
                self.tally.failed(&failed.to_string(), 1);
                select! {
                    () = sleep(PAUSE) => {}
                    () = self.stop.cancelled() => {}
                }
            }
        }
    }

    async fn answer(&self, round: u64) -> Result<(), Failed> {
        let (body, said) = self.load.ask(self.n, round);
        let mut heard = Heard::new(&self.tally);
        let mut answer = self.lastword.ask(Ask::new(&body));
        // Each reader has its own moment of the second.
        let mut dice = interval_at(Instant::now() + PAUSE.mul_f64(fastrand::f64()), PAUSE);
        let (mut stopping, mut resumes) = (false, 0);
        let end = loop {
            self.tally.resumed(answer.resumes() - resumes);
            resumes = answer.resumes();
            let event = select! {
                step = answer.next() => match step? {
                    Step::Event(event) => event,
                    Step::Cut(_) => continue,
                    Step::Over => break None,
                },
                // A connection that is being made is not disturbed: the server may count it, and we would not.
                _ = dice.tick(), if self.load.drop > 0.0 && answer.is_connected() => {
                    if fastrand::f64() < self.load.drop {
                        answer.cut();
                    }
                    continue;
                }
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    // One that nobody knows of yet is stopped by nobody's coming back to it.
                    let Some(id) = answer.id() else { return Ok(()) };
                    self.lastword.cancel(id).await?;
                    continue;
                }
            };
            match event.name.as_str() {
                "message" | "reasoning" => heard.take(&event),
                "end" => break serde_json::from_str::<End>(&event.data).ok(),
                "reset" => {
                    self.tally.failed("a cursor was not known any more", 1);
                    if let Some(id) = answer.id() {
                        answer = self.lastword.follow(id, None);
                    }
                    (heard, resumes) = (Heard::new(&self.tally), 0);
                }
                _ => {}
            }
        };
        self.compare(&answer, &heard, end, said).await
    }

    /// What was heard with what was said: as the mock was told to, or as the server has it.
    async fn compare(
        &self,
        answer: &Answer,
        heard: &Heard<'_>,
        end: Option<End>,
        said: Option<String>,
    ) -> Result<(), Failed> {
        let (Some(id), Some(End { status, error })) = (answer.id(), end) else { return Ok(()) };
        let said = match said {
            Some(said) if status == "completed" => said,
            _ => self.lastword.state(id).await?.text,
        };
        let (lost, doubled) = differences(&said, &heard.text);
        self.tally.ended(&status, lost, doubled + heard.doubled);
        if let Some(fault) = error {
            self.tally.failed(&format!("{}: {}", fault.code, fault.message), 1);
        }
        Ok(())
    }
}

impl Load {
    /// A request, and what will be said if that is known. No two answers are alike, so that a word of another one is seen.
    fn ask(&self, n: u32, round: u64) -> (Value, Option<String>) {
        // Whoever ends us in the middle leaves nothing running.
        let on_disconnect = json!({ "cancel_after": "30s" });
        match &self.who {
            Who::Mock { delay } => {
                let words: Vec<_> = (0..self.tokens).map(|word| format!("{n}.{round}.{word}")).collect();
                let text = words.join(" ");
                let delay = humantime::format_duration(*delay).to_string();
                let options = json!({ "text": text, "delay": delay });
                let body = json!({
                    "prompt": "go", "model": "mock/words", "backend_options": options, "on_disconnect": on_disconnect,
                });
                (body, Some(text))
            }
            Who::Model { model, prompt } => {
                let body = json!({
                    "prompt": prompt, "model": model, "max_tokens": self.tokens, "on_disconnect": on_disconnect,
                });
                (body, None)
            }
        }
    }
}

/// What a reader was told.
struct Heard<'t> {
    tally: &'t Tally,
    text: String,
    /// Bytes of events that came again.
    doubled: u64,
    cursor: Option<Cursor>,
    /// When the last token came, or the request went.
    last: Instant,
    begun: bool,
}

impl<'t> Heard<'t> {
    fn new(tally: &'t Tally) -> Self {
        Self { tally, text: String::new(), doubled: 0, cursor: None, last: Instant::now(), begun: false }
    }

    fn take(&mut self, event: &Event) {
        #[derive(Deserialize)]
        struct Words<'a> {
            #[serde(borrow)]
            text: std::borrow::Cow<'a, str>,
        }
        let Ok(Words { text }) = serde_json::from_str(&event.data) else { return };
        if event.cursor <= self.cursor {
            self.doubled += text.len() as u64;
            return;
        }
        self.cursor = event.cursor;
        if event.name == "message" {
            self.text.push_str(&text);
        }
        let now = Instant::now();
        self.tally.token(!std::mem::replace(&mut self.begun, true), now - std::mem::replace(&mut self.last, now));
    }
}

/// How many bytes of what was said were not heard, and how many were heard that were not said there: what lies between the
/// beginnings and the ends that are alike.
fn differences(said: &str, heard: &str) -> (u64, u64) {
    let (said, heard) = (said.as_bytes(), heard.as_bytes());
    let alike = |pairs: &mut dyn Iterator<Item = (&u8, &u8)>| pairs.take_while(|(one, other)| one == other).count();
    let front = alike(&mut said.iter().zip(heard));
    let (said, heard) = (&said[front..], &heard[front..]);
    let back = alike(&mut said.iter().rev().zip(heard.iter().rev()));
    ((said.len() - back) as u64, (heard.len() - back) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_and_what_is_there_twice_is_counted() {
        for (said, heard, both) in [
            ("one two three", "one two three", (0, 0)),
            ("one two three", "one three", (4, 0)),
            ("one two three", "one two", (6, 0)),
            ("one two three", "two three", (4, 0)),
            ("one two three", "one two two three", (0, 4)),
            ("one two three", "", (13, 0)),
            ("", "one", (0, 3)),
            ("one two three", "one TWO three", (3, 3)),
            ("a a a", "a a a a", (0, 2)),
        ] {
            assert_eq!(differences(said, heard), both, "{said:?} {heard:?}");
        }
    }

    #[test]
    fn an_event_that_comes_again_is_doubled_and_no_part_of_the_text() {
        let tally = Tally::new();
        let mut heard = Heard::new(&tally);
        let event = |cursor, text: &str| Event {
            cursor: Some(Cursor(cursor)),
            name: "message".to_owned(),
            data: json!({ "text": text }).to_string(),
        };
        for event in [event(1, "a"), event(2, " b"), event(2, " b"), event(1, "a"), event(5, " c")] {
            heard.take(&event);
        }
        assert_eq!((&*heard.text, heard.doubled), ("a b c", 3));
        assert_eq!(tally.report().tokens, 3);
    }
}
