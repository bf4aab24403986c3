//! What a prober finds out: how long a canary takes from the stream to where it has its effect.

use std::time::Duration;

/// Up to which effect it was timed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Its key is gone from Redis.
    Deleted,
    /// Every instance has told its receivers.
    Everywhere,
}

impl Until {
    /// Both, in their order.
    pub const ALL: [Self; 2] = [Self::Deleted, Self::Everywhere];

    /// The name in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Everywhere => "everywhere",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It came about after so long.
    After(Duration),
    /// It didn't within `probe.timeout`.
    Lost,
    /// Redis couldn't be asked, so it isn't known.
    Unknown,
}

impl Finding {
    /// The values of the label `outcome`, by [`Finding::index`].
    pub(crate) const OUTCOMES: [&str; 3] = ["ok", "lost", "unknown"];

    pub(crate) fn index(self) -> usize {
        match self {
            Self::After(_) => 0,
            Self::Lost => 1,
            Self::Unknown => 2,
        }
    }
}
