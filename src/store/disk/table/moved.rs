//! What a checkpoint takes from the table, and what the table lets go of when it is in the base.

use super::{
    super::changes::{Changed, Changes},
    Table,
};

impl Table {
    /// Whether a checkpoint would have anything to do.
    pub(in super::super) fn is_dirty(&self) -> bool {
        !(self.dirty.is_empty() && self.gone.is_empty() && self.claims.is_empty() && self.told.is_empty())
    }

    /// All that has changed since the last checkpoint, the blocks not yet cut: that is better done without the lock.
    pub(in super::super) fn changes(&mut self) -> Changes {
        let streams = self.dirty.drain().filter_map(|id| {
            let entry = self.logs.get(&id)?;
            let (row, prompt, blocks) = (entry.row.clone(), entry.prompt.clone(), entry.chunks.clone());
            Some(Changed { id, row, prompt, behind: entry.sealed, blocks, condensed: Vec::new() })
        });
        Changes {
            streams: streams.collect(),
            claims: self.claims.iter().map(|(claim, (_, holder))| (claim.clone(), *holder)).collect(),
            gone: self.gone.iter().map(|(id, gone)| (*id, gone.expired)).collect(),
            told: self.told.keys().copied().collect(),
            ..Changes::default()
        }
    }

    /// What `changes` brought is not in the base after all.
    pub(in super::super) fn not_stored(&mut self, changes: &Changes) {
        self.dirty.extend(changes.streams.iter().map(|stream| stream.id).filter(|id| self.logs.contains_key(id)));
    }

    /// What `changes` brought is in the base, and needs not be here any longer.
    pub(in super::super) fn stored(&mut self, changes: &Changes) {
        let seq = changes.state.seq;
        self.claims.retain(|_, (at, _)| *at > seq);
        self.gone.retain(|_, gone| gone.seq > seq);
        self.told.retain(|_, at| *at > seq);
        for Changed { id, row, blocks, .. } in &changes.streams {
            let Some(entry) = self.logs.get_mut(id) else { continue };
            entry.prompt = None;
            if row.summary.is_some() {
                self.finished.remove(&(row.ended_at, *id));
                if let Some(streams) = self.owners.get_mut(&row.owner) {
                    streams.remove(id);
                    if streams.is_empty() {
                        self.owners.remove(&row.owner);
                    }
                }
                self.logs.remove(id);
            } else {
                entry.seal(blocks);
            }
        }
        self.floor = [0; 24];
    }
}
