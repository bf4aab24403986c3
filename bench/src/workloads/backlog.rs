//! Critical events while a million ordinary ones are worked off.

use std::time::Duration;

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE};

use super::middle_and_worst;
use crate::Bench;
use crate::backlog::{Backlog, Form, spread};
use crate::contender::{PRESET, sidecar};
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::probe;
use crate::section::Section;

/// How long the backlog may take.
const LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::start_sync();
    let events = bench.many(1_000_000);
    let backlog = Backlog::keep(&redis, "million", spread(Form::Json, events, bench.many(60_000)));
    let (mut worst, mut behind, mut idle) = (Samples::default(), Samples::default(), Samples::default());
    for _ in bench.rounds("backlog") {
        backlog.lay_out(&redis);
        let mut bus = Bus::new(&redis);
        let sidecar = sidecar(&redis, PRESET).spawn();
        wait_until_sync("the first event to be read", PATIENCE, || match bus.standing("events")?.delivered.as_str() {
            "0-0" => Err(sidecar.log()),
            _ => Ok(()),
        });
        let mut is_open = || bus.standing("events").is_ok_and(|standing| !standing.is_done());
        let meanwhile = probe(&redis, &mut is_open);
        wait_until_sync("the backlog to be worked off", LIMIT, || if is_open() { Err(sidecar.log()) } else { Ok(()) });
        let mut left = 50;
        let afterwards = probe(&redis, || {
            left -= 1;
            left >= 0
        });
        worst.push(meanwhile.quantile(0.99));
        behind.append(meanwhile);
        idle.append(afterwards);
    }
    let mut table = Table::new(&["a critical event: XADD to key gone", "times", "median", "99 of 100 within"]);
    table.row(middle_and_worst("while the backlog is worked off", &behind, Unit::Milliseconds));
    table.row(middle_and_worst("afterwards", &idle, Unit::Milliseconds));
    Section {
        title: "Critical events behind a backlog",
        about: format!(
            "{events} ordinary events are worked off. Meanwhile critical events are published on the critical stream, one every five milliseconds or so; the key of each is looked at until it is gone, every tenth of a millisecond."
        ),
        tables: vec![table],
        bars: vec![Bar::new("Critical behind 10⁶ ordinary events, 99 of 100 within", Wanted::AtMost(10.0), Unit::Milliseconds, worst)],
        doubts: Vec::new(),
    }
}

fn probe(redis: &Redis, goes_on: impl FnMut() -> bool) -> Samples {
    probe::critical(redis, "SpendThresholdExceeded", "vkey:", "virtual_key_hash", goes_on)
}
