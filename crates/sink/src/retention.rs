//! How many entries the notice log may keep: `notices.retain`, or what fits into `notices.retain_bytes`, whichever is less.
//!
//! Redis trims a stream by entries, so bytes are turned into entries by the average size of one. The log is measured now and then, by the
//! script that writes to it; until it was, or if measuring is denied, the average is that of our own notices.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What Redis keeps for an entry beside its text, roughly.
const OVERHEAD: u64 = 64;
/// Below this many entries a measurement says more about Redis' preallocation than about the entries.
const ENOUGH: u64 = 1000;
/// The log is measured again whenever we have written this part of what it may hold.
const SHARE: u64 = 16;
/// A notice moves the average by this part of its distance.
const SMOOTHING: u64 = 16;

/// The bound on the log, and what is known of its entries. Shared by all deliveries.
#[derive(Debug)]
pub(crate) struct Retention {
    entries: u64,
    bytes: u64,
    average: AtomicU64,
    unmeasured: AtomicU64,
}

impl Retention {
    pub(crate) fn new(entries: u64, bytes: u64) -> Self {
        Self { entries, bytes, average: AtomicU64::new(0), unmeasured: AtomicU64::new(u64::MAX / 2) }
    }

    /// How many entries may be kept; at least the newest, which carries the number.
    pub(crate) fn bound(&self) -> u64 {
        let fitting = self.bytes.checked_div(self.average.load(Relaxed)).unwrap_or(self.entries);
        fitting.min(self.entries).max(1)
    }

    /// Whether the next script should measure the log. Says so once.
    pub(crate) fn is_due(&self) -> bool {
        let due = self.unmeasured.load(Relaxed) >= self.bytes / SHARE;
        if due {
            self.unmeasured.store(0, Relaxed);
        }
        due
    }

    /// We wrote a notice of this many bytes.
    pub(crate) fn wrote(&self, bytes: u64) {
        let bytes = bytes + OVERHEAD;
        self.unmeasured.fetch_add(bytes, Relaxed);
        let average = match self.average.load(Relaxed) {
            0 => bytes,
            average => (average * (SMOOTHING - 1) + bytes) / SMOOTHING,
        };
        self.average.store(average.max(1), Relaxed);
    }

    /// The log takes this many bytes for this many entries.
    pub(crate) fn measured(&self, (bytes, entries): (u64, u64)) {
        if entries >= ENOUGH {
            self.average.store((bytes / entries).max(1), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_bound_the_entries_as_soon_as_a_size_is_known() {
        let retention = Retention::new(1000, 64_000);
        assert_eq!(retention.bound(), 1000);
        retention.wrote(640 - OVERHEAD);
        assert_eq!(retention.bound(), 100);
    }

    #[test]
    fn the_entries_bound_small_notices_and_one_entry_always_stays() {
        let retention = Retention::new(1000, 64_000);
        retention.wrote(1);
        assert_eq!(retention.bound(), 64_000 / (1 + OVERHEAD));
        let tiny = Retention::new(0, 0);
        tiny.wrote(10);
        assert_eq!(tiny.bound(), 1);
    }

    #[test]
    fn a_measurement_outweighs_our_own_notices_if_the_log_is_long_enough() {
        let retention = Retention::new(100_000, 64_000_000);
        retention.wrote(10_000);
        retention.measured((5_000, 1));
        assert_eq!(retention.bound(), 64_000_000 / (10_000 + OVERHEAD));
        retention.measured((2_000_000, 2_000));
        assert_eq!(retention.bound(), 64_000);
    }

    #[test]
    fn measuring_is_due_at_first_and_after_a_share_was_written() {
        let retention = Retention::new(1000, 160_000);
        assert!(retention.is_due());
        assert!(!retention.is_due());
        retention.wrote(9_000);
        assert!(!retention.is_due());
        retention.wrote(1_000);
        assert!(retention.is_due());
    }
}
