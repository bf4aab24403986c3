//! What all actors of a run share.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::calendar::Calendar;
use crate::client::{Client, Route};
use crate::oracle::Oracle;

/// How long the application waits for an answer of Redis.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Counts for the report.
#[derive(Debug, Default)]
pub struct Counts {
    /// Events that Redis confirmed.
    pub events: AtomicU64,
    /// How often an event was added again because its confirmation didn't come.
    pub published_again: AtomicU64,
    /// Values read by instances, and compared by auditors.
    pub reads: AtomicU64,
    /// Values compared by auditors.
    pub audited: AtomicU64,
    /// Values stored in Redis.
    pub fills: AtomicU64,
    /// Notices of the log.
    pub notices: AtomicU64,
    /// Flushes that the log asks for.
    pub flushes: AtomicU64,
    /// How often an instance found notices missing on the channel, and took them from the log.
    pub gaps: AtomicU64,
    /// Notices that an instance heard twice.
    pub repeated: AtomicU64,
    /// How often an instance dropped everything because the log had lost its position.
    pub starts_over: AtomicU64,
    /// How often the log's history was another than before.
    pub histories: AtomicU64,
}

/// Shared by all actors.
pub struct World {
    /// Who knows the truth.
    pub oracle: Oracle,
    /// Which faults were on.
    pub calendar: Arc<Calendar>,
    /// Where the servers are.
    pub route: Arc<dyn Route>,
    /// Counts.
    pub counts: Counts,
    /// Marks of the confirmed entries that can't be carried out.
    pub poison: Mutex<BTreeSet<String>>,
    seed: u64,
    publishing: AtomicBool,
    over: AtomicBool,
}

impl World {
    /// Before anything has happened.
    pub fn new(route: Arc<dyn Route>, patience: Duration, seed: u64) -> Arc<Self> {
        let calendar = Arc::<Calendar>::default();
        Arc::new(Self {
            oracle: Oracle::new(Arc::clone(&calendar), patience),
            calendar,
            route,
            counts: Counts::default(),
            poison: Mutex::default(),
            seed,
            publishing: AtomicBool::new(true),
            over: AtomicBool::new(false),
        })
    }

    /// Random numbers of one actor's own, the same for the same seed.
    pub fn random(&self, actor: u64) -> StdRng {
        StdRng::seed_from_u64(self.seed.wrapping_mul(1_000_003).wrapping_add(actor))
    }

    /// Connections of one actor's own.
    pub fn client(&self) -> Client {
        Client::new(Arc::clone(&self.route), TIMEOUT)
    }

    /// Whether events are published still.
    pub fn is_publishing(&self) -> bool {
        self.publishing.load(Ordering::Relaxed)
    }

    /// Ends publishing.
    pub fn stop_publishing(&self) {
        self.publishing.store(false, Ordering::Relaxed);
    }

    /// Whether all actors are to end.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Ends all actors.
    pub fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// One more.
pub fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
