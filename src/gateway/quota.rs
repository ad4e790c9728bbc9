//! What one owner may have: answers at once, requests a minute, tokens a day. Counted in this process; of the tokens, what the store
//! knows of today is counted when an owner first asks.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::{Gateway, Stream};
use crate::{generation::Spent, store::StoreError};

/// `[limits.per_key]`, `[limits.keys.NAME]`. What is absent is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Answers that are generated at once.
    pub running: Option<usize>,
    /// Requests a minute, as many as that at once after a rest.
    pub requests_per_minute: Option<u32>,
    /// Tokens of prompts and answers in a day (UTC).
    pub tokens_per_day: Option<u64>,
}

impl Quota {
    /// What this one says nothing of, the other one does.
    fn or(self, other: Self) -> Self {
        Self {
            running: self.running.or(other.running),
            requests_per_minute: self.requests_per_minute.or(other.requests_per_minute),
            tokens_per_day: self.tokens_per_day.or(other.tokens_per_day),
        }
    }
}

/// Somebody has as much as it may.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Limited {
    /// The limit's key.
    pub limit: &'static str,
    /// What it is, in words, with its value.
    pub what: String,
    /// When there may be more.
    pub retry_after: Duration,
}

/// Who has how much.
pub(super) struct Quotas {
    all: Quota,
    named: BTreeMap<String, Quota>,
    owners: Mutex<HashMap<String, Arc<Owner>>>,
}

/// What one owner has.
pub(super) struct Owner {
    quota: Quota,
    running: Arc<Semaphore>,
    requests: Mutex<Bucket>,
    spent: Option<Arc<Spent>>,
    /// Whether what the store knows of today is counted.
    counted: OnceCell<()>,
}

/// What is left of a minute's requests; it fills up all the time.
struct Bucket {
    left: f64,
    at: Instant,
}

/// More owners than that are looked through for those that need not be remembered.
const MANY: usize = 10_000;

impl Quotas {
    pub(super) fn new(all: Quota, named: BTreeMap<String, Quota>) -> Self {
        Self { all, named, owners: Mutex::default() }
    }

    /// Of this owner; nothing where there is no limit, or nobody is anybody.
    fn of(&self, owner: &str) -> Option<Arc<Owner>> {
        let quota = self.named.get(owner).copied().unwrap_or_default().or(self.all);
        if owner.is_empty() || quota == Quota::default() {
            return None;
        }
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.len() >= MANY && !owners.contains_key(owner) {
            owners.retain(|_, it| Arc::strong_count(it) > 1 || it.spent.is_some() || !it.rested());
        }
        Some(owners.entry(owner.to_owned()).or_insert_with(|| Arc::new(Owner::new(quota))).clone())
    }
}

impl Owner {
    fn new(quota: Quota) -> Self {
        let running = Arc::new(Semaphore::new(quota.running.unwrap_or_default().min(Semaphore::MAX_PERMITS)));
        let left = quota.requests_per_minute.unwrap_or_default().into();
        let spent = quota.tokens_per_day.map(|most| Arc::new(Spent::new(most)));
        Self {
            quota,
            running,
            requests: Mutex::new(Bucket { left, at: Instant::now() }),
            spent,
            counted: OnceCell::new(),
        }
    }

    /// Whether it has asked nothing for a minute.
    fn rested(&self) -> bool {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).at.elapsed() > Duration::from_secs(60)
    }

    /// Takes one of the minute's requests.
    fn request(&self) -> Result<(), Limited> {
        let Some(most) = self.quota.requests_per_minute else { return Ok(()) };
        let (most, now) = (f64::from(most), Instant::now());
        let mut bucket = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.left = (bucket.left + (now - bucket.at).as_secs_f64() * most / 60.0).min(most);
        bucket.at = now;
        if bucket.left >= 1.0 {
            bucket.left -= 1.0;
            return Ok(());
        }
        Err(Limited {
            limit: "requests_per_minute",
            what: format!("{most} requests a minute are what [limits] requests_per_minute allows this key"),
            retry_after: Duration::from_secs_f64((1.0 - bucket.left) * 60.0 / most.max(f64::MIN_POSITIVE))
                .min(Duration::from_secs(60)),
        })
    }

    /// Takes room for one more answer.
    fn room(&self) -> Result<Option<OwnedSemaphorePermit>, Limited> {
        let Some(most) = self.quota.running else { return Ok(None) };
        self.running.clone().try_acquire_owned().map(Some).map_err(|_| Limited {
            limit: "running",
            what: format!("{most} answers at once are what [limits] running allows this key"),
            retry_after: Duration::from_secs(5),
        })
    }

    fn tokens(&self) -> Result<Option<Arc<Spent>>, Limited> {
        let Some(spent) = &self.spent else { return Ok(None) };
        match spent.over() {
            None => Ok(Some(spent.clone())),
            Some(what) => Err(Limited { limit: "tokens_per_day", what, retry_after: Spent::until_tomorrow() }),
        }
    }
}

/// What an answer takes up, as long as it is held.
#[derive(Default)]
pub(super) struct Share {
    _room: Option<OwnedSemaphorePermit>,
    pub(super) spent: Option<Arc<Spent>>,
}

impl Gateway {
    /// Takes one of this owner's requests.
    ///
    /// # Errors
    /// When there are none left for now.
    pub fn admit(&self, owner: &str) -> Result<(), Limited> {
        self.quotas.of(owner).map_or(Ok(()), |owner| owner.request())
    }

    /// Room for an answer of this owner.
    pub(super) async fn share(&self, owner: &str) -> Result<Result<Share, Limited>, StoreError> {
        let Some(it) = self.quotas.of(owner) else { return Ok(Ok(Share::default())) };
        if let Some(spent) = &it.spent {
            it.counted.get_or_try_init(|| self.count_today(owner, spent)).await?;
        }
        Ok(it.tokens().and_then(|spent| Ok(Share { _room: it.room()?, spent })))
    }

    /// Counts what an earlier process spent today.
    async fn count_today(&self, owner: &str, spent: &Spent) -> Result<(), StoreError> {
        const PAGE: usize = 200;
        let mut before = None;
        loop {
            let streams = self.list(owner, before, PAGE).await?;
            let of_today = |stream: &&Stream| stream.meta.created_at >= Spent::midnight_ms();
            for usage in streams.iter().filter(of_today).filter_map(|stream| stream.summary.as_ref()?.usage.as_ref()) {
                spent.add(usage.input_tokens.unwrap_or_default() + usage.output_tokens.unwrap_or_default(), 0);
            }
            match streams.last() {
                Some(last) if streams.len() == PAGE && of_today(&last) => before = Some(last.meta.id),
                _ => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas(all: Quota, ada: Quota) -> Quotas {
        Quotas::new(all, [("ada".to_owned(), ada)].into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_has_so_many_requests_and_they_come_back_one_by_one() {
        let quotas = quotas(Quota { requests_per_minute: Some(30), ..Quota::default() }, Quota::default());
        let of = |owner| quotas.of(owner).expect("limited");
        for _ in 0..30 {
            assert_eq!(of("ada").request(), Ok(()));
        }
        let limited = of("ada").request().expect_err("that is all");
        assert_eq!((limited.limit, limited.retry_after), ("requests_per_minute", Duration::from_secs(2)));
        assert!(limited.what.starts_with("30 requests a minute"), "{limited}");
        assert_eq!(of("bob").request(), Ok(()), "another has its own");
        tokio::time::advance(limited.retry_after).await;
        assert_eq!(of("ada").request(), Ok(()));
        assert!(of("ada").request().is_err());
        tokio::time::advance(Duration::from_secs(3600)).await;
        let taken = (0..100).take_while(|_| of("ada").request().is_ok()).count();
        assert_eq!(taken, 30, "a rest saves no more than a minute");
        assert!(quotas.of("").is_none(), "nobody is anybody");
    }

    #[test]
    fn a_key_of_its_own_quota_has_that_and_the_rest_of_all() {
        let all = Quota { running: Some(1), requests_per_minute: Some(9), tokens_per_day: None };
        let quotas = quotas(all, Quota { running: Some(2), ..Quota::default() });
        let ada = quotas.of("ada").expect("limited");
        assert_eq!(ada.quota, Quota { running: Some(2), ..all });
        let (one, two) = (ada.room().expect("room"), ada.room().expect("room"));
        let limited = ada.room().expect_err("that is all");
        assert!(limited.what.starts_with("2 answers at once"), "{limited}");
        drop(one);
        assert!(ada.room().is_ok());
        drop(two);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_asked_nothing_for_long_is_forgotten() {
        let quotas = quotas(Quota { requests_per_minute: Some(1), ..Quota::default() }, Quota::default());
        for n in 0..MANY {
            drop(quotas.of(&n.to_string()));
        }
        let held = quotas.of("0");
        tokio::time::advance(Duration::from_secs(61)).await;
        drop(quotas.of("new"));
        assert_eq!(quotas.owners.lock().expect("sound").len(), 2, "who holds something stays");
        drop(held);
    }
}
