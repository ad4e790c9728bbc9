//! What the readers of a stream share: made by the first who needs it, gone with the last who has it.

#[cfg(test)]
pub(super) mod tests;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
};

/// See the module.
pub(super) struct Shared<K, V>(Mutex<HashMap<K, Weak<V>>>);

impl<K, V> Default for Shared<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V> Shared<K, V> {
    /// What there is under this key, or what is made for it now, if anything is.
    pub(super) fn of(&self, key: K, make: impl FnOnce() -> Option<V>) -> Option<Arc<V>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            return Some(known);
        }
        if all.len() == all.capacity() {
            all.retain(|_, it| it.strong_count() > 0); // before it grows: each time twice as many fit in
        }
        let made = Arc::new(make()?);
        all.insert(key, Arc::downgrade(&made));
        Some(made)
    }
}
