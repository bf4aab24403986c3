//! The client's metrics, for whatever recorder of the `metrics` facade the application has installed. The only place that names them.

use metrics::counter;

use crate::cache::stats::Count;

const LOCAL: &str = "local";
const SHARED: &str = "shared";

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
