//! What was said so far, in one piece: for a reader that comes back to a long answer and wants no hundred thousand events. A thousand
//! who come at once get the same bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::shared::Shared;
use crate::{
    gateway::{Gateway, StoreError},
    id::{Cursor, StreamId},
    protocol::native::Answer,
};

/// A snapshot this many records old is as good as a new one: what came since follows it as events.
const FRESH: u64 = 64;

/// All that somebody reads behind, by stream.
#[derive(Default)]
pub(super) struct AllSnapshots(Shared<StreamId, Snapshot>);

impl AllSnapshots {
    /// That of a stream.
    pub(super) fn of(&self, id: StreamId) -> Arc<Snapshot> {
        let made = || Some(Snapshot { id, made: Mutex::default() });
        self.0.of(id, made).expect("it is always made")
    }
}

/// The newest of one stream.
pub(super) struct Snapshot {
    id: StreamId,
    made: Mutex<Option<Made>>,
}

/// One moment of an answer.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// The last record in it.
    pub(super) upto: Cursor,
    /// `{text, reasoning?, tool_calls?}`
    pub(super) data: Bytes,
}

impl Snapshot {
    /// The answer up to this record or thereabouts: not before any that was told already. It is read from the store once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn upto(&self, gateway: &Gateway, last: Cursor) -> Result<Made, StoreError> {
        let mut newest = self.made.lock().await;
        if let Some(made) = &*newest
            && made.upto.plus(FRESH) >= last
        {
            return Ok(made.clone());
        }
        // It goes on from the one before, which is all that is kept of the fold.
        let before = newest.as_ref().and_then(|made| Some((made.upto, serde_json::from_slice(&made.data).ok()?)));
        let (after, mut answer): (Cursor, Answer) = before.unwrap_or_default();
        gateway.records(self.id, after, last, |_, record| answer.take(record)).await?;
        let data = serde_json::to_vec(&answer).expect("plain data").into();
        Ok(newest.insert(Made { upto: last, data }).clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::shared::tests::Log,
        event::{At, Delta, Event, PartStart, PartType, Tool},
    };

    fn say(of: PartType, text: &str) -> Event<'static> {
        let at = At { choice: 0, part: of as u16, of };
        Event::Delta(at, Delta { text: text.to_owned().into(), logprobs: None })
    }

    #[tokio::test]
    async fn who_comes_at_the_same_time_gets_the_same_bytes() {
        let mut log = Log::new().await;
        let call = At { choice: 0, part: PartType::ToolCall as u16, of: PartType::ToolCall };
        let tool =
            PartStart { tool: Some(Tool { name: Some("look".to_owned()), ..Tool::default() }), ..PartStart::default() };
        log.append(&[say(PartType::Reasoning, "hm"), say(PartType::Text, "one"), Event::PartStart(call, tool)]).await;
        let all = AllSnapshots::default();
        let snapshot = all.of(log.id);
        let first = snapshot.upto(&log.gateway, Cursor(3)).await.expect("readable");
        assert_eq!(first.upto, Cursor(3));
        let said = r#"{"text":"one","reasoning":"hm","tool_calls":[{"index":5,"name":"look","arguments":""}]}"#;
        assert_eq!(first.data, said);
        let more: Vec<_> = (0..FRESH).map(|_| say(PartType::Text, ".")).collect();
        log.append(&more).await;
        let again = all.of(log.id).upto(&log.gateway, Cursor(3 + FRESH)).await.expect("readable");
        assert_eq!(
            (again.upto, again.data.as_ptr()),
            (Cursor(3), first.data.as_ptr()),
            "what came since are few events"
        );
        // Then it is made anew, from where it was: a call goes on, too.
        log.append(&[say(PartType::ToolCall, "{}")]).await;
        let last = Cursor(4 + FRESH);
        let anew = all.of(log.id).upto(&log.gateway, last).await.expect("readable");
        let text = format!("one{}", ".".repeat(FRESH as usize));
        let said = said.replace("one", &text).replace(r#""arguments":"""#, r#""arguments":"{}""#);
        assert_eq!((anew.upto, String::from_utf8_lossy(&anew.data).into_owned()), (last, said));
        // Who is a little behind gets the newest, not an older one.
        assert_eq!(snapshot.upto(&log.gateway, Cursor(5)).await.expect("readable").upto, last);
        drop(snapshot);
        assert_eq!(
            all.of(log.id).upto(&log.gateway, Cursor(5)).await.expect("readable").upto,
            Cursor(5),
            "gone with its last reader"
        );
    }
}
