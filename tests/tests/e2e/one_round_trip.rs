//! Proof from Redis itself, by MONITOR: a key batch is one round trip, and no XACK precedes its work or goes with it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use unstale_testkit::wait_until_sync;
use unstale_tests::{Line, PATIENCE, Setup, World};

const ROUTES: &str = "
[cache.k]
prefixes = ['k:']
[cache.other]
prefixes = ['o:']
[[route]]
event = 'Changed'
cache = 'k'
keys = ['k:{k[]}']
[[route]]
event = 'Changed'
when = { sweep = true }
cache = 'k'
patterns = ['k:sweep:{k}:*', 'k:swept:{k}:*']
bump = ['k:epoch']
[[route]]
event = 'Changed'
when = { sweep = true }
cache = 'other'
keys = ['o:{k}']
patterns = ['o:list:*']
[[route]]
event = 'Revoked'
cache = 'k'
priority = 'critical'
keys = ['k:{k}']
";

/// Where the only line is that is wanted.
#[track_caller]
fn only(lines: &[Line], wanted: impl Fn(&Line) -> bool) -> usize {
    let found: Vec<usize> = (0..lines.len()).filter(|at| wanted(&lines[*at])).collect();
    match found[..] {
        [at] => at,
        _ => panic!("{} lines are wanted, not one, among {lines:#?}", found.len()),
    }
}

/// A sidecar whose script the server knows, and whose delivery connections have said what they had to say.
fn warm(routes: &str) -> World {
    let mut world = World::start(routes);
    world.publish("Changed", &[("k", "warm")]);
    world.publish_critical("Revoked", &[("k", "warm")]);
    world.wait_settled();
    world
}

/// What a sidecar does whether or not there is work, by the connections for it.
fn is_housekeeping(line: &Line) -> bool {
    let reads = line.from.starts_with("read") && ["XREADGROUP"].contains(&line.name().as_str());
    let keeps = line.from == "control" && ["EVALSHA", "XINFO", "XPENDING", "XTRIM", "TIME", "PING"].contains(&line.name().as_str());
    let own = ["unstale:instances", "unstale:reader", "unstale:positions", "unstale:pulse"];
    let beats = line.from == "lua" && (line.name() == "TIME" || own.iter().any(|key| line.has(key)));
    let surveys = line.from == "lua" && ["XLEN", "XINFO"].contains(&line.name().as_str());
    // Who follows the log for the receivers.
    let follows = line.from == "notices" && ["XREAD", "XREVRANGE", "XRANGE"].contains(&line.name().as_str());
    // Whether an idle connection still leads anywhere.
    let asks = line.from != "lua" && line.name() == "PING";
    reads || follows || keeps || beats || surveys || asks
}

/// Whether there is work or not, Redis has others to serve.
#[test]
fn who_has_nothing_to_do_asks_less_than_ten_times_a_second() {
    const WATCHED: Duration = Duration::from_secs(10);
    let mut world = warm(ROUTES);
    let stand_by = Setup::on(&world.redis).config(ROUTES).start(&world.redis);
    assert_ne!(world.reader(), Ok(stand_by.instance(&mut world)));
    let lines = world.watched(|_| {
        let begun = Instant::now();
        wait_until_sync("time to pass", PATIENCE, || if begun.elapsed() >= WATCHED { Ok(()) } else { Err(String::new()) });
    });
    let mut asked: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.from != "lua") {
        *asked.entry((&line.from, line.name())).or_default() += 1;
    }
    let sum: usize = asked.values().sum();
    println!("a reader and a stand-by sent {sum} commands in {WATCHED:?}: {asked:?}");
    assert!((1..200).contains(&sum), "{sum} commands in {WATCHED:?}: {asked:?}");
}

#[test]
fn a_batch_of_keys_is_one_script_and_then_one_xack() {
    // As many as the first read after silence asks for.
    const EVENTS: usize = 16;
    let mut world = warm(ROUTES);
    world.seed((0..EVENTS).map(|k| format!("k:{k}")));
    let entries: Vec<Vec<String>> = (0..EVENTS).map(|k| ["type", "Changed", "k", &k.to_string()].map(str::to_owned).to_vec()).collect();
    let lines = world.watched(|world| {
        world.add_all(&entries);
        world.wait_done();
    });
    assert_eq!(world.keys(), [].into());
    let work: Vec<&Line> = lines.iter().filter(|line| !is_housekeeping(line)).collect();
    let names: Vec<(String, String)> = work.iter().map(|line| (line.from.clone(), line.name())).collect();
    let expected = [
        ("deliver", "EVALSHA"),
        ("lua", "XREVRANGE"),
        ("lua", "XTRIM"),
        ("lua", "UNLINK"),
        ("lua", "XADD"),
        ("lua", "PUBLISH"),
        ("control", "XACK"),
    ];
    assert_eq!(names, expected.map(|(from, name)| (from.to_owned(), name.to_owned())), "{work:#?}");
    assert_eq!(work[3].words.len(), 1 + EVENTS, "one UNLINK of all keys");
    assert_eq!(work[6].words.len(), 3 + EVENTS, "one XACK of all entries");
}

#[test]
fn the_first_batch_of_a_server_sends_the_script() {
    let mut world = World::start(ROUTES);
    world.publish("Changed", &[("k", "a")]);
    // Until it was trimmed, too: by then every script that looks at the stream is known.
    world.wait_settled();
    let stats = world.commandstats();
    assert_eq!(stats.get("unlink"), Some(&1), "{stats:?}");
    let whole = stats.get("eval").copied();
    assert!(whole.is_some(), "a script that the server doesn't know is sent whole: {stats:?}");
    world.publish("Changed", &[("k", "b")]);
    world.wait_settled();
    assert_eq!(world.commandstats().get("eval").copied(), whole, "but only once");
    assert_eq!(world.sidecar.metric("unstale_redis_round_trips_total"), 2);
}

#[test]
fn a_hundred_batches_are_a_hundred_scripts() {
    let mut world = warm(ROUTES);
    let lines = world.watched(|world| {
        for n in 0..100 {
            let id = world.publish_critical("Revoked", &[("k", &n.to_string())]);
            world.wait_notice("of this event", |notice| notice.events().contains(&id) && notice.priority() == "critical");
        }
        world.wait_done();
    });
    let sent: Vec<&Line> = lines.iter().filter(|line| line.from == "deliver_critical").collect();
    assert!(sent.iter().all(|line| line.name() == "EVALSHA"), "{sent:#?}");
    assert_eq!(sent.len(), 100);
    assert!(!lines.iter().any(|line| line.from == "deliver" && !is_housekeeping(line)), "critical batches have a connection of their own");
}

#[test]
fn p1_1_no_xack_precedes_its_work_or_goes_with_it() {
    let mut world = warm(ROUTES);
    let mut published: Vec<(String, &str, String)> = Vec::new();
    let lines = world.watched(|world| {
        for n in 0..600 {
            let key = format!("n{n}");
            if n % 3 == 0 {
                published.push((world.publish_critical("Revoked", &[("k", &key)]), "unstale:events:critical", key));
            } else {
                let sweep = if n % 50 == 1 { "true" } else { "false" };
                published.push((world.publish("Changed", &[("k", &key), ("sweep", sweep)]), "unstale:events", key));
            }
        }
        world.wait_done();
    });
    let banned = ["MULTI", "EXEC", "DEL", "KEYS", "FLUSHDB", "FLUSHALL", "CONFIG", "FUNCTION", "FCALL"];
    assert!(!lines.iter().any(|line| banned.contains(&line.name().as_str())), "only what SPEC 6 and 9 allow");
    for (id, stream, key) in &published {
        let deleted = only(&lines, |line| line.name() == "UNLINK" && line.has(&format!("k:{key}")));
        let acked = only(&lines, |line| line.name() == "XACK" && line.words[1] == *stream && line.has(id));
        let script = lines[..deleted].iter().rposition(|line| line.name() == "EVALSHA").expect("a script deletes");
        let logged = (deleted..lines.len()).find(|at| lines[*at].name() == "XADD" && lines[*at].has("unstale:notices"));
        let logged = logged.expect("every delete is announced");
        assert!(script < deleted && deleted < logged && logged < acked, "{id}: {script} {deleted} {logged} {acked}");
        assert_ne!(lines[script].from, lines[acked].from, "{id} is acknowledged by another connection");
        assert_eq!((lines[deleted].from.as_str(), lines[acked].from.as_str()), ("lua", "control"));
    }
}

#[test]
fn p1_2_keys_first_then_one_pass_for_all_patterns_then_counters_then_the_ack() {
    let mut world = warm(ROUTES);
    let found = ["k:sweep:1:a", "k:swept:1:b", "k:sweep:2:c", "o:list:1", "o:list:2"];
    world.seed(found.into_iter().chain(["k:1", "k:2", "o:1", "o:2", "k:sweep:3:x", "o:lists:1"]));
    let entries: Vec<Vec<String>> = ["1", "2"].map(|k| ["type", "Changed", "k", k, "sweep", "true"].map(str::to_owned).to_vec()).to_vec();
    let mut ids = Vec::new();
    let lines = world.watched(|world| {
        ids = world.add_all(&entries);
        world.wait_done();
    });
    assert_eq!(world.keys(), ["k:epoch", "k:sweep:3:x", "o:lists:1"].map(str::to_owned).into());
    let keys = only(&lines, |line| line.name() == "UNLINK" && line.has("k:1"));
    assert!(lines[keys..].iter().take(4).any(|line| line.has("k:2")), "all keys of the batch in one script");
    let counted = only(&lines, |line| line.name() == "INCR" && line.has("k:epoch"));
    let acked = only(&lines, |line| line.name() == "XACK" && line.has(&ids[0]) && line.has(&ids[1]));
    let notices: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].name() == "XADD" && lines[*at].has("unstale:notices")).collect();
    let scans: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].name() == "SCAN").collect();
    let sweeps: Vec<usize> = found.iter().map(|key| only(&lines, |line| line.name() == "UNLINK" && line.has(key))).collect();
    let [first, second] = notices[..] else { panic!("two notices, not {notices:?}") };
    let began: Vec<&usize> = scans.iter().filter(|at| lines[**at].words[1] == "0").collect();
    assert_eq!(began.len(), 1, "one pass, begun once: {scans:?}");
    assert!(scans.iter().all(|at| lines[*at].from == "scan"), "on a connection of its own");
    assert!(keys < first && first < scans[0], "keys are deleted and announced before the pass begins");
    assert!(sweeps.iter().all(|at| scans[0] < *at && *at < counted), "the counter comes after all deletes");
    assert!(scans[scans.len() - 1] < counted && counted < second && second < acked, "counters, second notice, ack");
    let log = world.notices();
    let [.., of_keys, of_patterns] = &log[..] else { panic!("{log:#?}") };
    assert_eq!((of_keys.keys().len(), of_keys.patterns().len()), (4, 0));
    assert_eq!(
        (of_patterns.keys().len(), of_patterns.patterns()),
        (0, ["k:sweep:1:*", "k:sweep:2:*", "k:swept:1:*", "k:swept:2:*", "o:list:*"].map(str::to_owned).to_vec())
    );
}

#[test]
fn the_pass_asks_for_the_longest_beginning_that_its_patterns_share() {
    let mut world = warm(
        "
[cache.k]
prefixes = ['k:']
[[route]]
event = 'Changed'
cache = 'k'
patterns = ['k:list:a*', 'k:list:b?']
[[route]]
event = 'Revoked'
cache = 'k'
priority = 'critical'
keys = ['k:{k}']
",
    );
    world.seed(["k:list:a", "k:list:ax", "k:list:b", "k:list:b1", "k:list:b12"]);
    let lines = world.watched(|world| {
        world.publish("Changed", &[]);
        world.wait_done();
    });
    let scan = &lines[only(&lines, |line| line.name() == "SCAN")];
    assert!(scan.has("k:list:*") && scan.has("COUNT"), "{scan:?}");
    assert_eq!(world.keys(), ["k:list:b", "k:list:b12"].map(str::to_owned).into());
}

#[test]
fn p1_11_a_second_delete_is_acknowledged_after_it() {
    let mut world = warm(&ROUTES.replace("prefixes = ['k:']", "prefixes = ['k:']\nsecond_delete = '300ms'"));
    let mut id = String::new();
    let lines = world.watched(|world| {
        id = world.publish("Changed", &[("k", "x")]);
        world.wait_done();
    });
    let deletes: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].name() == "UNLINK" && lines[*at].has("k:x")).collect();
    let [first, second] = deletes[..] else { panic!("two deletes, not {}", deletes.len()) };
    let acked = only(&lines, |line| line.name() == "XACK" && line.has(&id));
    assert!(second < acked);
    let between = lines[second].at - lines[first].at;
    assert!((0.3..1.0).contains(&between), "{between} s between the deletes");
}

/// A key and a pattern that means it, in the lanes that fold the one into the other and in the one that doesn't.
const FOLDED: &str = "
[cache.k]
prefixes = ['k:']
[[route]]
event = 'Changed'
cache = 'k'
keys = ['k:list:{k}']
patterns = ['k:list:*']
[[route]]
event = 'Revoked'
cache = 'k'
priority = 'critical'
keys = ['k:list:{k}']
patterns = ['k:list:*']
";

#[test]
fn a_key_that_a_pattern_of_its_batch_means_has_no_delete_of_its_own() {
    let mut world = warm(FOLDED);
    world.seed(["k:list:1", "k:list:2"]);
    let lines = world.watched(|world| {
        world.publish("Changed", &[("k", "1")]);
        world.wait_done();
    });
    let deleted = only(&lines, |line| line.name() == "UNLINK" && line.has("k:list:1"));
    assert!(lines[..deleted].iter().any(|line| line.name() == "SCAN"), "{lines:#?}");
    let log = world.notices();
    let last = log.last().expect("it is announced");
    assert_eq!((last.keys(), last.patterns()), (vec![], vec!["k:list:*".to_owned()]));
}

#[test]
fn p4_3_but_a_critical_one_does_not_wait_for_the_pass() {
    let mut world = warm(FOLDED);
    world.seed(["k:list:1", "k:list:2"]);
    let lines = world.watched(|world| {
        world.publish_critical("Revoked", &[("k", "1")]);
        world.wait_done();
    });
    let deleted = lines.iter().position(|line| line.name() == "UNLINK" && line.has("k:list:1")).expect("the key is deleted");
    let announced = lines.iter().position(|line| line.name() == "XADD" && line.has("unstale:notices")).expect("it is announced");
    let scanned = lines.iter().position(|line| line.name() == "SCAN").expect("there is a pass");
    assert!(deleted < announced && announced < scanned, "{deleted} {announced} {scanned}");
    assert_eq!(lines[scanned].from, "scan_critical");
    assert_eq!(world.keys(), [].into());
}
