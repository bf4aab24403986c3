//! An in-process cache that a drop can't be undone in: a value whose fetch began before a drop of its key is not stored.
//!
//! Without that rule a slow reader puts back what was just dropped: it asks the database, the value changes, the drop arrives and finds
//! nothing, and then the reader stores the old value for good. No I/O here, and no lifetimes: the demo shows that it doesn't need them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use unstale_events::glob::Glob;

/// Keys share this many generations. More keys than that is no harm: a drop of one then refuses a fill of another now and then.
const STRIPES: u16 = 1024;

/// Values by key, and how often keys were dropped.
pub(super) struct L1<V> {
    values: HashMap<String, V>,
    /// Counts the drops of the keys of each stripe: what a fill compares.
    generations: Vec<u64>,
    hasher: RandomState,
}

/// What a reader takes along before it fetches: the generation of the key at that moment.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    stripe: usize,
    generation: u64,
}

impl<V: Clone> L1<V> {
    pub(super) fn new() -> Self {
        Self { values: HashMap::new(), generations: vec![0; STRIPES.into()], hasher: RandomState::new() }
    }

    pub(super) fn get(&self, key: &str) -> Option<V> {
        self.values.get(key).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// To be taken before the value is fetched.
    pub(super) fn ticket(&self, key: &str) -> Ticket {
        let stripe = self.stripe(key);
        Ticket { stripe, generation: self.generations[stripe] }
    }

    /// Stores what was fetched, unless the key was dropped since the ticket was taken. Says whether it did.
    pub(super) fn fill(&mut self, key: &str, ticket: Ticket, value: V) -> bool {
        let current = self.generations[ticket.stripe] == ticket.generation;
        if current {
            self.values.insert(key.to_owned(), value);
        }
        current
    }

    pub(super) fn drop_key(&mut self, key: &str) {
        let stripe = self.stripe(key);
        self.generations[stripe] += 1;
        self.values.remove(key);
    }

    /// Drops what matches a Redis glob. A fill under way may match as well, so all of them are refused.
    pub(super) fn drop_pattern(&mut self, pattern: &str) {
        let glob = Glob::new(pattern);
        self.refuse_fills();
        self.values.retain(|key, _| !glob.matches(key.as_bytes()));
    }

    /// Drops everything.
    pub(super) fn flush(&mut self) {
        self.refuse_fills();
        self.values.clear();
    }

    fn refuse_fills(&mut self) {
        self.generations.iter_mut().for_each(|generation| *generation += 1);
    }

    fn stripe(&self, key: &str) -> usize {
        let remainder = self.hasher.hash_one(key) % u64::from(STRIPES);
        usize::try_from(remainder).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(keys: &[&str]) -> L1<u64> {
        let mut l1 = L1::new();
        for key in keys {
            let ticket = l1.ticket(key);
            assert!(l1.fill(key, ticket, 1));
        }
        l1
    }

    #[test]
    fn a_dropped_key_is_gone_and_others_stay() {
        let mut l1 = filled(&["vkey:a", "vkey:b"]);
        l1.drop_key("vkey:a");
        assert_eq!((l1.get("vkey:a"), l1.get("vkey:b")), (None, Some(1)));
    }

    #[test]
    fn a_fill_that_began_before_a_drop_of_its_key_is_not_stored() {
        let mut l1 = L1::new();
        let ticket = l1.ticket("vkey:a");
        l1.drop_key("vkey:a");
        assert!(!l1.fill("vkey:a", ticket, 1));
        assert_eq!(l1.get("vkey:a"), None);
    }

    #[test]
    fn a_fill_that_began_after_the_drop_is_stored() {
        let mut l1 = L1::new();
        l1.drop_key("vkey:a");
        let ticket = l1.ticket("vkey:a");
        assert!(l1.fill("vkey:a", ticket, 2));
        assert_eq!(l1.get("vkey:a"), Some(2));
    }

    #[test]
    fn a_pattern_drops_what_matches_and_refuses_fills_under_way() {
        let mut l1 = filled(&["vkey:a", "provider:1"]);
        let ticket = l1.ticket("vkey:b");
        l1.drop_pattern("vkey:*");
        assert!(!l1.fill("vkey:b", ticket, 1));
        assert_eq!((l1.get("vkey:a"), l1.get("provider:1")), (None, Some(1)));
    }

    #[test]
    fn a_flush_leaves_nothing_and_refuses_fills_under_way() {
        let mut l1 = filled(&["vkey:a"]);
        let ticket = l1.ticket("vkey:b");
        l1.flush();
        assert!(!l1.fill("vkey:b", ticket, 1));
        assert_eq!(l1.len(), 0);
    }
}
