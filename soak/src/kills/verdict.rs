//! What a campaign has shown.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::{Value as Json, json};
use unstale_tests::Bus;

use super::campaign::Kills;
use super::flow::Kind;
use super::ledger::Ledger;
use super::points::Point;

/// How many of a kind are named.
const NAMED: usize = 20;

/// The kills of one place.
#[derive(Debug, Default, Clone, Copy)]
struct Place {
    kills: u64,
    /// Of those, how many hit a sidecar with entries in its hands.
    with_entries: u64,
    entries: u64,
    most: u64,
    /// How often nobody passed in time.
    missed: u64,
}

/// All kills by place.
#[derive(Debug, Default)]
pub(crate) struct Shots(BTreeMap<String, Place>);

impl Shots {
    pub(crate) fn hit(&mut self, place: String, in_hand: u64) {
        let place = self.0.entry(place).or_default();
        place.kills += 1;
        place.with_entries += u64::from(in_hand > 0);
        place.entries += in_hand;
        place.most = place.most.max(in_hand);
    }

    pub(crate) fn missed(&mut self, point: Point) {
        self.0.entry(point.to_string()).or_default().missed += 1;
    }
}

/// The figures, and what is wrong.
#[derive(Debug)]
pub struct Verdict {
    command: String,
    lasted: Duration,
    events: u64,
    shots: Shots,
    notices: i64,
    repeated: u64,
    letters: usize,
    /// In words; empty if all is well.
    pub wrong: Vec<String>,
}

impl Verdict {
    pub(crate) fn find(options: &Kills, lasted: Duration, shots: Shots, ledger: &Ledger, bus: &mut Bus) -> Self {
        let mut wrong = Vec::new();
        let mut found = |what: &str, which: Vec<String>| {
            if !which.is_empty() {
                wrong.push(format!("{} {what}: {}", which.len(), which[..which.len().min(NAMED)].join(", ")));
            }
        };
        found("keys are left", bus.keys().into_iter().collect());
        let events = options.events;
        let of_kind = |poison: bool| (0..events).filter(move |number| (Kind::of(*number) == Kind::Poison) == poison);
        found("events were not announced", of_kind(false).filter(|number| !ledger.has(*number)).map(|number| number.to_string()).collect());
        found("numbers don't follow the one before", ledger.gaps.clone());
        let standings = ["events", "events:critical"].map(|stream| bus.standing(stream));
        found(
            "streams have entries pending",
            standings
                .iter()
                .filter(|standing| !standing.as_ref().is_ok_and(unstale_tests::Standing::is_done))
                .map(|s| format!("{s:?}"))
                .collect(),
        );
        let letters: BTreeSet<String> = bus.dead_letters().iter().map(|letter| letter.get("id")).collect();
        let poison: BTreeSet<String> = of_kind(true).map(|number| number.to_string()).collect();
        found("dead letters are no poison", letters.difference(&poison).cloned().collect());
        found("poisoned events are no dead letters", poison.difference(&letters).cloned().collect());
        let (notices, repeated, letters) = (ledger.seq, ledger.repeated, letters.len());
        Self { command: options.command(), lasted, events, shots, notices, repeated, letters, wrong }
    }

    /// For programs.
    pub fn json(&self) -> Json {
        let place = |(name, place): (&String, &Place)| {
            let Place { kills, with_entries, entries, most, missed } = place;
            json!({"place": name, "kills": kills, "with_entries": with_entries, "entries": entries, "most": most, "not_reached": missed})
        };
        json!({
            "command": self.command, "seconds": self.lasted.as_secs_f64(), "kills": self.kills(), "events": self.events,
            "notices": self.notices, "repeated": self.repeated, "dead_letters": self.letters,
            "places": self.shots.0.iter().map(place).collect::<Vec<_>>(), "wrong": self.wrong,
        })
    }

    fn kills(&self) -> u64 {
        self.shots.0.values().map(|place| place.kills).sum()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.command)?;
        let Self { events, notices, repeated, letters, .. } = self;
        let seconds = self.lasted.as_secs_f64();
        writeln!(f, "{} kills, {events} events, {notices} notices, {letters} dead letters (all poison), in {seconds:.0} s", self.kills())?;
        writeln!(f, "{repeated} targets were announced again\n")?;
        writeln!(f, "{:<58} {:>6} {:>13} {:>8} {:>6} {:>12}", "killed", "kills", "with entries", "entries", "most", "not reached")?;
        for (name, Place { kills, with_entries, entries, most, missed }) in &self.shots.0 {
            writeln!(f, "{name:<58} {kills:>6} {with_entries:>13} {entries:>8} {most:>6} {missed:>12}")?;
        }
        writeln!(f)?;
        if self.wrong.is_empty() {
            return writeln!(f, "0 keys left, 0 pending, 0 not announced, 0 gaps");
        }
        self.wrong.iter().try_for_each(|wrong| writeln!(f, "WRONG: {wrong}"))
    }
}
