//! An answer watched to its end: what happens to it is shown, and what became of it is the exit code.
//!
//! 0 completed; 1 any other end, or none that could be seen; 130 after Ctrl-C.

use std::{io, process::ExitCode, time::Duration};

use anyhow::bail;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep_until},
};

use super::{
    INTERRUPTED,
    screen::{Screen, tell},
};
use crate::client::{Answer, End, Event, Failed, Fault, Lastword, Step};

/// How long the end of an answer that was cancelled is waited for.
const FAREWELL: Duration = Duration::from_secs(5);

/// What Ctrl-C means.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CtrlC {
    /// The answer is stopped, and what came of it shown. A second one leaves.
    Cancels,
    /// The answer goes on without us.
    Leaves,
}

/// One answer, and who looks at it.
pub(super) struct Watch {
    pub(super) lastword: Lastword,
    pub(super) answer: Answer,
    pub(super) screen: Screen,
    pub(super) ctrl_c: CtrlC,
    /// How long the connection may be lost, as it is told.
    pub(super) patience: String,
}

/// Why nothing more is shown.
enum Outcome {
    Ended(End),
    /// There is nothing behind where we began.
    Seen,
    /// Ctrl-C.
    Left,
}

/// The first Ctrl-C, and how long its effect is waited for.
struct Leaving {
    until: Instant,
    /// It is asked for.
    cancelling: bool,
}

impl Watch {
    /// Shows the answer until it has ended.
    ///
    /// # Errors
    /// When it did not complete, or stdout takes no more.
    pub(super) async fn run(mut self) -> anyhow::Result<ExitCode> {
        let mut interrupts = signal(SignalKind::interrupt())?;
        let outcome = self.follow(&mut interrupts).await;
        self.screen.finish()?;
        let end = match (outcome?, self.answer.id()) {
            (Outcome::Ended(end), _) => end,
            (Outcome::Seen, Some(id)) => self.lastword.state(id).await?.end,
            _ => return Ok(ExitCode::from(INTERRUPTED)),
        };
        self.judge(&end)
    }

    async fn follow(&mut self, interrupts: &mut Signal) -> anyhow::Result<Outcome> {
        let (mut leaving, mut lost): (Option<Leaving>, bool) = (None, false);
        loop {
            if !self.answer.is_ready() {
                self.screen.flush()?;
            }
            let until = leaving.as_mut().map(|leaving| {
                leaving.cancel(&self.lastword, &self.answer);
                leaving.until
            });
            let step = select! {
                biased;
                _ = interrupts.recv() => {
                    if self.ctrl_c == CtrlC::Leaves || leaving.is_some() {
                        self.whereabouts()?;
                        return Ok(Outcome::Left);
                    }
                    leaving = Some(Leaving { until: Instant::now() + FAREWELL, cancelling: false });
                    continue;
                }
                () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => {
                    self.screen.finish()?;
                    tell(&format!("it could not be cancelled{}", self.how_to_return()));
                    return Ok(Outcome::Left);
                }
                step = self.answer.next() => step,
            };
            match step {
                Ok(Step::Event(event)) => {
                    lost = false;
                    self.screen.show(&event)?;
                    if let Some(end) = end(&event) {
                        return Ok(if leaving.is_some() { Outcome::Left } else { Outcome::Ended(end) });
                    }
                }
                Ok(Step::Cut(why)) if !lost => {
                    lost = true;
                    self.screen.note(&format!("{why}; reconnecting, for at most {}", self.patience))?;
                }
                Ok(Step::Cut(_)) => {}
                Ok(Step::Over) => return Ok(if leaving.is_some() { Outcome::Left } else { Outcome::Seen }),
                Err(failed @ Failed::GaveUp { .. }) => bail!("{failed}{}", self.how_to_return()),
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    fn judge(&self, end: &End) -> anyhow::Result<ExitCode> {
        if end.status != "completed" {
            bail!(told(end));
        }
        if self.screen.is_torn() {
            bail!("what was printed is not the answer{}", self.how_to_return());
        }
        Ok(ExitCode::SUCCESS)
    }

    fn whereabouts(&mut self) -> io::Result<()> {
        let told = format!("left{}", self.how_to_return());
        self.screen.note(&told)
    }

    /// How to get the rest of an answer that may go on.
    fn how_to_return(&self) -> String {
        match (self.answer.id(), self.answer.cursor().filter(|_| !self.screen.is_torn())) {
            (None, _) => String::new(),
            (Some(id), None) => format!("; for the answer: lastword tail {id}"),
            (Some(id), Some(cursor)) => format!("; for the rest: lastword tail {id} --from {cursor}"),
        }
    }
}

impl Leaving {
    /// As soon as it is known which answer it is.
    fn cancel(&mut self, lastword: &Lastword, answer: &Answer) {
        if !self.cancelling
            && let Some(id) = answer.id()
        {
            self.cancelling = true;
            let lastword = lastword.clone();
            // What comes of it is seen in the answer: it ends, or it does not.
            tokio::spawn(async move { lastword.cancel(id).await });
        }
    }
}

fn end(event: &Event) -> Option<End> {
    serde_json::from_str(&event.data).ok().filter(|_| event.name == "end")
}

/// What became of it, and what to do.
fn told(End { status, error }: &End) -> String {
    let Some(Fault { code, message, retryable }) = error else { return format!("the answer was {status}") };
    let remedy = match (code.as_str(), retryable) {
        ("upstream_unreachable", _) => "; does the model's server run? `lastword check` says who is asked",
        ("unfit_prompt", _) => "; change the prompt, or ask another --model",
        ("store_refused", _) => "; the server has no room: `lastword store stats` says more",
        (_, true) | ("interrupted", _) => "; ask again",
        _ => "",
    };
    let was = if status == "failed" { "failed" } else { &format!("was {status}") };
    format!("the answer {was}: {code}: {message}{remedy}")
}
