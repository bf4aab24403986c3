//! What a cache counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What was counted since the cache was made, in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Stats {
    /// The tier in the process.
    pub local: TierStats,
    /// The tier in Redis, as far as this process used it.
    pub shared: TierStats,
    /// How often the source of the values was asked.
    pub loads: u64,
    /// How often that failed.
    pub load_errors: u64,
    /// Values that were fetched and not stored in Redis: their key had been dropped meanwhile, or another process was faster.
    pub refused: u64,
    /// Values that were fetched anew before they expired.
    pub refreshes: u64,
    /// Commands to Redis that failed; reads went to the source instead.
    pub shared_errors: u64,
    /// How often the whole tier in the process was dropped.
    pub flushes: u64,
}

/// The counts of one tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct TierStats {
    /// Reads that it answered, also with the knowledge that there is nothing.
    pub hits: u64,
    /// Reads that it could not answer.
    pub misses: u64,
    /// Values that were stored.
    pub sets: u64,
    /// Keys and patterns that were dropped, each drop counted.
    pub invalidations: u64,
    /// What it holds. Of Redis, what [`super::TieredCache::health`] last found, for that takes a question to it; `None` before.
    pub size: Option<Size>,
}

/// What a tier holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct Size {
    /// How many values; of Redis, how many keys its database has, whoever they are of.
    pub entries: u64,
    /// How many bytes: in the process if its [`super::Bound`] is in bytes; of Redis, the memory that the server uses for all that is in it, unless the
    /// user may not ask.
    pub bytes: Option<u64>,
}

impl TierStats {
    /// The part of the reads that it answered, 0 to 1; 0 if there were none.
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    pub fn hit_rate(&self) -> f64 {
        let reads = self.hits + self.misses;
        if reads == 0 { 0.0 } else { self.hits as f64 / reads as f64 }
    }
}

/// One thing that is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    LocalHit,
    LocalMiss,
    LocalSet,
    LocalInvalidation,
    SharedHit,
    SharedMiss,
    SharedSet,
    SharedInvalidation,
    Load,
    LoadError,
    Refused,
    Refresh,
    SharedError,
    Flush,
}

const COUNTS: usize = Count::Flush as usize + 1;

#[derive(Default)]
pub(crate) struct Counters([AtomicU64; COUNTS]);

impl Counters {
    pub(crate) fn add(&self, count: Count) {
        self.0[count as usize].fetch_add(1, Ordering::Relaxed);
        #[cfg(feature = "metrics")]
        crate::metrics::count(count);
    }

    pub(crate) fn stats(&self) -> Stats {
        let get = |count: Count| self.0[count as usize].load(Ordering::Relaxed);
        let tier = |[hits, misses, sets, invalidations]: [Count; 4]| TierStats {
            hits: get(hits),
            misses: get(misses),
            sets: get(sets),
            invalidations: get(invalidations),
            size: None,
        };
        Stats {
            local: tier([Count::LocalHit, Count::LocalMiss, Count::LocalSet, Count::LocalInvalidation]),
            shared: tier([Count::SharedHit, Count::SharedMiss, Count::SharedSet, Count::SharedInvalidation]),
            loads: get(Count::Load),
            load_errors: get(Count::LoadError),
            refused: get(Count::Refused),
            refreshes: get(Count::Refresh),
            shared_errors: get(Count::SharedError),
            flushes: get(Count::Flush),
        }
    }
}
