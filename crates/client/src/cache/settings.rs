//! What a cache may be told, with defaults for all of it.

use std::time::Duration;

use super::local::Bound;
use super::value::Encoding;

/// What to do with the tier in the process while nobody vouches for it: no heartbeat of the notices came for [`Settings::silence`], so drops may be
/// missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Posture {
    /// Go on serving it: reads stay fast in an outage, and old values live until they expire.
    Serve,
    /// Drop it whole when silence begins, and again each time that it has lasted as long: nothing served is older than twice that.
    Flush,
    /// Neither read nor fill it: every read asks Redis. It is used again when all that was missed has been applied.
    #[default]
    Bypass,
}

/// The settings of a [`super::TieredCache`].
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How large the tier in the process may grow; 10,000 entries.
    pub local_bound: Bound,
    /// How long a value lives in the process; 1 minute.
    pub local_life: Duration,
    /// How long a value lives in Redis; 1 hour.
    pub shared_life: Duration,
    /// How long the knowledge lives that there is no such thing, in both tiers; 10 s. Zero: it isn't kept.
    pub absent_life: Duration,
    /// By how much lifetimes are shortened at random, so that values stored together don't expire together; 0.1 is up to a tenth.
    pub jitter: f64,
    /// In the last part of its lifetime a value that is read is fetched anew in the background; 0.2 is the last fifth, 0 (the default) turns it off.
    /// The lifetime is that in Redis, or in the process if there is no shared tier.
    pub refresh_ahead: f64,
    /// How long a fence stands, and so how long a fetch may take whose value is to be stored in Redis; 10 s.
    pub fence_life: Duration,
    /// How values are written.
    pub encoding: Encoding,
    /// Values of more bytes than this are compressed in Redis (LZ4). Off by default.
    pub compress_above: Option<usize>,
    /// The names that the sidecar's configuration gives to the caches that this one holds: a flush of others leaves it alone. None: every flush concerns
    /// it.
    pub caches: Vec<String>,
    /// After how long without a heartbeat nobody vouches for the tier in the process; 15 s.
    pub silence: Duration,
    /// What to do then. Only for a cache that hears notices: one that hears none relies on its lifetimes.
    pub posture: Posture,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            local_bound: Bound::Entries(10_000),
            local_life: Duration::from_secs(60),
            shared_life: Duration::from_secs(3600),
            absent_life: Duration::from_secs(10),
            jitter: 0.1,
            refresh_ahead: 0.0,
            fence_life: Duration::from_secs(10),
            encoding: Encoding::default(),
            compress_above: None,
            caches: Vec::new(),
            silence: Duration::from_secs(15),
            posture: Posture::default(),
        }
    }
}

impl Settings {
    /// A lifetime, shortened at random.
    pub(crate) fn jittered(&self, life: Duration) -> Duration {
        life.mul_f64(1.0 - self.jitter.clamp(0.0, 1.0) * rand::random::<f64>())
    }

    /// How long before its end a value of this lifetime is fetched anew.
    pub(crate) fn ahead(&self, life: Duration) -> Option<Duration> {
        (self.refresh_ahead > 0.0).then(|| life.mul_f64(self.refresh_ahead.min(1.0)))
    }

    /// After how much of this lifetime a value is fetched anew.
    pub(crate) fn due_after(&self, life: Duration) -> Option<Duration> {
        self.ahead(life).map(|ahead| life.saturating_sub(ahead))
    }

    /// How long a value, or the knowledge that there is none, lives where values live for `life`.
    pub(crate) fn life(&self, is_absent: bool, life: Duration) -> Duration {
        if is_absent { self.absent_life.min(life) } else { life }
    }
}
