//! What the tests of faults have in common: one small route file, a steady flow of events, and looks at groups and processes.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Sidecar, THINGS};

/// What `Touched` names is deleted a second time, so that its entries are pending for as long as [`slow`] says.
const SLOW_ROUTES: &str = r#"
[[route]]
event = ["Touched", "TouchedAtOnce"]
cache = "slow"
keys = ["slow:{id}"]
[[route]]
event = "TouchedAtOnce"
priority = "critical"
"#;

/// The routes, with the time between the two deletes of the slow cache.
pub(crate) fn slow(second_delete: &str) -> String {
    let cache = format!("[cache.slow]\nprefixes = [\"slow:\"]\nsecond_delete = \"{second_delete}\"\n");
    format!("{THINGS}{SLOW_ROUTES}{cache}[reclaim]\nmin_idle = \"40s\"\ncritical_min_idle = \"40s\"\n")
}

/// The routes.
pub(crate) fn routes() -> String {
    slow("150ms")
}

/// Random numbers that are the same for the same seed; `UNSTALE_TEST_SEED` repeats a run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded() -> Self {
        let clock = || SystemTime::UNIX_EPOCH.elapsed().map_or(1, |now| now.subsec_nanos().into());
        let seed = std::env::var("UNSTALE_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(clock);
        eprintln!("UNSTALE_TEST_SEED={seed}");
        Self(seed)
    }

    /// Below `bound`. `SplitMix64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// One event for each number, about a key that is there; on `stream`, all at once. Returns the entries.
pub(crate) fn publish(bus: &mut Bus, stream: &str, kind: &str, numbers: Range<usize>) -> Vec<String> {
    let prefix = if kind.starts_with("Touched") { "slow" } else { "thing" };
    bus.seed(numbers.clone().map(|number| format!("{prefix}:{number}")));
    let stream = bus.key(stream);
    bus.cmd(&["MULTI"]);
    for number in numbers {
        bus.cmd(&["XADD", &stream, "*", "type", kind, "id", &number.to_string()]);
    }
    bus.cmd(&["EXEC"]).texts()
}

/// The keys of these numbers.
pub(crate) fn things(numbers: Range<usize>) -> BTreeSet<String> {
    numbers.map(|number| format!("thing:{number}")).collect()
}

/// Those of the slow cache.
pub(crate) fn slows(numbers: Range<usize>) -> BTreeSet<String> {
    numbers.map(|number| format!("slow:{number}")).collect()
}

/// All keys that the notice log announces, after a look at its numbers: they begin at 1 and none is missing.
#[track_caller]
pub(crate) fn announced(bus: &mut Bus) -> BTreeSet<String> {
    let notices = bus.notices();
    let seqs: Vec<i64> = notices.iter().map(|notice| notice.seq).collect();
    let consecutive: Vec<i64> = (1..).take(seqs.len()).collect();
    assert_eq!(seqs, consecutive);
    notices.iter().flat_map(unstale_tests::Notice::keys).collect()
}

/// One pending entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) id: String,
    pub(crate) consumer: String,
    pub(crate) deliveries: i64,
}

/// What is pending on a stream.
pub(crate) fn pending(bus: &mut Bus, stream: &str) -> Vec<Pending> {
    let stream = bus.key(stream);
    let list = bus.cmd(&["XPENDING", &stream, "unstale", "-", "+", "100000"]);
    let entry = |entry: &unstale_testkit::Value| {
        let [id, consumer, _, deliveries] = entry.array() else { panic!("{entry:?}") };
        Pending { id: id.text(), consumer: consumer.text(), deliveries: deliveries.int() }
    };
    list.array().iter().map(entry).collect()
}

/// Waits until so many entries are pending on a stream, and returns them.
#[track_caller]
pub(crate) fn wait_pending(bus: &mut Bus, stream: &str, count: usize) -> Vec<Pending> {
    wait_until_sync(&format!("{count} pending entries"), PATIENCE, || {
        let pending = pending(bus, stream);
        if pending.len() == count { Ok(pending) } else { Err(format!("{pending:?}")) }
    })
}

/// Nothing was lost: no key is left, all of these were announced, nothing is pending, nobody was buried.
#[track_caller]
pub(crate) fn assert_nothing_lost(bus: &mut Bus, keys: &BTreeSet<String>) {
    assert_eq!(bus.keys(), BTreeSet::new());
    let announced = announced(bus);
    let missing: Vec<_> = keys.difference(&announced).collect();
    assert!(missing.is_empty(), "never announced: {missing:?}");
    assert_eq!((pending(bus, "events"), pending(bus, "events:critical")), (vec![], vec![]));
    assert_eq!(bus.dead_letters(), []);
}

/// Redis' clock, in milliseconds since the Unix epoch.
pub(crate) fn clock(bus: &mut Bus) -> i64 {
    let time = bus.cmd(&["TIME"]).texts();
    let number = |text: &str| text.parse::<i64>().expect("TIME answers numbers");
    number(&time[0]) * 1000 + number(&time[1]) / 1000
}

/// When an entry was added, by Redis' clock in milliseconds.
pub(crate) fn added_at(id: &str) -> i64 {
    id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_else(|| panic!("{id} is no id"))
}

/// Has a sidecar tell of each delivery; else it tells when they begin to fail.
pub(crate) const TELLING: &str = "log.level=info,unstale_pipeline::journal=debug";

/// Waits until a sidecar that is [`TELLING`] has given deliveries up so many times, the second ones of a batch included.
#[track_caller]
pub(crate) fn wait_given_up(sidecar: &Sidecar, times: usize) {
    wait_until_sync("deliveries to be given up", PATIENCE, || {
        let log = sidecar.log();
        let failed = log.lines().filter(|line| line.contains(" failed=") && !line.contains(" failed=0") && line.contains("DEBUG"));
        if failed.count() >= times { Ok(()) } else { Err(log) }
    });
}

/// The status, and the codes of its reasons.
pub(crate) fn health(sidecar: &Sidecar) -> (String, Vec<String>) {
    let (_, body) = sidecar.get("/healthz");
    let json: serde_json::Value = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
    let codes = json["reasons"].as_array().into_iter().flatten().map(|reason| reason["code"].as_str().unwrap_or_default().to_owned());
    (json["status"].as_str().unwrap_or_default().to_owned(), codes.collect())
}

/// Waits until one of the reasons has this code.
#[track_caller]
pub(crate) fn wait_code(sidecar: &Sidecar, code: &str) {
    wait_until_sync(&format!("health to say {code}"), PATIENCE, || {
        let health = health(sidecar);
        if health.1.iter().any(|known| known == code) { Ok(()) } else { Err(format!("{health:?}\n{}", sidecar.log())) }
    });
}

/// Waits until nothing is said but, perhaps, that some deliveries failed lately.
#[track_caller]
pub(crate) fn wait_well(sidecar: &Sidecar) {
    wait_until_sync("health to be well again", PATIENCE, || {
        let health = health(sidecar);
        if health.1.iter().all(|code| code == "errors") { Ok(()) } else { Err(format!("{health:?}")) }
    });
}

/// Starts a server again that was killed, and has the bus connect to it anew.
pub(crate) fn back(redis: &mut Redis, bus: &mut Bus) {
    redis.launch();
    redis.ready_sync();
    wait_until_sync("the bus to be connected", PATIENCE, || bus.try_cmd(&["PING"]).map(drop));
}

/// How much processor time a sidecar has used. Linux counts it in hundredths of a second.
pub(crate) fn cpu_time(sidecar: &Sidecar) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{}/stat", sidecar.pid())).expect("a process has a state");
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks are a number")).sum();
    Duration::from_millis(ticks * 10)
}

/// Lets time pass in which something must *not* happen, or that is measured; never a wait for something to happen.
pub(crate) fn pass(time: Duration) {
    let begun = Instant::now();
    wait_until_sync("time to pass", PATIENCE, || if begun.elapsed() >= time { Ok(()) } else { Err(String::new()) });
}

/// Looks at the streams by the only sidecar, as its commands show them; waits for so many more.
#[track_caller]
pub(crate) fn wait_surveys(bus: &mut Bus, more: u64) {
    let count = |bus: &mut Bus| {
        bus.commandstats()
            .iter()
            .filter(|(name, _)| ["xinfo", "xinfo|groups"].contains(&name.as_str()))
            .map(|(_, count)| count)
            .sum::<u64>()
    };
    let begun = count(bus);
    wait_until_sync("the streams to be looked at", PATIENCE, || {
        let seen = count(bus) - begun;
        if seen >= more { Ok(()) } else { Err(format!("{seen} looks")) }
    });
}

/// How many entries of the ordinary stream the group has yet to deliver; 0 if there is none.
fn unread(bus: &mut Bus) -> i64 {
    let groups = bus.try_cmd(&["XINFO", "GROUPS", "unstale:events"]).unwrap_or(unstale_testkit::Value::Nil);
    let lag = groups.array().first().and_then(|group| group.field("lag"));
    lag.filter(|lag| !lag.is_nil()).map_or(0, unstale_testkit::Value::int)
}

/// Publishes without end, on both streams and in all lanes, as fast as somebody reads.
pub(crate) struct Flow {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<usize>>,
}

/// The most unread entries that the flow lets pile up.
const PILE: i64 = 300;
/// How often events come, at most.
const PACE: Duration = Duration::from_millis(10);
/// Every so many bursts come events about the slow cache.
const SLOW: u32 = 4;
/// How many ordinary events come at a time.
const BURST: usize = 12;

impl Flow {
    pub(crate) fn start(redis: &Redis) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (mut bus, stopped) = (Bus::new(redis), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let (mut count, begun, mut bursts) = (0, Instant::now(), 0);
            while !stopped.load(Ordering::Relaxed) {
                wait_until_sync("room in the stream", PATIENCE * 2, || {
                    let unread = unread(&mut bus);
                    let due = unread < PILE && begun.elapsed() > PACE * bursts;
                    if due || stopped.load(Ordering::Relaxed) { Ok(()) } else { Err(format!("{unread} entries")) }
                });
                publish(&mut bus, "events", "Changed", count..count + BURST);
                if bursts % SLOW == 0 {
                    publish(&mut bus, "events", "Touched", count..count + 1);
                    publish(&mut bus, "events:critical", "TouchedAtOnce", count + 1..count + 2);
                }
                publish(&mut bus, "events", "Revoked", count + BURST..count + BURST + 1);
                publish(&mut bus, "events:critical", "Revoked", count + BURST + 1..count + BURST + 3);
                count += BURST + 3;
                bursts += 1;
            }
            count
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it. Returns the keys of all its events.
    pub(crate) fn stop(mut self) -> BTreeSet<String> {
        let count = self.end();
        let slow =
            (0..count).step_by((BURST + 3) * SLOW as usize).flat_map(|first| [first, first + 1]).map(|number| format!("slow:{number}"));
        slow.chain(things(0..count)).collect()
    }

    fn end(&mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().map_or(0, |thread| thread.join().expect("the flow goes on while the server is there"))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
