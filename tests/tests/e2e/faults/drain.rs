//! The end of a process: told to end, told twice, or unable to.

use std::time::{Duration, Instant};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, World};

use super::kit::{Flow, TELLING, assert_nothing_lost, back, clock, pending, publish, routes, slow, slows, wait_given_up, wait_pending};

#[test]
fn told_to_end_in_mid_flow_it_finishes_what_it_read() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let flow = Flow::start(&redis);
    for _ in 0..3 {
        let mut sidecar = Setup::on(&redis).config(&routes()).start(&redis);
        let notices = bus.notices().len();
        wait_until_sync("it to be at work", PATIENCE, || {
            let (seen, busy) = (bus.notices().len(), !pending(&mut bus, "events").is_empty());
            if seen > notices && busy { Ok(()) } else { Err(format!("{seen} notices, busy: {busy}")) }
        });
        sidecar.terminate();
        assert_eq!(sidecar.wait(), Some(0), "{}", sidecar.log());
        assert_eq!((pending(&mut bus, "events"), pending(&mut bus, "events:critical")), (vec![], vec![]), "{}", sidecar.log());
    }
    let keys = flow.stop();
    let _next = Setup::on(&redis).config(&routes()).start(&redis);
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &keys);
}

#[test]
fn the_second_signal_ends_it_at_once() {
    let mut world = World::with(|setup| setup.config(&slow("9s")));
    publish(&mut world, "events", "Touched", 0..5);
    wait_pending(&mut world, "events", 5);
    world.sidecar.terminate();
    world.sidecar.wait_log("draining");
    let told = Instant::now();
    world.sidecar.terminate();
    assert_eq!(world.sidecar.wait(), Some(143), "{}", world.sidecar.log());
    assert!(told.elapsed() < Duration::from_secs(1), "{:?}", told.elapsed());
    assert_eq!(pending(&mut world, "events").len(), 5);
}

#[test]
fn past_its_deadline_it_ends_with_3_and_the_next_one_finishes_the_work() {
    let mut world = World::with(|setup| setup.config(&routes()).set("drain.deadline=1s"));
    publish(&mut world, "events", "Touched", 0..5);
    wait_pending(&mut world, "events", 5);
    world.redis.pause();
    let told = Instant::now();
    world.sidecar.terminate();
    assert_eq!(world.sidecar.wait(), Some(3), "{}", world.sidecar.log());
    assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
    world.redis.resume();
    assert_eq!(pending(&mut world, "events").len(), 5);
    let _next = Setup::on(&world.redis).config(&routes()).start(&world.redis);
    world.wait_settled();
    assert_nothing_lost(&mut world, &slows(0..5));
}

/// What was given up when the budget was spent isn't done.
#[test]
fn work_that_was_given_up_is_not_finished() {
    let mut world = World::with(|setup| setup.config(&routes()).set("drain.deadline=3s").set("retry.budget=300ms"));
    publish(&mut world, "events", "Touched", 0..5);
    wait_pending(&mut world, "events", 5);
    world.redis.kill();
    world.sidecar.terminate();
    assert_eq!(world.sidecar.wait(), Some(3), "{}", world.sidecar.log());
}

/// A server that comes back in time is not the end of the work.
#[test]
fn draining_it_goes_on_trying_until_the_deadline() {
    let mut redis = Redis::builder().args(["--appendonly", "yes", "--appendfsync", "always"]).start_sync();
    let mut bus = Bus::new(&redis);
    let mut sidecar = Setup::on(&redis).config(&routes()).set("retry.budget=300ms").set(TELLING).start(&redis);
    publish(&mut bus, "events", "Touched", 0..5);
    wait_pending(&mut bus, "events", 5);
    redis.kill();
    sidecar.terminate();
    wait_given_up(&sidecar, 1);
    back(&mut redis, &mut bus);
    assert_eq!(sidecar.wait(), Some(0), "{}", sidecar.log());
    assert_nothing_lost(&mut bus, &slows(0..5));
}

#[test]
fn without_work_it_ends_at_once_even_if_redis_is_gone() {
    let mut world = World::with(|setup| setup.config(&routes()));
    world.redis.kill();
    world.sidecar.wait_log("Redis can't be reached");
    let told = Instant::now();
    world.sidecar.terminate();
    assert_eq!(world.sidecar.wait(), Some(0), "{}", world.sidecar.log());
    assert!(told.elapsed() < Duration::from_secs(4), "{:?}", told.elapsed());
}

#[test]
fn the_lease_is_handed_over_at_once() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let mut fleet: Vec<_> = (0..2).map(|_| Setup::on(&redis).config(&slow("5s")).start(&redis)).collect();
    let reader = bus.reader().expect("one reads");
    let position = fleet.iter().position(|sidecar| sidecar.instance(&mut bus) == reader).expect("it is one of two");
    // It has something to finish, and gives the lease up before that.
    publish(&mut bus, "events", "Touched", 0..5);
    wait_pending(&mut bus, "events", 5);
    let told = clock(&mut bus);
    fleet[position].terminate();
    wait_until_sync("the other to read", PATIENCE, || match bus.reader() {
        Ok(holder) if holder != reader => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let took = clock(&mut bus) - told;
    eprintln!("the lease was handed over within {took} ms of SIGTERM");
    assert!(took <= 1000, "{took} ms");
    assert_eq!(fleet[position].wait(), Some(0), "{}", fleet[position].log());
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &slows(0..5));
}
