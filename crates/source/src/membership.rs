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
/// A gap between two of one's own beats from which on one can't judge others: Redis was paused, or oneself.
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
    /// Whether others may be judged dead: one's own beats have gone through for so long that theirs would have too.
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
    beat: Script,
    goodbye: Script,
    rhythm: Rhythm,
}

/// Since when one's own beats have gone through without a gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Rhythm {
    first: u64,
    last: u64,
}

impl Rhythm {
    fn add(self, now: u64) -> Self {
        // A clock that was set back, or another server's, breaks it as well.
        let unbroken = self.last > 0 && now.checked_sub(self.last).is_some_and(|gap| gap <= GAP);
        Self { first: if unbroken { self.first } else { now }, last: now }
    }

    fn may_judge(self) -> bool {
        self.last - self.first >= ALIVE
    }
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
            beat: Script::new(include_str!("beat.lua")),
            goodbye: Script::new(include_str!("goodbye.lua")),
            rhythm: Rhythm::default(),
        }
    }

    /// Says that this instance lives, and which is the last notice that all its receivers have; keeps or takes the lease if it is wanted,
    /// else gives it up.
    pub async fn beat(&self, wants_lease: bool, position: Option<Position>) -> Result<Beat, Fault> {
        let lease = if wants_lease { LEASE.as_millis() } else { 0 };
        let position = position.map_or_else(String::new, |position| position.to_string());
        let args = vec![self.instance.clone(), lease.to_string(), KEPT.to_string(), ALIVE.to_string(), position];
        let reply = self.client.eval(&self.beat, self.keys(4), bytes(args)).await?;
        let parts = reply.array()?;
        let [now, held, beats, stray, positions, newest] = <[_; 6]>::try_from(parts).map_err(|_| malformed())?;
        let now_ms = now.count()?;
        let mut alive = Vec::new();
        for pair in beats.array()?.chunks_exact(2) {
            let at: f64 = pair[1].text()?.parse().map_err(|_| malformed())?;
            #[expect(clippy::cast_precision_loss, reason = "milliseconds fit for thousands of years")]
            if at >= now_ms.saturating_sub(ALIVE) as f64 {
                alive.push(pair[0].text()?.to_owned());
            }
        }
        let (holds_lease, found_stray) = (held.int()? == 1, stray.int()? == 1);
        let notices_behind = behind(&alive, positions, newest.count().unwrap_or_default())?;
        Ok(Beat { now_ms, holds_lease, alive, may_judge: self.rhythm.add(now_ms).may_judge(), found_stray, notices_behind })
    }

    /// Takes note of a beat that went through. Kept apart from [`Membership::beat`] so that a beat can be a future of its own.
    pub fn heard(&mut self, beat: &Beat) {
        self.rhythm = self.rhythm.add(beat.now_ms);
    }

    /// Takes this instance off the list and gives up its lease, so that others needn't wait for either to run out.
    pub async fn goodbye(&self) -> Result<(), Fault> {
        self.client.eval(&self.goodbye, self.keys(3), bytes(vec![self.instance.clone()])).await.map(drop)
    }

    fn keys(&self, count: usize) -> Vec<Bytes> {
        bytes([&self.beats, &self.lease, &self.positions, &self.log].into_iter().take(count).cloned())
    }
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

#[cfg(test)]
mod tests {
    use super::Rhythm;

    #[test]
    fn judges_only_after_three_unbroken_seconds() {
        let steady = (0..=3).fold(Rhythm::default(), |rhythm, second| rhythm.add(10_000 + second * 1000));
        assert!(steady.may_judge());
        let broken = steady.add(13_000 + 1501);
        assert!(!broken.may_judge());
    }

    #[test]
    fn a_clock_set_back_begins_the_three_seconds_anew() {
        let steady = (0..=3).fold(Rhythm::default(), |rhythm, second| rhythm.add(10_000 + second * 1000));
        let back = steady.add(5000);
        assert!(!back.may_judge());
        assert!((1..=3).fold(back, |rhythm, second| rhythm.add(5000 + second * 1000)).may_judge());
    }
}
