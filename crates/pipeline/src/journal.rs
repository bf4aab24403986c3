//! What the loop writes to the log: one summary a second at most, what begins to be wrong and that it is over; single deliveries, targets and
//! faults only at DEBUG. Never a key, but its fingerprint at DEBUG. The name of an operation is given for the log, and is told at every level.

use std::time::{Duration, Instant};

use tracing::Level;
use unstale_batcher::{Batch, Labels, TargetState};
use unstale_connect::Fault;
use unstale_events::{StreamKind, fingerprint};
use unstale_router::Caches;
use unstale_sink::Delivery;
use unstale_source::Letter;

use crate::stats::{Stats, Tally};
use crate::walk::Whose;
use crate::watch::Complaint;

/// The shortest time between two summaries.
const SUMMARY: Duration = Duration::from_secs(1);

/// How many operations a summary names at most.
const OPERATIONS: usize = 10;

/// One batch came back, and what became of each of its targets.
pub(crate) fn delivered(batch: &Batch, delivery: &Delivery, caches: &Caches) {
    let operations = named(&batch.operations);
    let correlation_ids = named(&batch.correlation_ids);
    tracing::debug!(
        priority = batch.priority.name(),
        targets = batch.targets.len(),
        entries = batch.entries.len(),
        deleted = delivery.deleted.iter().sum::<u64>(),
        failed = failures(delivery),
        operations,
        correlation_ids,
        "delivered a batch"
    );
    if !tracing::enabled!(Level::DEBUG) {
        return;
    }
    for (target, state) in batch.targets.iter().zip(&delivery.states) {
        let (cache, kind, text) = (&*caches.get(target.cache).name, target.kind, fingerprint(target.text));
        match state {
            TargetState::Done => tracing::debug!(cache, ?kind, target = text, operations, "done"),
            TargetState::Failed | TargetState::Permanent(_) => tracing::debug!(cache, ?kind, target = text, operations, "not done"),
        }
    }
}

/// What somebody asked for by name could not be done; `is_pending` if it is tried again.
pub(crate) fn undone(batch: &Batch, delivery: &Delivery, is_pending: bool) {
    if let Some(operations) = named(&batch.operations) {
        let (failed, targets) = (failures(delivery), delivery.states.len());
        let then = if is_pending { "it stays pending and is tried again" } else { "it is not tried again" };
        tracing::warn!(operations, failed, targets, "what these operations asked for is not all done; {then}");
    }
}

/// These names in one text, if there are any.
fn named(labels: &Labels) -> Option<String> {
    (!labels.is_empty()).then(|| labels.iter().collect::<Vec<_>>().join(", "))
}

/// The second deletes of a batch ended.
pub(crate) fn repeated(batch: &Batch, delivery: &Delivery) {
    let (priority, targets) = (batch.priority.name(), batch.targets.len());
    tracing::debug!(priority, targets, failed = failures(delivery), "deleted what was to be deleted once more");
}

/// What of a batch could not be delivered, and why.
pub(crate) fn failed(batch: &Batch, delivery: &Delivery) -> String {
    let (failed, all) = (failures(delivery), delivery.states.len());
    let why = delivery.errors.last().map(|trouble| format!("{}: {}", trouble.stage.name(), trouble.fault));
    let why = why.as_deref().unwrap_or("given up");
    format!("{failed} of {all} targets of a {} batch, {why}", batch.priority.name())
}

fn failures(delivery: &Delivery) -> usize {
    delivery.states.iter().filter(|state| **state == TargetState::Failed).count()
}

/// An entry went to the dead letters.
pub(crate) fn buried(letter: &Letter) {
    let codes: Vec<&str> = letter.reasons.iter().map(|reason| reason.code.name()).collect();
    tracing::warn!(stream = letter.stream, entry = %letter.id, reasons = codes.join(","), "an entry went to the dead letters");
}

/// A walk has ended.
pub(crate) fn walked(kind: StreamKind, whose: Whose, entries: usize) {
    match (whose, entries) {
        (_, 0) => {}
        (Whose::Own, _) => tracing::info!(stream = kind.name(), entries, "took up pending entries of this instance again"),
        (Whose::Others, _) => tracing::info!(stream = kind.name(), entries, "took over pending entries"),
    }
}

/// Something went wrong outside a delivery; if it lasts, it becomes a [`Complaint`] or a connection that is down.
pub(crate) fn trouble(stage: &str, fault: &Fault) {
    tracing::debug!(stage, %fault, "Redis did not do what was asked; it is asked again");
}

/// Something begins to be wrong.
pub(crate) fn complaint(complaint: &Complaint, detail: &str) {
    match complaint {
        Complaint::Right(right) => {
            tracing::warn!(fault = detail, "the Redis user may not do what is needed: grant {right} (see `unstale check --acl`)");
        }
        Complaint::NoStream(key) => {
            tracing::warn!("the key {key} is no stream (wrong_type): rename or delete it; until then nothing can be read from it");
        }
        Complaint::Refusal(_) => tracing::warn!(fault = detail, "Redis can be reached, but doesn't do what is asked; it is asked again"),
        Complaint::Undelivered => tracing::warn!(why = detail, "deliveries fail; what failed stays pending and is tried again"),
    }
}

/// It is over.
pub(crate) fn over(complaint: &Complaint) {
    match complaint {
        Complaint::Right(right) => tracing::info!("the right {right} was not missed any more for a while"),
        Complaint::NoStream(key) => tracing::info!("the key {key} was not found to be something else than a stream any more"),
        Complaint::Refusal(kind) => tracing::info!(kind, "Redis has not refused what is asked in this way any more for a while"),
        Complaint::Undelivered => tracing::info!("nothing is left here of what had failed"),
    }
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
    /// Operations since then, each once.
    operations: Vec<String>,
}

impl Summary {
    /// Keeps the names of a batch's operations for the next summary.
    pub(crate) fn note(&mut self, batch: &Batch) {
        for name in batch.operations.iter() {
            if self.operations.len() < OPERATIONS && !self.operations.iter().any(|known| known == name) {
                self.operations.push(name.to_owned());
            }
        }
    }

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
                operations = (!self.operations.is_empty()).then(|| self.operations.join(", ")),
                "targets"
            );
            self.operations.clear();
            self.at = Some(now);
            self.last = totals;
        }
    }
}
