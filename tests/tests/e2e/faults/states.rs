//! Redis can be reached, but not as it should be: loading, read-only, half open, slow. The log tells each change once, the status tells the
//! truth during and after, Redis is not asked more often than ever, and nothing is lost.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use unstale_testkit::{Fault, FaultProxy, Redis, runtime, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar};

use super::kit::{assert_nothing_lost, back, health, pass, publish, routes, slows, things, wait_code, wait_pending, wait_well};

/// How many commands a second a sidecar may send, those within its scripts included: an idle one sends some 25, and each try of an entry
/// some four more. A loop that doesn't rest sends thousands.
const COMMANDS: u64 = 300;

#[track_caller]
pub(super) fn assert_told_once(sidecar: &Sidecar, texts: &[&str]) {
    let log = sidecar.log();
    for text in texts {
        assert_eq!(log.matches(text).count(), 1, "{text:?} in\n{log}");
    }
}

/// How often Redis was asked since its start, be it for a connection.
fn commands(bus: &mut Bus) -> Result<u64, String> {
    let info = bus.try_cmd(&["INFO", "stats"])?.text();
    let count = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse::<u64>().ok());
    Ok(count("total_commands_processed").ok_or(&info)? + count("total_connections_received").ok_or(&info)?)
}

/// Measures for two seconds.
#[track_caller]
pub(super) fn assert_no_hot_loop(bus: &mut Bus, what: &str) {
    let before = wait_until_sync("INFO to be answered", PATIENCE, || commands(bus));
    let begun = Instant::now();
    pass(Duration::from_secs(2));
    let (after, took) = (commands(bus).expect("INFO is answered"), begun.elapsed());
    let rate = (after - before) * 1000 / u64::try_from(took.as_millis()).expect("it is short");
    eprintln!("{what}: {rate} commands a second");
    assert!(rate < COMMANDS, "{rate} commands a second");
}

fn quick(redis: &Redis, url: &str) -> Sidecar {
    let setup = Setup::at(url).config(&routes()).set("redis.main.command_timeout=1s").set("redis.main.connect_timeout=1s");
    setup.set("retry.budget=1s").set("retry.critical_budget=1s").start(redis)
}

#[test]
fn a_redis_that_is_loading_is_awaited() {
    if Redis::start_sync().version() < (7, 0) {
        eprintln!("skipped: this server can't be made to load slowly");
        return;
    }
    // A key takes 2 ms to load, and events are looked at between two.
    let slowly = ["--key-load-delay", "2000", "--loading-process-events-interval-bytes", "1024"];
    let mut redis = Redis::builder().args(slowly).start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = quick(&redis, &redis.url());
    publish(&mut bus, "events", "Touched", 0..20);
    wait_pending(&mut bus, "events", 20);
    let filler: Vec<String> = (0..3500).map(|number| format!("unstale:filler:{number}")).collect();
    bus.seed(&filler);
    bus.cmd(&["SAVE"]);
    redis.kill();
    wait_code(&sidecar, "redis_down");
    redis.launch();
    wait_until_sync("health to say that it is loading", PATIENCE, || {
        let (_, body) = sidecar.get("/healthz");
        if body.contains("redis_down") && body.contains("LOADING") { Ok(()) } else { Err(body) }
    });
    assert_no_hot_loop(&mut bus, "loading");
    back_up(&mut bus);
    publish(&mut bus, "events", "Changed", 0..20);
    bus.wait_settled();
    wait_well(&sidecar);
    assert_told_once(&sidecar, &["Redis can't be reached"]);
    bus.cmd(&[&["DEL"], &filler.iter().map(String::as_str).collect::<Vec<_>>()[..]].concat());
    assert_nothing_lost(&mut bus, &(&things(0..20) | &slows(0..20)));
}

/// Waits until Redis does what it is asked.
#[track_caller]
fn back_up(bus: &mut Bus) {
    wait_until_sync("Redis to have loaded its data", PATIENCE, || bus.try_cmd(&["XLEN", "unstale:events"]).map(drop));
}

#[test]
fn a_redis_that_became_read_only_is_awaited() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = quick(&redis, &redis.url());
    publish(&mut bus, "events", "Touched", 0..20);
    publish(&mut bus, "events:critical", "TouchedAtOnce", 20..40);
    wait_pending(&mut bus, "events", 20);
    // Of a master that isn't there.
    bus.cmd(&["REPLICAOF", "127.0.0.1", "1"]);
    wait_code(&sidecar, "redis_refuses");
    assert!(sidecar.get("/healthz").1.contains("read_only"), "{}", sidecar.get("/healthz").1);
    assert_no_hot_loop(&mut bus, "read-only");
    let (_, body) = sidecar.get("/healthz");
    assert!(!body.contains("redis_down"), "{body}");
    assert_eq!((health(&sidecar).0, sidecar.metric("unstale_reader")), ("unhealthy".to_owned(), 0));
    bus.cmd(&["REPLICAOF", "NO", "ONE"]);
    publish(&mut bus, "events", "Changed", 0..20);
    bus.wait_settled();
    wait_well(&sidecar);
    assert_told_once(&sidecar, &["Redis can be reached, but doesn't do what is asked", "Redis has not refused what is asked in this way"]);
    assert_nothing_lost(&mut bus, &(&things(0..20) | &slows(0..40)));
}

/// A proxy in a runtime of its own.
fn proxy(redis: &Redis) -> (tokio::runtime::Runtime, FaultProxy) {
    let runtime = runtime();
    let proxy = runtime.block_on(FaultProxy::start(redis.address()));
    (runtime, proxy)
}

/// A machine between has vanished: nothing comes any more, and nothing says so.
#[test]
fn connections_that_are_half_open_are_given_up_and_made_again() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let (_runtime, proxy) = proxy(&redis);
    let sidecar = quick(&redis, &proxy.url());
    publish(&mut bus, "events", "Touched", 0..20);
    wait_pending(&mut bus, "events", 20);
    proxy.freeze();
    let frozen = Instant::now();
    publish(&mut bus, "events", "Changed", 0..20);
    publish(&mut bus, "events:critical", "Revoked", 20..40);
    assert_no_hot_loop(&mut bus, "half open");
    bus.wait_settled();
    eprintln!("half open: all was done {:?} later", frozen.elapsed());
    assert!(frozen.elapsed() < Duration::from_secs(20), "{:?}", frozen.elapsed());
    wait_well(&sidecar);
    assert_nothing_lost(&mut bus, &(&things(0..40) | &slows(0..20)));
}

/// A stand-by has connections that it needs only when it becomes the reader. That they lead nowhere is found out before.
#[test]
fn idle_connections_that_are_half_open_are_made_again_before_they_are_needed() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let (_runtime, proxy) = proxy(&redis);
    let mut reader = quick(&redis, &redis.url());
    let stand_by = quick(&redis, &proxy.url());
    let own = stand_by.instance(&mut bus);
    // The newest connection of each name.
    let connections = |bus: &mut Bus| {
        let list = bus.cmd(&["CLIENT", "LIST"]).text();
        let field = |line: &str, name: &str| line.split(' ').find_map(|field| field.strip_prefix(name).map(str::to_owned));
        let mut newest = BTreeMap::new();
        for (name, id) in list.lines().filter_map(|line| Some((field(line, "name=")?, field(line, "id=")?.parse::<u64>().ok()?))) {
            if name.ends_with(&own) {
                newest.entry(name).and_modify(|known: &mut u64| *known = id.max(*known)).or_insert(id);
            }
        }
        newest
    };
    let before = connections(&mut bus);
    assert_eq!(before.len(), 10, "{before:?}");
    proxy.freeze();
    let frozen = Instant::now();
    wait_until_sync("all connections to be made again", PATIENCE, || {
        let now = connections(&mut bus);
        let old: Vec<_> = before.iter().filter(|(name, id)| now.get(*name).is_none_or(|other| other <= id)).collect();
        if old.is_empty() { Ok(()) } else { Err(format!("{old:?}")) }
    });
    eprintln!("half open: all idle connections were made again {:?} later", frozen.elapsed());
    reader.kill();
    publish(&mut bus, "events", "Changed", 0..20);
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &things(0..20));
}

/// Nothing passes for four seconds, and then what was held back does, late.
#[test]
fn a_network_that_stalls_costs_no_event() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let (_runtime, proxy) = proxy(&redis);
    let sidecar = quick(&redis, &proxy.url());
    publish(&mut bus, "events", "Touched", 0..20);
    wait_pending(&mut bus, "events", 20);
    proxy.set(Fault::Stall);
    publish(&mut bus, "events", "Changed", 0..200);
    wait_code(&sidecar, "redis_down");
    pass(Duration::from_secs(3));
    proxy.set(Fault::None);
    bus.wait_settled();
    wait_well(&sidecar);
    assert_told_once(&sidecar, &["Redis can't be reached"]);
    assert_nothing_lost(&mut bus, &(&things(0..200) | &slows(0..20)));
}

#[test]
fn a_slow_redis_is_said_to_be_slow_and_all_is_done() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let (_runtime, proxy) = proxy(&redis);
    let sidecar = quick(&redis, &proxy.url());
    proxy.set(Fault::Delay(Duration::from_millis(300)));
    wait_code(&sidecar, "ping");
    assert_eq!(health(&sidecar).0, "degraded");
    publish(&mut bus, "events", "Changed", 0..500);
    publish(&mut bus, "events:critical", "Revoked", 500..520);
    bus.wait_settled();
    assert_no_hot_loop(&mut bus, "slow");
    proxy.set(Fault::None);
    wait_well(&sidecar);
    assert!(!sidecar.log().contains("WARN"), "{}", sidecar.log());
    assert_nothing_lost(&mut bus, &things(0..520));
}

/// Attempts to connect to a Redis that isn't there, counted by who listens in its place.
#[test]
fn p5_7_a_redis_that_is_gone_is_not_knocked_at_more_than_need_be() {
    let mut redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = quick(&redis, &redis.url());
    redis.kill();
    wait_code(&sidecar, "redis_down");
    let listener = std::net::TcpListener::bind(redis.address()).expect("the port is free");
    listener.set_nonblocking(true).expect("a listener can be asked");
    let (begun, mut knocks) = (Instant::now(), 0);
    wait_until_sync("four seconds to pass", PATIENCE, || {
        while listener.accept().is_ok() {
            knocks += 1;
        }
        if begun.elapsed() > Duration::from_secs(4) { Ok(()) } else { Err(String::new()) }
    });
    drop(listener);
    eprintln!("gone: {knocks} attempts to connect in 4 s, of eight connections");
    // Of eight connections each waits a quarter of a second at least, once it waits the longest.
    assert!((8..=136).contains(&knocks), "{knocks}");
    back(&mut redis, &mut bus);
    publish(&mut bus, "events", "Changed", 0..20);
    wait_until_sync("the group to be made again", PATIENCE, || bus.standing("events").and(bus.standing("events:critical")));
    bus.wait_settled();
    wait_well(&sidecar);
    assert_told_once(&sidecar, &["Redis can't be reached"]);
    assert_eq!(bus.keys(), [].into());
}
