//! The tier in the process: values ready to use, in a bounded cache (moka), and the rule by which a dropped value never comes back.
//!
//! A reader who fetches a value while its key is dropped holds an old one. Storing it would put back what was just dropped, for its whole lifetime.
//! So drops are counted: a reader takes a [`Ticket`] before he fetches, and what he fetched is stored only if the count is still the same.
//! Counts are kept for stripes of keys rather than for each: then a drop of one key may refuse the fill of another, which costs a fetch.
//!
//! Comparing and storing are one step, under the lock of the stripe, and so are counting and dropping; else a drop could fall between them.
//! Reads take no lock. There is no I/O here, and nothing of Redis.

use std::any::Any;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use moka::sync::Cache;
use tokio::time::Instant;
use unstale_events::Glob;

use super::stats::Size;

/// How many counts there are. With 10,000 drops a second and fetches of 10 ms, one fill in forty is refused for another key's sake.
const STRIPES: usize = 4096;

/// What an entry takes beside key and value, roughly, in bytes: for a bound in bytes.
const OVERHEAD: usize = 200;

/// A value of any type, or the knowledge that there is none.
pub(crate) type Held = Option<Arc<dyn Any + Send + Sync>>;

/// What is kept of a key.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) value: Held,
    /// How many bytes it takes, encoded.
    pub(crate) size: usize,
    pub(crate) expires: Instant,
    /// From then on somebody should fetch it anew.
    pub(crate) refresh: Option<Instant>,
}

/// How often a key, and everything, had been dropped at the moment when it was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    stripe: usize,
    drops: u64,
    flushes: u64,
}

/// How large the tier may grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many entries.
    Entries(u64),
    /// So many bytes: keys, encoded values, and 200 for each entry. A cache without a shared tier doesn't encode, and counts values as they lie in
    /// memory, without what they point to.
    Bytes(u64),
}

pub(crate) struct Local {
    /// Each with the count of flushes when its fetch began: one of before a flush is there no more, whenever it was stored.
    entries: Cache<Arc<str>, (u64, Entry), RandomState>,
    /// Whether the bound is in bytes.
    in_bytes: bool,
    stripes: Box<[Mutex<u64>]>,
    flushes: AtomicU64,
    hasher: RandomState,
}

impl Local {
    /// Nothing lives longer than `life`.
    pub(crate) fn new(bound: Bound, life: Duration) -> Self {
        let entries = Cache::builder().time_to_live(life);
        let entries = match bound {
            Bound::Entries(most) => entries.max_capacity(most),
            Bound::Bytes(most) => entries.max_capacity(most).weigher(|key: &Arc<str>, (_, entry): &(u64, Entry)| weight(key, entry)),
        };
        let stripes = (0..STRIPES).map(|_| Mutex::default()).collect();
        Self {
            entries: entries.build_with_hasher(RandomState::default()),
            in_bytes: matches!(bound, Bound::Bytes(_)),
            stripes,
            flushes: AtomicU64::new(0),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn get(&self, key: &str, now: Instant) -> Option<Entry> {
        let (flushes, entry) = self.entries.get(key)?;
        (entry.expires > now && flushes == self.flushes.load(Ordering::SeqCst)).then_some(entry)
    }

    /// To be taken before the value is fetched.
    pub(crate) fn ticket(&self, key: &str) -> Ticket {
        let stripe = self.stripe(key);
        Ticket { stripe, drops: *lock(&self.stripes[stripe]), flushes: self.flushes.load(Ordering::SeqCst) }
    }

    /// Stores what was fetched, unless the key was dropped since the ticket was taken. Says whether it did.
    pub(crate) fn fill(&self, key: &str, ticket: Ticket, entry: Entry) -> bool {
        let drops = lock(&self.stripes[ticket.stripe]);
        let current = *drops == ticket.drops && ticket.flushes == self.flushes.load(Ordering::SeqCst);
        if current {
            self.entries.insert(key.into(), (ticket.flushes, entry));
        }
        current
    }

    /// Puts a value in the place of whatever stands there, unless the key was dropped since the ticket was taken; then nothing stands there. Either way
    /// fills under way are refused: what they fetched may be older. Says whether the value stands there.
    pub(crate) fn replace(&self, key: &str, ticket: Ticket, entry: Entry) -> bool {
        let mut drops = lock(&self.stripes[ticket.stripe]);
        let current = *drops == ticket.drops && ticket.flushes == self.flushes.load(Ordering::SeqCst);
        *drops += 1;
        if current {
            self.entries.insert(key.into(), (ticket.flushes, entry));
        } else {
            self.entries.invalidate(key);
        }
        current
    }

    pub(crate) fn drop_key(&self, key: &str) {
        let mut drops = lock(&self.stripes[self.stripe(key)]);
        *drops += 1;
        self.entries.invalidate(key);
    }

    /// Drops what matches a Redis glob; every fill under way might match as well, and is refused.
    pub(crate) fn drop_pattern(&self, pattern: &str) {
        let glob = Glob::new(pattern);
        // After this no ticket of before is good any more, and what such a ticket stored is there to be dropped.
        self.stripes.iter().for_each(|stripe| *lock(stripe) += 1);
        for (key, _) in &self.entries {
            if glob.matches(key.as_bytes()) {
                self.entries.invalidate(&**key);
            }
        }
    }

    /// Drops everything.
    pub(crate) fn flush(&self) {
        self.flushes.fetch_add(1, Ordering::SeqCst);
        self.entries.invalidate_all();
    }

    pub(crate) fn size(&self) -> Size {
        self.entries.run_pending_tasks();
        Size { entries: self.entries.entry_count(), bytes: self.in_bytes.then(|| self.entries.weighted_size()) }
    }

    fn stripe(&self, key: &str) -> usize {
        usize::try_from(self.hasher.hash_one(key) % STRIPES as u64).unwrap_or_default()
    }
}

fn weight(key: &str, entry: &Entry) -> u32 {
    u32::try_from(key.len() + entry.size + OVERHEAD).unwrap_or(u32::MAX)
}

fn lock(stripe: &Mutex<u64>) -> std::sync::MutexGuard<'_, u64> {
    stripe.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn local() -> Local {
        Local::new(Bound::Entries(1000), LONG)
    }

    fn entry(value: u64) -> Entry {
        Entry { value: Some(Arc::new(value)), size: 8, expires: Instant::now() + LONG, refresh: None }
    }

    fn value(local: &Local, key: &str) -> Option<u64> {
        let value = local.get(key, Instant::now())?.value?;
        value.downcast_ref().copied()
    }

    #[test]
    fn an_expired_entry_is_none() {
        let local = local();
        local.fill("a", local.ticket("a"), entry(1));
        assert_eq!(value(&local, "a"), Some(1));
        assert!(local.get("a", Instant::now() + LONG).is_none());
    }

    #[test]
    fn what_is_stored_just_after_a_flush_by_a_fetch_of_before_is_not_served() {
        let local = local();
        let ticket = local.ticket("a");
        local.flush();
        // As if the flush had come between comparing and storing.
        local.entries.insert("a".into(), (ticket.flushes, entry(1)));
        assert_eq!(value(&local, "a"), None);
    }

    #[test]
    fn a_bound_in_bytes_is_kept() {
        let local = Local::new(Bound::Bytes(100_000), LONG);
        for key in 0..1000 {
            let key = key.to_string();
            local.fill(&key, local.ticket(&key), Entry { size: 10_000, ..entry(1) });
        }
        let size = local.size();
        assert!(size.bytes.is_some_and(|bytes| bytes <= 100_000) && size.entries <= 10, "{size:?}");
    }

    /// What may happen to a cache of a few keys, with fetches that take their time.
    #[derive(Debug, Clone)]
    enum Step {
        /// The source changes; the drop comes later.
        Commit(u8),
        Drop(u8),
        Pattern(u8),
        Flush,
        /// A reader takes his ticket and reads the source.
        Begin(u8),
        /// The oldest reader under way stores what he read.
        Fill,
        /// A writer takes his ticket, changes the source and stores that.
        Replace(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let key = 0_u8..3;
        let step = prop_oneof![
            2 => key.clone().prop_map(Step::Commit),
            2 => key.clone().prop_map(Step::Drop),
            1 => key.clone().prop_map(Step::Pattern),
            1 => Just(Step::Flush),
            4 => key.clone().prop_map(Step::Begin),
            4 => Just(Step::Fill),
            1 => key.prop_map(Step::Replace),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// Whatever is served was read from the source after the last drop of its key.
        #[test]
        fn nothing_is_served_that_was_read_before_a_drop(steps in steps()) {
            let local = local();
            let mut source = BTreeMap::<u8, u64>::new();
            // What the source was at the last drop: nothing older may be served.
            let mut floor = BTreeMap::<u8, u64>::new();
            let mut readers = std::collections::VecDeque::new();
            for step in steps {
                match step {
                    Step::Commit(key) => *source.entry(key).or_default() += 1,
                    Step::Drop(key) => {
                        floor.insert(key, source.get(&key).copied().unwrap_or_default());
                        local.drop_key(&key.to_string());
                    }
                    Step::Pattern(key) => {
                        floor.insert(key, source.get(&key).copied().unwrap_or_default());
                        local.drop_pattern(&format!("[{key}]*"));
                    }
                    Step::Flush => {
                        floor.clone_from(&source);
                        local.flush();
                    }
                    Step::Begin(key) => {
                        readers.push_back((key, local.ticket(&key.to_string()), source.get(&key).copied().unwrap_or_default()));
                    }
                    Step::Fill => {
                        if let Some((key, ticket, read)) = readers.pop_front() {
                            local.fill(&key.to_string(), ticket, entry(read));
                        }
                    }
                    Step::Replace(key) => {
                        let ticket = local.ticket(&key.to_string());
                        let version = source.entry(key).or_default();
                        *version += 1;
                        floor.insert(key, *version);
                        prop_assert!(local.replace(&key.to_string(), ticket, entry(*version)));
                    }
                }
                for key in 0..3 {
                    if let Some(served) = value(&local, &key.to_string()) {
                        prop_assert!(served >= floor.get(&key).copied().unwrap_or_default(), "key {}: {} served", key, served);
                    }
                }
            }
        }
    }

    /// The same with real threads: fillers who read an old version and droppers who raise it.
    #[test]
    fn threads_never_bring_a_dropped_value_back() {
        let (local, source) = (local(), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let ticket = local.ticket("k");
                        let read = source.load(Ordering::SeqCst);
                        local.fill("k", ticket, entry(read));
                    }
                });
            }
            for turn in 0..20_000 {
                let version = source.fetch_add(1, Ordering::SeqCst) + 1;
                match turn % 3 {
                    0 => local.drop_key("k"),
                    1 => local.drop_pattern("k*"),
                    _ => local.flush(),
                }
                let served = value(&local, "k");
                assert!(served.is_none_or(|served| served >= version), "{served:?} served at version {version}");
            }
        });
    }
}
