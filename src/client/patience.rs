//! When to try again, and when to give up.

use std::time::Duration;

use super::Failed;

/// What a client waits that was never told.
const RETRY: Duration = Duration::from_secs(1);
/// The longest wait between two tries, unless the server asks for more.
const LONGEST: Duration = Duration::from_secs(15);

/// How long somebody has been without an answer, and how long that may be. It counts the time without a connection only, so that
/// a model which thinks for an hour costs no patience.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    limit: Duration,
    /// What the server asks a reader to wait that was cut off.
    retry: Duration,
    tries: u32,
    spent: Duration,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, retry: RETRY, tries: 0, spent: Duration::ZERO }
    }

    /// All is well again.
    pub(super) fn restore(&mut self) {
        (self.tries, self.spent) = (0, Duration::ZERO);
    }

    /// The server's `retry:`, in milliseconds.
    pub(super) fn retry(&mut self, milliseconds: u64) {
        self.retry = Duration::from_millis(milliseconds).min(LONGEST);
    }

    /// A try took this long, for nothing.
    pub(super) fn spend(&mut self, time: Duration) {
        self.spent = self.spent.saturating_add(time);
    }

    /// What is left.
    pub(super) fn left(&self) -> Duration {
        self.limit.saturating_sub(self.spent)
    }

    /// How long to wait before the next try: what the server asked for, then twice as long each time, and up to half of it more
    /// by chance, so that those who were cut off together do not come back together.
    ///
    /// # Errors
    /// When nothing is left.
    pub(super) fn wait(&mut self, at_least: Option<Duration>, why: &str) -> Result<Duration, Failed> {
        if self.left().is_zero() {
            return Err(Failed::GaveUp { after: self.limit, why: why.to_owned() });
        }
        let doubled = self.retry.saturating_mul(1 << self.tries.min(10)).min(LONGEST.max(self.retry));
        let wait = doubled.mul_f64(1.0 + fastrand::f64() / 2.0).max(at_least.unwrap_or_default()).min(self.left());
        self.tries += 1;
        self.spend(wait);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn each_wait_is_longer_until_nothing_is_left() {
        let mut patience = Patience::new(seconds(20));
        patience.retry(2000);
        for least in [2, 4, 8] {
            let wait = patience.wait(None, "").expect("some is left");
            assert!(seconds(least) <= wait && wait <= seconds(least).mul_f64(1.5), "{wait:?}");
            if least == 8 {
                assert!(wait <= seconds(14), "no longer than the limit");
            }
        }
        while !patience.left().is_zero() {
            patience.wait(None, "").expect("some is left");
        }
        let gave_up = patience.wait(None, "no route").expect_err("nothing is left");
        assert_eq!(gave_up, Failed::GaveUp { after: seconds(20), why: "no route".to_owned() });
        patience.restore();
        assert!(patience.wait(None, "").expect("as at first") <= seconds(3));
    }

    #[test]
    fn what_the_server_asks_for_counts() {
        let mut patience = Patience::new(seconds(100));
        assert!(patience.wait(Some(seconds(40)), "").expect("some is left") >= seconds(40));
        patience.restore();
        patience.retry(1);
        assert!(patience.wait(None, "").expect("some is left") < seconds(1));
    }
}
