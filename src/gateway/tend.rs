//! What a gateway does of its own accord: it keeps its leases, closes logs that nobody writes any more, lets retention work, and
//! takes itself down.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::StreamExt;
use tracing::{info, warn};

use super::{Gateway, Stream};
use crate::{
    generation::{Budget, Live, Stop, Writer},
    id::{Cursor, StreamId},
    prompt::OnDisconnect,
    record::{Record, summary::Summary},
    store::{LEASE, Signal, StoreError},
    stream,
    telemetry::Ended,
};

impl Gateway {
    /// Renews leases, closes the logs whose writer is gone, hears signals, lets retention work. Returns when told to close.
    pub async fn tend(self: Arc<Self>) {
        let mut signals = self.store.signals();
        let mut renewal = tokio::time::interval(LEASE / 3);
        let mut sweep = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                () = self.closing.cancelled() => return,
                Some((id, Signal::Cancel)) = signals.next() => {
                    if let Some(live) = self.live(id) {
                        live.stop(Stop::Cancelled);
                    }
                }
                _ = renewal.tick() => self.renew().await,
                _ = sweep.tick() => {
                    self.forget().await;
                    match self.store.expire().await {
                        Ok(0) => _ = self.metrics.log_bytes.set(self.store.bytes().cast_signed()),
                        Ok(_) => sweep.reset_immediately(),
                        Err(error) => warn!(%error, "retention could not work"),
                    }
                }
            }
        }
    }

    async fn renew(self: &Arc<Self>) {
        if let Err(error) = self.store.renew(self.node).await {
            warn!(%error, "leases could not be renewed");
        }
        match self.store.orphans().await {
            Ok(orphans) => {
                for id in orphans {
                    let this = self.clone();
                    // Each on its own: a store that does not take an end now must not keep the leases from being renewed.
                    self.tasks.spawn(async move { this.bury(id, Stop::Interrupted).await });
                }
            }
            Err(error) => warn!(%error, "streams without a writer could not be listed"),
        }
    }

    /// Closes a log whose writer is gone. A store that cannot do it now is asked again.
    pub(super) async fn bury(&self, id: StreamId, stop: Stop) {
        loop {
            match self.close(id, &stop).await {
                Ok(()) => return info!(%id, "closed a stream whose writer was gone"),
                Err(error @ (StoreError::Unavailable(_) | StoreError::Full { .. })) => {
                    warn!(%id, %error, "a stream whose writer was gone could not be closed, trying on");
                    tokio::time::sleep(LEASE / 3).await;
                }
                Err(error) => return warn!(%id, %error, "a stream whose writer was gone could not be closed"),
            }
        }
    }

    async fn close(&self, id: StreamId, stop: &Stop) -> Result<(), StoreError> {
        let live = Arc::new(Live::new(id, OnDisconnect::Continue));
        let begin = Stream::read(self.store.meta(id).await?)?.begin;
        let lease = self.store.lease(id, self.node).await?;
        let mut summary = Summary::default();
        let fold = |cursor, record: &Record<'_>| summary.take_record(cursor, record);
        match stream::fold(self.store.as_ref(), None, id, Cursor::START, lease.next.before(), fold).await {
            // It ends all the same, and its summary tells what could be read.
            Err(error @ StoreError::Damaged(_)) => warn!(%error, "closing what is left of an answer"),
            folded => folded?,
        }
        let budget = Budget { bytes: u64::MAX, records: u64::MAX };
        let (store, metrics) = (self.store.clone(), self.metrics.clone());
        let mut writer = Writer::new(live, store, metrics, lease, budget, summary);
        let end = stop.end(writer.summary());
        let (protocol, backend) = (begin.protocol, begin.backend);
        let ended = Ended { status: end.status, reason: end.reason, protocol, backend };
        writer.end(end, stop.may_be_repeated()).await?;
        self.metrics.ended(&ended);
        self.outbox.news();
        Ok(())
    }

    /// From now on nothing new is started.
    pub fn refuse_new(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until no answer is being generated, at most for `grace`; those that still are end as interrupted.
    pub async fn drain(&self, grace: Duration) {
        self.refuse_new();
        self.tasks.close();
        if tokio::time::timeout(grace, self.tasks.wait()).await.is_err() {
            let running: Vec<_> = self.running().values().cloned().collect();
            info!(streams = running.len(), "interrupting what still runs");
            running.iter().for_each(|live| live.stop(Stop::Interrupted));
            let _ = tokio::time::timeout(Duration::from_secs(1), self.tasks.wait()).await;
        }
        self.closing.cancel();
    }
}
