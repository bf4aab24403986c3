//! kill -9 in mid-batch.

use std::time::{Duration, Instant};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup};

use super::kit::{Flow, Random, assert_nothing_lost, routes};

const KILLS: u64 = 20;

/// These lives go on until they have taken over what those before them left, and a little longer.
const TAKEOVERS: [u64; 2] = [6, 13];

#[test]
fn p1_3_twenty_kills_in_mid_batch_lose_nothing() {
    let mut random = Random::seeded();
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = || Setup::on(&redis).config(&routes()).set("batching.window=20ms").start(&redis);
    let flow = Flow::start(&redis);
    let mut caught = Vec::new();
    for kill in 0..KILLS {
        let mut sidecar = sidecar();
        let takes_over = TAKEOVERS.contains(&kill);
        if takes_over {
            sidecar.wait_log("took over pending entries");
        }
        let further = if takes_over { 100 } else { 1 } + random.below(60);
        let goal = length(&mut bus, "notices") + i64::try_from(further).expect("it is small");
        let instance = sidecar.instance(&mut bus);
        wait_until_sync("a batch under way", PATIENCE, || {
            let notices = length(&mut bus, "notices");
            let at_work = in_hand(&mut bus, &instance, 1) > 0;
            if notices >= goal && at_work { Ok(()) } else { Err(format!("{notices} of {goal} notices, at work: {at_work}")) }
        });
        let (moment, begun) = (Duration::from_micros(random.below(5000)), Instant::now());
        while begun.elapsed() < moment {}
        sidecar.kill();
        caught.push(in_hand(&mut bus, &instance, 100_000));
        // Often the next one reads at once; else it finds the lease taken for up to two seconds.
        if random.below(4) > 0 {
            bus.cmd(&["DEL", "unstale:reader"]);
        }
    }
    let keys = flow.stop();
    let _last = sidecar();
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &keys);
    let notices = bus.notices().len();
    eprintln!("{KILLS} kills, {} keys, {notices} notices; entries in hand at each kill: {caught:?}", keys.len());
    assert!(caught.iter().filter(|entries| **entries > 0).count() >= 15, "too few in mid-batch: {caught:?}");
}

/// How many entries this instance has read and not acknowledged; counts no further than `most` on each stream.
fn in_hand(bus: &mut Bus, instance: &str, most: usize) -> usize {
    let of = |stream: &str| ["XPENDING", stream, "unstale", "-", "+", &most.to_string(), instance].map(str::to_owned);
    ["unstale:events", "unstale:events:critical"].into_iter().map(|stream| bus.cmd(&of(stream)).array().len()).sum()
}

fn length(bus: &mut Bus, stream: &str) -> i64 {
    let stream = bus.key(stream);
    bus.cmd(&["XLEN", &stream]).int()
}
