//! The one writer of a log: events in, batches out. Appends first, publishes then.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tracing::warn;

use super::{Live, Meter};
use crate::{
    event::{End, Event},
    record::{self, summary::Summary},
    store::{Batch, Last, Lease, Store, StoreError, batch::Packer},
    telemetry::Metrics,
};

/// One batch in so many is measured.
const MEASURED: u32 = 16;

/// What one stream may hold.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes of records.
    pub bytes: u64,
    /// Records.
    pub records: u64,
}

/// A stream has had as much as it may.
#[derive(Clone, Debug, PartialEq)]
pub struct Over {
    /// Stable.
    pub code: &'static str,
    /// What it is that it has too much of, and where that is said.
    pub message: String,
}

/// See the module.
pub struct Writer {
    live: Arc<Live>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
    lease: Lease,
    budget: Budget,
    meter: Option<Meter>,
    began: Instant,
    /// Where the records' clock stood when this writer took over.
    offset: Duration,
    packer: Packer,
    /// How many were appended.
    batches: u32,
    bytes: u64,
    /// There was content; and some of it is in the store.
    heard: bool,
    said: bool,
    summary: Summary,
}

impl Writer {
    /// A writer that goes on where `lease` says. Of a log that has records already, `summary` is their fold.
    #[must_use]
    pub fn new(
        live: Arc<Live>,
        store: Arc<dyn Store>,
        metrics: Arc<Metrics>,
        lease: Lease,
        budget: Budget,
        summary: Summary,
    ) -> Self {
        let offset = Duration::from_millis(summary.total_ms.into());
        let said = summary.first_token_ms.is_some();
        let packer = Packer::default();
        let (began, bytes, heard) = (Instant::now(), 0, said);
        let (meter, batches) = (None, 0);
        Self { live, store, metrics, lease, budget, meter, began, offset, packer, batches, bytes, heard, said, summary }
    }

    /// The same, and what it costs is counted.
    #[must_use]
    pub fn metered(self, meter: Option<Meter>) -> Self {
        Self { meter, ..self }
    }

    /// Since the stream began.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.offset + self.began.elapsed()
    }

    /// What was said so far, published or not.
    #[must_use]
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// Records that wait for the next flush.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.packer.len()
    }

    /// Whether the time that the next batch takes is measured: of the first, and of one in so many, since to look at the clock and to
    /// count costs a lone token as much as to record it.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        self.batches.is_multiple_of(MEASURED)
    }

    /// Puts an event into the batch; true for the first that is content.
    pub fn push(&mut self, event: &Event<'_>) -> bool {
        let ms = u32::try_from(self.elapsed().as_millis()).unwrap_or(u32::MAX);
        let Some(head) = self.packer.push(|out| record::write(out, ms, event)) else { return false };
        let cursor = self.lease.next.plus(self.packer.len()).before();
        self.summary.take(cursor, &head, event);
        if let Some(meter) = &mut self.meter {
            meter.take(event);
        }
        let first = !self.heard && head.is_content();
        self.heard |= first;
        first
    }

    /// Says so if the stream has become larger than it may be, the waiting batch included, or its owner may have no more.
    #[must_use]
    pub fn over_budget(&self) -> Option<Over> {
        let too_large = |message| Over { code: "stream_too_large", message };
        let records = self.lease.next.plus(self.packer.len()).before().0;
        let Budget { bytes: max_bytes, records: max_records } = self.budget;
        if self.bytes + self.packer.size() as u64 > max_bytes {
            let max = bytesize::ByteSize(max_bytes);
            return Some(too_large(format!("the answer is larger than {max}, what [limits] stream_bytes allows")));
        }
        if records >= max_records {
            let message = format!("the answer has {max_records} records, as many as [limits] stream_records allows");
            return Some(too_large(message));
        }
        let spent = self.meter.as_ref()?.over()?;
        Some(Over { code: "tokens_per_day", message: spent })
    }

    /// Appends the batch, and shows it to the readers when the store has it.
    ///
    /// # Errors
    /// When the store refuses: nothing of the batch was shown, and nothing of it will be.
    pub async fn flush(&mut self) -> Result<(), StoreError> {
        if self.packer.is_empty() {
            return Ok(());
        }
        let batch = self.packer.take();
        self.append(batch.clone(), None).await?;
        self.said = self.heard;
        self.publish(batch, false);
        Ok(())
    }

    /// Appends the terminal record and closes the log.
    ///
    /// A store that has no room or cannot work does not hold up the readers: they are shown the end from memory, and it is
    /// appended as soon as the store takes it. If nothing was said and the same request `may_be_repeated`, its keys are given back.
    ///
    /// # Errors
    /// When the log is no longer ours to write. The readers are sent to the store.
    pub async fn end(&mut self, end: End, may_be_repeated: bool) -> Result<(), StoreError> {
        self.packer.take(); // what the store refused was never shown
        self.push(&Event::End(end));
        let batch = self.packer.take();
        let mut wait = Duration::from_millis(100);
        let mut shown = false;
        loop {
            let last = Last { summary: self.stored_summary(), release: may_be_repeated && !self.said };
            match self.append(batch.clone(), Some(last)).await {
                Ok(()) => {
                    self.publish(batch, true);
                    return Ok(());
                }
                // The store said no and had done it all the same: this is our end,
                Err(StoreError::Closed) if shown => return Ok(()),
                // or our last batch, which readers now find in the store.
                Err(StoreError::Position { next, .. }) if next > self.lease.next => {
                    self.live.tail.retract(self.lease.next.before());
                    (self.lease.next, self.summary.cursor) = (next, next);
                    (self.said, shown) = (self.heard, false);
                }
                Err(error @ (StoreError::Full { .. } | StoreError::Unavailable(_))) => {
                    if !shown {
                        warn!(id = %self.live.id, %error, "the end of a stream could not be stored, trying on");
                        self.live.tail.publish(batch.clone().at(self.lease.next), true);
                        shown = true;
                    }
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                Err(error) => {
                    self.live.tail.abandon();
                    return Err(error);
                }
            }
        }
    }

    async fn append(&mut self, batch: Batch, last: Option<Last>) -> Result<(), StoreError> {
        let began = self.is_measured().then(Instant::now);
        let done = self.store.append(self.live.id, self.lease.next, self.lease.epoch, batch, last).await;
        self.batches = self.batches.wrapping_add(1);
        if let Some(began) = began {
            self.metrics.store_commit.observe(began.elapsed().as_secs_f64());
        }
        done
    }

    fn publish(&mut self, batch: Batch, closed: bool) {
        self.bytes += batch.size() as u64;
        self.metrics.records.inc_by(batch.len());
        let at = self.lease.next;
        self.lease.next = at.plus(batch.len());
        self.live.tail.publish(batch.at(at), closed);
    }

    fn stored_summary(&self) -> Bytes {
        serde_json::to_vec(&self.summary).expect("a summary is plain data").into()
    }
}
