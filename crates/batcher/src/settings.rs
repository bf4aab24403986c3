//! How batches are formed, as the configuration's `batching` section says it.

use std::time::Duration;

use unstale_events::{CacheId, Priority};

/// The settings of a [`crate::Batcher`].
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether events are gathered at all; if not, each is a batch of its own, due at once.
    pub enabled: bool,
    /// How long a batch of the normal lane stays open for more.
    pub window: Duration,
    /// Windows that were set for single lanes, by [`Priority::index`]. Critical has no window: its place is ignored.
    pub windows: [Option<Duration>; 4],
    /// How many targets (keys and patterns) a batch holds; also a tenth of the entries that it holds. 0 counts as 1.
    pub max_size: usize,
    /// Whether duplicates of a target in a batch are dropped, and keys that a pattern of the batch deletes anyway.
    pub coalescing: bool,
    /// Caches whose keys stay targets of their own even if a pattern of the batch matches them: a second delete repeats keys, not patterns.
    pub unfolded: Vec<CacheId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Duration::from_millis(100),
            windows: [None; 4],
            max_size: 100,
            coalescing: true,
            unfolded: Vec::new(),
        }
    }
}

impl Settings {
    /// The longest window; a longer one is cut to it, so that no sum of times overflows.
    pub const MAX_WINDOW: Duration = Duration::from_secs(24 * 60 * 60);

    /// How long a batch of this lane stays open for more: none for critical, a quarter of the window for high, ten windows for low.
    pub fn window_of(&self, priority: Priority) -> Duration {
        let derived = match priority {
            Priority::Critical => return Duration::ZERO,
            Priority::High => self.window / 4,
            Priority::Normal => self.window,
            Priority::Low => self.window.saturating_mul(10),
        };
        self.windows[priority.index()].unwrap_or(derived).min(Self::MAX_WINDOW)
    }

    /// How many targets a batch holds.
    pub(crate) fn max_targets(&self) -> usize {
        self.max_size.max(1)
    }

    /// How many entries a batch holds, however few targets they have between them.
    pub(crate) fn max_entries(&self) -> usize {
        self.max_targets().saturating_mul(10)
    }
}
