//! What is trimmed and removed, and what never is.

use std::time::{Duration, Instant};

use unstale_testkit::{Redis, Value, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, World};

use super::kit::{assert_nothing_lost, clock, publish, routes, things, wait_pending, wait_surveys};

fn length(bus: &mut Bus, stream: &str) -> i64 {
    bus.cmd(&["XLEN", stream]).int()
}

#[track_caller]
fn wait_length(bus: &mut Bus, stream: &str, wanted: i64) {
    wait_until_sync(&format!("{stream} to have {wanted} entries"), PATIENCE, || {
        let length = length(bus, stream);
        if length == wanted { Ok(()) } else { Err(format!("{length}")) }
    });
}

#[test]
fn p1_13_what_another_group_still_needs_is_not_trimmed() {
    let mut world = World::with(|setup| setup.config(&routes()));
    world.cmd(&["XGROUP", "CREATE", "unstale:events", "other", "0"]);
    publish(&mut world, "events", "Changed", 0..20);
    world.wait_done();
    wait_surveys(&mut world, 4);
    assert_eq!(length(&mut world, "unstale:events"), 20);
    let read = world.cmd(&["XREADGROUP", "GROUP", "other", "me", "COUNT", "10", "STREAMS", "unstale:events", ">"]);
    let ids: Vec<String> = read.array()[0].array()[1].array().iter().map(|entry| entry.array()[0].text()).collect();
    // The first is still needed, so all are.
    for id in &ids[1..] {
        world.cmd(&["XACK", "unstale:events", "other", id]);
    }
    wait_surveys(&mut world, 4);
    assert_eq!(length(&mut world, "unstale:events"), 20);
    world.cmd(&["XACK", "unstale:events", "other", &ids[0]]);
    wait_length(&mut world, "unstale:events", 10);
    world.cmd(&["XGROUP", "DESTROY", "unstale:events", "other"]);
    wait_length(&mut world, "unstale:events", 0);
}

/// The ordinary stream of another application.
fn elsewhere(trim: bool) -> (Redis, Bus, unstale_tests::Sidecar) {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let setup = Setup::on(&redis).config(&routes()).set("bus.stream=app:events").set(&format!("bus.trim={trim}"));
    let sidecar = setup.spawn();
    for number in 0..10 {
        bus.seed([format!("thing:{number}")]);
        bus.cmd(&["XADD", "app:events", "*", "type", "Changed", "id", &number.to_string()]);
    }
    wait_until_sync("all to be acknowledged", PATIENCE, || {
        let standing = bus.standing_of("app:events")?;
        if standing.is_done() { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    (redis, bus, sidecar)
}

#[test]
fn a_stream_outside_the_namespace_is_left_as_it_is() {
    let (_redis, mut bus, _sidecar) = elsewhere(false);
    wait_surveys(&mut bus, 6);
    assert_eq!(length(&mut bus, "app:events"), 10);
}

#[test]
fn a_stream_outside_the_namespace_is_trimmed_if_that_is_wanted() {
    let (_redis, mut bus, _sidecar) = elsewhere(true);
    wait_length(&mut bus, "app:events", 0);
}

#[test]
fn p1_14_dead_consumers_are_removed_and_those_with_pending_entries_never() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let streams = ["unstale:events", "unstale:events:critical"];
    for stream in streams {
        bus.cmd(&["XGROUP", "CREATE", stream, "unstale", "0", "MKSTREAM"]);
        bus.cmd(&["XGROUP", "CREATECONSUMER", stream, "unstale", "ghost-1"]);
    }
    // Alive, and at work on an entry.
    let beat = |bus: &mut Bus| {
        let now = clock(bus).to_string();
        bus.cmd(&["ZADD", "unstale:instances", &now, "busy-1"]);
    };
    beat(&mut bus);
    publish(&mut bus, "events", "Changed", 0..1);
    bus.cmd(&["XREADGROUP", "GROUP", "unstale", "busy-1", "STREAMS", "unstale:events", ">"]);
    let _sidecar = Setup::on(&redis).config(&routes()).start(&redis);
    let consumers = |bus: &mut Bus| -> Vec<String> {
        let names = |info: &Value| info.array().iter().filter_map(|info| info.field("name")).map(Value::text).collect::<Vec<_>>();
        streams.iter().flat_map(|stream| names(&bus.cmd(&["XINFO", "CONSUMERS", stream, "unstale"]))).collect()
    };
    wait_until_sync("the dead to be removed", PATIENCE, || {
        beat(&mut bus);
        let names = consumers(&mut bus);
        if names.contains(&"ghost-1".to_owned()) { Err(format!("{names:?}")) } else { Ok(()) }
    });
    let removed = Instant::now();
    wait_until_sync("the streams to be looked at some more", PATIENCE, || {
        beat(&mut bus);
        if removed.elapsed() > Duration::from_secs(2) { Ok(()) } else { Err(String::new()) }
    });
    assert!(consumers(&mut bus).contains(&"busy-1".to_owned()));
    assert_eq!(wait_pending(&mut bus, "events", 1)[0].consumer, "busy-1");
    // Once it is dead, its entry is taken over and its name removed.
    bus.cmd(&["ZADD", "unstale:instances", "1", "busy-1"]);
    bus.wait_settled();
    wait_until_sync("the other to be removed", PATIENCE, || {
        let names = consumers(&mut bus);
        if names.contains(&"busy-1".to_owned()) { Err(format!("{names:?}")) } else { Ok(()) }
    });
    assert_nothing_lost(&mut bus, &things(0..1));
}
