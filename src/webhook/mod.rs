//! Completion webhooks: the application is told of each answer that has ended, also if nobody watched it, so that it can save it.
//!
//! The store remembers which answers are still to be told ([`Gateway::due`]), over restarts and crashes; what was tried and when it is
//! tried again is in memory here. So each is told at least once, as long as the store keeps it. One task tends all of it and holds
//! up no answer: it looks when one has ended, sends a few at once, and tries again what failed, later and later.

mod config;
mod message;
mod sign;

use std::{
    collections::{BTreeMap, HashSet},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use futures_util::FutureExt;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

pub use self::config::Config;
use self::{message::Ended, sign::Signer};
use crate::{
    client::Client,
    gateway::{Gateway, StoreError},
    id::StreamId,
};

/// How many are told at once.
const AT_ONCE: usize = 8;
/// Between two looks at the store: many answers that end at once are one look.
const GAP: Duration = Duration::from_millis(100);
/// How often all that is due is looked at: what was erased meanwhile is not waited for any longer.
const REVIEW: Duration = Duration::from_secs(60);
/// How many are asked of the store at once.
const PAGE: usize = 1024;
/// When the store is asked again.
const SOON: Duration = Duration::from_secs(1);
/// When it is told again what it did not take.
const LATER: Duration = Duration::from_secs(5);
/// The longest that an endpoint can ask for (`Retry-After`).
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// Tells.
pub struct Webhooks {
    config: Config,
    client: Client,
    signer: Signer,
    gateway: Arc<Gateway>,
    /// The last try failed, and that was said.
    failing: AtomicBool,
}

/// An answer that is to be told.
#[derive(Clone, Copy)]
struct Message {
    id: StreamId,
    /// Its place among those that are due.
    place: u64,
    /// How often it was tried.
    tries: usize,
    /// There is nothing to send any more, only the store does not know it.
    settled: bool,
}

/// What comes of a try.
enum Tried {
    Delivered,
    /// It is not wanted.
    Passed,
    /// There is nothing to be told.
    Gone,
    /// It never will be.
    GivenUp(String),
    /// Not now. The endpoint may have said for how long; when the answer ended, where that is known, decides whether it is tried again.
    Failed {
        why: String,
        wait: Option<Duration>,
        ended: Option<u64>,
    },
}

/// What is to be done with a message next.
enum Next {
    Nothing,
    Gone,
    Again(Duration),
}

/// What is told and when.
#[derive(Default)]
struct Desk {
    /// By when it is told next, and by its place.
    waiting: BTreeMap<(Instant, u64), Message>,
    under_way: JoinSet<(Message, Next)>,
    /// The last place that was seen.
    seen: u64,
    /// How many were erased before they were told.
    gone: u64,
}

impl Webhooks {
    /// Tells of the answers that are started from now on, and of what an earlier process left. [`Webhooks::tend`] must be spawned too.
    ///
    /// # Errors
    /// The key, and what is wrong with its value. Checking the configuration has tried it.
    pub fn new(config: Config, gateway: Arc<Gateway>) -> Result<Arc<Self>, (&'static str, String)> {
        let (client, signer) = config.open()?;
        gateway.keep_outbox();
        // There from the start, so that a rate can be seen from the first one on.
        for outcome in ["delivered", "retried", "given_up"] {
            gateway.metrics().webhooks(outcome, 0);
        }
        Ok(Arc::new(Self { config, client, signer, gateway, failing: AtomicBool::new(false) }))
    }

    /// Tells, until it is told to close: then what is under way is finished, what has ended by then is tried once, and nothing is tried
    /// again. What is dropped of it, or fails, stays due.
    pub async fn tend(self: Arc<Self>, closing: CancellationToken) {
        let (mut desk, mut news, mut open) = (Desk::default(), true, true);
        let (mut look, mut review) = (Instant::now(), Instant::now() + REVIEW);
        loop {
            let now = Instant::now();
            if news && look <= now || review <= now {
                news = !self.look(&mut desk, review <= now).await;
                look = Instant::now() + if news { SOON } else { GAP };
                review = if review <= now { now + REVIEW } else { review };
            }
            if !open {
                desk.waiting.retain(|_, message| message.tries == 0);
            }
            self.begin(&mut desk);
            if !open && !news && desk.waiting.is_empty() && desk.under_way.is_empty() {
                return;
            }
            let next = desk.waiting.first_key_value().filter(|_| desk.under_way.len() < AT_ONCE);
            let next = next.map_or(review, |((at, _), _)| review.min(*at));
            tokio::select! {
                () = self.gateway.news() => news = true,
                Some(done) = desk.under_way.join_next() => desk.put_back(done),
                () = sleep_until(if news { next.min(look) } else { next }) => {}
                () = closing.cancelled(), if open => (open, news) = (false, true),
            }
        }
    }

    /// Takes in what has ended since the last look; at a review, also what was erased. False if the store could not be asked.
    async fn look(&self, desk: &mut Desk, review: bool) -> bool {
        let (seen, mut due) = (desk.seen, HashSet::new());
        let mut after = if review { 0 } else { seen };
        loop {
            let page = match self.gateway.due(after, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(%error, "the store does not say of which answers the application is to be told, trying on");
                    return false;
                }
            };
            let (now, len) = (Instant::now(), page.len());
            for (place, id) in page {
                after = place;
                if place > desk.seen {
                    desk.seen = place;
                    desk.waiting.insert((now, place), Message { id, place, tries: 0, settled: false });
                } else {
                    due.insert(place);
                }
            }
            if len < PAGE {
                break;
            }
        }
        if review {
            let before = desk.waiting.len();
            desk.waiting.retain(|(_, place), _| *place > seen || due.contains(place));
            desk.gone += (before - desk.waiting.len()) as u64;
        }
        true
    }

    /// Tells what it is time for, as many as may be told at once.
    fn begin(self: &Arc<Self>, desk: &mut Desk) {
        let now = Instant::now();
        while desk.under_way.len() < AT_ONCE
            && let Some(first) = desk.waiting.first_entry().filter(|first| first.key().0 <= now)
        {
            let (this, message) = (self.clone(), first.remove());
            desk.under_way.spawn(async move {
                let told = AssertUnwindSafe(this.tell(message)).catch_unwind().await;
                told.unwrap_or_else(|_| {
                    error!(id = %message.id, "telling the application of an answer panicked");
                    (Message { tries: message.tries + 1, ..message }, Next::Again(this.pause(message.tries)))
                })
            });
        }
        let due = desk.waiting.len() + desk.under_way.len();
        self.gateway.metrics().webhooks_due.set(i64::try_from(due).unwrap_or(i64::MAX));
        if desk.gone > 0 && desk.under_way.is_empty() {
            warn!(count = desk.gone, "answers were erased before the application was told of them");
            desk.gone = 0;
        }
    }

    async fn tell(&self, mut message: Message) -> (Message, Next) {
        let id = message.id;
        let tried = if message.settled { Tried::Passed } else { self.attempt(&message).await };
        let metrics = self.gateway.metrics();
        let gone = match tried {
            Tried::Failed { why, wait, ended } => {
                let pause = self.pause(message.tries).max(wait.unwrap_or_default().min(PATIENCE));
                message.tries += 1;
                let next = u128::from(unix_ms()) + pause.as_millis();
                let last = |ended| u128::from(ended) + self.config.give_up_after.as_millis();
                if ended.map(last).is_none_or(|last| next <= last) {
                    self.failed(id, &why);
                    metrics.webhooks("retried", 1);
                    return (message, Next::Again(pause));
                }
                metrics.webhooks("given_up", 1);
                warn!(%id, tries = message.tries, why, "the application was not told of an answer, and it is given up");
                false
            }
            Tried::Delivered => {
                metrics.webhooks("delivered", 1);
                if self.failing.swap(false, Ordering::Relaxed) {
                    info!("the application is told of answers again");
                }
                false
            }
            Tried::GivenUp(why) => {
                metrics.webhooks("given_up", 1);
                warn!(%id, why, "the application was not told of an answer, and it is given up");
                false
            }
            Tried::Gone => true,
            Tried::Passed => false,
        };
        match self.gateway.told(id).await {
            Ok(()) if gone => (message, Next::Gone),
            Ok(()) => (message, Next::Nothing),
            // What ails the store, it has said itself.
            Err(error) => {
                debug!(%id, %error, "the store does not take that the application was told of an answer, trying on");
                (Message { settled: true, ..message }, Next::Again(LATER))
            }
        }
    }

    /// One try.
    async fn attempt(&self, message: &Message) -> Tried {
        let mut at = None;
        let read = async {
            let Some(ended) = Ended::of(&self.gateway, message.id).await? else { return Ok(None) };
            at = Some(ended.at);
            match self.config.events.contains(&ended.status) {
                true => ended.body(&self.gateway).await.map(Some),
                false => Ok(None),
            }
        };
        let read = read.await;
        let failed = |why, wait| Tried::Failed { why, wait, ended: at };
        let body = match read {
            Ok(Some(body)) => body,
            Ok(None) => return Tried::Passed,
            Err(StoreError::Unknown(_) | StoreError::Expired(_)) => return Tried::Gone,
            Err(error @ StoreError::Damaged(_)) => return Tried::GivenUp(error.to_string()),
            Err(error) => return failed(error.to_string(), None),
        };
        let headers = self.signer.headers(&message::name(message.id), unix_ms() / 1000, &body);
        let response = match timeout(self.config.timeout, self.client.post("", "*/*", &headers, body)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return failed(error.to_string(), None),
            Err(_) => {
                let within = humantime::format_duration(self.config.timeout);
                return failed(format!("no response within {within}, the `timeout` of [webhooks]"), None);
            }
        };
        let (status, wait) = (response.status(), response.retry_after());
        response.release();
        match status {
            200..300 => Tried::Delivered,
            410 => Tried::GivenUp("the endpoint says that it is gone (410)".to_owned()),
            300..400 => failed(format!("the endpoint answered {status}, and redirects are not followed"), wait),
            _ => failed(format!("the endpoint answered {status}"), wait),
        }
    }

    /// Until the next try, behind so many: a little longer by chance, so that what failed at once does not come back at once.
    fn pause(&self, tries: usize) -> Duration {
        let pauses = &self.config.backoff;
        let pause = pauses.get(tries).or(pauses.last()).copied().unwrap_or(SOON);
        pause.mul_f64(1.0 + fastrand::f64() * 0.2)
    }

    /// Said once, until it works again.
    fn failed(&self, id: StreamId, why: &str) {
        match self.failing.swap(true, Ordering::Relaxed) {
            false => warn!(%id, why, "the application could not be told of an answer, trying on"),
            true => debug!(%id, why, "the application could not be told of an answer, trying on"),
        }
    }
}

impl Desk {
    fn put_back(&mut self, done: Result<(Message, Next), tokio::task::JoinError>) {
        match done {
            Ok((message, Next::Again(pause))) => {
                _ = self.waiting.insert((Instant::now() + pause, message.place), message)
            }
            Ok((_, Next::Gone)) => self.gone += 1,
            Ok((_, Next::Nothing)) | Err(_) => {}
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        gateway::Limits,
        id::NodeId,
        route::Router,
        store::{Last, NewStream, Store, memory::Memory},
        telemetry::Metrics,
    };

    fn webhooks(backoff: &[u64]) -> (Arc<dyn Store>, Arc<Webhooks>) {
        let store: Arc<dyn Store> = Arc::new(Memory::new(Duration::MAX, u64::MAX));
        let router = Router::new(BTreeMap::new(), BTreeMap::new(), None);
        let gateway = Gateway::new(store.clone(), router, Limits::default(), Arc::new(Metrics::new()));
        let section = "url = \"http://127.0.0.1:1\"\nsecret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        let config: Config = toml::from_str(section).expect("a section");
        let config = Config { backoff: backoff.iter().copied().map(Duration::from_secs).collect(), ..config };
        (store, Webhooks::new(config, gateway).expect("right"))
    }

    async fn ended(store: &Arc<dyn Store>) -> StreamId {
        let id = StreamId::new();
        let (about, prompt, claims) = Default::default();
        let new = NewStream { id, owner: String::new(), created_at: 0, about, prompt, claims, keep: None, due: true };
        store.create(new).await.expect("created");
        let lease = store.lease(id, NodeId::new()).await.expect("leased");
        let batch = ["end"].into_iter().collect();
        store.append(id, lease.next, lease.epoch, batch, Some(Last::default())).await.expect("appended");
        id
    }

    #[tokio::test]
    async fn a_look_takes_in_what_is_new_and_a_review_lets_go_of_what_is_gone() {
        let ((store, webhooks), mut desk) = (webhooks(&[5]), Desk::default());
        let mut ids = Vec::new();
        for _ in 0..PAGE + 2 {
            ids.push(ended(&store).await);
        }
        assert!(webhooks.look(&mut desk, false).await);
        assert!(webhooks.look(&mut desk, false).await);
        assert_eq!((desk.waiting.len(), desk.gone), (PAGE + 2, 0), "each once");
        for id in [ids[0], ids[PAGE + 1]] {
            store.remove(id).await.expect("removed");
        }
        let new = ended(&store).await;
        assert!(webhooks.look(&mut desk, true).await);
        assert_eq!((desk.waiting.len(), desk.gone), (PAGE + 1, 2));
        let waiting: Vec<_> = desk.waiting.values().map(|message| message.id).collect();
        assert!(waiting.contains(&new) && waiting.contains(&ids[1]) && !waiting.contains(&ids[0]));
        assert!(webhooks.look(&mut desk, true).await);
        assert_eq!((desk.waiting.len(), desk.gone), (PAGE + 1, 2));
    }

    #[test]
    fn pauses_grow_to_the_last_and_vary() {
        let (_, webhooks) = webhooks(&[5, 300]);
        for (tries, seconds) in [(0, 5), (1, 300), (2, 300), (1000, 300)] {
            let pauses: Vec<_> = (0..50).map(|_| webhooks.pause(tries).as_millis()).collect();
            let least = seconds * 1000;
            assert!(pauses.iter().all(|pause| (least..=least * 6 / 5).contains(pause)), "{tries}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        }
    }
}
