//! One lane: the batches of one priority, the newest of which may still be open.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use unstale_events::Priority;

use crate::batch::{Batch, Load};
use crate::batcher::Item;
use crate::open::Open;
use crate::seen::Seen;
use crate::settings::Settings;

/// Closed batches in the order in which they were closed, and at most one open batch.
#[derive(Debug)]
pub(crate) struct Lane {
    priority: Priority,
    window: Duration,
    closed: VecDeque<Batch>,
    open: Option<Open>,
    /// The targets of the open batch.
    seen: Seen,
    /// When the last batch left and nothing was behind it.
    emptied: Option<Instant>,
    load: Load,
}

impl Lane {
    pub(crate) fn new(priority: Priority, settings: &Settings) -> Self {
        let window = settings.window_of(priority);
        Self { priority, window, closed: VecDeque::new(), open: None, seen: Seen::default(), emptied: None, load: Load::default() }
    }

    pub(crate) fn load(&self) -> Load {
        self.load
    }

    /// Takes an entry in: into the open batch if it fits, else into a new one.
    pub(crate) fn push(&mut self, item: Item<'_>, settings: &Settings, now: Instant) {
        if self.open.as_ref().is_some_and(|open| !open.fits(item.targets, &self.seen, settings)) {
            self.close(settings, false);
        }
        if self.add(item, settings, now) {
            self.close(settings, false);
        }
    }

    /// Takes an entry in as a batch of its own.
    pub(crate) fn push_alone(&mut self, item: Item<'_>, settings: &Settings, now: Instant, suspect: bool) {
        self.close(settings, false);
        self.add(item, settings, now);
        self.close(settings, suspect);
    }

    /// Takes out the oldest batch that is closed or due.
    pub(crate) fn pop(&mut self, settings: &Settings, now: Instant, draining: bool) -> Option<Batch> {
        if self.closed.is_empty() && self.open.as_ref().is_some_and(|open| draining || open.due <= now) {
            self.close(settings, false);
        }
        let batch = self.closed.pop_front()?;
        self.load -= batch.load;
        if self.is_empty() {
            self.emptied = Some(now);
        }
        Some(batch)
    }

    /// When [`Lane::pop`] will have something; a moment in the past if it has it now.
    pub(crate) fn deadline(&self, draining: bool) -> Option<Instant> {
        let closed = self.closed.front().map(|batch| batch.opened);
        closed.or_else(|| self.open.as_ref().map(|open| if draining { open.opened() } else { open.due }))
    }

    /// Adds to the open batch, and tells whether it is full.
    fn add(&mut self, item: Item<'_>, settings: &Settings, now: Instant) -> bool {
        let due = if self.idle(now) { now } else { now + self.window };
        let open = self.open.get_or_insert_with(|| Open::new(self.priority, now, due));
        self.load += open.add(item, &mut self.seen, settings.coalescing);
        open.is_full(settings)
    }

    fn close(&mut self, settings: &Settings, alone: bool) {
        if let Some(open) = self.open.take() {
            self.closed.push_back(open.close(settings, alone));
            self.seen.clear();
        }
    }

    /// Whether nothing was here for a whole window: the first event after silence doesn't wait.
    fn idle(&self, now: Instant) -> bool {
        self.is_empty() && self.emptied.is_none_or(|at| now.saturating_duration_since(at) >= self.window)
    }

    fn is_empty(&self) -> bool {
        self.closed.is_empty() && self.open.is_none()
    }
}
