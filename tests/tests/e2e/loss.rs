//! History that went before it was worked off: answered by a flush, once; and a first start, which is none.

use std::time::Duration;

use serde_json::json;
use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, Notice, Sidecar, World};

const PATIENCE: Duration = Duration::from_secs(10);
const ROUTES: &str = "[cache.c]\nprefixes = ['c:']\n[[route]]\nevent = 'Changed'\ncache = 'c'\nkeys = ['c:{k}']";

fn is_flush(notice: &Notice) -> bool {
    notice.json["flush"] == json!(["*"])
}

fn flushes(world: &mut World) -> usize {
    world.notices().iter().filter(|notice| is_flush(notice)).count()
}

/// Works an event off, so that what came before it was seen too.
fn settle(world: &mut World, key: &str) {
    world.publish("Changed", &[("k", key)]);
    world.wait_notice("of the event", |notice| notice.keys() == [format!("c:{key}")]);
    world.wait_settled();
}

#[test]
fn a_first_start_is_no_loss() {
    let mut world = World::start(ROUTES);
    settle(&mut world, "1");
    assert_eq!(flushes(&mut world), 0);
    assert_eq!(world.sidecar.metric("unstale_flushes_total{cause=\"loss\"}"), 0);
}

#[test]
fn p1_16_a_stream_that_vanishes_is_answered_by_one_flush_and_is_read_again() {
    let mut world = World::start(ROUTES);
    settle(&mut world, "1");
    world.cmd(&["DEL", "unstale:events"]);
    world.wait_notice("of the loss", is_flush);
    settle(&mut world, "2");
    assert_eq!(flushes(&mut world), 1);
}

#[test]
fn a_stream_that_vanished_while_nobody_ran_is_a_loss_too() {
    let mut world = World::start(ROUTES);
    settle(&mut world, "1");
    world.sidecar.terminate();
    world.sidecar.wait();
    world.cmd(&["DEL", "unstale:events"]);
    world.sidecar = Sidecar::start(&world.redis, ROUTES);
    world.wait_notice("of the loss", is_flush);
    settle(&mut world, "2");
    assert_eq!(flushes(&mut world), 1);
}

#[test]
fn p1_15_entries_that_were_trimmed_away_unread_are_a_loss_and_the_lag_is_set_right() {
    let mut world = World::start(ROUTES);
    settle(&mut world, "1");
    world.sidecar.pause();
    // The first of them may go to the read that is blocked already.
    for key in ["2", "3", "4"] {
        world.publish("Changed", &[("k", key)]);
    }
    world.cmd(&["XTRIM", "unstale:events", "MAXLEN", "0"]);
    world.sidecar.resume();
    world.wait_notice("of the loss", is_flush);
    wait_until_sync("the lag to be set right", PATIENCE, || {
        let standing = world.standing("events")?;
        if standing.is_done() { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    settle(&mut world, "5");
    assert_eq!(flushes(&mut world), 1);
}

#[test]
fn clear_deletes_what_the_caches_own_and_nothing_else() {
    let mut world = World::start(&format!("bus.on_loss = 'clear'\n{ROUTES}"));
    settle(&mut world, "1");
    world.seed(["c:2", "c:3", "other:1"]);
    world.cmd(&["DEL", "unstale:events"]);
    world.wait_notice("of the deletes", |notice| notice.patterns() == ["c:*"]);
    assert_eq!(world.keys(), ["other:1".to_owned()].into());
}

#[test]
fn a_server_that_comes_back_from_its_file_has_lost_nothing() {
    let mut redis = Redis::builder().args(["--appendonly", "yes"]).start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = Sidecar::start(&redis, ROUTES);
    let publish = |bus: &mut Bus| (0..50).for_each(|number| drop(bus.publish("Changed", &[("k", &number.to_string())])));
    publish(&mut bus);
    bus.wait_settled();
    // From here on the file tells what the group was given, but not how much that was.
    bus.cmd(&["BGREWRITEAOF"]);
    wait_until_sync("the file to be written anew", PATIENCE, || {
        let info = bus.cmd(&["INFO", "persistence"]).text();
        if info.contains("aof_rewrite_in_progress:0") { Ok(()) } else { Err(info) }
    });
    publish(&mut bus);
    bus.wait_settled();

    redis.kill();
    sidecar.wait_log("Redis can't be reached");
    redis.launch();
    redis.ready_sync();
    wait_until_sync("the bus to be connected", PATIENCE, || bus.try_cmd(&["PING"]).map(drop));
    publish(&mut bus);
    bus.wait_settled();
    publish(&mut bus);
    bus.wait_settled();
    assert_eq!(bus.notices().iter().filter(|notice| is_flush(notice)).count(), 0, "{}", sidecar.log());
}
