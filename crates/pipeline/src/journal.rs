//! What the loop writes to the log: one summary a second at most, failures as they come, single deliveries only at DEBUG. Never a key.

use std::time::{Duration, Instant};

use unstale_batcher::Batch;
use unstale_connect::Fault;
use unstale_events::StreamKind;
use unstale_sink::Delivery;
use unstale_source::{Claimed, Letter};

use crate::stats::{Stats, Tally};

/// The shortest time between two summaries.
const SUMMARY: Duration = Duration::from_secs(1);

/// One batch came back.
pub(crate) fn delivered(batch: &Batch, delivery: &Delivery) {
    let operations: Vec<&str> = batch.operations.iter().collect();
    let correlation_ids: Vec<&str> = batch.correlation_ids.iter().collect();
    let deleted: u64 = delivery.deleted.iter().sum();
    if delivery.is_complete() {
        tracing::debug!(
            priority = batch.priority.name(),
            targets = batch.targets.len(),
            entries = batch.entries.len(),
            deleted,
            ?operations,
            ?correlation_ids,
            "delivered a batch"
        );
        return;
    }
    let done = delivery.states.iter().filter(|state| **state == unstale_batcher::TargetState::Done).count();
    let why = delivery.errors.last().map(|trouble| format!("{} failed: {}", trouble.stage.name(), trouble.fault));
    tracing::warn!(
        priority = batch.priority.name(),
        targets = batch.targets.len(),
        done,
        deleted,
        ?operations,
        ?correlation_ids,
        why = why.as_deref().unwrap_or("given up"),
        "a batch was not delivered whole; what failed stays pending and is tried again"
    );
}

/// The second deletes of a batch ended.
pub(crate) fn repeated(batch: &Batch, delivery: &Delivery) {
    if let Some(trouble) = delivery.errors.last().filter(|_| !delivery.is_complete()) {
        tracing::warn!(
            priority = batch.priority.name(),
            targets = batch.targets.len(),
            why = %trouble.fault,
            "a batch was delivered, but not all of it deleted once more; its entries stay pending and are tried again"
        );
    }
}

/// An entry went to the dead letters.
pub(crate) fn buried(letter: &Letter) {
    let codes: Vec<&str> = letter.reasons.iter().map(|reason| reason.code.name()).collect();
    tracing::warn!(stream = letter.stream, entry = %letter.id, reasons = codes.join(","), "an entry went to the dead letters");
}

/// Entries were taken over. Those that travel alone come one by one, and may be many.
pub(crate) fn claimed(kind: StreamKind, claimed: &Claimed, alone: bool) {
    let entries = claimed.entries.len() + claimed.heavy.len();
    if alone {
        tracing::debug!(stream = kind.name(), entries, "took over a suspect, to be delivered alone");
    } else if entries > 0 {
        tracing::info!(stream = kind.name(), entries, "took over pending entries");
    }
}

/// Something went wrong outside a delivery.
pub(crate) fn trouble(stage: &str, fault: &Fault) {
    tracing::warn!(stage, %fault, "Redis did not do what was asked; it is asked again");
}

/// Where a stream should be there is something else.
pub(crate) fn no_stream(key: &str, fault: &Fault) {
    tracing::warn!(%fault, "the key {key} is no stream: rename or delete it; until then nothing can be read from it");
}

/// Nobody read the ordinary stream, nor could have.
pub(crate) fn stray_lease(key: &str) {
    tracing::warn!("the lease {key} belonged to nobody who lives and would not have run out: somebody set it by hand; it was removed");
}

/// Remembers what the last summary said.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    last: Tally,
    at: Option<Instant>,
}

impl Summary {
    /// Says what was done since the last summary, if anything was.
    pub(crate) fn write(&mut self, stats: &Stats, now: Instant) {
        if self.at.is_some_and(|at| now.saturating_duration_since(at) < SUMMARY) {
            return;
        }
        let totals = stats.totals();
        if totals.queued != self.last.queued || totals.processed != self.last.processed || totals.failed != self.last.failed {
            tracing::info!(
                queued = totals.queued - self.last.queued,
                processed = totals.processed - self.last.processed,
                coalesced = totals.coalesced - self.last.coalesced,
                failed = totals.failed - self.last.failed,
                keys_deleted = totals.keys_deleted - self.last.keys_deleted,
                pending = totals.pending(),
                "targets"
            );
            self.at = Some(now);
            self.last = totals;
        }
    }
}
