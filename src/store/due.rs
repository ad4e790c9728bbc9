//! The closed streams that somebody is still to be told of, in the order in which they ended. Each has a place of its own, which is
//! not given again while the process runs: so whoever has seen all up to a place need only ask for what is behind it.

use std::collections::BTreeMap;

use crate::id::{ById, StreamId};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Due {
    order: BTreeMap<u64, StreamId>,
    places: ById<u64>,
    /// The last place that was given.
    last: u64,
}

impl Due {
    /// It has ended. What is in here already keeps its place.
    pub(super) fn insert(&mut self, id: StreamId) {
        if let std::collections::hash_map::Entry::Vacant(entry) = self.places.entry(id) {
            self.last += 1;
            entry.insert(self.last);
            self.order.insert(self.last, id);
        }
    }

    /// It was told, or is gone. False: it was not in here.
    pub(super) fn remove(&mut self, id: StreamId) -> bool {
        let place = self.places.remove(&id);
        place.is_some_and(|place| self.order.remove(&place).is_some())
    }

    pub(super) fn has(&self, id: StreamId) -> bool {
        self.places.contains_key(&id)
    }

    /// At most `n` behind this place.
    pub(super) fn page(&self, after: u64, n: usize) -> Vec<(u64, StreamId)> {
        self.order.range(after.saturating_add(1)..).take(n).map(|(place, id)| (*place, *id)).collect()
    }
}
