//! P4 and P5: whatever the backlog, memory is bounded, and critical events find a free place.

use std::collections::BTreeSet;

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup};

const ROUTES: &str = "
[cache.k]
prefixes = ['k:']
[[route]]
event = 'Low'
cache = 'k'
priority = 'low'
keys = ['k:{k}']
[[route]]
event = 'Critical'
cache = 'k'
priority = 'critical'
keys = ['k:{k}']
";

/// So many low events with a key of their own and a note of so many bytes each.
fn backlog(bus: &mut Bus, events: std::ops::Range<usize>, note: usize) {
    let note = "x".repeat(note);
    let all: Vec<Vec<String>> = events.map(|k| ["type", "Low", "k", &k.to_string(), "note", &note].map(str::to_owned).to_vec()).collect();
    all.chunks(2000).for_each(|some| drop(bus.add_all(some)));
}

#[test]
fn p5_1_memory_is_bounded_whatever_the_backlog() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    backlog(&mut bus, 0..60_000, 2000);
    let sidecar = Setup::on(&redis).config(ROUTES).set("limits.memory=8MiB").start(&redis);
    let at_start = sidecar.resident_bytes();
    bus.wait_settled();
    let peak = sidecar.peak_bytes();
    println!("backlog of 60,000 events, 120 MB: {} MB at the start, {} MB at the most", at_start >> 20, peak >> 20);
    assert!(peak < 64 << 20, "{} MB", peak >> 20);
}

#[test]
fn p4_5_past_the_bound_reading_stops_but_for_critical_events() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let setup = Setup::on(&redis).config(ROUTES).set("limits.memory=1MiB").set("limits.entry=16KiB").set("batching.windows.low=10m");
    // Low events wait here for minutes, and no batch is ever full.
    let mut sidecar = setup.set("batching.max_size=100000").start(&redis);
    backlog(&mut bus, 0..1, 10);
    bus.wait_notice("of the first, which finds its lane idle", |notice| notice.priority() == "low");
    backlog(&mut bus, 1..60_000, 10);
    let unread = |bus: &mut Bus| bus.standing("events").map(|standing| standing.length - standing.pending);
    let mut before = 0;
    let left = wait_until_sync("reading to stop", PATIENCE, || {
        // Two looks apart by a critical event's whole way, which a read that isn't held back would beat.
        let id = bus.publish_critical("Critical", &[("k", "revoked")]);
        bus.wait_notice("of the critical event", |notice| notice.priority() == "critical" && notice.events().contains(&id));
        let now = unread(&mut bus)?;
        let same = now == std::mem::replace(&mut before, now);
        if same && now > 0 { Ok(now) } else { Err(format!("{now} entries are unread")) }
    });
    println!("1 MiB holds {} low events; {left} stay in the stream", 60_000 - left);
    assert!(left > 30_000, "{left}");
    sidecar.terminate();
    assert_eq!(sidecar.wait(), Some(0), "what was read is finished");
    assert_eq!(bus.standing("events").expect("the stream is there").pending, 0);
}

#[test]
fn p5_2_memory_is_bounded_also_if_every_entry_is_as_large_as_it_may_be() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    for _ in 0..50 {
        backlog(&mut bus, 0..10, 1_000_000);
    }
    let setup = Setup::on(&redis).config(ROUTES).set("limits.memory=8MiB");
    let sidecar = setup.start(&redis);
    bus.wait_settled();
    let peak = sidecar.peak_bytes();
    println!("backlog of 500 entries of 1 MB: {} MB at the most", peak >> 20);
    assert!(peak < 128 << 20, "{} MB", peak >> 20);
}

#[test]
fn p5_8_requests_past_the_bound_are_refused() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = Setup::on(&redis).config(ROUTES).set("limits.memory=4MiB").set("limits.entry=1MiB").start(&redis);
    bus.cmd(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    let keys: Vec<String> = (0..9000).map(|key| format!("k:{key:0>90}")).collect();
    let body = serde_json::json!({ "keys": keys });
    let answers: Vec<(u16, String)> = std::thread::scope(|scope| {
        let ask = || sidecar.post("/v1/invalidate?wait=deleted", &body);
        let asked: Vec<_> = (0..12).map(|_| scope.spawn(ask)).collect();
        asked.into_iter().map(|answer| answer.join().expect("it is answered")).collect()
    });
    assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
    let busy = answers.iter().filter(|(_, body)| body.contains("\"busy\"")).count();
    assert!((1..12).contains(&busy), "{busy} were refused: {answers:?}");
    bus.cmd(&["CLIENT", "UNPAUSE"]);
}

#[test]
fn p5_3_what_a_dead_consumer_left_is_taken_over_within_the_bound() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    bus.cmd(&["XGROUP", "CREATE", "unstale:events", "unstale", "0", "MKSTREAM"]);
    for _ in 0..8 {
        backlog(&mut bus, 0..3000, 10_000);
        bus.cmd(&["EVAL", READ, "1", "unstale:events", "ghost-1", "3000"]);
    }
    assert_eq!(bus.cmd(&["XPENDING", "unstale:events", "unstale"]).array()[0].int(), 24_000);
    let sidecar = Setup::on(&redis).config(ROUTES).start(&redis);
    bus.wait_settled();
    let peak = sidecar.peak_bytes();
    println!("24,000 pending entries of 10 KB of a dead consumer: {} MB at the most", peak >> 20);
    assert!(peak < 96 << 20, "{} MB", peak >> 20);
    assert_eq!(
        sidecar.metric("unstale_targets_processed_total{cache=\"k\"}") + sidecar.metric("unstale_targets_coalesced_total{cache=\"k\"}"),
        24_000
    );
    assert_eq!(bus.dead_letters(), []);
}

#[test]
fn p5_11_taking_over_stops_where_reading_stops() {
    const LEFT: usize = 20_000;
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    bus.cmd(&["XGROUP", "CREATE", "unstale:events", "unstale", "0", "MKSTREAM"]);
    backlog(&mut bus, 0..LEFT, 10);
    bus.cmd(&["EVAL", READ, "1", "unstale:events", "ghost-1", &LEFT.to_string()]);
    let setup = Setup::on(&redis).config(ROUTES).set("limits.memory=1MiB").set("limits.entry=16KiB").set("batching.windows.low=10m");
    // Low events wait here for minutes, and no batch is ever full.
    let mut sidecar = setup.set("batching.max_size=100000").start(&redis);
    let ghosts = |bus: &mut Bus| {
        let summary = bus.try_cmd(&["XPENDING", "unstale:events", "unstale"])?;
        let owners = summary.array()[3].array();
        let ghost = owners.iter().find(|owner| owner.array()[0].text() == "ghost-1");
        Ok::<_, String>(ghost.map_or(0, |owner| owner.array()[1].text().parse::<usize>().expect("a count")))
    };
    let mut before = LEFT;
    let left = wait_until_sync("taking over to stop", PATIENCE, || {
        // Two looks apart by a critical event's whole way.
        let id = bus.publish_critical("Critical", &[("k", "revoked")]);
        bus.wait_notice("of the critical event", |notice| notice.priority() == "critical" && notice.events().contains(&id));
        let now = ghosts(&mut bus)?;
        let same = now == std::mem::replace(&mut before, now);
        if same && now < LEFT { Ok(now) } else { Err(format!("{now} entries are left")) }
    });
    println!("1 MiB has room for {} of {LEFT} pending low events", LEFT - left);
    assert!(left > LEFT / 2, "{left}");
    sidecar.terminate();
    assert_eq!(sidecar.wait(), Some(0), "what was taken over is finished");
    assert_eq!(usize::try_from(bus.standing("events").expect("the stream is there").pending), Ok(left));
}

/// Reads for a consumer, and answers with nothing.
const READ: &str = "redis.call('XREADGROUP', 'GROUP', 'unstale', ARGV[1], 'COUNT', ARGV[2], 'STREAMS', KEYS[1], '>')";

/// Each field takes memory beside its text, so many of them are as bad as large ones.
#[test]
fn p5_5_entries_of_hundreds_of_thousands_of_fields_are_buried_and_hold_nobody_up() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let many: Vec<String> = (0..250_000).flat_map(|field| [format!("{field:x}"), "1".to_owned()]).collect();
    let heavy: Vec<String> = (0..12).map(|_| bus.add(&many)).collect();
    bus.seed(["k:1", "k:2"]);
    bus.publish("Low", &[("k", "1")]);
    let sidecar = Setup::on(&redis).config(ROUTES).start(&redis);
    wait_until_sync("what stands behind them to be done", PATIENCE * 4, || {
        // To take such an entry apart may keep a slow server busy, so that it answers nobody.
        match bus.try_cmd(&["EXISTS", "k:1"])?.int() {
            0 => Ok(()),
            _ => Err(sidecar.log()),
        }
    });
    bus.publish_critical("Critical", &[("k", "2")]);
    bus.wait_settled();
    let peak = sidecar.peak_bytes();
    println!("12 entries of 250,000 fields: {} MB at the most", peak >> 20);
    assert!(peak < 192 << 20, "{} MB: more than one of them was read at a time", peak >> 20);
    let letters = bus.dead_letters();
    // One may be there twice, if the answer to the first came late.
    let buried: BTreeSet<String> = letters.iter().map(|letter| letter.get("dead_entry")).collect();
    assert_eq!(buried, heavy.into_iter().collect());
    assert!(letters.iter().all(|letter| letter.codes() == ["too_large"] && letter.get("dead_truncated") == "1"), "{letters:?}");
    assert!(letters.iter().all(|letter| letter.fields[0] == ("0".to_owned(), b"1".to_vec())), "{letters:?}");
}
