//! The prober: now and then it sends a canary the way of all events, and times how long until its key is gone and every instance has told its
//! receivers.
//!
//! It believes nothing that the sidecars say of themselves: it sets a key, publishes the event that asks to delete it, and looks whether the key
//! is still there. For the rest it asks what somebody does who waits for everywhere.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use unstale_connect::{Client, Fault, Script};
use unstale_events::{Position, StreamKind};
use unstale_notices::{Company, Hub, Log, behind};
use unstale_pipeline::handle::Handle;
use unstale_pipeline::probe::{Finding, Until};
use unstale_router::canary;
use unstale_source::Names;

/// The shortest pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// How much longer than it is waited for a canary's key lives, if nobody deletes it.
const GRACE: Duration = Duration::from_secs(60);

/// The key, then the event that deletes it.
static SEND: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "redis.call('SET', KEYS[1], 'unstale', 'PX', ARGV[1])
return redis.call('XADD', KEYS[2], '*', 'type', ARGV[2], ARGV[3], KEYS[1])",
    )
});

/// Sends canaries and tells what became of them.
#[derive(Debug)]
pub(crate) struct Prober {
    /// Where events are published.
    pub(crate) publisher: Client,
    /// Where people look.
    pub(crate) log: Log,
    pub(crate) hub: Arc<Hub>,
    pub(crate) handle: Handle,
    pub(crate) names: Names,
    pub(crate) namespace: String,
    /// `probe.interval`, not zero.
    pub(crate) interval: Duration,
    /// `probe.timeout`.
    pub(crate) timeout: Duration,
}

/// Why there is no time to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missed {
    Late,
    Blind,
}

impl Prober {
    /// Sends one after the other, for ever.
    pub(crate) async fn run(self) {
        loop {
            sleep(self.interval.mul_f64(0.75 + 0.5 * fraction())).await;
            self.probe().await;
        }
    }

    async fn probe(&self) {
        let mark = format!("{:016x}", random());
        let key = Bytes::from(canary::prefix(&self.namespace) + &mark);
        let (from, began) = (self.hub.index(), Instant::now());
        let until = began + self.timeout;
        let deleted = self.deleted(&key, until).await;
        self.handle.probed(Until::Deleted, finding(began, deleted));
        if deleted == Err(Missed::Late) {
            self.warn("its key is still in Redis");
        }
        let everywhere = match deleted {
            Ok(()) => self.everywhere(from, &mark, until).await,
            missed => missed,
        };
        self.handle.probed(Until::Everywhere, finding(began, everywhere));
        if deleted.is_ok() && everywhere == Err(Missed::Late) {
            self.warn("an instance has yet to tell its receivers");
        }
    }

    fn warn(&self, what: &str) {
        let timeout = humantime::format_duration(self.timeout).to_string();
        tracing::warn!(timeout, "a canary was lost: {what}; see UnstaleCanaryLost in the runbook");
    }

    /// Sends a canary, and waits until its key is gone.
    async fn deleted(&self, key: &Bytes, until: Instant) -> Result<(), Missed> {
        self.send(key).await?;
        look(|| async { Ok(self.log.client().get(key.clone()).await?.is_none()) }, until).await
    }

    async fn send(&self, key: &Bytes) -> Result<(), Missed> {
        // What others own isn't filled by us unasked, and may be trimmed by nobody.
        let stream = self.names.stream(if self.names.owned { StreamKind::Ordinary } else { StreamKind::Critical });
        let life = (self.timeout + GRACE).as_millis().to_string();
        let keys = vec![key.clone(), Bytes::copy_from_slice(stream.as_bytes())];
        let args = vec![Bytes::from(life), Bytes::from_static(canary::TYPE.as_bytes()), Bytes::from_static(canary::KEY.as_bytes())];
        self.publisher.eval(&SEND, keys, args).await.map(drop).map_err(|fault| blind(&fault))
    }

    /// Waits until every instance has passed the canary's notice on, which is among those from an index on.
    async fn everywhere(&self, from: u64, mark: &str, until: Instant) -> Result<(), Missed> {
        let heard = timeout_at(until, self.hub.heard(from, mark)).await.map_err(|_| Missed::Late)?;
        let notice: Position = heard.ok_or(Missed::Blind)?;
        let company = Company { beats: &self.names.beats, positions: &self.names.positions };
        look(|| async { Ok(behind(self.log.client(), company, notice).await?.0.is_empty()) }, until).await
    }
}

/// Looks again and again until something is so, more and more seldom: the time that is told is at most an eighth too long.
async fn look<F: Future<Output = Result<bool, Fault>>>(is_so: impl Fn() -> F, until: Instant) -> Result<(), Missed> {
    let (began, mut missed) = (Instant::now(), Missed::Late);
    loop {
        match is_so().await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            // What couldn't be done while Redis was away is done when it is back, and nothing is lost by that.
            Err(fault) => missed = blind(&fault),
        }
        let next = Instant::now() + (began.elapsed() / 8).clamp(PAUSE, LONGEST_PAUSE);
        if next > until {
            return Err(missed);
        }
        sleep_until(next).await;
    }
}

fn finding(began: Instant, result: Result<(), Missed>) -> Finding {
    match result {
        Ok(()) => Finding::After(began.elapsed()),
        Err(Missed::Late) => Finding::Lost,
        Err(Missed::Blind) => Finding::Unknown,
    }
}

fn blind(fault: &Fault) -> Missed {
    tracing::debug!(%fault, "what became of a canary can't be told");
    Missed::Blind
}

fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// From 0 to 1.
fn fraction() -> f64 {
    f64::from(u16::try_from(random() >> 48).unwrap_or_default()) / f64::from(u16::MAX)
}
