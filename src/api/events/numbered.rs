//! A reader that comes back with how many frames it has, in a protocol that numbers them: where that is in the log is found by a fold.

use std::sync::Arc;

use super::Seat;
use crate::{
    api::{Api, auth::Caller, connection::Connection},
    gateway::{AttachError, Stream},
    id::{Cursor, Seen},
    protocol::Numbered,
    record::Record,
};

impl Seat {
    /// Attaches a reader that has the frames before this number: behind the last record of which it has all. The encoder has then
    /// taken in what comes before, and leaves out the rest of what was seen. Nothing if there are not so many yet: the encoder has then
    /// counted them.
    ///
    /// # Errors
    /// When there is no such stream, or it cannot be read, or too many do.
    pub(in crate::api) async fn behind<E: Numbered>(
        api: &Arc<Api>,
        caller: &Caller,
        stream: &Stream,
        encoder: &mut E,
        seen: u64,
        connection: Connection,
    ) -> Result<Option<Self>, AttachError> {
        let id = stream.meta.id;
        encoder.mute(seen);
        let skim = |runs: &[(Record<'_>, u32)]| {
            let before = encoder.clone();
            runs.iter().for_each(|(record, times)| encoder.skip_run(record, *times));
            let all = encoder.number() <= seen;
            if !all {
                *encoder = before;
            }
            all
        };
        let from = api.gateway.skim(id, stream.meta.last, skim).await?;
        let (mut after, mut seen_all) = (from, true);
        let look = |cursor, record: &Record<'_>| {
            seen_all = seen_all && encoder.skip_seen(record);
            if seen_all {
                after = cursor;
            }
        };
        api.gateway.records(id, from, stream.head.last, look).await?;
        if encoder.number() < seen && seen_all {
            return Ok(None);
        }
        let seen = (after > Cursor::START).then_some(Seen::Short(after));
        Self::take(api, caller, id, seen, connection).await.map(Some)
    }
}

/// How many frames there are so far, as this encoder counts them.
///
/// # Errors
/// When the log cannot be read.
pub(in crate::api) async fn count<E: Numbered>(
    api: &Arc<Api>,
    stream: &Stream,
    mut encoder: E,
) -> Result<u64, AttachError> {
    let id = stream.meta.id;
    let skim = |runs: &[(Record<'_>, u32)]| {
        runs.iter().for_each(|(record, times)| encoder.skip_run(record, *times));
        true
    };
    let from = api.gateway.skim(id, stream.meta.last, skim).await?;
    api.gateway.records(id, from, stream.head.last, |_, record| encoder.skip(record)).await?;
    Ok(encoder.number())
}
