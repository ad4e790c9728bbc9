//! A client of another lastword: its calls, and what can go wrong with them.
//!
//! A server that is restarting, overloaded or out of reach for a moment is asked again, for as long as the client's patience lasts;
//! one that refuses is not. So is one that was never there: a wrong address should be told at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep, timeout};

use super::{Answer, Client, Error, Response, Stage, patience::Patience};
use crate::{
    id::{Cursor, StreamId},
    wire::sse::TooLong,
};

/// Longer than any server should take to begin its answer: a native response begins before the model does.
const HEAD: Duration = Duration::from_secs(30);
/// Less than any server needs: also the last try is one.
const AT_LEAST: Duration = Duration::from_secs(1);
/// How much of an error's text is read.
const COMPLAINT: usize = 16 * 1024;
const JSON: &str = "application/json";

/// A lastword to be asked. Cheap to clone; clones share their connections.
#[derive(Clone, Debug)]
pub struct Lastword {
    client: Client,
    patience: Duration,
    /// It has answered once, so if it is not there now, it was.
    met: Arc<AtomicBool>,
}

/// What is asked: the body of `POST /v1/streams`, and a key of its own, under which any number of tries start one answer.
#[derive(Clone)]
pub struct Ask {
    /// A request, as JSON.
    pub body: Bytes,
    /// Its `Idempotency-Key`.
    pub key: String,
}

impl Ask {
    /// With a new key.
    #[must_use]
    pub fn new(body: &serde_json::Value) -> Self {
        // A stream's id is as unique as a key must be.
        Self { body: body.to_string().into(), key: StreamId::new().to_string() }
    }
}

/// How an answer ended.
#[derive(Clone, Debug, Deserialize)]
pub struct End {
    /// `completed`, `failed`, `cancelled` or `interrupted`; in a state also `running`.
    pub status: String,
    /// If it failed, why.
    pub error: Option<Fault>,
}

/// Why an answer failed.
#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    /// Stable, for machines.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether the same request may go well.
    #[serde(default)]
    pub retryable: bool,
}

/// What is known of an answer.
#[derive(Clone, Debug, Deserialize)]
pub struct State {
    /// How it stands.
    #[serde(flatten)]
    pub end: End,
    /// Its last record.
    pub cursor: Cursor,
    /// All that was said.
    #[serde(default)]
    pub text: String,
}

/// Why there is no answer, or no more of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// Nobody ever answered there.
    #[error("{0}; is `lastword serve` running there?")]
    Unreachable(Error),
    /// The server refused, and would again.
    #[error("{status} {words}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its code, what is wrong and what to do.
        words: String,
    },
    /// Somebody answered, and not a lastword.
    #[error("{0} answered, and is no lastword: {1}")]
    Stranger(String, String),
    /// There was no connection for too long.
    #[error("gave up after {} without a connection: {why}", humantime::format_duration(*.after))]
    GaveUp {
        /// The patience there was.
        after: Duration,
        /// Why the last try failed.
        why: String,
    },
    /// A credential is no longer good.
    #[error("denied: {0}")]
    Denied(String),
    /// An event that no lastword would send.
    #[error(transparent)]
    TooLong(#[from] TooLong),
}

/// One try did not go well.
#[derive(Debug)]
pub(super) enum Trouble {
    /// And may the next time, but not before this.
    Passing { why: String, wait: Option<Duration> },
    /// And never will.
    Lasting(Failed),
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        Self::Lasting(failed)
    }
}

impl Trouble {
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self::Passing { why: why.into(), wait: None }
    }
}

impl Lastword {
    /// The lastword at this client's base URL. `patience` is how long it may be out of reach.
    #[must_use]
    pub fn new(client: Client, patience: Duration) -> Self {
        // The model's own pieces, whatever the server's configuration says: a cursor is a record's then.
        Self { client: client.query("chunking", "token"), patience, met: Arc::default() }
    }

    /// An answer to come. Nothing is sent before it is read.
    #[must_use]
    pub fn ask(&self, ask: Ask) -> Answer {
        Answer::asked(self.clone(), ask)
    }

    /// An answer that is there, behind this cursor or from its beginning.
    #[must_use]
    pub fn follow(&self, id: StreamId, after: Option<Cursor>) -> Answer {
        Answer::known(self.clone(), id, after)
    }

    /// What is known of an answer.
    ///
    /// # Errors
    /// When there is no such stream, or the server cannot be reached.
    pub async fn state(&self, id: StreamId) -> Result<State, Failed> {
        self.get(&format!("v1/streams/{id}")).await
    }

    /// Stops an answer. One that has ended stays as it is.
    ///
    /// # Errors
    /// As [`Lastword::state`].
    pub async fn cancel(&self, id: StreamId) -> Result<(), Failed> {
        self.persist(&format!("v1/streams/{id}/cancel"), true).await.map(drop)
    }

    /// What is at this path.
    ///
    /// # Errors
    /// When it is not there or not this, or the server cannot be reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        let body = self.persist(path, false).await?;
        serde_json::from_slice(&body).map_err(|error| self.stranger(error.to_string()))
    }

    pub(super) fn patience(&self) -> Patience {
        Patience::new(self.patience)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn stranger(&self, why: impl Into<String>) -> Failed {
        Failed::Stranger(self.client.origin(), why.into())
    }

    /// Tries until it goes well, or never will: a request that may be made any number of times, and its body.
    async fn persist(&self, path: &str, post: bool) -> Result<Vec<u8>, Failed> {
        let mut patience = self.patience();
        loop {
            let began = Instant::now();
            match self.attempt(path, post).await {
                Ok(body) => return Ok(body),
                Err(Trouble::Lasting(failed)) => return Err(failed),
                Err(Trouble::Passing { why, wait }) => {
                    patience.spend(began.elapsed());
                    sleep(patience.wait(wait, &why)?).await;
                }
            }
        }
    }

    async fn attempt(&self, path: &str, post: bool) -> Result<Vec<u8>, Trouble> {
        let mut response = match post {
            true => self.answer(self.client.post(path, JSON, &[], Vec::new()), HEAD).await?,
            false => self.answer(self.client.get(path, JSON, &[]), HEAD).await?,
        };
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| Trouble::passing(error.to_string()))? {
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    /// The response that is a success, waited for so long at most.
    pub(super) async fn answer(
        &self,
        sent: impl Future<Output = Result<Response, Error>>,
        at_most: Duration,
    ) -> Result<Response, Trouble> {
        let response = match timeout(at_most.clamp(AT_LEAST, HEAD), sent).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.stage == Stage::Connect && !self.met.load(Relaxed) => {
                return Err(Failed::Unreachable(error).into());
            }
            Ok(Err(error)) => return Err(Trouble::passing(error.to_string())),
            Err(_) => return Err(Trouble::passing(format!("{} gave no answer in time", self.client.origin()))),
        };
        self.met.store(true, Relaxed);
        match response.status() {
            200..300 => Ok(response),
            300..400 => {
                let to = response.location().unwrap_or_default();
                Err(self.stranger(format!("it redirects to {to}; give its real address")).into())
            }
            // Too late, too often, or a server that is not all there at the moment.
            408 | 429 | 502..=504 | 520..=530 => {
                let wait = response.retry_after();
                Err(Trouble::Passing { why: refusal(response).await.0.to_string(), wait })
            }
            status => match (status, refusal(response).await) {
                // Of a proxy that finds nobody behind it.
                (500, (failed, false)) => Err(Trouble::passing(failed.to_string())),
                (_, (failed, _)) => Err(failed.into()),
            },
        }
    }
}

/// What a refusal says, on one line, and whether a lastword says it.
async fn refusal(response: Response) -> (Failed, bool) {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
        detail: String,
        remedy: Option<String>,
    }
    let status = response.status();
    let text = response.text(COMPLAINT).await;
    let (words, known) = match serde_json::from_str(&text) {
        Ok(Problem { code, detail, remedy: Some(remedy) }) if !detail.contains(&remedy) => {
            (format!("{code}: {detail}; {remedy}"), true)
        }
        Ok(Problem { code, detail, .. }) => (format!("{code}: {detail}"), true),
        Err(_) => ("with no word of why that a lastword would say".to_owned(), false),
    };
    (Failed::Refused { status, words }, known)
}
