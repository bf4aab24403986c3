//! From the `XADD` of a critical event until the last of twenty instances has dropped its copy, alone and beside 10,000 other events a second.
//!
//! `UNSTALE_STORM_EVENTS=1 cargo test --release -p unstale-tests --test e2e -- latency:: --nocapture` is the long form; it prints what it saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use unstale_client::{Feed, Notice, Notices, Receiver, Settings, TieredCache};
use unstale_testkit::Redis;
use unstale_tests::{Bus, PATIENCE, Sidecar};

use super::{read, trusted};
use crate::storm::fleet;

const INSTANCES: usize = 20;
/// What the events that are measured are about.
const KEY: &str = "c:measured";

/// The cache of one instance, in both tiers, and who is told when it has dropped the key.
struct Instance {
    cache: TieredCache,
    dropped: Sender<Instant>,
}

impl Receiver for Instance {
    fn begin(&self) {
        self.cache.begin();
    }

    fn notice(&self, notice: &Notice) {
        self.cache.notice(notice);
        if notice.drop.iter().any(|dropped| dropped.keys.iter().any(|key| key == KEY)) {
            // Nobody listens any more once all is measured.
            let _ = self.dropped.send(Instant::now());
        }
    }

    fn flush(&self) {
        Receiver::flush(&self.cache);
    }

    fn vouch(&self) {
        Receiver::vouch(&self.cache);
    }

    fn doubt(&self) {
        Receiver::doubt(&self.cache);
    }
}

/// An instance beside each sidecar, and where they tell what they drop.
async fn instances(redis: &Redis, fleet: &[Sidecar]) -> (Vec<(TieredCache, Feed)>, mpsc::Receiver<Instant>) {
    let (dropped, drops) = mpsc::channel();
    let instance = |sidecar: &Sidecar| {
        let cache = TieredCache::connect(&redis.url(), Settings::default()).expect("a URL");
        let receiver = Instance { cache: cache.clone(), dropped: dropped.clone() };
        let feed = Notices::of_sidecar(&sidecar.http()).expect("an address").feed([Arc::new(receiver) as _]);
        (cache, feed)
    };
    let instances: Vec<_> = fleet.iter().map(instance).collect();
    join_all(instances.iter().map(|(cache, _)| trusted(cache))).await;
    (instances, drops)
}

/// What each of so many events took to be dropped everywhere, sorted.
async fn latencies(bus: &mut Bus, caches: &[(TieredCache, Feed)], drops: &mpsc::Receiver<Instant>, count: u64) -> Vec<Duration> {
    let mut took = Vec::new();
    for version in 0..count {
        let held = join_all(caches.iter().map(|(cache, _)| read(cache, KEY, version))).await;
        assert!(held.iter().all(|held| *held == version), "all have what is about to be dropped: {held:?}");
        let began = Instant::now();
        bus.publish_critical("Revoked", &[("k", "measured")]);
        let all = caches.iter().map(|_| drops.recv_timeout(PATIENCE).expect("all drop it"));
        took.push(all.max().expect("an instance").saturating_duration_since(began));
    }
    took.sort();
    took
}

fn is_long() -> bool {
    std::env::var_os("UNSTALE_STORM_EVENTS").is_some()
}

fn show(what: &str, took: &[Duration]) {
    println!(
        "XADD to dropped in the last of {INSTANCES} instances, {what}: p50 {:?}, p99 {:?}",
        took[took.len() / 2],
        took[took.len() * 99 / 100]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_critical_event_is_dropped_by_the_last_of_twenty() {
    let (redis, count) = (Redis::start_sync(), if is_long() { 1000 } else { 20 });
    let fleet = fleet(&redis, INSTANCES);
    let (caches, drops) = instances(&redis, &fleet).await;
    let mut bus = Bus::new(&redis);
    show("idle", &latencies(&mut bus, &caches, &drops, count).await);
    if is_long() {
        let stop = Arc::new(AtomicBool::new(false));
        let load = thread::spawn({
            let (mut bus, stop) = (bus.again(), Arc::clone(&stop));
            move || load(&mut bus, &stop)
        });
        show("at 10,000 events a second", &latencies(&mut bus, &caches, &drops, count).await);
        stop.store(true, Ordering::Relaxed);
        let (published, within) = load.join().expect("the load ends");
        println!("{published} other events in {within:?}");
    }
}

/// Publishes 10,000 events a second, and tells how many it were.
fn load(bus: &mut Bus, stop: &AtomicBool) -> (usize, Duration) {
    const PAGE: usize = 100;
    let (began, mut pages) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let entry = |number: usize| ["type", "Changed", "k", &format!("load{}", pages * PAGE + number)].map(str::to_owned).to_vec();
        bus.add_all(&(0..PAGE).map(entry).collect::<Vec<_>>());
        pages += 1;
        thread::sleep((Duration::from_millis(10) * u32::try_from(pages).unwrap_or(u32::MAX)).saturating_sub(began.elapsed()));
    }
    (pages * PAGE, began.elapsed())
}
