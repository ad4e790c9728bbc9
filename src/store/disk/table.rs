//! What the store knows beside the base: the streams that run, and what has changed since the last checkpoint.
//!
//! Changed by operations alone, whether they come from a caller or from the log of an earlier process. What is not in here is in the
//! base; what is gone in here is gone, whatever the base says. A stream that nobody wants kept is in here alone: no frame of the log
//! and no checkpoint ever speaks of it.

mod moved;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
};

use tokio::time::Instant;

use super::{
    base::Base,
    code::{End, Op, Row},
    entry::Entry,
};
use crate::{
    id::{ById, Cursor, Epoch, Ids, NodeId, StreamId},
    store::{Batch, ClaimKey, ClaimKind, NewStream, StoreError, due::Due},
};

/// What a log costs beside its records. An estimate, so that a million empty logs count.
pub(super) const OVERHEAD: u64 = 1024;

/// See the module.
#[derive(Default)]
pub(super) struct Table {
    logs: ById<Entry>,
    owners: HashMap<String, BTreeSet<StreamId>>,
    /// Who holds a claim, or that nobody does any more; and the frame that said so.
    claims: HashMap<ClaimKey, (u64, Option<StreamId>)>,
    finished: BTreeSet<(u64, StreamId)>,
    /// The claims of streams that are here alone: they go before all others.
    fleeting_claims: HashMap<ClaimKey, StreamId>,
    /// When those streams that have ended are erased.
    fleeting: BTreeSet<(u64, StreamId)>,
    gone: ById<Gone>,
    /// Closed streams that somebody is still to be told of, those of the base included.
    pub due: Due,
    /// Those that were told of since the last checkpoint, and the frame that said so.
    told: ById<u64>,
    dirty: Ids,
    nodes: HashMap<NodeId, Instant>,
    /// What all streams count, those of the base included and those that are here alone not.
    pub used: u64,
    /// What those count.
    pub held: u64,
    /// Where the base's finished streams begin that are not gone.
    floor: [u8; 24],
}

/// A stream that was dropped, by this frame.
#[derive(Clone, Copy)]
struct Gone {
    seq: u64,
    expired: bool,
}

/// Where a stream is to be looked for.
pub(super) enum Found<'a> {
    /// Here.
    Entry(&'a Entry),
    /// In the base, if anywhere.
    Base,
}

impl Table {
    pub(super) fn find(&self, id: StreamId) -> Result<Found<'_>, StoreError> {
        match (self.gone.get(&id), self.logs.get(&id)) {
            (Some(Gone { expired: true, .. }), _) => Err(StoreError::Expired(id)),
            (Some(_), _) => Err(StoreError::Unknown(id)),
            (None, Some(entry)) => Ok(Found::Entry(entry)),
            (None, None) => Ok(Found::Base),
        }
    }

    pub(super) fn entry(&self, id: StreamId) -> Option<&Entry> {
        self.logs.get(&id)
    }

    pub(super) fn entry_mut(&mut self, id: StreamId) -> Option<&mut Entry> {
        self.logs.get_mut(&id)
    }

    pub(super) fn is_gone(&self, id: StreamId) -> bool {
        self.gone.contains_key(&id)
    }

    /// Who holds a claim, and the frame that said so.
    pub(super) fn holder(&self, claim: &ClaimKey, base: &Base) -> Result<(u64, Option<StreamId>), StoreError> {
        match (self.fleeting_claims.get(claim), self.claims.get(claim)) {
            (Some(id), _) => Ok((0, Some(*id))),
            (None, Some(known)) => Ok(*known),
            (None, None) => Ok((0, base.holder(claim)?)),
        }
    }

    /// Whether a frame of the log must say this. Of streams that are here alone, none may.
    pub(super) fn is_told(&self, op: &Op) -> bool {
        match op {
            Op::Create(new) => new.keep.is_none(),
            Op::Append { id, .. } | Op::Leap { id, .. } | Op::Drop { id, .. } | Op::Told { id } => {
                !self.is_fleeting(*id)
            }
        }
    }

    /// Whether a stream is here alone.
    pub(super) fn is_fleeting(&self, id: StreamId) -> bool {
        self.logs.get(&id).is_some_and(|entry| entry.keep.is_some())
    }

    /// What must be dropped of the streams that are here alone so that there is room for `more` of them; nothing if that cannot be.
    pub(super) fn make_room(&self, more: u64, max: u64) -> Option<Vec<StreamId>> {
        let mut over = (self.held + more).saturating_sub(max);
        let mut chosen = Vec::new();
        for (_, id) in &self.fleeting {
            if over == 0 {
                break;
            }
            over = over.saturating_sub(self.logs.get(id).map_or(0, |entry| entry.row.bytes));
            chosen.push(*id);
        }
        (over == 0).then_some(chosen)
    }

    /// Those of an owner's streams that are here and older than `before`, newest first.
    pub(super) fn list(&self, owner: &str, before: Option<StreamId>) -> impl Iterator<Item = (StreamId, &Entry)> {
        let older = move |id: &&StreamId| before.is_none_or(|before| **id < before);
        let streams = self.owners.get(owner).into_iter().flat_map(|streams| streams.iter().rev());
        streams.filter(older).filter_map(|id| Some((*id, self.logs.get(id)?)))
    }

    /// All that are here and older than `before`, newest first.
    pub(super) fn all(&self, before: Option<StreamId>) -> impl Iterator<Item = (StreamId, &Entry)> {
        let mut all: Vec<_> = self.logs.iter().map(|(id, entry)| (*id, entry)).collect();
        all.retain(|(id, _)| before.is_none_or(|before| *id < before));
        all.sort_unstable_by_key(|(id, _)| Reverse(*id));
        all.into_iter()
    }

    /// The streams that were dropped since the last checkpoint.
    pub(super) fn gone(&self) -> Ids {
        self.gone.keys().copied().collect()
    }

    /// Open logs whose node has not been heard of for `lease`, or that never had one for as long.
    pub(super) fn orphans(&mut self, lease: std::time::Duration) -> Vec<StreamId> {
        self.nodes.retain(|_, heard| heard.elapsed() < lease);
        let orphan = |entry: &Entry| match entry.node {
            Some(node) => !self.nodes.contains_key(&node),
            None => entry.created.elapsed() >= lease,
        };
        let open = self.logs.iter().filter(|(_, entry)| entry.row.summary.is_none() && orphan(entry));
        open.map(|(id, _)| *id).collect()
    }

    /// The logs that are not closed, and where they stand.
    pub(super) fn open(&self) -> Vec<(StreamId, Cursor)> {
        let open = self.logs.iter().filter(|(_, entry)| entry.row.summary.is_none());
        open.map(|(id, entry)| (*id, entry.row.next().before())).collect()
    }

    /// All who wrote are gone, and will not be heard of.
    pub(super) fn nobody_writes(&mut self) {
        let nobody = NodeId::new();
        self.logs.values_mut().for_each(|entry| entry.node = Some(nobody));
    }

    pub(super) fn heard(&mut self, node: NodeId) {
        self.nodes.insert(node, Instant::now());
    }

    /// Those that are here alone whose time is over, at most so many.
    pub(super) fn over(&self, now: u64, n: usize) -> Vec<StreamId> {
        self.fleeting.iter().take_while(|(until, _)| *until <= now).take(n).map(|(_, id)| *id).collect()
    }

    /// The finished streams that ended first, as long as `more` wants them, which is given what they count.
    pub(super) fn oldest(
        &mut self,
        base: &Base,
        mut more: impl FnMut(u64, u64) -> bool,
    ) -> Result<Vec<StreamId>, StoreError> {
        let (mut chosen, mut floor, mut wanted, mut failed) = (Vec::new(), self.floor, true, None);
        base.finished(self.floor, |key, at, id| {
            floor = key;
            if self.gone.contains_key(&id) {
                return true;
            }
            // A stream that went into the base a moment ago is still here too.
            let bytes = match self.logs.get(&id) {
                Some(entry) => Ok(Some(entry.row.bytes)),
                None => base.row(id).map(|row| row.map(|row| row.bytes)),
            };
            match bytes {
                // Nobody can say what it counts, and nobody will miss it.
                Err(StoreError::Damaged(_)) => wanted = more(at, 0),
                Ok(bytes) => wanted = more(at, bytes.unwrap_or_default()),
                Err(error) => (wanted, failed) = (false, Some(error)),
            }
            if wanted {
                chosen.push(id);
            }
            wanted
        })?;
        if let Some(error) = failed {
            return Err(error);
        }
        self.floor = floor;
        for (at, id) in &self.finished {
            let bytes = self.logs.get(id).map_or(0, |entry| entry.row.bytes);
            if !wanted || !more(*at, bytes) {
                break;
            }
            if !chosen.contains(id) {
                chosen.push(*id);
            }
        }
        Ok(chosen)
    }

    /// Looks up what [`apply`](Self::apply) will ask the base, so that it does not fail when the frame is written.
    pub(super) fn look_up(&mut self, ops: &[Op], base: &Base) -> Result<(), StoreError> {
        for op in ops {
            let (Op::Append { id, end: Some(_), .. } | Op::Drop { id, .. }) = op else { continue };
            let claims = match self.logs.get(id) {
                Some(entry) => entry.row.claims.clone(),
                None => match base.row(*id) {
                    Ok(row) => row.map(|row| row.claims).unwrap_or_default(),
                    Err(StoreError::Damaged(_)) => Vec::new(),
                    Err(error) => return Err(error),
                },
            };
            for claim in claims {
                if !self.fleeting_claims.contains_key(&claim.key) && !self.claims.contains_key(&claim.key) {
                    let holder = base.holder(&claim.key)?;
                    self.claims.insert(claim.key, (0, holder));
                }
            }
        }
        Ok(())
    }

    /// Does what a frame says.
    pub(super) fn apply(&mut self, op: Op, seq: u64, base: &Base) -> Result<(), StoreError> {
        match op {
            Op::Create(new) => self.create(*new, seq),
            Op::Append { id, at, batch, end } => return self.append(id, at, batch, end, seq, base),
            Op::Leap { id, next } => {
                if let Some(entry) = self.logs.get_mut(&id) {
                    let before =
                        entry.row.hole.filter(|_| entry.row.leap.is_some()).map_or(entry.row.last, |hole| hole.0);
                    (entry.row.leap, entry.row.hole) = (Some(next), Some((before, next)));
                    entry.seq = seq;
                    self.dirty.insert(id);
                }
            }
            Op::Drop { id, expired } => return self.drop_log(id, expired, seq, base),
            Op::Told { id } => {
                if self.due.remove(id) && !self.is_fleeting(id) {
                    self.told.insert(id, seq);
                }
            }
        }
        Ok(())
    }

    fn create(&mut self, new: NewStream, seq: u64) {
        let bytes = size_of_new(&new);
        for claim in &new.claims {
            match new.keep {
                Some(_) => {
                    // Whoever held it has lost it, also when this stream is no more.
                    self.claims.insert(claim.key.clone(), (seq, None));
                    self.fleeting_claims.insert(claim.key.clone(), new.id);
                }
                None => {
                    self.fleeting_claims.remove(&claim.key);
                    self.claims.insert(claim.key.clone(), (seq, Some(new.id)));
                }
            }
        }
        let NewStream { id, owner, created_at, about, prompt, claims, keep, due } = new;
        let row = Row {
            owner,
            created_at,
            about,
            claims,
            last: Cursor::START,
            hole: None,
            leap: None,
            summary: None,
            ended_at: 0,
            bytes,
            epoch: Epoch::default(),
            due,
        };
        match keep {
            Some(keep) => {
                self.held += bytes;
                let mut entry = Entry::new(row, Some(prompt), 0);
                entry.keep = Some(u64::try_from(keep.as_millis()).unwrap_or(u64::MAX));
                self.insert(id, entry);
            }
            None => {
                self.used += bytes;
                self.insert(id, Entry::new(row, Some(prompt), seq));
                self.dirty.insert(id);
            }
        }
    }

    /// Takes in a stream that runs.
    pub(super) fn insert(&mut self, id: StreamId, entry: Entry) {
        self.owners.entry(entry.row.owner.clone()).or_default().insert(id);
        self.logs.insert(id, entry);
    }

    fn append(
        &mut self,
        id: StreamId,
        at: Cursor,
        batch: Batch,
        end: Option<End>,
        seq: u64,
        base: &Base,
    ) -> Result<(), StoreError> {
        let Some(entry) = self.logs.get_mut(&id) else { return Ok(()) };
        let size = (batch.size() + end.as_ref().map_or(0, |end| end.summary.len())) as u64;
        entry.row.bytes += size;
        match entry.keep {
            Some(_) => self.held += size,
            None => {
                self.used += size;
                self.dirty.insert(id);
                entry.seq = seq;
            }
        }
        entry.push(batch, at);
        let Some(End { summary, release, at }) = end else { return Ok(()) };
        (entry.row.summary, entry.row.ended_at, entry.row.leap) = (Some(summary), at, None);
        entry.join();
        match entry.keep {
            Some(keep) => self.fleeting.insert((at.saturating_add(keep), id)),
            None => self.finished.insert((at, id)),
        };
        if entry.row.due {
            self.due.insert(id);
        }
        let row = entry.row.clone();
        self.release(id, &row, seq, base, |kind| kind == ClaimKind::Chat || release)
    }

    fn drop_log(&mut self, id: StreamId, expired: bool, seq: u64, base: &Base) -> Result<(), StoreError> {
        self.due.remove(id);
        let row = match self.logs.remove(&id) {
            Some(entry) => {
                entry.head.send_modify(|(_, closed)| *closed = true);
                if let Some(streams) = self.owners.get_mut(&entry.row.owner) {
                    streams.remove(&id);
                    if streams.is_empty() {
                        self.owners.remove(&entry.row.owner);
                    }
                }
                if let Some(keep) = entry.keep {
                    self.fleeting.remove(&(entry.row.ended_at.saturating_add(keep), id));
                    self.held -= entry.row.bytes;
                    return self.release(id, &entry.row, seq, base, |_| true);
                }
                self.finished.remove(&(entry.row.ended_at, id));
                self.dirty.remove(&id);
                entry.row
            }
            None => match base.row(id) {
                Ok(Some(row)) if !self.gone.contains_key(&id) => row,
                Ok(_) => return Ok(()),
                Err(StoreError::Damaged(_)) => {
                    self.gone.insert(id, Gone { seq, expired });
                    return Ok(());
                }
                Err(error) => return Err(error),
            },
        };
        self.used = self.used.saturating_sub(row.bytes);
        self.gone.insert(id, Gone { seq, expired });
        self.release(id, &row, seq, base, |_| true)
    }

    /// Frees those of a stream's claims that `which` names and that it still holds.
    fn release(
        &mut self,
        id: StreamId,
        row: &Row,
        seq: u64,
        base: &Base,
        which: impl Fn(ClaimKind) -> bool,
    ) -> Result<(), StoreError> {
        for claim in row.claims.iter().filter(|claim| which(claim.key.kind)) {
            if self.fleeting_claims.get(&claim.key) == Some(&id) {
                self.fleeting_claims.remove(&claim.key);
            } else if self.holder(&claim.key, base)?.1 == Some(id) {
                self.claims.insert(claim.key.clone(), (seq, None));
            }
        }
        Ok(())
    }
}

/// What a new stream counts.
pub(super) fn size_of_new(new: &NewStream) -> u64 {
    (new.about.len() + new.prompt.len()) as u64 + OVERHEAD
}
