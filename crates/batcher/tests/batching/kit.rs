//! What the tests share: short ways to write targets and items, and a clock that only moves when told to.

use std::time::{Duration, Instant};

use unstale_batcher::{Batch, Batcher, Item, Source};
use unstale_events::{CacheId, EntryId, Priority, StreamKind, Target, TargetKind, Targets};

/// A list of targets of cache 0: `key`, `*pattern*` if it has a star, `+counter`.
pub(crate) fn targets(texts: &[&str]) -> Targets {
    targets_of(CacheId(0), texts)
}

pub(crate) fn targets_of(cache: CacheId, texts: &[&str]) -> Targets {
    let mut list = Targets::default();
    for text in texts {
        let kind = if text.contains('*') { TargetKind::Pattern } else { TargetKind::Key };
        match text.strip_prefix('+') {
            Some(text) => list.push(Target { cache, kind: TargetKind::Bump, text }),
            None => list.push(Target { cache, kind, text }),
        }
    }
    list
}

pub(crate) fn id(seq: u64) -> EntryId {
    EntryId { ms: 0, seq }
}

pub(crate) fn entry(seq: u64) -> Source {
    Source::Entry(StreamKind::Ordinary, id(seq))
}

pub(crate) fn item(seq: u64, priority: Priority, targets: &Targets) -> Item<'_> {
    Item { source: entry(seq), priority, targets, dead: None, correlation_id: None, operation: None }
}

pub(crate) fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// Whatever is due now, of all lanes.
pub(crate) fn pop_all(batcher: &mut Batcher, now: Instant) -> Vec<Batch> {
    std::iter::from_fn(|| batcher.pop(|_| true, now)).collect()
}

/// The texts of a batch's targets.
pub(crate) fn texts(batch: &Batch) -> Vec<&str> {
    batch.targets.iter().map(|target| target.text).collect()
}

/// The numbers of a batch's entries.
pub(crate) fn seqs(batch: &Batch) -> Vec<u64> {
    let seq = |source| match source {
        Source::Entry(_, id) => id.seq,
        Source::Request(ticket) => ticket,
    };
    batch.entries.iter().map(|entry| seq(entry.source)).collect()
}

/// A batcher, its clock, and the numbers of its entries.
pub(crate) struct Bench {
    pub(crate) batcher: Batcher,
    pub(crate) now: Instant,
    next: u64,
}

impl Bench {
    pub(crate) fn new(settings: unstale_batcher::Settings) -> Self {
        Self { batcher: Batcher::new(settings), now: Instant::now(), next: 0 }
    }

    /// As [`Bench::new`], with every lane just emptied: nothing is at the leading edge.
    pub(crate) fn busy(settings: unstale_batcher::Settings) -> Self {
        let mut bench = Self::new(settings);
        for priority in Priority::ALL {
            bench.push(priority, &["first"]);
        }
        assert_eq!(bench.pop().len(), 4);
        bench.next = 0;
        bench
    }

    pub(crate) fn push(&mut self, priority: Priority, texts: &[&str]) -> u64 {
        self.push_targets(priority, &targets(texts))
    }

    pub(crate) fn push_targets(&mut self, priority: Priority, targets: &Targets) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.batcher.push(item(seq, priority, targets), self.now);
        seq
    }

    pub(crate) fn pop(&mut self) -> Vec<Batch> {
        pop_all(&mut self.batcher, self.now)
    }

    pub(crate) fn wait(&mut self, milliseconds: u64) {
        self.now += ms(milliseconds);
    }
}
