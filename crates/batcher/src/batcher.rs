//! The four lanes together.

use std::time::Instant;

use unstale_events::{Priority, Targets};

use crate::batch::{Batch, DeadLetter, Load, Source};
use crate::lane::Lane;
use crate::settings::Settings;

/// What the routes made of one entry or request.
#[derive(Debug)]
pub struct Item<'a> {
    /// Who asks.
    pub source: Source,
    /// Its lane.
    pub priority: Priority,
    /// What it asks for.
    pub targets: &'a Targets,
    /// Set if some of its targets could not be made.
    pub dead: Option<Box<DeadLetter>>,
    /// The event's correlation id.
    pub correlation_id: Option<&'a str>,
    /// The operation's name.
    pub operation: Option<&'a str>,
}

/// Gathers entries into batches. Owns everything between the read and the delivery.
#[derive(Debug)]
pub struct Batcher {
    settings: Settings,
    lanes: [Lane; 4],
    draining: bool,
}

impl Batcher {
    /// Four empty lanes.
    pub fn new(settings: Settings) -> Self {
        let lanes = Priority::ALL.map(|priority| Lane::new(priority, &settings));
        Self { settings, lanes, draining: false }
    }

    /// Takes an entry in. It travels whole, in the lane of its priority.
    pub fn push(&mut self, item: Item<'_>, now: Instant) {
        let lane = &mut self.lanes[item.priority.index()];
        if self.settings.enabled {
            lane.push(item, &self.settings, now);
        } else {
            lane.push_alone(item, &self.settings, now, false);
        }
    }

    /// Takes an entry in that shall travel alone, for it is suspected to kill the process.
    pub fn push_alone(&mut self, item: Item<'_>, now: Instant) {
        self.lanes[item.priority.index()].push_alone(item, &self.settings, now, true);
    }

    /// Takes out the most urgent batch that is due, of the lanes that `allowed` lets through.
    pub fn pop(&mut self, allowed: impl Fn(Priority) -> bool, now: Instant) -> Option<Batch> {
        let Self { settings, lanes, draining } = self;
        Priority::ALL
            .into_iter()
            .filter(|priority| allowed(*priority))
            .find_map(|priority| lanes[priority.index()].pop(settings, now, *draining))
    }

    /// When [`Batcher::pop`] with the same `allowed` will have a batch: a moment in the past if it has one now, `None` if those lanes are empty.
    pub fn deadline(&self, allowed: impl Fn(Priority) -> bool) -> Option<Instant> {
        let lanes = Priority::ALL.into_iter().filter(|priority| allowed(*priority));
        lanes.filter_map(|priority| self.lanes[priority.index()].deadline(self.draining)).min()
    }

    /// From here on everything is due: no window holds anything back.
    pub fn close(&mut self) {
        self.draining = true;
    }

    /// What waits in each lane, by [`Priority::index`].
    pub fn pending(&self) -> [Load; 4] {
        Priority::ALL.map(|priority| self.lanes[priority.index()].load())
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.lanes.iter().all(|lane| lane.load().entries == 0)
    }
}
