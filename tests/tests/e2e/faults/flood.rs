//! Publishers at full speed, and a Redis that stands still in the middle: bounded memory, and nothing lost.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, Setup};

use super::kit::{pass, routes};

/// The memory that a sidecar may have in use.
const MOST: u64 = 96 << 20;
/// How many publishers there are, and how many events each adds at a time.
const PUBLISHERS: usize = 2;
const TOGETHER: usize = 200;

/// How long it lasts: some seconds, or as many as `UNSTALE_FLOOD_SECONDS` says (60 for the whole).
fn length() -> Duration {
    let seconds = std::env::var("UNSTALE_FLOOD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

/// Publishes until it is told to stop, each event about a key of its own that is there.
fn publish(redis: &Redis, publisher: usize, count: &AtomicUsize, stop: &AtomicBool) {
    const SCRIPT: &str = "
        for event = 1, tonumber(ARGV[2]) do
          redis.call('SET', 'thing:' .. ARGV[1] .. event, 'value')
          redis.call('XADD', KEYS[1], '*', 'type', 'Changed', 'id', ARGV[1] .. event)
        end";
    let mut bus = Bus::new(redis);
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        bus.cmd(&["EVAL", SCRIPT, "1", "unstale:events", &format!("{publisher}-{turn}-"), &TOGETHER.to_string()]);
        count.fetch_add(TOGETHER, Ordering::Relaxed);
    }
}

#[test]
fn p5_6_a_flood_around_a_pause_of_redis_stays_within_memory_and_loses_nothing() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = Setup::on(&redis).config(&routes()).start(&redis);
    let (count, stop, length) = (AtomicUsize::new(0), AtomicBool::new(false), length());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let (redis, count, stop) = (&redis, &count, &stop);
            scope.spawn(move || publish(redis, publisher, count, stop));
        }
        pass(length * 5 / 12);
        redis.pause();
        pass(length / 6);
        redis.resume();
        pass(length * 5 / 12);
        stop.store(true, Ordering::Relaxed);
    });
    let (flooded, published) = (begun.elapsed(), count.into_inner());
    let at_the_end = bus.standing("events").map(|standing| standing.length).expect("the stream is there");
    let begun = Instant::now();
    wait_until_sync("all to be done", Duration::from_secs(600), || {
        let standing = bus.standing("events")?;
        if standing.is_done() { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    let peak = sidecar.peak_bytes();
    eprintln!(
        "{published} events in {flooded:?}, Redis paused for {:?} of it: {} MB at the most, {at_the_end} left in the stream, done {:?} later",
        length / 6,
        peak >> 20,
        begun.elapsed()
    );
    assert!(peak < MOST, "{} MB", peak >> 20);
    assert_eq!(bus.keys().len(), 0);
    assert_eq!(bus.dead_letters(), []);
}
