//! Frames that repeat what was said, made once for all readers of a stream: a thousand readers of one long answer hold no copy of
//! it each. It goes with its last reader, and is made anew for the next.

use std::{any::TypeId, collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use tokio::sync;

use super::shared::Shared;
use crate::{
    gateway::{Gateway, StoreError},
    id::{Cursor, StreamId},
    protocol::{Encode, Retell},
    record::Record,
};

/// The frames of one record, each in pieces.
pub(super) type Frames = Arc<[Vec<Bytes>]>;

/// All that is being retold, by stream and by protocol.
#[derive(Default)]
pub(super) struct AllRetold(Shared<(StreamId, TypeId), Retold>);

impl AllRetold {
    /// What is retold of a stream in this encoder's protocol, if anything is.
    pub(super) fn of<E: Encode + 'static>(&self, id: StreamId, encoder: &E) -> Option<Arc<Retold>> {
        self.0.of((id, TypeId::of::<E>()), || Some(Retold { id, fold: sync::Mutex::new(Fold::new(encoder.retell()?)) }))
    }
}

/// What is retold of one stream.
pub(super) struct Retold {
    id: StreamId,
    fold: sync::Mutex<Fold>,
}

struct Fold {
    retell: Box<dyn Retell>,
    read: Cursor,
    /// The end, as it was recorded, if that was read.
    end: Option<(u32, Vec<u8>)>,
    /// Of each record that repeats something, up to there.
    frames: BTreeMap<Cursor, Frames>,
}

impl Fold {
    fn new(retell: Box<dyn Retell>) -> Self {
        Self { retell, read: Cursor::START, end: None, frames: BTreeMap::new() }
    }

    fn take(&mut self, cursor: Cursor, record: &Record<'_>) {
        (self.read, self.end) = (cursor, end(record));
        if let Some(frames) = self.retell.take(cursor, record) {
            self.frames.insert(cursor, frames.into_iter().map(|frame| frame.into_pieces()).collect());
        }
    }
}

fn end(record: &Record<'_>) -> Option<(u32, Vec<u8>)> {
    record.head.is_end().then(|| (record.head.ms, record.payload.to_vec()))
}

impl Retold {
    /// The frames of a record that repeats something. What was said before it is read from the store, once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn frames(
        &self,
        gateway: &Gateway,
        cursor: Cursor,
        record: &Record<'_>,
    ) -> Result<Frames, StoreError> {
        let mut fold = self.fold.lock().await;
        // The one record that is shown before it is stored is an end. If there is something else now, another end too (its writer was
        // gone before the store took it), all begins anew.
        if fold.end.is_some() && (cursor > fold.read || (cursor == fold.read && fold.end != end(record))) {
            *fold = Fold::new(fold.retell.anew());
        }
        if fold.read < cursor {
            let after = fold.read;
            gateway.records(self.id, after, cursor.before(), |cursor, record| fold.take(cursor, record)).await?;
            fold.take(cursor, record);
        }
        Ok(fold.frames.get(&cursor).cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::shared::tests::{Log, record},
        event::{At, Attempt, Begin, Delta, End, Event, PartStart, PartStop, Status},
        protocol::responses::{Envelope, ResponsesEncode},
    };

    impl Log {
        async fn told(&self, retold: &Retold, cursor: u64, event: &Event<'_>) -> (Frames, String) {
            let bytes = record(event);
            let record = Record::parse(&bytes).expect("a record");
            let frames = retold.frames(&self.gateway, Cursor(cursor), &record).await.expect("readable");
            let text = String::from_utf8(frames.iter().flatten().flatten().copied().collect()).expect("UTF-8");
            (frames, text)
        }
    }

    fn say(text: &'static str) -> Event<'static> {
        Event::Delta(At::default(), Delta { text: text.into(), logprobs: None })
    }

    const END: Event<'static> = Event::End(End { status: Status::Completed, reason: None, usage: None, error: None });

    fn encoder(id: StreamId) -> ResponsesEncode {
        ResponsesEncode::new(Envelope::new(id, 0, "m", None))
    }

    async fn half() -> Log {
        let mut log = Log::new().await;
        let start = Event::PartStart(At::default(), PartStart::default());
        log.append(&[Event::Begin(Begin::default()), Event::Attempt(Attempt::default()), start, say("one")]).await;
        log
    }

    #[tokio::test]
    async fn all_readers_share_what_is_made_once_and_the_last_takes_it_along() {
        let mut log = half().await;
        log.append(&[say(" two"), END]).await;
        let all = AllRetold::default();
        let (one, two) = (all.of(log.id, &encoder(log.id)), all.of(log.id, &encoder(log.id)));
        let (one, two) = (one.expect("retold"), two.expect("retold"));
        let ((a, text), (b, _)) = (log.told(&one, 6, &END).await, log.told(&two, 6, &END).await);
        assert!(Arc::ptr_eq(&a, &b) && text.contains(r#""text":"one two""#), "{text}");
        let (_, created) = log.told(&two, 2, &Event::Attempt(Attempt::default())).await;
        assert!(created.starts_with("event: response.created\n"), "also what came before: {created}");
        let weak = Arc::downgrade(&one);
        drop(one);
        assert!(weak.upgrade().is_some());
        drop(two);
        assert!(weak.upgrade().is_none());
    }

    /// The one record that is shown before it is stored is an end; and it may be that another one is stored, further on.
    #[tokio::test]
    async fn an_end_that_was_shown_and_taken_back_is_not_the_end() {
        let mut log = half().await;
        let all = AllRetold::default();
        let retold = all.of(log.id, &encoder(log.id)).expect("retold");
        let (_, early) = log.told(&retold, 5, &END).await;
        assert!(early.contains(r#""text":"one""#) && early.contains("response.completed"), "{early}");
        log.append(&[say(" two"), END]).await;
        let (_, late) = log.told(&retold, 6, &END).await;
        assert!(late.contains(r#""text":"one two""#) && late.contains("response.completed"), "{late}");
        // In its very place there may be something else, too.
        let mut log = half().await;
        let retold = all.of(log.id, &encoder(log.id)).expect("retold");
        log.told(&retold, 5, &END).await;
        let stop = Event::PartStop(At::default(), PartStop::default());
        log.append(&[stop.clone(), END]).await;
        let (_, stopped) = log.told(&retold, 5, &stop).await;
        assert!(
            stopped.ends_with(&format!("\nid: {}-5\n\n", log.id)) && !stopped.contains("completed_at"),
            "{stopped}"
        );
        // Or another end: its writer was gone before the store took it.
        let log = half().await;
        let retold = all.of(log.id, &encoder(log.id)).expect("retold");
        log.told(&retold, 5, &END).await;
        let other = Event::End(End { status: Status::Interrupted, reason: None, usage: None, error: None });
        let (_, interrupted) = log.told(&retold, 5, &other).await;
        assert!(interrupted.contains("event: response.failed\n") && !interrupted.contains("response.completed"));
    }
}
