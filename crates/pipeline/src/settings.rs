//! What the loop is made of: settings, and the crates that it drives.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use unstale_connect::{Client, Link};
use unstale_events::StreamKind;
use unstale_notices::Hub;
use unstale_router::Router;
use unstale_sink::Sink;
use unstale_source::{EntryLimit, Letters, Membership, Names, Reader};

use crate::health::Thresholds;

/// What happens to an event whose type no route names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unrouted {
    /// It is counted and acknowledged: others may share the stream.
    #[default]
    Acknowledge,
    /// It goes to the dead letters.
    DeadLetter,
}

/// The settings of the loop.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How batches are formed.
    pub batching: unstale_batcher::Settings,
    /// `limits.entry`: a larger entry is a dead letter.
    pub entry: EntryLimit,
    /// `limits.memory`: past it the loop stops reading; in bytes of what it holds, to within a small factor.
    pub memory: usize,
    /// `bus.unrouted`.
    pub unrouted: Unrouted,
    /// `reclaim.min_idle`: entries that a living instance has had for longer are taken over.
    pub min_idle: Duration,
    /// The same on the critical stream.
    pub critical_min_idle: Duration,
    /// `max_deliveries`: an entry delivered so often, the last times alone, is a dead letter.
    pub max_deliveries: u64,
    /// Whether the ordinary stream is trimmed; the critical one always is.
    pub trim: bool,
    /// `bus.on_loss = "clear"`: whether lost history also deletes all that the caches own.
    pub clear_on_loss: bool,
    /// `drain.deadline`.
    pub drain: Duration,
    /// `health.*`.
    pub health: Thresholds,
}

impl Settings {
    pub(crate) fn min_idle(&self, kind: StreamKind) -> Duration {
        match kind {
            StreamKind::Critical => self.critical_min_idle,
            StreamKind::Ordinary => self.min_idle,
        }
    }
}

/// What the loop drives.
#[derive(Debug)]
pub struct Parts {
    /// The routes.
    pub router: Arc<Router>,
    /// Where batches go.
    pub sink: Arc<Sink>,
    /// Reads the critical stream.
    pub critical: Reader,
    /// Reads the ordinary stream.
    pub ordinary: Reader,
    /// Beats and lease.
    pub membership: Membership,
    /// Writes dead letters.
    pub letters: Letters,
    /// The connection for what a chore asks that no other part does.
    pub control: Client,
    /// The names of the namespace.
    pub names: Names,
    /// What receivers of notices hear, and how far they are. Whoever runs the loop has it follow the log.
    pub hub: Arc<Hub>,
    /// Every connection.
    pub lines: Vec<Line>,
}

/// A connection to be watched.
#[derive(Debug)]
pub struct Line {
    /// The server's name in the configuration.
    pub server: String,
    /// What it is for, unlike that of any other line: one of [`ROLES`], or for a cache's server its name and what it is for.
    pub role: String,
    /// Whether it is up.
    pub link: watch::Receiver<Link>,
}

/// What the connections to the bus are for.
pub const ROLES: [&str; 9] =
    ["read", "read_critical", "deliver", "deliver_critical", "scan", "scan_critical", "control", "notices", "replay"];
