//! Redis paused, killed, restarted, and empty afterwards.

use std::time::Duration;

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar, World};

use super::kit::{
    TELLING, announced, assert_nothing_lost, back, cpu_time, pass, pending, publish, routes, slow, slows, things, wait_given_up,
    wait_pending,
};

/// How long the outages last in which processor time is measured.
const OUTAGE: Duration = Duration::from_secs(3);

/// Measures an outage of three seconds: hardly any processor time, and a log that says what changed and no more.
#[track_caller]
fn endure(sidecar: &Sidecar, what: &str) {
    let (before, lines) = (cpu_time(sidecar), sidecar.log().lines().count());
    pass(OUTAGE);
    let used = cpu_time(sidecar).saturating_sub(before);
    let log = sidecar.log();
    let said: Vec<&str> = log.lines().skip(lines).collect();
    eprintln!("{what}: {used:?} of processor time in {OUTAGE:?}, {} lines", said.len());
    assert!(used < Duration::from_millis(300), "{used:?}");
    assert!(said.len() <= 12, "a flood of {} lines:\n{}", said.len(), said.join("\n"));
    assert_eq!(log.matches("Redis can't be reached").count(), 1, "{log}");
    let (_, body) = sidecar.get("/healthz");
    assert!(body.contains("unhealthy") && body.contains("redis_down"), "{body}");
}

/// It is well again, and says once that Redis is back, when the connections have held for a while.
#[track_caller]
fn recovered(sidecar: &Sidecar) {
    wait_until_sync("health to say nothing of Redis", PATIENCE, || {
        let (_, body) = sidecar.get("/healthz");
        if body.contains("redis_") { Err(body) } else { Ok(()) }
    });
    sidecar.wait_log("connected to Redis again");
    let log = sidecar.log();
    assert_eq!((log.matches("connected to Redis").count(), log.matches("Redis can't be reached").count()), (2, 1), "{log}");
}

fn quick(setup: Setup) -> Setup {
    setup.config(&routes()).set("redis.main.command_timeout=500ms").set("redis.main.connect_timeout=500ms")
}

#[test]
fn a_paused_redis_costs_no_event_and_no_processor_time() {
    let mut world = World::with(quick);
    publish(&mut world, "events", "Touched", 0..50);
    wait_pending(&mut world, "events", 50);
    world.redis.pause();
    endure(&world.sidecar, "paused");
    world.sidecar.wait_log("Redis can't be reached");
    world.redis.resume();
    publish(&mut world, "events", "Changed", 100..200);
    world.wait_settled();
    assert_nothing_lost(&mut world, &(&things(100..200) | &slows(0..50)));
    recovered(&world.sidecar);
}

/// All beats are old after a pause; nobody may be judged by them.
#[test]
fn after_a_pause_of_redis_living_sidecars_do_not_take_each_other_for_dead() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let config = super::kit::slow("9s");
    let fleet: Vec<_> = (0..2).map(|_| Setup::on(&redis).config(&config).start(&redis)).collect();
    let reader = bus.reader().expect("one reads");
    let mut number = 0;
    // The stand-by holds a critical entry for nine seconds.
    let held = wait_until_sync("the stand-by to hold a critical entry", PATIENCE, || {
        publish(&mut bus, "events:critical", "TouchedAtOnce", number..number + 1);
        number += 1;
        pending(&mut bus, "events:critical").into_iter().find(|entry| entry.consumer != reader).ok_or_else(|| "none".to_owned())
    });
    redis.pause();
    pass(Duration::from_secs(4));
    redis.resume();
    bus.wait_settled();
    let takers: Vec<_> = fleet.iter().filter(|sidecar| sidecar.log().contains("took over")).map(Sidecar::log).collect();
    let of_held = bus.notices().into_iter().filter(|notice| notice.events().contains(&held.id)).collect::<Vec<_>>();
    assert!(of_held.iter().all(|notice| notice.json["origin"] == *held.consumer), "{of_held:#?}\n{takers:?}");
}

#[test]
fn p1_5_a_redis_that_is_killed_and_keeps_its_data_loses_nothing() {
    let mut redis = Redis::builder().args(["--appendonly", "yes", "--appendfsync", "always"]).start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = quick(Setup::on(&redis)).start(&redis);
    publish(&mut bus, "events", "Touched", 0..50);
    publish(&mut bus, "events", "Changed", 0..500);
    wait_until_sync("entries to be under way", PATIENCE, || {
        let count = pending(&mut bus, "events").len();
        if count > 0 { Ok(()) } else { Err(String::new()) }
    });
    redis.kill();
    endure(&sidecar, "killed");
    back(&mut redis, &mut bus);
    publish(&mut bus, "events", "Changed", 500..600);
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &(&things(0..600) | &slows(0..50)));
    recovered(&sidecar);
}

/// The figure that matters to who waits: from the first answer of a Redis that was away to the last event that it left unfinished.
#[test]
fn p1_6_within_two_seconds_of_its_first_answer_all_is_done_that_an_outage_left() {
    // A machine that is busy with other tests may be slow once; who is always slow is at fault.
    let took: Vec<Duration> =
        std::iter::repeat_with(finish_after_an_outage).take(3).take_while(|took| *took > Duration::from_secs(2)).collect();
    assert!(took.len() < 3, "{took:?}");
}

/// How long after the first answer of a Redis that was killed and started again everything is done.
fn finish_after_an_outage() -> Duration {
    let mut redis = Redis::builder().args(["--appendonly", "yes", "--appendfsync", "always"]).start_sync();
    let mut bus = Bus::new(&redis);
    let _sidecar = quick(Setup::on(&redis)).start(&redis);
    publish(&mut bus, "events", "Touched", 0..50);
    publish(&mut bus, "events:critical", "TouchedAtOnce", 50..100);
    wait_pending(&mut bus, "events", 50);
    redis.kill();
    pass(OUTAGE);
    redis.launch();
    wait_until_sync("its first answer", PATIENCE, || bus.try_cmd(&["PING"]).map(drop));
    let answered = std::time::Instant::now();
    publish(&mut bus, "events", "Changed", 0..100);
    publish(&mut bus, "events:critical", "Revoked", 100..120);
    bus.wait_done();
    let took = answered.elapsed();
    eprintln!("after a restart of Redis all was done {took:?} after its first answer");
    assert_nothing_lost(&mut bus, &(&things(0..120) | &slows(0..100)));
    took
}

/// In an outage good entries gather deliveries; none of these is theirs.
#[test]
fn p1_10_outages_that_come_again_and_again_bury_nobody() {
    let mut redis = Redis::builder().args(["--appendonly", "yes", "--appendfsync", "always"]).start_sync();
    let mut bus = Bus::new(&redis);
    let setup = Setup::on(&redis).config(&slow("1s")).set("retry.budget=300ms").set(TELLING).set("redis.main.command_timeout=500ms");
    let sidecar = setup.start(&redis);
    publish(&mut bus, "events", "Touched", 0..5);
    let mut told = 0;
    for outage in 0..7 {
        // Tried once more: deleted, announced, and waiting for the second delete, which will fail.
        wait_until_sync("another try", PATIENCE, || {
            let notices = bus.notices().len();
            if notices > told { Ok(()) } else { Err(format!("{notices} notices\n{}", sidecar.log())) }
        });
        told = bus.notices().len();
        let left = wait_pending(&mut bus, "events", 5);
        assert!(left.iter().all(|entry| entry.deliveries <= 2), "after {outage} outages: {left:?}");
        redis.kill();
        wait_given_up(&sidecar, outage + 1);
        back(&mut redis, &mut bus);
    }
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &slows(0..5));
}

#[test]
fn a_redis_that_comes_back_empty_gets_its_streams_and_groups_again() {
    let mut redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = quick(Setup::on(&redis)).start(&redis);
    publish(&mut bus, "events", "Changed", 0..50);
    bus.wait_settled();
    publish(&mut bus, "events", "Touched", 0..50);
    wait_pending(&mut bus, "events", 50);
    redis.kill();
    redis.wipe();
    back(&mut redis, &mut bus);
    // Before the group is made again: it begins at the beginning.
    publish(&mut bus, "events", "Changed", 50..100);
    publish(&mut bus, "events:critical", "Revoked", 100..110);
    wait_until_sync("the group to be made again", PATIENCE, || bus.standing("events").and(bus.standing("events:critical")));
    bus.wait_settled();
    assert_eq!(things(50..110).difference(&announced(&mut bus)).count(), 0);
    assert_eq!(bus.keys(), [].into());
    assert_eq!(bus.reader(), Ok(sidecar.instance(&mut bus)));
}

#[test]
fn a_stream_that_is_deleted_under_a_reader_is_made_again() {
    let mut world = World::with(quick);
    publish(&mut world, "events", "Changed", 0..10);
    world.wait_settled();
    world.cmd(&["DEL", "unstale:events", "unstale:events:critical"]);
    publish(&mut world, "events", "Changed", 10..20);
    publish(&mut world, "events:critical", "Revoked", 20..30);
    wait_until_sync("the group to be made again", PATIENCE, || world.standing("events").and(world.standing("events:critical")));
    world.wait_settled();
    assert_nothing_lost(&mut world, &things(0..30));
}

#[test]
fn p1_17_what_a_killed_redis_forgot_is_done_again_before_it_is_acknowledged() {
    let mut world = World::start(&slow("2s"));
    // Nothing can be acknowledged for now, so that it is owed when Redis dies.
    let user = world.sidecar.name().to_owned();
    world.cmd(&["ACL", "SETUSER", &user, "-xack"]);
    publish(&mut world, "events", "Touched", 0..5);
    wait_until_sync("the first deletes", PATIENCE, || if world.keys().is_empty() { Ok(()) } else { Err(format!("{:?}", world.keys())) });
    world.seed((0..5).map(|number| format!("slow:{number}")));
    world.cmd(&["SAVE"]);
    wait_until_sync("the second deletes", PATIENCE, || if world.keys().is_empty() { Ok(()) } else { Err(format!("{:?}", world.keys())) });
    wait_until_sync("a refused XACK", PATIENCE, || {
        let info = world.cmd(&["INFO", "commandstats"]).text();
        let line = info.lines().find(|line| line.starts_with("cmdstat_xack:")).unwrap_or_default().to_owned();
        if line.contains("rejected_calls=") && !line.contains("rejected_calls=0") { Ok(()) } else { Err(line) }
    });

    let World { redis, sidecar, .. } = &mut world;
    redis.kill();
    sidecar.wait_log("Redis can't be reached");
    let mut bus = Bus::new(redis);
    back(redis, &mut bus);
    bus.wait_done();
    assert_eq!(bus.keys(), std::collections::BTreeSet::new(), "the second deletes are lost, and with them what asks for them");
}
