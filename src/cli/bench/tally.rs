//! What all readers saw together, and how it is told.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::Serialize;

/// In microseconds: what takes longer than an hour is an hour.
const LONGEST: u64 = 3_600_000_000;
/// Failures that are told apart. Behind them all are one.
const KINDS: usize = 8;

pub(super) struct Tally {
    began: Instant,
    counts: Mutex<Counts>,
}

struct Counts {
    first: Histogram<u64>,
    delay: Histogram<u64>,
    tokens: u64,
    resumes: u64,
    lost: u64,
    doubled: u64,
    answers: BTreeMap<String, u64>,
    errors: BTreeMap<String, u64>,
}

/// The result.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    seconds: f64,
    /// How many answers ended in which way.
    answers: BTreeMap<String, u64>,
    pub(super) tokens: u64,
    tokens_per_second: f64,
    first_token_ms: Spread,
    token_delay_ms: Spread,
    resumes: u64,
    lost_bytes: u64,
    doubled_bytes: u64,
    errors: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Spread {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Tally {
    pub(super) fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, LONGEST, 3).expect("bounds in order");
        let counts = Counts {
            first: histogram(),
            delay: histogram(),
            tokens: 0,
            resumes: 0,
            lost: 0,
            doubled: 0,
            answers: BTreeMap::new(),
            errors: BTreeMap::new(),
        };
        Self { began: Instant::now(), counts: Mutex::new(counts) }
    }

    /// A token came so long after the one before, or the first one after the request.
    pub(super) fn token(&self, first: bool, after: Duration) {
        let micros = u64::try_from(after.as_micros()).unwrap_or(u64::MAX);
        let mut counts = self.counts();
        counts.tokens += 1;
        let histogram = if first { &mut counts.first } else { &mut counts.delay };
        histogram.saturating_record(micros);
    }

    pub(super) fn resumed(&self, times: u64) {
        if times > 0 {
            self.counts().resumes += times;
        }
    }

    pub(super) fn ended(&self, status: &str, lost: u64, doubled: u64) {
        let mut counts = self.counts();
        counts.lost += lost;
        counts.doubled += doubled;
        *counts.answers.entry(status.to_owned()).or_default() += 1;
    }

    pub(super) fn failed(&self, why: &str, times: u64) {
        let mut counts = self.counts();
        let known = counts.errors.contains_key(why) || counts.errors.len() < KINDS;
        *counts.errors.entry(if known { why } else { "others" }.to_owned()).or_default() += times;
    }

    pub(super) fn report(&self) -> Report {
        let seconds = self.began.elapsed().as_secs_f64();
        let counts = self.counts();
        Report {
            seconds,
            answers: counts.answers.clone(),
            tokens: counts.tokens,
            tokens_per_second: counts.tokens as f64 / seconds,
            first_token_ms: Spread::of(&counts.first),
            token_delay_ms: Spread::of(&counts.delay),
            resumes: counts.resumes,
            lost_bytes: counts.lost,
            doubled_bytes: counts.doubled,
            errors: counts.errors.clone(),
        }
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spread {
    fn of(histogram: &Histogram<u64>) -> Self {
        let ms = |micros: u64| micros as f64 / 1000.0;
        Self {
            p50: ms(histogram.value_at_quantile(0.5)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms", self.p50, self.p99, self.max)
    }
}

impl Report {
    /// Something was heard, and all of it was right.
    pub(super) fn is_good(&self) -> bool {
        self.tokens > 0 && self.lost_bytes == 0 && self.doubled_bytes == 0
    }

    /// How it goes, in 80 columns.
    pub(super) fn line(&self) -> String {
        let Self { seconds, tokens_per_second, resumes, lost_bytes, doubled_bytes, .. } = self;
        let errors: u64 = self.errors.values().sum();
        format!(
            "{seconds:.0} s: {tokens_per_second:.0} tokens/s, {} answers, {resumes} resumes, lost {lost_bytes}, doubled {doubled_bytes}, errors {errors}",
            self.answers.values().sum::<u64>()
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers: Vec<_> = self.answers.iter().map(|(status, n)| format!("{n} {status}")).collect();
        let answers = if answers.is_empty() { "none".to_owned() } else { answers.join(", ") };
        writeln!(f, "answers      {answers}, in {:.1} s", self.seconds)?;
        writeln!(f, "tokens       {}, {:.0} in a second", self.tokens, self.tokens_per_second)?;
        writeln!(f, "first token  {}", self.first_token_ms)?;
        writeln!(f, "token delay  {}", self.token_delay_ms)?;
        writeln!(f, "resumes      {}", self.resumes)?;
        writeln!(f, "lost         {} bytes", self.lost_bytes)?;
        writeln!(f, "doubled      {} bytes", self.doubled_bytes)?;
        writeln!(f, "errors       {}", self.errors.values().sum::<u64>())?;
        self.errors.iter().try_for_each(|(why, n)| writeln!(f, "  {n} times  {why}"))
    }
}
