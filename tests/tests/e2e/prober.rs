//! Canaries: what the way of an event is worth, tried from outside of the loop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use unstale_testkit::wait_until_sync;
use unstale_tests::{PATIENCE, Setup, Sidecar, World};

const ROUTES: &str = "[cache.c]
prefixes = ['c:']
[[route]]
event = '*'
cache = 'c'
keys = ['c:{k}']";

/// A canary every 200 ms or so.
fn probing(setup: Setup) -> Setup {
    setup.config(ROUTES).set("probe.interval=200ms").set("probe.timeout=5s")
}

fn probes(sidecar: &Sidecar, until: &str, outcome: &str) -> u64 {
    sidecar.metric(&format!("unstale_probes_total{{until=\"{until}\",outcome=\"{outcome}\"}}"))
}

#[track_caller]
fn wait_probes(sidecar: &Sidecar, until: &str, outcome: &str, at_least: u64) {
    wait_until_sync(&format!("{at_least} canaries, {until}: {outcome}"), PATIENCE, || match probes(sidecar, until, outcome) {
        enough if enough >= at_least => Ok(()),
        _ => Err(sidecar.get("/metrics").1.lines().filter(|line| line.starts_with("unstale_probe")).collect::<Vec<_>>().join("\n")),
    });
}

#[test]
fn canaries_of_all_instances_are_deleted_and_heard_everywhere_and_leave_nothing_behind() {
    let mut world = World::with(probing);
    let second = probing(Setup::on(&world.redis)).start(&world.redis);
    let (_, mut stream) = second.notices("", None);
    for sidecar in [&world.sidecar, &second] {
        for until in ["deleted", "everywhere"] {
            wait_probes(sidecar, until, "ok", 3);
        }
        assert!(sidecar.metric("unstale_probe_seconds_count{until=\"deleted\"}") >= 3);
        assert!(sidecar.metric("unstale_events_total{type=\"UnstaleCanary\",outcome=\"dead_lettered\"}") == 0);
    }
    // What a receiver hears.
    let heard = stream.next_notice().expect("a notice");
    let drop = &heard.data["drop"][0];
    assert_eq!((drop["cache"].as_str(), &heard.data["confirm"]), (Some("unstale:canary"), &serde_json::json!(true)), "{heard:?}");
    assert!(drop["keys"][0].as_str().is_some_and(|key| key.starts_with("unstale:canary:")), "{heard:?}");
    assert!(world.dead_letters().is_empty(), "a route for all events isn't one for canaries");
    drop_and_wait_empty(&mut world, second);
}

/// Those under way at the end are deleted by whoever is left.
fn drop_and_wait_empty(world: &mut World, mut second: Sidecar) {
    second.terminate();
    assert_eq!(second.wait(), Some(0));
    world.sidecar.terminate();
    assert_eq!(world.sidecar.wait(), Some(0));
    let left = world.cmd(&["KEYS", "unstale:canary:*"]).texts();
    assert!(left.len() <= 2, "one for each that ended while it was under way at most: {left:?}");
    for key in left {
        let life = world.cmd(&["PTTL", key.as_str()]).int();
        assert!((1..=65_000).contains(&life), "{life}");
    }
}

/// Reads with the group like a sidecar, acknowledges, and does nothing: a suppressed delete. It waits longer than a sidecar does at a time, so it is the
/// first in the line for some of the entries.
#[test]
fn a_delete_that_is_suppressed_is_a_lost_canary() {
    let world = World::with(probing);
    let done = Arc::new(AtomicBool::new(false));
    let thief = thread::spawn({
        let (mut bus, done) = (world.again(), Arc::clone(&done));
        move || {
            while !done.load(Ordering::Relaxed) {
                let read = ["XREADGROUP", "GROUP", "unstale", "thief", "BLOCK", "3000", "NOACK", "STREAMS", "unstale:events", ">"];
                bus.cmd(&read);
            }
        }
    });
    wait_probes(&world.sidecar, "deleted", "lost", 1);
    wait_probes(&world.sidecar, "everywhere", "lost", 1);
    world.sidecar.wait_log("a canary was lost: its key is still in Redis");
    done.store(true, Ordering::Relaxed);
    thief.join().expect("the thief ends");
    let before = probes(&world.sidecar, "everywhere", "ok");
    wait_probes(&world.sidecar, "everywhere", "ok", before + 2);
}

#[test]
fn an_instance_that_hears_nothing_loses_canaries_everywhere_and_only_there() {
    let world = World::with(probing);
    let second = Setup::on(&world.redis).config(ROUTES).start(&world.redis);
    wait_probes(&world.sidecar, "everywhere", "ok", 1);
    second.pause();
    wait_probes(&world.sidecar, "everywhere", "lost", 1);
    assert_eq!(probes(&world.sidecar, "deleted", "lost"), 0);
    world.sidecar.wait_log("a canary was lost: an instance has yet to tell its receivers");
    second.resume();
    let before = probes(&world.sidecar, "everywhere", "ok");
    wait_probes(&world.sidecar, "everywhere", "ok", before + 2);
}

#[test]
fn what_nobody_can_tell_is_not_called_lost() {
    let mut world = World::with(probing);
    wait_probes(&world.sidecar, "everywhere", "ok", 1);
    world.redis.kill();
    for until in ["deleted", "everywhere"] {
        wait_probes(&world.sidecar, until, "unknown", 1);
        assert_eq!(probes(&world.sidecar, until, "lost"), 0);
    }
}
