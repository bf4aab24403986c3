//! Twenty instances, and a storm: connections are cut and processes paused at random while keys are invalidated as fast as it goes. Every receiver
//! hears every key, each notice once, in order, and is told to drop everything never, for no history is lost. And how fast all of that is.
//!
//! `cargo xtask storm` is the long form, and prints what it saw.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use unstale_testkit::{Redis, Resp, wait_until_sync};
use unstale_tests::sse::{Handle, Stream};
use unstale_tests::{Bus, Setup, Sidecar};

/// Receivers, and sidecars, unless the environment says otherwise.
const INSTANCES: usize = 20;
/// Events of the short form.
const EVENTS: usize = 20_000;
/// How many are published at a time.
const PAGE: usize = 500;
/// How long the last notice may take to come to the last receiver.
const PATIENCE: Duration = Duration::from_secs(120);
const ROUTES: &str = "[cache.c]
prefixes = ['c:']
[[route]]
event = 'Changed'
cache = 'c'
keys = ['c:{k}']
[[route]]
event = 'Revoked'
cache = 'c'
priority = 'critical'
keys = ['c:{k}']
[batching]
max_size = 10
[health]
error_rate = 1.0";

/// What the environment says, if it says anything.
fn wish(variable: &str) -> Option<usize> {
    std::env::var(variable).ok().map(|count| count.parse().unwrap_or_else(|_| panic!("{variable} is {count}, and no number")))
}

fn instances() -> usize {
    wish("UNSTALE_STORM_RECEIVERS").unwrap_or(INSTANCES)
}

fn is_long() -> bool {
    std::env::var_os("UNSTALE_STORM_EVENTS").is_some()
}

/// So many sidecars on one server.
pub(crate) fn fleet(redis: &Redis, count: usize) -> Vec<Sidecar> {
    let mut fleet: Vec<Sidecar> = (0..count).map(|_| Setup::on(redis).config(ROUTES).spawn()).collect();
    let mut bus = Bus::new(redis);
    for sidecar in &mut fleet {
        sidecar.ready(&mut bus);
    }
    fleet
}

/// What one receiver hears, whatever happens to its connections.
#[derive(Debug, Default)]
struct Ear {
    /// The number of the last notice.
    seq: AtomicU64,
    /// The keys, by their number.
    keys: Mutex<BTreeSet<usize>>,
    flushes: AtomicU64,
    resumes: AtomicU64,
    /// The longest time from the end of a connection to the hello of the next, in milliseconds.
    longest_break: AtomicU64,
    handle: Mutex<Option<Handle>>,
    wrong: Mutex<Option<String>>,
    ended: AtomicBool,
}

impl Ear {
    fn listen(url: String) -> (Arc<Self>, JoinHandle<()>) {
        let ear = Arc::new(Self::default());
        let listening = thread::spawn({
            let ear = Arc::clone(&ear);
            move || ear.run(&format!("{url}/v1/notices"))
        });
        (ear, listening)
    }

    fn run(&self, url: &str) {
        let mut last: Option<String> = None;
        let mut broke = Instant::now();
        while !self.ended.load(Ordering::Relaxed) {
            let Ok((hello, mut stream)) = Stream::open(url, last.as_deref()) else {
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            if last.is_some() {
                self.resumes.fetch_add(1, Ordering::Relaxed);
                self.longest_break.fetch_max(u64::try_from(broke.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
                self.flushes.fetch_add(u64::from(!hello.resumed()), Ordering::Relaxed);
            }
            self.seq.store(hello.seq(), Ordering::Relaxed);
            last = Some(hello.id);
            *self.handle.lock().expect("a lock") = Some(stream.handle());
            while let Ok(event) = stream.next() {
                last = Some(event.id.clone());
                self.hear(&event);
            }
            broke = Instant::now();
        }
    }

    fn hear(&self, event: &unstale_tests::sse::Event) {
        let before = self.seq.swap(event.seq(), Ordering::Relaxed);
        let expected = if event.name == "beat" { before } else { before + 1 };
        if event.seq() != expected {
            self.wrong.lock().expect("a lock").get_or_insert(format!("after {before} came {event:?}"));
        }
        self.flushes.fetch_add(u64::from(event.name == "flush"), Ordering::Relaxed);
        let numbers = event.keys().into_iter().filter_map(|key| key.strip_prefix("c:")?.parse::<usize>().ok());
        self.keys.lock().expect("a lock").extend(numbers);
    }
}

/// Breaks something every now and then, in an order that the seed decides. The seed is not 0.
fn chaos(redis: &Redis, fleet: &[Sidecar], ears: &[Arc<Ear>], seed: usize, stop: &AtomicBool) -> usize {
    let mut resp = redis.resp();
    let (mut dice, mut faults) = (0x2545_F491_4F6C_DD1D_u64.wrapping_mul(seed as u64), 0);
    let mut roll = |sides: usize| {
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        usize::try_from(dice % sides as u64).unwrap_or_default()
    };
    while !stop.load(Ordering::Relaxed) {
        let victim = roll(fleet.len());
        match roll(4) {
            0 => {
                fleet[victim].pause();
                thread::sleep(Duration::from_millis(100 + roll(400) as u64));
                fleet[victim].resume();
            }
            1 => kill_connections(&mut resp, fleet[victim].name(), roll(2) == 0),
            _ => drop(ears[victim].handle.lock().expect("a lock").as_ref().map(Handle::cut)),
        }
        faults += 1;
        thread::sleep(Duration::from_millis(roll(100) as u64));
    }
    faults
}

/// Ends connections of one sidecar to Redis: the one that follows the log, or all.
fn kill_connections(resp: &mut Resp, name: &str, all: bool) {
    let what = if all { "name=unstale:".to_owned() } else { "name=unstale:notices:".to_owned() };
    let clients = resp.cmd(&["CLIENT", "LIST"]).text();
    for line in clients.lines().filter(|line| line.contains(&what) && line.contains(&format!(":{name}-"))) {
        let id = line.strip_prefix("id=").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        // It may have ended by itself.
        let _ = resp.try_cmd(&["CLIENT", "KILL", "ID", id]);
    }
}

fn publish(bus: &mut Bus, events: usize) {
    for first in (0..events).step_by(PAGE) {
        let page = first..(first + PAGE).min(events);
        let entry = |number: usize| ["type", "Changed", "k", &number.to_string()].map(str::to_owned).to_vec();
        bus.add_all(&page.map(entry).collect::<Vec<_>>());
    }
}

#[test]
fn p3_9_whatever_breaks_every_receiver_hears_every_key_once_and_in_order() {
    let (redis, events) = (Redis::start_sync(), wish("UNSTALE_STORM_EVENTS").unwrap_or(EVENTS));
    let (instances, seed) = (instances(), wish("UNSTALE_STORM_SEED").unwrap_or(1));
    let fleet = fleet(&redis, instances);
    let (ears, listening): (Vec<_>, Vec<_>) = fleet.iter().map(|sidecar| Ear::listen(sidecar.http())).unzip();
    let mut bus = Bus::new(&redis);
    wait_until_sync("all receivers to be connected", PATIENCE, || {
        let missing = ears.iter().filter(|ear| ear.handle.lock().expect("a lock").is_none()).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} are not")) }
    });

    let (began, stop) = (Instant::now(), AtomicBool::new(false));
    let faults = thread::scope(|scope| {
        let faults = scope.spawn(|| chaos(&redis, &fleet, &ears, seed, &stop));
        publish(&mut bus, events);
        let patience = PATIENCE + Duration::from_millis(events as u64);
        let heard = std::panic::catch_unwind(|| {
            wait_until_sync("every receiver to hear every key", patience, || {
                let fewest = ears.iter().map(|ear| ear.keys.lock().expect("a lock").len()).min().unwrap_or_default();
                if fewest == events { Ok(()) } else { Err(format!("the one that heard least heard {fewest} of {events}")) }
            });
        });
        stop.store(true, Ordering::Relaxed);
        let faults = faults.join().expect("the storm ends");
        heard.map(|()| faults)
    });
    let faults = faults.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let took = began.elapsed();
    for ear in &ears {
        ear.ended.store(true, Ordering::Relaxed);
        ear.handle.lock().expect("a lock").as_ref().map(Handle::cut);
    }
    for thread in listening {
        thread.join().expect("a receiver that ends");
    }
    let sum = |count: fn(&Ear) -> &AtomicU64| ears.iter().map(|ear| count(ear).load(Ordering::Relaxed)).sum::<u64>();
    let longest = ears.iter().map(|ear| ear.longest_break.load(Ordering::Relaxed)).max().unwrap_or_default();
    println!(
        "seed {seed}: {events} events, {} notices, {instances} receivers, {faults} faults, {} resumes (the longest break {longest} ms), {took:?}",
        redis.cmd(&["XREVRANGE", "unstale:notices", "+", "-", "COUNT", "1"]).array()[0].array()[1].texts()[1],
        sum(|ear| &ear.resumes)
    );
    let wrong: Vec<_> = ears.iter().filter_map(|ear| ear.wrong.lock().expect("a lock").clone()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(sum(|ear| &ear.flushes), 0, "no history was lost");
    assert_eq!(fleet.iter().map(|sidecar| sidecar.metric("unstale_notice_gaps_total")).sum::<u64>(), 0);
}

#[test]
fn missed_notices_are_replayed_about_as_fast_as_redis_reads_them() {
    const MISSED: u64 = 10_000;
    let redis = Redis::start_sync();
    let write = "for n = 1, ARGV[1] do redis.call('XADD', KEYS[1], '*', 'seq', n, 'notice', '{\"v\":1,\"seq\":' .. n .. ',\"drop\":[{\"cache\":\"c\",\"keys\":[\"c:' .. n .. '\"],\"patterns\":[]}]}') end";
    redis.cmd(&["EVAL", write, "1", "unstale:notices", &MISSED.to_string()]);
    let fleet = fleet(&redis, 1);
    let began = Instant::now();
    let (hello, mut stream) = fleet[0].notices("", Some("0-0/0"));
    assert!(hello.resumed());
    while stream.next_notice().expect("a notice").seq() < MISSED {}
    let replayed = began.elapsed();

    let (mut resp, mut from, mut read) = (redis.resp(), "-".to_owned(), 0);
    let began = Instant::now();
    while read < MISSED {
        let page = resp.cmd(&["XRANGE", "unstale:notices", &from, "+", "COUNT", "1000"]);
        read += page.array().len() as u64;
        from = format!("({}", page.array().last().expect("an entry").array()[0].text());
    }
    let plain = began.elapsed();
    println!("{MISSED} missed notices: replayed in {replayed:?}; a plain loop of XRANGE takes {plain:?}");
    assert!(!is_long() || replayed < Duration::from_millis(250), "{replayed:?}");
}

/// From XADD to the last of all receivers, for each of so many critical events.
fn latencies(bus: &mut Bus, fleet: &[Sidecar], count: usize, name: &str) -> Vec<Duration> {
    let (heard, hearing) = mpsc::channel();
    let mut threads = Vec::new();
    let last = format!("c:{name}{}", count - 1);
    for sidecar in fleet {
        let (_, mut stream) = sidecar.notices("", None);
        let (heard, name, last) = (heard.clone(), format!("c:{name}"), last.clone());
        threads.push(thread::spawn(move || {
            loop {
                let keys = stream.next_notice().expect("a notice").keys();
                let now = Instant::now();
                for key in keys.iter().filter_map(|key| key.strip_prefix(&name)?.parse::<usize>().ok()) {
                    heard.send((key, now)).expect("somebody listens");
                }
                if keys.contains(&last) {
                    return;
                }
            }
        }));
    }
    let took = (0..count).map(|number| {
        let began = Instant::now();
        bus.publish_critical("Revoked", &[("k", &format!("{name}{number}"))]);
        let all = (0..fleet.len()).map(|_| hearing.recv_timeout(PATIENCE).expect("all hear it"));
        let last = all.map(|(heard, at)| (assert_eq!(heard, number), at).1).max().expect("a receiver");
        last.saturating_duration_since(began)
    });
    let mut took: Vec<Duration> = took.collect();
    for thread in threads {
        thread.join().expect("it has heard the last");
    }
    took.sort();
    took
}

#[test]
fn a_critical_event_is_heard_by_the_last_of_twenty() {
    let (redis, count) = (Redis::start_sync(), if is_long() { 1000 } else { 50 });
    let fleet = fleet(&redis, instances());
    let mut bus = Bus::new(&redis);
    let show = |what: &str, took: &[Duration]| {
        println!(
            "XADD to the last of {} receivers, {what}: p50 {:?}, p99 {:?}",
            fleet.len(),
            took[took.len() / 2],
            took[took.len() * 99 / 100]
        );
    };
    show("idle", &latencies(&mut bus, &fleet, count, "idle"));
    if is_long() {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut bus = Bus::new(&redis);
                let began = Instant::now();
                for page in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    publish_load(&mut bus, page);
                    thread::sleep(Duration::from_millis(10 * (page as u64 + 1)).saturating_sub(began.elapsed()));
                }
            });
            show("at 10,000 events a second", &latencies(&mut bus, &fleet, count, "busy"));
            stop.store(true, Ordering::Relaxed);
        });
    }
}

/// A hundredth of a second's load.
fn publish_load(bus: &mut Bus, page: usize) {
    let entry = |number: usize| ["type", "Changed", "k", &format!("load{}", page * 100 + number)].map(str::to_owned).to_vec();
    bus.add_all(&(0..100).map(entry).collect::<Vec<_>>());
}
