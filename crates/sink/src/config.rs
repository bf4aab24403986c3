//! What a sink is made of: names, bounds, connections.

use std::time::Duration;

use unstale_connect::{Client, Store};
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

/// Two of the same: critical batches have their own, so that no critical delivery stands behind anything but critical deletes.
#[derive(Debug, Clone)]
pub struct Lanes<T> {
    /// For high, normal and low batches.
    pub ordinary: T,
    /// For critical ones.
    pub critical: T,
}

/// The connections to the notice log, and to the caches in its database.
#[derive(Debug, Clone)]
pub struct Clients {
    /// What the scripts go over.
    pub scripts: Lanes<Client>,
    /// What scans go over; `None` if no cache is there.
    pub scans: Option<Lanes<Store>>,
}

/// Caches that are not in the database of the notice log.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// The name of their server in the configuration.
    pub server: String,
    /// Which caches.
    pub caches: Vec<CacheId>,
    /// What deletes and counters go over.
    pub deletes: Lanes<Store>,
    /// What scans go over.
    pub scans: Lanes<Store>,
    /// How much of the notice log is repeated when the server has failed over; nothing if it is zero.
    pub failover_replay: Duration,
}

impl<T> Lanes<T> {
    /// That of this lane.
    pub(crate) fn of(&self, priority: Priority) -> &T {
        if priority == Priority::Critical { &self.critical } else { &self.ordinary }
    }

    pub(crate) fn map<U>(self, make: impl Fn(T) -> U) -> Lanes<U> {
        Lanes { ordinary: make(self.ordinary), critical: make(self.critical) }
    }
}
