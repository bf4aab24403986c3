//! Publishers at full speed, and a Redis that stands still in the middle: bounded memory, and nothing lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup};

use super::kit::{pass, routes};

/// The memory that a sidecar may have in use.
pub(crate) const MOST: u64 = 96 << 20;
/// How many publishers there are, and how many events each adds at a time.
const PUBLISHERS: usize = 2;
const TOGETHER: usize = 200;

/// How long it lasts: some seconds, or as many as `UNSTALE_FLOOD_SECONDS` says (60 for the whole).
fn length() -> Duration {
    let seconds = std::env::var("UNSTALE_FLOOD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(6))
}

/// Publishers that don't stop for an answer of no: what Redis doesn't take is tried until it does.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<usize>>,
}

impl Flood {
    pub(crate) fn start(redis: &Redis) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let publisher = |number| {
            let (bus, stop) = (Bus::new(redis), Arc::clone(&stop));
            std::thread::spawn(move || publish(bus, number, &stop))
        };
        Self { publishers: (0..PUBLISHERS).map(publisher).collect(), stop }
    }

    /// Ends it, with all confirmed that was tried. Returns how many events there were.
    pub(crate) fn stop(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.publishers.drain(..).map(|publisher| publisher.join().expect("a publisher ends")).sum()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Publishes until it is told to stop, each event about a key of its own that is there.
fn publish(mut bus: Bus, publisher: usize, stop: &AtomicBool) -> usize {
    const SCRIPT: &str = "
        for event = 1, tonumber(ARGV[2]) do
          redis.call('SET', 'thing:' .. ARGV[1] .. event, 'value')
          redis.call('XADD', KEYS[1], '*', 'type', 'Changed', 'id', ARGV[1] .. event)
        end";
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        let words = ["EVAL", SCRIPT, "1", "unstale:events", &format!("{publisher}-{turn}-"), &TOGETHER.to_string()];
        wait_until_sync("Redis to take events", PATIENCE * 4, || bus.try_cmd(&words).map(drop));
        turn += 1;
    }
    turn * TOGETHER
}

#[test]
fn p5_6_a_flood_around_a_pause_of_redis_stays_within_memory_and_loses_nothing() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = Setup::on(&redis).config(&routes()).start(&redis);
    let (length, begun) = (length(), Instant::now());
    let flood = Flood::start(&redis);
    pass(length * 5 / 12);
    redis.pause();
    pass(length / 6);
    redis.resume();
    pass(length * 5 / 12);
    let (published, flooded) = (flood.stop(), begun.elapsed());
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
