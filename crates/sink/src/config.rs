//! What a sink is made of: names, bounds, connections.

use std::time::Duration;

use unstale_connect::Client;
use unstale_events::{CacheId, Priority};
use unstale_router::Republish;

/// The settings of a [`crate::Sink`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The key of the notice log, which is also the channel that notices are published on.
    pub notices: String,
    /// `notices.publish`: whether notices are published on the channel too.
    pub publish: bool,
    /// `notices.max_keys`: how many keys, or patterns, a notice may name; 1 to 1000.
    pub max_keys: usize,
    /// `notices.retain`: how many entries the log keeps.
    pub retain: u64,
    /// `notices.retain_bytes`: how many bytes the log may take.
    pub retain_bytes: u64,
    /// The name of this instance, for the notices.
    pub origin: String,
    /// `retry.budget`.
    pub budgets: Budgets,
    /// `[[republish]]`: channels of existing subscribers.
    pub republish: Vec<Republish>,
}

/// How long a delivery is tried before its entries are left pending. A second delete has its delay on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// For high, normal and low batches.
    pub normal: Duration,
    /// For critical ones.
    pub critical: Duration,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { normal: Duration::from_secs(10), critical: Duration::from_secs(2) }
    }
}

impl Budgets {
    /// The budget of this lane.
    pub fn of(&self, priority: Priority) -> Duration {
        if priority == Priority::Critical { self.critical } else { self.normal }
    }
}

/// The connections to one server: deletes and scans apart, and critical batches apart from all others, so that no critical delivery stands
/// behind anything but critical deletes.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Deletes, or the scripts that do it, of high, normal and low batches.
    pub ordinary: Client,
    /// The same of critical batches.
    pub critical: Client,
    /// Scans of high, normal and low batches.
    pub scan: Client,
    /// Scans of critical batches.
    pub critical_scan: Client,
}

/// Caches that are not in the database of the notice log.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// Which caches.
    pub caches: Vec<CacheId>,
    /// The connections to where they are.
    pub clients: Clients,
}

impl Clients {
    /// Where the deletes of this lane go.
    pub(crate) fn scripts(&self, priority: Priority) -> &Client {
        if priority == Priority::Critical { &self.critical } else { &self.ordinary }
    }
}
