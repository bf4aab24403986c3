//! What became of a batch.

use tokio::time::Instant;
use unstale_batcher::TargetState;
use unstale_connect::{Fault, FaultKind};
use unstale_events::{CacheId, Position};

use crate::plan::Part;

/// The part of a delivery in which something went wrong; a closed set, for metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Deleting keys, and writing the notice of it if they are in the database of the log.
    Delete,
    /// Scanning for patterns and deleting what was found.
    Scan,
    /// Incrementing counters.
    Bump,
    /// Writing the notice of what was deleted elsewhere.
    Announce,
    /// Publishing a notice that is already in the log. Holds nothing up.
    Publish,
}

impl Stage {
    /// All stages.
    pub const ALL: [Self; 5] = [Self::Delete, Self::Scan, Self::Bump, Self::Announce, Self::Publish];

    /// The name used in metric labels and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::Scan => "scan",
            Self::Bump => "bump",
            Self::Announce => "announce",
            Self::Publish => "publish",
        }
    }
}

/// Faults of one kind in one stage of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Where.
    pub stage: Stage,
    /// What, as it was met last.
    pub fault: Fault,
    /// How often.
    pub count: u64,
}

/// Keys that are to be deleted once more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Second {
    /// On which site.
    pub(crate) site: Option<usize>,
    /// When: the delay after the first delete was confirmed.
    pub(crate) due: Instant,
    /// After this it is not tried again.
    pub(crate) deadline: Instant,
    /// Their positions in the batch's targets.
    pub(crate) keys: Part,
}

/// What became of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivery {
    /// What became of each target, beside [`unstale_batcher::Batch::targets`]; for [`unstale_batcher::Batch::settle`].
    pub states: Vec<TargetState>,
    /// How many keys Redis said it deleted, by [`CacheId::index`]; second deletes are not counted. A lower bound: the answer to what was
    /// repeated may have been lost. A key that patterns of several batches mean is counted for the first that joined the pass.
    pub deleted: Vec<u64>,
    /// Redis' time in milliseconds since the Unix epoch when the first effect was confirmed: the keys', or the patterns' if there are no
    /// keys. `None` if nothing was.
    pub at_ms: Option<u64>,
    /// How often Redis was asked and waited for. Commands sent together count once.
    pub round_trips: u64,
    /// Notices written to the log.
    pub notices: u64,
    /// The last of them in the log.
    pub last_notice: Option<Position>,
    /// How often something was tried again.
    pub retries: u64,
    /// What went wrong, also if it was mended: one element for each stage and kind.
    pub errors: Vec<Trouble>,
    /// What is to be deleted once more, by its delay.
    pub(crate) seconds: Vec<Second>,
}

impl Delivery {
    pub(crate) fn new(targets: usize, caches: usize) -> Self {
        Self { states: vec![TargetState::Failed; targets], deleted: vec![0; caches], ..Self::default() }
    }

    /// Whether every target is done.
    pub fn is_complete(&self) -> bool {
        self.states.iter().all(|state| *state == TargetState::Done)
    }

    /// Whether something is to be deleted once more, by [`crate::Sink::repeat`]. Until then no entry of the batch may be acknowledged.
    pub fn is_to_be_repeated(&self) -> bool {
        !self.seconds.is_empty()
    }

    /// How many faults were met.
    pub fn error_count(&self) -> u64 {
        self.errors.iter().map(|trouble| trouble.count).sum()
    }

    pub(crate) fn set(&mut self, target: usize, state: TargetState) {
        self.states[target] = state;
    }

    pub(crate) fn is_done(&self, target: usize) -> bool {
        self.states[target] == TargetState::Done
    }

    pub(crate) fn count_deleted(&mut self, cache: CacheId, keys: u64) {
        self.deleted[cache.index()] += keys;
    }

    pub(crate) fn confirmed(&mut self, at_ms: u64) {
        self.at_ms = Some(self.at_ms.map_or(at_ms, |earlier| earlier.max(at_ms)));
    }

    pub(crate) fn announced(&mut self, notice: Option<Position>) {
        self.notices += u64::from(notice.is_some());
        self.last_notice = self.last_notice.max(notice);
    }

    pub(crate) fn trouble(&mut self, stage: Stage, fault: Fault) {
        self.add(Trouble { stage, fault, count: 1 });
    }

    /// Whether a fault of this kind was met in this stage.
    pub fn met(&self, stage: Stage, kind: FaultKind) -> bool {
        self.errors.iter().any(|trouble| trouble.stage == stage && trouble.fault.kind == kind)
    }

    /// Adds what became of these targets, which were dealt with apart from the others.
    pub(crate) fn join(&mut self, targets: impl Iterator<Item = usize>, mut other: Self) {
        targets.for_each(|target| self.states[target] = std::mem::replace(&mut other.states[target], TargetState::Failed));
        self.deleted.iter_mut().zip(&other.deleted).for_each(|(all, some)| *all += some);
        other.at_ms.into_iter().for_each(|at_ms| self.confirmed(at_ms));
        self.seconds.append(&mut other.seconds);
        self.add_costs(other);
    }

    /// Adds the costs and troubles of a second delete, but neither its states nor its deletes nor its time.
    pub(crate) fn add_costs(&mut self, step: Self) {
        self.round_trips += step.round_trips;
        self.notices += step.notices;
        self.last_notice = self.last_notice.max(step.last_notice);
        self.retries += step.retries;
        step.errors.into_iter().for_each(|trouble| self.add(trouble));
    }

    fn add(&mut self, trouble: Trouble) {
        let same = |known: &&mut Trouble| known.stage == trouble.stage && known.fault.kind == trouble.fault.kind;
        match self.errors.iter_mut().find(same) {
            Some(known) => *known = Trouble { count: known.count + trouble.count, ..trouble },
            None => self.errors.push(trouble),
        }
    }
}
