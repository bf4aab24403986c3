//! A backlog worked off by several sidecars, of which one reads at a time.

use unstale_testkit::Redis;
use unstale_tests::Bus;

use super::side_by_side;
use crate::Bench;
use crate::backlog::{Backlog, Form, spread};
use crate::contender::{Kind, PRESET, Running};
use crate::drain::{Drained, server_pid, watch};
use crate::section::Section;

/// How many sidecars.
const FLEETS: [usize; 3] = [1, 5, 20];

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::start_sync();
    let events = bench.many(300_000);
    let backlog = Backlog::keep(&redis, "json", spread(Form::Json, events, bench.many(60_000)));
    let mut fleets = FLEETS.map(|size| (size.to_string(), Vec::new()));
    for _ in bench.rounds("fleet") {
        for (size, (_, runs)) in FLEETS.into_iter().zip(&mut fleets) {
            runs.push(one_run(&redis, &backlog, size));
        }
    }
    let table = side_by_side(&["sidecars", "events", "of one sidecar", "CPU of all an event", "Redis' CPU an event"], &fleets);
    Section {
        title: "Several sidecars",
        about: format!(
            "{events} events are there at once while so many sidecars run. One of them reads at a time, so that batches stay full; what more of them cost is each one's following of the notices and its beats."
        ),
        tables: vec![table],
        bars: Vec::new(),
        doubts: Vec::new(),
    }
}

fn one_run(redis: &Redis, backlog: &Backlog, size: usize) -> Drained {
    backlog.empty(redis);
    let mut bus = Bus::new(redis);
    let mut fleet = Kind::Unstale(PRESET.to_owned(), size).start(redis);
    for running in &mut fleet {
        let Running::Sidecar(sidecar) = running else { unreachable!("sidecars were started") };
        sidecar.ready(&mut bus);
    }
    backlog.pour(redis);
    let drained = watch(&mut bus, &[server_pid(redis)], &fleet, backlog.events);
    assert_eq!(backlog.left(redis), 0, "{size} sidecars left keys");
    drained
}
