//! Several sidecars on one group: one reads, all stand ready.

use std::time::{Duration, Instant};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar, THINGS};

use super::kit::{Random, added_at, assert_nothing_lost, clock, pending, publish, routes, slow, slows, things, wait_pending};

fn fleet(redis: &Redis, size: usize, config: &str) -> Vec<Sidecar> {
    let mut bus = Bus::new(redis);
    let mut all: Vec<_> = (0..size).map(|_| Setup::on(redis).config(config).spawn()).collect();
    for sidecar in &mut all {
        sidecar.ready(&mut bus);
    }
    all
}

/// What a flow of events cost.
#[derive(Debug)]
struct Cost {
    notices: usize,
    deletes: usize,
    /// How many deletes of a hundred coalescing saved.
    saved: usize,
}

const EVENTS: usize = 4000;
const KEYS: u64 = 200;
/// How long the flow takes, in milliseconds: twenty windows.
const FLOW: usize = 2000;

/// Sends a steady flow past so many sidecars; each event has to be delivered once.
fn cost(sidecars: usize) -> Cost {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let _fleet = fleet(&redis, sidecars, &routes());
    let (mut random, begun, mut sent) = (Random::seeded(), Instant::now(), 0);
    wait_until_sync("the flow to end", PATIENCE, || {
        let elapsed = usize::try_from(begun.elapsed().as_millis()).unwrap_or(FLOW);
        while sent < EVENTS * elapsed.min(FLOW) / FLOW {
            bus.publish("Changed", &[("id", &random.below(KEYS).to_string())]);
            sent += 1;
        }
        if sent == EVENTS { Ok(()) } else { Err(format!("{sent} of {EVENTS} events")) }
    });
    bus.wait_settled();
    let notices = bus.notices();
    let delivered: u64 = notices.iter().map(|notice| notice.json["events_total"].as_u64().expect("a number")).sum();
    assert_eq!(delivered, EVENTS as u64, "each event is delivered once");
    let deletes = notices.iter().map(|notice| notice.keys().len()).sum();
    Cost { notices: notices.len(), deletes, saved: 100 - 100 * deletes / EVENTS }
}

#[test]
fn five_sidecars_save_as_many_deletes_as_one() {
    let (one, five) = (cost(1), cost(5));
    for (sidecars, cost) in [("one sidecar", &one), ("five", &five)] {
        let Cost { notices, deletes, saved } = cost;
        eprintln!("{EVENTS} events on {KEYS} keys in {FLOW} ms, {sidecars}: {notices} notices, {deletes} deletes, {saved} % saved");
    }
    assert!(one.saved > 20, "{one:?}");
    assert!(five.saved + 10 > one.saved, "one {one:?}, five {five:?}");
}

#[test]
fn p1_4_what_a_killed_reader_held_is_taken_over_and_reading_goes_on() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let mut fleet = fleet(&redis, 5, &slow("15s"));
    let reader = bus.reader().expect("one of five reads");
    let held = publish(&mut bus, "events", "Touched", 0..5);
    assert!(wait_pending(&mut bus, "events", 5).iter().all(|entry| entry.consumer == reader));
    let position = fleet.iter().position(|sidecar| sidecar.instance(&mut bus) == reader).expect("the reader is one of five");
    let killed = clock(&mut bus);
    fleet[position].kill();
    let next = publish(&mut bus, "events", "Changed", 100..101);
    let resumed = bus.wait_notice("of what came after the kill", |notice| notice.events() == next).at() - killed;
    wait_until_sync("the entries to be taken over", PATIENCE, || {
        let owners = pending(&mut bus, "events");
        let is_over = held.iter().all(|id| owners.iter().any(|entry| entry.id == *id && entry.consumer != reader));
        if is_over { Ok(()) } else { Err(format!("{owners:?}")) }
    });
    let again =
        bus.wait_notice("of what was taken over", |notice| notice.json["origin"] != *reader && notice.events().contains(&held[0])).at()
            - killed;
    eprintln!("after the reader was killed, reading went on after {resumed} ms, and its entries were delivered again after {again} ms");
    assert!(resumed <= 3000, "{resumed} ms");
    assert!(again <= 4000, "{again} ms");
}

/// The one that stood by is replaced just after the reader died, as when a host with both goes down or a new version is rolled out: who has
/// just come does what the old one would have done, and as soon.
#[test]
fn what_a_killed_reader_held_is_taken_over_by_one_that_has_just_come() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let mut fleet = fleet(&redis, 2, &slow("15s"));
    let reader = bus.reader().expect("one of two reads");
    let held = publish(&mut bus, "events", "Touched", 0..5);
    wait_pending(&mut bus, "events", 5);
    let position = fleet.iter().position(|sidecar| sidecar.instance(&mut bus) == reader).expect("the reader is one of two");
    // The one that stands by could read and judge; it has had no need to for long.
    super::kit::pass(Duration::from_secs(3));
    let killed = clock(&mut bus);
    fleet.remove(position).kill();
    // As if it had renewed its lease with its last breath: nobody reads before the new one is there.
    bus.cmd(&["SET", "unstale:reader", &reader, "PX", "2400"]);
    super::kit::pass(Duration::from_secs(1));
    let new = Setup::on(&redis).config(&slow("15s")).spawn();
    wait_until_sync("the new one to beat", PATIENCE, || bus.instance(new.name()).map(drop));
    fleet[0].kill();
    let again = bus.wait_notice("of what was taken over", |notice| notice.json["origin"] != *reader && notice.events().contains(&held[0]));
    let again = (again.at() - killed, again.json["origin"] == *new.instance(&mut bus));
    eprintln!("the new one delivered the entries of the killed reader {} ms after its death", again.0);
    assert!(again.0 <= 4000 && again.1, "{again:?}");
}

/// Every sidecar reads the critical stream, so any of them may hold entries of it.
#[test]
fn what_a_killed_stand_by_held_of_the_critical_stream_is_taken_over() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let mut fleet = fleet(&redis, 2, &slow("4s"));
    let reader = bus.reader().expect("one of two reads");
    // Whoever is not the reader gets one of these sooner or later.
    let mut number = 0;
    let held = wait_until_sync("the stand-by to hold a critical entry", PATIENCE, || {
        publish(&mut bus, "events:critical", "TouchedAtOnce", number..number + 1);
        number += 1;
        let held: Vec<_> = pending(&mut bus, "events:critical").into_iter().filter(|entry| entry.consumer != reader).collect();
        if held.is_empty() { Err("none".to_owned()) } else { Ok(held) }
    });
    let position = fleet.iter().position(|sidecar| sidecar.instance(&mut bus) == held[0].consumer).expect("it is one of two");
    let killed = clock(&mut bus);
    fleet[position].kill();
    let id = held[0].id.clone();
    let again = bus.wait_notice("by the reader", |notice| notice.json["origin"] == *reader && notice.events().contains(&id));
    eprintln!("taken over after {} ms, {} ms after it was added", again.at() - killed, again.at() - added_at(&id));
    assert!(again.at() - killed <= 4000, "{again:?}");
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &slows(0..number));
}

#[test]
fn a_lease_set_by_hand_for_nobody_is_noticed_and_taken() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let mut fleet = fleet(&redis, 2, &routes());
    bus.cmd(&["SET", "unstale:reader", "nobody"]);
    publish(&mut bus, "events", "Changed", 0..10);
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &things(0..10));
    let said: usize = fleet.iter().map(|sidecar| sidecar.log().matches("somebody set it by hand").count()).sum();
    assert_eq!(said, 1);
    // A name that lives keeps it, and it is an ordinary lease with its next beat.
    let names: Vec<String> = fleet.iter().map(|sidecar| sidecar.instance(&mut bus)).collect();
    let other = names.into_iter().find(|name| bus.reader().as_ref() != Ok(name)).expect("one of two doesn't read");
    bus.cmd(&["SET", "unstale:reader", &other]);
    wait_until_sync("the lease to be an ordinary one", PATIENCE, || {
        let left = bus.cmd(&["PTTL", "unstale:reader"]).int();
        if left > 0 { Ok(()) } else { Err(format!("{left}")) }
    });
    assert_eq!(bus.reader(), Ok(other));
    fleet.iter_mut().for_each(Sidecar::kill);
}

/// Low events wait here for longer than anybody may be stuck with an entry. Who has them lives, and nobody takes them from him.
#[test]
fn p1_12_what_is_at_work_for_long_is_not_taken_over() {
    const LONG: &str = "
[[route]]
event = 'Low'
cache = 'thing'
priority = 'low'
keys = ['thing:{id}']
";
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let start = || {
        let setup = Setup::on(&redis).config(THINGS).config(LONG).set("batching.windows.low=14s").set("retry.budget=1s");
        setup.set("reclaim.min_idle=3s").start(&redis)
    };
    let fleet = [start(), start()];
    publish(&mut bus, "events", "Low", 0..1);
    bus.wait_notice("of the first, which finds its lane idle", |_| true);
    publish(&mut bus, "events", "Low", 1..6);
    let held = wait_pending(&mut bus, "events", 5);
    let names: Vec<String> = fleet.iter().map(|sidecar| sidecar.instance(&mut bus)).collect();
    let other = names.iter().find(|name| **name != held[0].consumer).expect("one of two doesn't have them");
    // Who has the lease looks after entries that are stuck.
    bus.cmd(&["SET", "unstale:reader", other, "PX", "2000"]);
    bus.wait_done();
    let notices = bus.notices();
    assert_eq!(notices.len(), 2, "{notices:#?}");
    assert_eq!((notices[1].keys().len(), notices[1].json["origin"].as_str()), (5, Some(held[0].consumer.as_str())));
    assert!(fleet.iter().all(|sidecar| !sidecar.log().contains("took over")), "{}", fleet[1].log());
    assert_nothing_lost(&mut bus, &things(0..6));
}
