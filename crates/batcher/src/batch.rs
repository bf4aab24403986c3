//! A closed batch: what is delivered together, and for whom.

use std::ops::{AddAssign, SubAssign};
use std::time::Instant;

use unstale_events::{EntryId, Fields, Priority, Reason, StreamKind, TargetKind, Targets};

use crate::labels::Labels;

/// Who asked for targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// An entry of a stream, to be acknowledged.
    Entry(StreamKind, EntryId),
    /// A request that waits for its answer; the caller knows it by this number.
    Request(u64),
}

/// What goes to the dead letters once an entry's good targets are dealt with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why: at least one reason.
    pub reasons: Vec<Reason>,
    /// The entry's fields as they were read.
    pub fields: Fields,
}

impl DeadLetter {
    /// The memory that it takes, in bytes.
    fn bytes(&self) -> usize {
        let fields: usize = self.fields.iter().map(|(name, value)| name.len() + value.len() + size_of_val(&(name, value))).sum();
        let reasons: usize = self.reasons.iter().map(|reason| reason.text.len() + size_of::<Reason>()).sum();
        size_of::<Self>() + fields + reasons
    }
}

/// One entry or request of a batch.
#[derive(Debug, Clone)]
pub struct BatchEntry {
    /// Who asked.
    pub source: Source,
    /// Set if some of its targets could not be made: it goes to the dead letters after the others were carried out.
    pub dead: Option<Box<DeadLetter>>,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl BatchEntry {
    /// The memory that it takes beside its targets, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        size_of::<Self>() + self.dead.as_ref().map_or(0, |dead| dead.bytes())
    }
}

/// How much waits, in a batch or in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Entries and requests.
    pub entries: usize,
    /// Targets as they were queued: keys and patterns, duplicates included.
    pub targets: usize,
    /// The memory that it takes, in bytes, to within a small factor.
    pub bytes: usize,
}

impl AddAssign for Load {
    fn add_assign(&mut self, other: Self) {
        self.entries += other.entries;
        self.targets += other.targets;
        self.bytes += other.bytes;
    }
}

impl SubAssign for Load {
    fn sub_assign(&mut self, other: Self) {
        self.entries -= other.entries;
        self.targets -= other.targets;
        self.bytes -= other.bytes;
    }
}

/// What became of one cache's targets when the batch was formed. Counters are not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Targets that the entries asked for, duplicates included.
    pub queued: u64,
    /// Of these, how many were dropped as duplicates or as deleted by a pattern of the batch anyway. The rest are in [`Batch::targets`].
    pub coalesced: u64,
}

/// What is delivered together. It never grows.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The lane that it came from.
    pub priority: Priority,
    /// Keys, patterns and counters, in the order in which they were first asked for; each once, unless coalescing is off.
    pub targets: Targets,
    /// Who asked for them, in the order in which they came.
    pub entries: Vec<BatchEntry>,
    /// The counts of each cache, by [`unstale_events::CacheId::index`]; caches past its end have none.
    pub counts: Vec<Count>,
    /// Correlation ids of the entries.
    pub correlation_ids: Labels,
    /// Names of the operations that asked.
    pub operations: Labels,
    /// When its first entry was pushed.
    pub opened: Instant,
    /// Whether its only entry asked to travel alone.
    pub alone: bool,
    /// How much it holds.
    pub load: Load,
    /// For each entry, in order, the positions of its targets in `targets`.
    pub(crate) wanted: Vec<u32>,
}

impl Batch {
    /// The positions in [`Batch::targets`] of what this entry of the batch asked for, duplicates included.
    pub fn wanted_by(&self, entry: &BatchEntry) -> &[u32] {
        let first = entry.first as usize;
        &self.wanted[first..first + entry.count as usize]
    }

    /// Whether there is anything to scan for.
    pub fn has_patterns(&self) -> bool {
        self.targets.iter().any(|target| target.kind == TargetKind::Pattern)
    }
}
