//! The company of sidecars: who is alive, and which of them holds the lease to read.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use unstale_connect::{Client, Fault, Reply, Script};
use unstale_events::Position;

use crate::names::Names;

/// How long a lease lasts unless it is renewed.
const LEASE: Duration = Duration::from_secs(2);
/// An instance whose beat is older is dead.
const ALIVE: u64 = 3000;
/// How long beats of the dead are kept, to be seen by people.
const KEPT: u64 = 60_000;
/// A gap between two beats, whoever's, after which nobody can be judged: Redis was paused, or out of reach.
const GAP: u64 = 1500;

/// What a beat found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Beat {
    /// Redis' time, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// Whether this instance holds the lease.
    pub holds_lease: bool,
    /// The instances that are alive, this one among them.
    pub alive: Vec<String>,
    /// In what time the next of them is dead, unless he beats before.
    pub next_death: Duration,
    /// Whether those without a beat may be judged dead: somebody's have gone through for so long that theirs could have too. It need not be
    /// this instance's, so that one that has just come can do all that the one did whose place it takes.
    pub may_judge: bool,
    /// Whether a lease was removed that nobody renewed and that would not have run out: somebody had set it by hand.
    pub found_stray: bool,
    /// How many notices the slowest of the living has yet to pass on to its receivers.
    pub notices_behind: u64,
}

impl Beat {
    /// A beat that is older than this is of a dead instance, in milliseconds of Redis' clock.
    pub fn alive_since(&self) -> u64 {
        self.now_ms.saturating_sub(ALIVE)
    }
}

/// This instance's place in the company.
#[derive(Debug, Clone)]
pub struct Membership {
    client: Client,
    instance: String,
    beats: String,
    lease: String,
    positions: String,
    log: String,
    pulse: String,
    beat: Script,
    goodbye: Script,
}

impl Membership {
    /// The place of `instance` among those of these names.
    pub fn new(client: Client, names: &Names, instance: &str) -> Self {
        Self {
            client,
            instance: instance.to_owned(),
            beats: names.beats.clone(),
            lease: names.lease.clone(),
            positions: names.positions.clone(),
            log: names.notices.clone(),
            pulse: names.pulse.clone(),
            beat: Script::new(include_str!("beat.lua")),
            goodbye: Script::new(include_str!("goodbye.lua")),
        }
    }

    /// Says that this instance lives, and which is the last notice that all its receivers have; keeps or takes the lease if it is wanted,
    /// else gives it up.
    pub async fn beat(&self, wants_lease: bool, position: Option<Position>) -> Result<Beat, Fault> {
        let lease = if wants_lease { LEASE.as_millis() } else { 0 };
        let position = position.map_or_else(String::new, |position| position.to_string());
        let args = vec![self.instance.clone(), lease.to_string(), KEPT.to_string(), ALIVE.to_string(), position, GAP.to_string()];
        beat(self.client.eval(&self.beat, self.keys(5), bytes(args)).await?)
    }

    /// Takes this instance off the list and gives up its lease, so that others needn't wait for either to run out.
    pub async fn goodbye(&self) -> Result<(), Fault> {
        self.client.eval(&self.goodbye, self.keys(3), bytes(vec![self.instance.clone()])).await.map(drop)
    }

    fn keys(&self, count: usize) -> Vec<Bytes> {
        bytes([&self.beats, &self.lease, &self.positions, &self.log, &self.pulse].into_iter().take(count).cloned())
    }
}

pub(crate) fn beat(reply: Reply) -> Result<Beat, Fault> {
    let [now, held, alive, left, unbroken, stray, positions, newest] = <[_; 8]>::try_from(reply.array()?).map_err(|_| malformed())?;
    let alive = alive.array()?.iter().map(|name| name.text().map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
    let (next_death, may_judge) = (Duration::from_millis(left.count()?), unbroken.count()? >= ALIVE);
    let (now_ms, holds_lease, found_stray) = (now.count()?, held.int()? == 1, stray.int()? == 1);
    let notices_behind = behind(&alive, positions, newest.count().unwrap_or_default())?;
    Ok(Beat { now_ms, holds_lease, alive, next_death, may_judge, found_stray, notices_behind })
}

/// How far the slowest of these is behind the newest notice. Who doesn't say how far it is has passed nothing on.
fn behind(alive: &[String], positions: Reply, newest: u64) -> Result<u64, Fault> {
    let positions = positions.array()?;
    let mut seqs = HashMap::new();
    for pair in positions.chunks_exact(2) {
        let seq = pair[1].text()?.parse().map_or(0, |position: Position| position.seq);
        seqs.insert(pair[0].text()?, seq);
    }
    let slowest = alive.iter().map(|instance| seqs.get(instance.as_str()).copied().unwrap_or_default()).min();
    Ok(newest.saturating_sub(slowest.unwrap_or(newest)))
}

fn bytes(texts: impl IntoIterator<Item = String>) -> Vec<Bytes> {
    texts.into_iter().map(Bytes::from).collect()
}

fn malformed() -> Fault {
    Fault::new(unstale_connect::FaultKind::Protocol, "the beat's script answered something else")
}
