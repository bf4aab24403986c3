//! The second delete: nobody waits for it but the acknowledgement.

use std::time::Duration;

use serde_json::{Value as Json, json};
use unstale_testkit::wait_until_sync;
use unstale_tests::{Notice, Setup, World};

const PATIENCE: Duration = Duration::from_secs(10);
/// Long, so that what doesn't wait for it ends well before.
const DELAY: Duration = Duration::from_secs(3);

fn world() -> World {
    World::start(
        "presets = ['llm-gateway']\n[reclaim]\ncritical_min_idle = '10s'\n[preset.llm-gateway.cache.virtual_key]\nsecond_delete = '3s'",
    )
}

/// The totals, as soon as so many targets are processed.
fn processed(world: &World, targets: u64) -> Json {
    wait_until_sync("targets to be processed", PATIENCE, || {
        let totals = world.sidecar.stats()["totals"].clone();
        if totals["processed"] == targets { Ok(totals) } else { Err(totals.to_string()) }
    })
}

fn pending(world: &mut World) -> i64 {
    world.standing("events").expect("a stream").pending
}

#[test]
fn p7_2_an_event_is_counted_before_it_and_acknowledged_after_it() {
    let mut world = world();
    world.seed(["vkey:abc"]);
    world.publish("SpendUpdated", &[("key_hash", "abc")]);
    let totals = processed(&world, 1);
    assert_eq!((&totals["pending"], &totals["keys_deleted"]), (&json!(0), &json!(1)));
    assert!(totals["average_batch_ms"].as_f64().expect("a number") < 1000.0, "{totals}");
    assert_eq!((pending(&mut world), world.notices().len()), (1, 1));

    world.seed(["vkey:abc"]);
    world.wait_done();
    assert!(world.keys().is_empty());
    let notices = world.notices();
    assert_eq!(notices.iter().map(Notice::keys).collect::<Vec<_>>(), [["vkey:abc"], ["vkey:abc"]]);
    assert!(notices[1].at() - notices[0].at() >= 2990);
    let totals = processed(&world, 1);
    assert_eq!((&totals["queued"], &totals["keys_deleted"]), (&json!(1), &json!(1)), "a second delete isn't counted");
}

#[test]
fn who_waits_for_the_delete_does_not_wait_for_it() {
    let mut world = world();
    world.seed(["vkey:abc"]);
    let (status, body) = world.sidecar.post("/v1/invalidate?wait=deleted", &json!({ "keys": ["vkey:abc"] }));
    let answer: Json = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &answer["success"], &answer["keys_deleted"]), (200, &json!(true), &json!(1)), "{body}");
    assert!(answer["duration_ms"].as_f64().expect("a number") < 1000.0, "{body}");
    assert_eq!(world.notices().len(), 1);
    world.seed(["vkey:abc"]);
    wait_until_sync("the second delete", PATIENCE, || if world.keys().is_empty() { Ok(()) } else { Err("it is there".to_owned()) });
}

#[test]
fn p7_3_one_that_fails_leaves_the_event_pending_and_the_counts_true() {
    let mut world =
        World::start("presets = ['llm-gateway']\n[retry]\nbudget = '100ms'\n[preset.llm-gateway.cache.virtual_key]\nsecond_delete = '1s'");
    world.publish("SpendUpdated", &[("key_hash", "abc")]);
    processed(&world, 1);
    let user = world.sidecar.name().to_owned();
    world.cmd(&["ACL", "SETUSER", &user, "-unlink"]);
    world.sidecar.wait_log("deliveries fail");
    assert_eq!(pending(&mut world), 1);
    world.cmd(&["ACL", "SETUSER", &user, "+unlink"]);
    world.wait_done();
    let totals = world.sidecar.stats()["totals"].clone();
    let count = |name: &str| totals[name].as_u64().expect("a number");
    assert!(count("queued") >= 2, "redelivery queues anew: {totals}");
    assert_eq!(count("queued"), count("processed") + count("coalesced") + count("failed") + count("pending"), "{totals}");
}

#[test]
fn told_to_end_it_does_it_first() {
    let mut world = world();
    world.publish("SpendUpdated", &[("key_hash", "abc")]);
    processed(&world, 1);
    world.seed(["vkey:abc"]);
    world.sidecar.terminate();
    assert_eq!(world.sidecar.wait_for(DELAY * 3), Some(0), "{}", world.sidecar.log());
    assert!(world.keys().is_empty() && world.notices().len() == 2);
    assert_eq!(pending(&mut world), 0);
}

#[test]
fn p1_18_a_process_killed_before_it_leaves_it_to_another() {
    const CONFIG: &str = "[reclaim]\ncritical_min_idle = '10s'\n[preset.llm-gateway.cache.virtual_key]\nsecond_delete = '3s'";
    let mut world = World::with(|setup| setup.preset("llm-gateway").config(CONFIG));
    world.publish("SpendUpdated", &[("key_hash", "abc")]);
    processed(&world, 1);
    world.sidecar.kill();
    assert_eq!((pending(&mut world), world.notices().len()), (1, 1));
    world.seed(["vkey:abc"]);
    let heir = Setup::on(&world.redis).preset("llm-gateway").config(CONFIG).start(&world.redis);
    world.wait_done();
    let at: Vec<i64> = world.notices().iter().map(Notice::at).collect();
    assert_eq!(at.len(), 3, "the first of the dead process, and both of its heir: {at:?}\n{}", heir.log());
    assert!(at[2] - at[1] >= 2990, "{at:?}");
    assert!(world.keys().is_empty());
}
