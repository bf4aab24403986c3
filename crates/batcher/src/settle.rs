//! From what became of the targets to what becomes of the entries.

use unstale_events::{EntryId, Fields, Reason, StreamKind, TargetKind};

use crate::batch::{Batch, BatchEntry, Source};

/// What became of one target of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetState {
    /// Redis confirmed it, and its notice is logged.
    Done,
    /// It was given up for now; its entries stay pending and will be redelivered.
    Failed,
    /// No repetition can mend it.
    Permanent(Reason),
}

/// What becomes of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// All its targets are done.
    Done,
    /// One of its targets failed.
    Failed,
    /// Nothing is left to repeat, but something can't be done, for these reasons.
    Dead(Vec<Reason>),
}

/// An entry for the dead letters, to be acknowledged once it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buried<'a> {
    /// The entry's stream.
    pub stream: StreamKind,
    /// The entry.
    pub id: EntryId,
    /// Why, without repetitions.
    pub reasons: Vec<Reason>,
    /// Its fields, if it carried them; else they must be read again.
    pub fields: Option<&'a Fields>,
}

/// What became of one cache's targets. Counters are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Targets that are done.
    pub processed: u64,
    /// Targets that were given up.
    pub failed: u64,
}

/// What becomes of the entries of a batch. Every entry is in exactly one of the lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settlement<'a> {
    /// To be acknowledged.
    pub done: Vec<(StreamKind, EntryId)>,
    /// To be dead-lettered, then acknowledged.
    pub dead: Vec<Buried<'a>>,
    /// To be left pending.
    pub failed: Vec<(StreamKind, EntryId)>,
    /// The requests among them, to be answered.
    pub requests: Vec<(u64, Verdict)>,
    /// The counts of each cache, by [`unstale_events::CacheId::index`]; `processed + failed` is `queued - coalesced` of [`Batch::counts`].
    pub counts: Vec<Settled>,
}

impl Batch {
    /// Tells what becomes of each entry. `states` stands beside [`Batch::targets`]; a target without a state counts as failed.
    pub fn settle(&self, states: &[TargetState]) -> Settlement<'_> {
        let mut settlement = Settlement { counts: self.settled(states), ..Settlement::default() };
        for entry in &self.entries {
            let verdict = self.verdict(entry, states);
            match (entry.source, verdict) {
                (Source::Request(ticket), verdict) => settlement.requests.push((ticket, verdict)),
                (Source::Entry(stream, id), Verdict::Done) => settlement.done.push((stream, id)),
                (Source::Entry(stream, id), Verdict::Failed) => settlement.failed.push((stream, id)),
                (Source::Entry(stream, id), Verdict::Dead(reasons)) => {
                    let fields = entry.dead.as_ref().map(|dead| &dead.fields);
                    settlement.dead.push(Buried { stream, id, reasons, fields });
                }
            }
        }
        settlement
    }

    /// A failure outweighs a permanent fault: what is redelivered meets the permanent fault again, what is dead-lettered is never repeated.
    fn verdict(&self, entry: &BatchEntry, states: &[TargetState]) -> Verdict {
        let mut reasons = entry.dead.as_ref().map_or_else(Vec::new, |dead| dead.reasons.clone());
        for position in self.wanted_by(entry) {
            match states.get(*position as usize) {
                Some(TargetState::Done) => {}
                Some(TargetState::Permanent(reason)) if reasons.contains(reason) => {}
                Some(TargetState::Permanent(reason)) => reasons.push(reason.clone()),
                Some(TargetState::Failed) | None => return Verdict::Failed,
            }
        }
        if reasons.is_empty() { Verdict::Done } else { Verdict::Dead(reasons) }
    }

    fn settled(&self, states: &[TargetState]) -> Vec<Settled> {
        let mut counts = vec![Settled::default(); self.counts.len()];
        for (position, target) in self.targets.iter().enumerate().filter(|(_, target)| target.kind != TargetKind::Bump) {
            let count = &mut counts[target.cache.index()];
            match states.get(position) {
                Some(TargetState::Done) => count.processed += 1,
                _ => count.failed += 1,
            }
        }
        counts
    }
}
