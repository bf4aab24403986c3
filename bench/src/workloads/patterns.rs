//! Patterns over a million keys: 1, 8 and 32 at once, beside one full `SCAN`, and critical events meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use unstale_testkit::{Redis, Resp, Value};

use super::middle_and_worst;
use crate::backlog::seed;
use crate::contender::sidecar;
use crate::ear::Ear;
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::section::Section;
use crate::{Bench, probe};

const ROUTES: &str = "
[cache.k]
prefixes = ['k:']
[[route]]
event = 'Swept'
cache = 'k'
patterns = ['k:{groups[]}:*']
[[route]]
event = 'Revoked'
cache = 'k'
priority = 'critical'
keys = ['k:{k}']
";

/// How many patterns at once.
const PATTERNS: [u64; 3] = [1, 8, 32];
/// How many keys each means.
const GROUP: u64 = 100;
/// Commands that take less are not looked at, in microseconds.
const SLOW: &str = "50";

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::builder().args(["--slowlog-log-slower-than", SLOW, "--slowlog-max-len", "100000"]).start_sync();
    let keys = bench.many(1_000_000);
    let mut resp = redis.resp();
    (0..keys / GROUP).for_each(|group| seed(&mut resp, &group_of(group)));
    let _sidecar = sidecar(&redis, ROUTES).start(&redis);
    let mut ear = Ear::open(&redis);
    let mut swept: [Samples; 3] = Default::default();
    let (mut scans, mut slowest, mut meanwhile, mut alone) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let (mut worst, mut bare) = (Samples::default(), Samples::default());
    for _ in bench.rounds("patterns") {
        resp.cmd(&["SLOWLOG", "RESET"]);
        scans.push(full_scan(&mut resp));
        bare.push(slowest_command(&mut resp));
        let mut next = 0;
        let mut sweep = |count: u64, ear: &mut Ear, resp: &mut Resp| {
            let groups = next..next + count;
            next += count;
            (sweep(resp, ear, groups.clone()), groups)
        };
        resp.cmd(&["SLOWLOG", "RESET"]);
        for (count, samples) in PATTERNS.iter().zip(&mut swept) {
            samples.push(sweep(*count, &mut ear, &mut resp).0);
        }
        let over = AtomicBool::new(false);
        let probed = thread::scope(|scope| {
            let probing = scope.spawn(|| probe::critical(&redis, "Revoked", "k:", "k", || !over.load(Ordering::Relaxed)));
            sweep(PATTERNS[2], &mut ear, &mut resp);
            over.store(true, Ordering::Relaxed);
            probing.join().expect("a probe that fails says why")
        });
        slowest.push(slowest_command(&mut resp));
        worst.push(probed.quantile(0.99));
        meanwhile.append(probed);
        let mut left = 50;
        alone.append(probe::critical(&redis, "Revoked", "k:", "k", || {
            left -= 1;
            left >= 0
        }));
        (0..next).for_each(|group| seed(&mut resp, &group_of(group)));
    }
    section(keys, &scans, &swept, [bare, slowest], worst, [&meanwhile, &alone])
}

fn section(keys: u64, scans: &Samples, swept: &[Samples; 3], longest: [Samples; 2], worst: Samples, probes: [&Samples; 2]) -> Section {
    let [bare, slowest] = longest;
    let mut table = Table::new(&["", "time", "of one full SCAN"]);
    table.row(["one full SCAN, COUNT 1000".to_owned(), scans.show(Unit::Milliseconds), String::new()]);
    for (count, samples) in PATTERNS.iter().zip(swept) {
        let name = if *count == 1 { "one pattern".to_owned() } else { format!("{count} patterns at once") };
        table.row([name, samples.show(Unit::Milliseconds), samples.over(scans).show(Unit::Times)]);
    }
    table.row(["the longest single command of the full SCAN".to_owned(), bare.show(Unit::Milliseconds), String::new()]);
    table.row(["the longest single command during the patterns".to_owned(), slowest.show(Unit::Milliseconds), String::new()]);
    let mut critical = Table::new(&["a critical event: XADD to key gone", "times", "median", "99 of 100 within"]);
    critical.row(middle_and_worst("during a pass for 32 patterns", probes[0], Unit::Milliseconds));
    critical.row(middle_and_worst("otherwise", probes[1], Unit::Milliseconds));
    Section {
        title: "Patterns",
        about: format!(
            "{keys} keys, of which each pattern means {GROUP}. From the XADD of one event with so many patterns until the notice that they are done; the full SCAN is a loop that reads all keys, and deletes none. The longest command is the longest in Redis' SLOWLOG; one that the machine interrupts counts as long, so that of the full SCAN says how busy the machine was."
        ),
        tables: vec![table, critical],
        bars: vec![
            Bar::new("32 patterns over 10⁶ keys, of one full SCAN", Wanted::AtMost(1.3), Unit::Times, swept[2].over(scans)),
            Bar::new("Patterns: the longest single command", Wanted::AtMost(2.0), Unit::Milliseconds, slowest),
            Bar::new("Patterns: critical events meanwhile, 99 of 100 within", Wanted::AtMost(10.0), Unit::Milliseconds, worst),
        ],
        doubts: Vec::new(),
    }
}

fn group_of(group: u64) -> Vec<String> {
    (0..GROUP).map(|number| format!("k:{group:06}:{number:032}")).collect()
}

/// Reads all keys, in milliseconds.
fn full_scan(resp: &mut Resp) -> f64 {
    let (begun, mut cursor) = (Instant::now(), "0".to_owned());
    loop {
        let page = resp.cmd(&["SCAN", &cursor, "COUNT", "1000"]);
        cursor = page.array()[0].text();
        if cursor == "0" {
            return milliseconds(begun.elapsed());
        }
    }
}

/// Has these groups deleted by one event, in milliseconds.
fn sweep(resp: &mut Resp, ear: &mut Ear, groups: std::ops::Range<u64>) -> f64 {
    let names: Vec<String> = groups.map(|group| format!("{group:06}")).collect();
    let begun = Instant::now();
    resp.cmd(&["XADD", "unstale:events", "*", "type", "Swept", "data", &serde_json::json!({ "groups": names }).to_string()]);
    let took = milliseconds(ear.wait(&format!("k:{}:*", names[0])) - begun);
    for name in names {
        assert!(resp.cmd(&["EXISTS", &format!("k:{name}:{:032}", 0)]).int() == 0, "group {name} is still there");
    }
    took
}

/// Of those that the server has noted, in milliseconds.
fn slowest_command(resp: &mut Resp) -> f64 {
    let log = resp.cmd(&["SLOWLOG", "GET", "100000"]);
    let entries = log.array().iter().map(Value::array);
    let ours = |entry: &&[Value]| !["MSET", "SLOWLOG"].contains(&entry[3].array()[0].text().as_str());
    entries.filter(ours).map(|entry| entry[2].int()).max().unwrap_or_default() as f64 / 1e3
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
