//! A backlog worked off by tables of routes of different lengths.

use std::fmt::Write;

use unstale_testkit::Redis;

use crate::Bench;
use crate::backlog::{Backlog, Form, spread};
use crate::contender::{Kind, PRESET};
use crate::drain::{Drained, drain};
use crate::figures::{Samples, Table, Unit};
use crate::section::Section;

/// How many routes.
const TABLES: [usize; 3] = [1, 50, 500];

/// One route for the events of the backlog, and around it as many for others as it takes: each with a name of its own, every second with a condition.
fn table(routes: usize) -> String {
    let mut toml = "[cache.virtual_key]\nprefixes = ['vkey:']\n".to_owned();
    for number in 0..routes {
        let event = if number == routes / 2 { "SpendUpdated".to_owned() } else { format!("Something{number}Changed") };
        let when = if number % 2 == 1 && number != routes / 2 { "when = { changed_properties = ['Price', 'Stock'] }\n" } else { "" };
        write!(toml, "[[route]]\nevent = '{event}'\ncache = 'virtual_key'\npriority = 'high'\n{when}keys = ['vkey:{{key_hash}}']\n")
            .expect("a String takes everything");
    }
    toml
}

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::start_sync();
    let events = bench.many(300_000);
    let backlog = Backlog::keep(&redis, "json", spread(Form::Json, events, bench.many(60_000)));
    let preset = ("the preset llm-gateway".to_owned(), Kind::unstale(PRESET));
    let tables = TABLES.map(|routes| (format!("routes: {routes}"), Kind::unstale(table(routes))));
    let mut contenders: Vec<(String, Kind, Vec<Drained>)> =
        tables.into_iter().chain([preset]).map(|(name, kind)| (name, kind, Vec::new())).collect();
    for _ in bench.rounds("routes") {
        for (_, kind, runs) in &mut contenders {
            runs.push(drain(&redis, &backlog, kind));
        }
    }
    let mut shown = Table::new(&["", "events", "of one route", "CPU an event"]);
    let rates = |runs: &[Drained]| runs.iter().map(|run| run.rate).collect::<Samples>();
    let one = rates(&contenders[0].2);
    for (name, _, runs) in &contenders {
        let cpu: Samples = runs.iter().map(|run| run.cpu).collect();
        shown.row([
            name.clone(),
            rates(runs).show(Unit::PerSecond),
            rates(runs).over(&one).show(Unit::Times),
            cpu.show(Unit::Microseconds),
        ]);
    }
    Section {
        title: "Tables of routes",
        about: format!("The backlog of {events} events again, by tables of routes of which one is for these events."),
        tables: vec![shown],
        bars: Vec::new(),
        doubts: Vec::new(),
    }
}
