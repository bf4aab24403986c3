//! The client's metrics, for whatever recorder of the `metrics` facade the application has installed. The only place that names them.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

use crate::cache::Health;
use crate::cache::stats::{Count, Size};

const LOCAL: &str = "local";
const SHARED: &str = "shared";

/// Each count of things, and what it counts.
const COUNTERS: [(&str, &str); 10] = [
    ("unstale_client_hits_total", "Reads that a tier answered, also with the knowledge that there is nothing."),
    ("unstale_client_misses_total", "Reads that a tier could not answer."),
    ("unstale_client_sets_total", "Values that were stored in a tier."),
    ("unstale_client_invalidations_total", "Keys and patterns that were dropped from a tier."),
    ("unstale_client_loads_total", "How often the source of the values was asked."),
    ("unstale_client_load_errors_total", "How often the source of the values failed."),
    (
        "unstale_client_refused_total",
        "Values that were fetched and not stored in Redis, for their key was dropped meanwhile or another process was faster.",
    ),
    ("unstale_client_refreshes_total", "Values that were fetched anew before they expired."),
    ("unstale_client_shared_errors_total", "Commands to Redis that failed."),
    ("unstale_client_flushes_total", "How often the whole tier in the process was dropped."),
];

/// Tells the recorder what the metrics mean.
pub(crate) fn describe() {
    for (name, help) in COUNTERS {
        describe_counter!(name, help);
    }
    describe_gauge!("unstale_client_up", "Whether a tier can be used: Redis answers, the process hears what is dropped.");
    describe_gauge!("unstale_client_entries", "Values in the process; keys in the database of Redis.");
    describe_gauge!("unstale_client_bytes", Unit::Bytes, "What they take; of Redis, the memory of the server.");
}

/// Counts one thing.
pub(crate) fn count(count: Count) {
    match count {
        Count::LocalHit => counter!("unstale_client_hits_total", "tier" => LOCAL),
        Count::SharedHit => counter!("unstale_client_hits_total", "tier" => SHARED),
        Count::LocalMiss => counter!("unstale_client_misses_total", "tier" => LOCAL),
        Count::SharedMiss => counter!("unstale_client_misses_total", "tier" => SHARED),
        Count::LocalSet => counter!("unstale_client_sets_total", "tier" => LOCAL),
        Count::SharedSet => counter!("unstale_client_sets_total", "tier" => SHARED),
        Count::LocalInvalidation => counter!("unstale_client_invalidations_total", "tier" => LOCAL),
        Count::SharedInvalidation => counter!("unstale_client_invalidations_total", "tier" => SHARED),
        Count::Load => counter!("unstale_client_loads_total"),
        Count::LoadError => counter!("unstale_client_load_errors_total"),
        Count::Refused => counter!("unstale_client_refused_total"),
        Count::Refresh => counter!("unstale_client_refreshes_total"),
        Count::SharedError => counter!("unstale_client_shared_errors_total"),
        Count::Flush => counter!("unstale_client_flushes_total"),
    }
    .increment(1);
}

/// Sets the levels to what was found.
pub(crate) fn health(health: &Health) {
    level(LOCAL, health.local.is_ok(), Some(health.local.size));
    if let Some(shared) = &health.shared {
        level(SHARED, shared.is_ok(), shared.size);
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating")]
fn level(tier: &'static str, is_ok: bool, size: Option<Size>) {
    gauge!("unstale_client_up", "tier" => tier).set(f64::from(u8::from(is_ok)));
    if let Some(size) = size {
        gauge!("unstale_client_entries", "tier" => tier).set(size.entries as f64);
    }
    if let Some(bytes) = size.and_then(|size| size.bytes) {
        gauge!("unstale_client_bytes", "tier" => tier).set(bytes as f64);
    }
}
