//! What the answers of one owner cost in a day, in tokens: a guard against a bill that nobody meant, not a bill.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::event::{Event, Usage};

const DAY: u64 = 24 * 3600;

/// What was spent since midnight (UTC), by all of an owner's answers together.
#[derive(Debug)]
pub struct Spent {
    most: u64,
    today: Mutex<Today>,
}

#[derive(Debug, Default)]
struct Today {
    day: u64,
    tokens: u64,
}

impl Spent {
    /// Nothing yet, of at most so many a day.
    #[must_use]
    pub fn new(most: u64) -> Self {
        Self { most, today: Mutex::default() }
    }

    /// So many more; or fewer, where less was used than was thought.
    pub fn add(&self, tokens: u64, less: u64) {
        self.on(day(unix_seconds()), |today| today.tokens = (today.tokens + tokens).saturating_sub(less));
    }

    /// Says so, if nothing is left of today.
    #[must_use]
    pub fn over(&self) -> Option<String> {
        let most = self.most;
        let over = self.on(day(unix_seconds()), |today| today.tokens >= most);
        over.then(|| format!("all {most} tokens of today are spent, what [limits] tokens_per_day allows this key"))
    }

    /// How long it is until there is more.
    #[must_use]
    pub fn until_tomorrow() -> Duration {
        Duration::from_secs(DAY - unix_seconds() % DAY)
    }

    /// When today began, in Unix milliseconds.
    #[must_use]
    pub fn midnight_ms() -> u64 {
        day(unix_seconds()) * DAY * 1000
    }

    fn on<T>(&self, day: u64, what: impl FnOnce(&mut Today) -> T) -> T {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != day {
            *today = Today { day, tokens: 0 };
        }
        what(&mut today)
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn day(seconds: u64) -> u64 {
    seconds / DAY
}

/// What one answer costs, while it runs: what its upstream counts, and before it does, a token for each piece.
#[derive(Debug)]
pub struct Meter {
    spent: Arc<Spent>,
    pieces: u64,
    input: u64,
    output: u64,
    charged: u64,
}

impl Meter {
    /// Of an answer that begins.
    #[must_use]
    pub fn new(spent: Arc<Spent>) -> Self {
        Self { spent, pieces: 0, input: 0, output: 0, charged: 0 }
    }

    pub(super) fn take(&mut self, event: &Event<'_>) {
        match event {
            Event::Delta(..) => self.pieces += 1,
            Event::Usage(usage) => {
                let Usage { input_tokens, output_tokens, .. } = usage;
                self.input = input_tokens.unwrap_or(self.input);
                if let Some(output) = output_tokens {
                    // Counted up to here: what comes behind it is counted on.
                    (self.output, self.pieces) = (*output, 0);
                }
            }
            _ => return,
        }
        let cost = self.input + self.output + self.pieces;
        self.spent.add(cost.saturating_sub(self.charged), self.charged.saturating_sub(cost));
        self.charged = cost;
    }

    pub(super) fn over(&self) -> Option<String> {
        self.spent.over()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{At, Delta};

    fn piece() -> Event<'static> {
        Event::Delta(At::default(), Delta { text: "x".into(), logprobs: None })
    }

    fn usage(input: Option<u64>, output: Option<u64>) -> Event<'static> {
        Event::Usage(Usage { input_tokens: input, output_tokens: output, ..Usage::default() })
    }

    #[test]
    fn a_piece_is_a_token_until_the_upstream_counts() {
        let spent = Arc::new(Spent::new(10));
        let tokens = || spent.on(day(unix_seconds()), |today| today.tokens);
        let (mut one, mut other) = (Meter::new(spent.clone()), Meter::new(spent.clone()));
        for event in [usage(Some(3), None), piece(), piece()] {
            one.take(&event);
        }
        other.take(&piece());
        assert_eq!((tokens(), spent.over()), (6, None));
        one.take(&usage(None, Some(1))); // two pieces were one token
        assert_eq!(tokens(), 5);
        one.take(&piece());
        one.take(&usage(Some(4), Some(5)));
        assert_eq!(tokens(), 10);
        assert!(spent.over().is_some_and(|why| why.contains("all 10 tokens")));
    }

    #[test]
    fn tomorrow_there_is_more() {
        let spent = Spent::new(1);
        spent.on(7, |today| today.tokens += 5);
        assert_eq!(spent.on(7, |today| today.tokens), 5);
        assert_eq!(spent.on(8, |today| today.tokens), 0);
        assert!((1..=DAY).contains(&Spent::until_tomorrow().as_secs()));
    }
}
