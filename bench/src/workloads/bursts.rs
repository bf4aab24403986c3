//! Bursts in which some keys come again and again, and what they cost Redis.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use rand::distr::weighted::WeightedIndex;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::Bus;

use crate::Bench;
use crate::backlog::{Event, Form, add, fields, hash, key, present, seed, send};
use crate::contender::{Kind, PRESET, Peer, Running};
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::section::Section;

/// How many bursts, and the rest between them.
const BURSTS: usize = 10;
const REST: Duration = Duration::from_millis(200);
/// How long a run may take.
const LIMIT: Duration = Duration::from_secs(120);

/// What a run cost Redis.
struct Cost {
    /// Commands for each event, those within scripts among them, but not those that published.
    commands: f64,
    /// Deletes for each event.
    deletes: f64,
}

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::start_sync();
    let (many, few, keys) = (bench.many(100_000), bench.many(5000), bench.many(2000));
    let mut contenders: Vec<(&str, Kind, Vec<Event>, Vec<Cost>)> = vec![
        ("one by one (Python)", Kind::Peer(Peer::PythonSingle), zipf(few, keys), Vec::new()),
        ("in batches of 500 (Python)", Kind::Peer(Peer::Python), zipf(many, keys), Vec::new()),
        ("unstale", Kind::unstale(PRESET), zipf(many, keys), Vec::new()),
    ];
    for _ in bench.rounds("bursts") {
        for (_, kind, events, costs) in &mut contenders {
            costs.push(one_run(&redis, kind, events));
        }
    }
    let mut table = Table::new(&["", "commands an event", "keys deleted an event", "commands, of one by one"]);
    let samples = |costs: &[Cost], figure: fn(&Cost) -> f64| costs.iter().map(figure).collect::<Samples>();
    let single = samples(&contenders[0].3, |cost| cost.commands);
    let share = |costs: &[Cost]| samples(costs, |cost| cost.commands * 100.0).over(&single);
    for (name, _, _, costs) in &contenders {
        table.row([
            (*name).to_owned(),
            samples(costs, |cost| cost.commands).show(Unit::Ratio),
            samples(costs, |cost| cost.deletes).show(Unit::Ratio),
            share(costs).show(Unit::Percent),
        ]);
    }
    Section {
        title: "Bursts on few keys",
        about: format!(
            "{many} events on {keys} keys (one by one: {few} events), the nth of them n times as rare as the first (Zipf), in {BURSTS} bursts. What Redis counts as commands, those within scripts among them; publishing is not counted."
        ),
        tables: vec![table],
        bars: vec![Bar::new(
            "Commands for 100,000 events on 2,000 keys, of one by one",
            Wanted::AtMost(2.0),
            Unit::Percent,
            share(&contenders[2].3),
        )],
        doubts: Vec::new(),
    }
}

/// Events on keys of which the nth is n times as rare as the first.
fn zipf(events: u64, keys: u64) -> Vec<Event> {
    let weights = WeightedIndex::new((1..=keys).map(|rank| 1.0 / rank as f64)).expect("weights above zero");
    let mut random = StdRng::seed_from_u64(1);
    let event = |number| {
        let hash = hash(random.sample(&weights) as u64);
        Event { fields: fields(Form::Json, number, &hash), key: key(&hash) }
    };
    (0..events).map(event).collect()
}

fn one_run(redis: &Redis, kind: &Kind, events: &[Event]) -> Cost {
    let keys: Vec<String> = events.iter().map(|event| event.key.clone()).collect::<BTreeSet<_>>().into_iter().collect();
    let mut resp = redis.resp();
    resp.cmd(&["FLUSHDB"]);
    seed(&mut resp, &keys);
    resp.cmd(&["XGROUP", "CREATE", "unstale:events", "unstale", "0", "MKSTREAM"]);
    let mut bus = Bus::new(redis);
    let consumers = kind.start(redis);
    wait_until_sync("somebody to wait for events", LIMIT, || {
        let info = bus.try_cmd(&["INFO", "clients"])?.text();
        if info.contains("blocked_clients:0") { Err(consumers.iter().map(Running::log).collect()) } else { Ok(()) }
    });
    bus.reset_stats();
    for burst in events.chunks(events.len().div_ceil(BURSTS)) {
        send(&mut resp, burst.iter().map(|event| add("unstale:events", event.clone())));
        thread::sleep(REST);
    }
    let mut looks = 0;
    wait_until_sync("all events to be acknowledged", LIMIT, || {
        looks += 1;
        let standing = bus.standing("events")?;
        if standing.is_done() { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    let stats = bus.commandstats();
    assert_eq!(present(&mut resp, &keys), 0, "{kind:?} left keys");
    // Each look is two commands.
    let ours = events.len() as u64 + 2 * looks + stats.get("config|resetstat").copied().unwrap_or_default();
    let commands = stats.values().sum::<u64>() - ours;
    Cost { commands: commands as f64 / events.len() as f64, deletes: deletes(&mut bus) / events.len() as f64 }
}

/// How many keys the notices name.
fn deletes(bus: &mut Bus) -> f64 {
    bus.notices().iter().map(|notice| notice.keys().len()).sum::<usize>() as f64
}
