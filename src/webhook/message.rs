//! What is told of an answer: that it ended, when, and its state. The same bytes at each try, since it is a fold of the log.

use serde::Serialize;

use crate::{
    event::Status,
    gateway::{Gateway, StoreError, Stream},
    id::{Cursor, StreamId},
    protocol::native::{Fold, State},
};

/// The body.
#[derive(Serialize)]
struct Body {
    r#type: String,
    /// When it ended, not when it is told.
    timestamp: String,
    data: State,
}

/// A stream that has ended, its log unread.
pub(super) struct Ended {
    stream: Stream,
    pub(super) status: Status,
    /// Unix time in milliseconds.
    pub(super) at: u64,
}

impl Ended {
    /// What is known of it; nothing of one that has not ended.
    pub(super) async fn of(gateway: &Gateway, id: StreamId) -> Result<Option<Self>, StoreError> {
        let stream = gateway.known(id).await?;
        let ended = stream.summary.as_ref().and_then(|known| Some((known.status?, known.total_ms)));
        Ok(ended.map(|(status, total_ms)| {
            let at = stream.meta.created_at.saturating_add(total_ms.into());
            Self { stream, status, at }
        }))
    }

    /// The body that tells of it.
    pub(super) async fn body(self, gateway: &Gateway) -> Result<Vec<u8>, StoreError> {
        let Stream { meta, begin, .. } = self.stream;
        let mut fold = Fold::default();
        gateway.records(meta.id, Cursor::START, meta.last, |cursor, record| fold.take(cursor, record)).await?;
        let data = fold.state(meta.id, meta.created_at, begin);
        let timestamp = data.ended_at.clone().unwrap_or_default();
        let body = Body { r#type: format!("stream.{}", self.status.as_str()), timestamp, data };
        Ok(serde_json::to_vec(&body).expect("plain data"))
    }
}

/// The message's name, the same at each try: who is told twice knows by it.
pub(super) fn name(id: StreamId) -> String {
    format!("msg_{id}")
}
