//! What `run` finds at its start is retried and reported; it never ends by itself for it.

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup};

use super::kit::{assert_nothing_lost, back, publish, routes, things};

#[test]
fn a_redis_that_is_not_there_yet_is_reported_and_awaited() {
    let mut redis = Redis::start_sync();
    let setup = Setup::on(&redis).config(&routes()).granted();
    redis.kill();
    let mut sidecar = setup.spawn();
    sidecar.wait_log("Connection refused");
    assert!(sidecar.log().contains(&redis.address().to_string()), "{}", sidecar.log());
    let (status, body) = sidecar.get("/readyz");
    assert_eq!(status, 503, "{body}");
    let mut bus = Bus::new(&redis);
    back(&mut redis, &mut bus);
    publish(&mut bus, "events", "Changed", 0..10);
    sidecar.ready(&mut bus);
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &things(0..10));
    wait_until_sync("the sidecar to be ready", PATIENCE, || match sidecar.get("/readyz") {
        (200, _) => Ok(()),
        (status, body) => Err(format!("{status} {body}")),
    });
}

#[test]
fn a_stream_key_that_is_no_stream_is_reported_until_it_is_removed() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    bus.cmd(&["SET", "unstale:events", "I am a string"]);
    let sidecar = Setup::on(&redis).config(&routes()).spawn();
    sidecar.wait_log("wrong_type");
    let log = sidecar.log();
    assert!(
        log.lines().any(|line| line.contains("unstale:events") && line.contains("no stream") && line.contains("rename or delete")),
        "{log}"
    );
    // What is not concerned goes on.
    publish(&mut bus, "events:critical", "Revoked", 0..5);
    bus.wait_notice("of critical events", |notice| notice.priority() == "critical");
    wait_until_sync("health to name the key", PATIENCE, || {
        let (_, body) = sidecar.get("/healthz");
        if body.contains("unhealthy") && body.contains("unstale:events") { Ok(()) } else { Err(body) }
    });
    bus.cmd(&["DEL", "unstale:events"]);
    publish(&mut bus, "events", "Changed", 5..10);
    wait_until_sync("the group to be made", PATIENCE, || bus.standing("events"));
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &things(0..10));
}
