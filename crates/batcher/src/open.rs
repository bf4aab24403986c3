//! A batch that still takes entries, and how it is closed.

use std::time::Instant;

use unstale_events::{Priority, Target, TargetKind, Targets};

use crate::batch::{Batch, BatchEntry, Count, Load};
use crate::batcher::Item;
use crate::fold::fold;
use crate::labels::Labels;
use crate::seen::{Seen, append};
use crate::settings::Settings;

/// A batch in the making.
#[derive(Debug)]
pub(crate) struct Open {
    batch: Batch,
    /// Keys and patterns in it, each counted once.
    size: usize,
    /// When it is to be closed.
    pub(crate) due: Instant,
}

impl Open {
    pub(crate) fn new(priority: Priority, now: Instant, due: Instant) -> Self {
        let batch = Batch {
            priority,
            targets: Targets::default(),
            entries: Vec::new(),
            counts: Vec::new(),
            correlation_ids: Labels::default(),
            operations: Labels::default(),
            opened: now,
            alone: false,
            load: Load::default(),
            wanted: Vec::new(),
        };
        Self { batch, size: 0, due }
    }

    /// When its first entry came.
    pub(crate) fn opened(&self) -> Instant {
        self.batch.opened
    }

    /// Whether these targets can join without making the batch too big. A duplicate within them may count twice: that only closes it early.
    pub(crate) fn fits(&self, targets: &Targets, seen: &Seen, settings: &Settings) -> bool {
        let free = settings.max_targets().saturating_sub(self.size);
        let joins = |target: &Target<'_>| target.kind != TargetKind::Bump && !seen.has(*target, &self.batch.targets);
        targets.len() <= free || targets.iter().filter(joins).count() <= free
    }

    /// Whether nothing more can join.
    pub(crate) fn is_full(&self, settings: &Settings) -> bool {
        self.size >= settings.max_targets() || self.batch.entries.len() >= settings.max_entries()
    }

    /// Takes an entry in, and tells by how much the batch grew.
    pub(crate) fn add(&mut self, item: Item<'_>, seen: &mut Seen, coalescing: bool) -> Load {
        let first = self.batch.wanted.len();
        let before = self.batch.payload_bytes();
        let queued = item.targets.iter().filter(|target| target.kind != TargetKind::Bump).count();
        for target in item.targets.iter() {
            self.want(target, seen, coalescing);
        }
        item.correlation_id.into_iter().for_each(|id| self.batch.correlation_ids.add(id));
        item.operation.into_iter().for_each(|name| self.batch.operations.add(name));
        let entry = BatchEntry { source: item.source, dead: item.dead, first: index(first), count: index(item.targets.len()) };
        let bytes = entry.bytes() + self.batch.payload_bytes() - before;
        self.batch.entries.push(entry);
        let load = Load { entries: 1, targets: queued, bytes };
        self.batch.load += load;
        load
    }

    /// Counters are deduplicated even without coalescing: they are incremented once a batch.
    fn want(&mut self, target: Target<'_>, seen: &mut Seen, coalescing: bool) {
        let list = &mut self.batch.targets;
        let before = list.len();
        let position = if coalescing || target.kind == TargetKind::Bump { seen.place(target, list) } else { append(target, list) };
        self.batch.wanted.push(position);
        if target.kind != TargetKind::Bump {
            self.size += list.len() - before;
        }
    }

    /// Closes it: from here on nothing joins.
    pub(crate) fn close(self, settings: &Settings, alone: bool) -> Batch {
        let mut batch = self.batch;
        batch.alone = alone;
        if settings.coalescing && batch.priority != Priority::Critical {
            fold(&mut batch, &settings.unfolded);
        }
        batch.counts = counts(&batch);
        batch
    }
}

impl Batch {
    /// The memory of everything but the entries, in bytes.
    fn payload_bytes(&self) -> usize {
        let targets = self.targets.text_bytes() + self.targets.len() * size_of::<Target<'_>>();
        targets + self.wanted.len() * size_of::<u32>() + self.correlation_ids.bytes() + self.operations.bytes()
    }
}

/// Queued is what was asked for; coalesced is what of it has no place of its own in the list.
fn counts(batch: &Batch) -> Vec<Count> {
    let counted = |target: &Target<'_>| target.kind != TargetKind::Bump;
    let caches = batch.targets.iter().filter(counted).map(|target| target.cache.index() + 1).max().unwrap_or(0);
    let mut counts = vec![Count::default(); caches];
    for target in batch.wanted.iter().filter_map(|position| batch.targets.get(*position as usize)).filter(counted) {
        counts[target.cache.index()].queued += 1;
        counts[target.cache.index()].coalesced += 1;
    }
    for target in batch.targets.iter().filter(counted) {
        counts[target.cache.index()].coalesced -= 1;
    }
    counts
}

fn index(number: usize) -> u32 {
    u32::try_from(number).expect("limits.targets and max_size keep a batch far below 2^32 targets")
}
