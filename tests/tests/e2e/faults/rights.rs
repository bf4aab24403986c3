//! Rights that are missing, and memory that is full: faults of the installation, never of an event.

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar};

use super::kit::{assert_nothing_lost, pending, publish, routes, things};
use super::states::{assert_no_hot_loop, assert_told_once};

/// What is said of a right that is missing, once.
const MISSING: &str = "the Redis user may not do what is needed";

const LOCKED: &str = r#"
[cache.locked]
prefixes = ["locked:"]
[[route]]
event = "Locked"
cache = "locked"
keys = ["locked:{id}"]
[[route]]
event = "Locked"
cache = "thing"
keys = ["thing:of:{id}"]
"#;

#[track_caller]
fn wait_health(sidecar: &Sidecar, what: &str, wanted: impl Fn(&str) -> bool) {
    wait_until_sync(&format!("health to be {what}"), PATIENCE, || {
        let (_, body) = sidecar.get("/healthz");
        if wanted(&body) { Ok(()) } else { Err(body) }
    });
}

/// A user of this name may do everything, but only with these keys.
fn user(bus: &mut Bus, name: &str, rights: &[&str]) -> String {
    let words: Vec<&str> = ["ACL", "SETUSER", name, "on", ">secret", "&*", "+@all"].iter().chain(rights).copied().collect();
    bus.cmd(&words);
    format!("redis://{name}:secret@")
}

#[test]
fn p1_7_keys_that_may_not_be_touched_hold_nobody_up_and_are_deleted_once_they_may() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let url = user(&mut bus, "app", &["~unstale:*", "~thing:*"]);
    let setup = Setup::at(redis.url().replace("redis://", &url)).config(&routes()).config(LOCKED).set("retry.budget=300ms");
    let sidecar = setup.start(&redis);
    // One batch of both.
    bus.seed((0..20).flat_map(|id| [format!("locked:{id}"), format!("thing:of:{id}"), format!("thing:{id}")]));
    let entries: Vec<_> = (0..20)
        .flat_map(|id| ["Locked", "Changed"].map(|kind| ["type", kind, "id", &id.to_string()].map(str::to_owned).to_vec()))
        .collect();
    bus.add_all(&entries);
    wait_until_sync("all keys to be gone that may be deleted", PATIENCE, || {
        let left = bus.keys();
        if left == (0..20).map(|id| format!("locked:{id}")).collect() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    wait_health(&sidecar, "unhealthy and to name the right", |body| {
        body.contains("\"unhealthy\"") && body.contains("missing_right") && body.contains("keys")
    });
    // Left pending again and again, nobody else held up, nobody buried, and no delivery counted against them.
    let left = wait_until_sync("only the forbidden to be pending", PATIENCE, || {
        let left = pending(&mut bus, "events");
        if left.len() == 20 { Ok(left) } else { Err(format!("{left:?}")) }
    });
    assert!(left.iter().all(|entry| entry.deliveries <= 2), "{left:?}");
    publish(&mut bus, "events", "Changed", 100..120);
    bus.wait_notice("of others meanwhile", |notice| notice.keys().contains(&"thing:119".to_owned()));
    assert_eq!(bus.dead_letters(), []);
    assert_no_hot_loop(&mut bus, "keys out of reach");
    assert_told_once(&sidecar, &[MISSING, "deliveries fail; what failed stays pending"]);

    bus.cmd(&["ACL", "SETUSER", "app", "~locked:*"]);
    bus.wait_settled();
    sidecar.wait_log("nothing is left here of what had failed");
    assert_told_once(&sidecar, &[MISSING, "deliveries fail; what failed stays pending", "nothing is left here of what had failed"]);
    let all = (0..20).flat_map(|id| [format!("locked:{id}"), format!("thing:of:{id}"), format!("thing:{id}")]);
    assert_nothing_lost(&mut bus, &all.chain(things(100..120)).collect());
}

/// What is given up again and again takes neither the memory nor the turn of what is not.
#[test]
fn p5_4_however_many_entries_can_not_be_done_the_others_are() {
    const MANY: usize = 20_000;
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let url = user(&mut bus, "app", &["~unstale:*", "~thing:*"]);
    let setup = Setup::at(redis.url().replace("redis://", &url)).config(&routes()).config(LOCKED).set("retry.budget=300ms");
    let sidecar = setup.set("limits.memory=4MiB").start(&redis);
    let (note, kind) = ("x".repeat(1000), "Locked");
    let entries: Vec<_> = (0..MANY).map(|id| ["type", kind, "id", &id.to_string(), "note", &note].map(str::to_owned).to_vec()).collect();
    entries.chunks(4000).for_each(|some| drop(bus.add_all(some)));
    wait_until_sync("all to have been read", PATIENCE * 2, || {
        let standing = bus.standing("events")?;
        if standing.delivered == standing.added { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    let begun = std::time::Instant::now();
    publish(&mut bus, "events", "Changed", MANY..MANY + 100);
    bus.wait_notice("of others meanwhile", |notice| notice.keys().contains(&format!("thing:{}", MANY + 99)));
    let took = begun.elapsed();
    bus.cmd(&["ACL", "SETUSER", "app", "~locked:*"]);
    wait_until_sync("all to be done", PATIENCE * 2, || {
        let standing = bus.standing("events")?;
        if standing.is_done() { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    let peak = sidecar.peak_bytes() >> 20;
    eprintln!("{MANY} entries that could not be done: others done within {took:?}, {peak} MB at the most");
    assert!(peak < 96, "{peak} MB");
    assert_eq!(bus.dead_letters(), []);
}

#[test]
fn a_command_that_may_not_be_run_is_named_and_nothing_is_lost() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let url = user(&mut bus, "app", &["~*", "-xack"]);
    let sidecar = Setup::at(redis.url().replace("redis://", &url)).config(&routes()).start(&redis);
    publish(&mut bus, "events", "Changed", 0..10);
    wait_health(&sidecar, "unhealthy and to name the command", |body| body.contains("\"unhealthy\"") && body.contains("+xack"));
    assert_no_hot_loop(&mut bus, "no right to acknowledge");
    bus.cmd(&["ACL", "SETUSER", "app", "+xack"]);
    bus.wait_settled();
    assert_nothing_lost(&mut bus, &things(0..10));
    // It is over when it wasn't met for half a minute.
    wait_until_sync("the log to say that it is over", PATIENCE * 3, || {
        let log = sidecar.log();
        if log.contains("was not missed any more") { Ok(()) } else { Err(log) }
    });
    assert_told_once(&sidecar, &[MISSING, "grant +xack", "the right +xack was not missed any more"]);
    assert_eq!(sidecar.log().matches("WARN").count(), 1, "{}", sidecar.log());
}

/// What is said of a Redis that answers with errors, once.
const REFUSED: &str = "Redis can be reached, but doesn't do what is asked";

#[test]
fn with_its_memory_full_redis_still_gets_rid_of_keys_and_nothing_is_lost() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let sidecar = Setup::on(&redis).config(&routes()).start(&redis);
    publish(&mut bus, "events", "Changed", 0..2000);
    bus.wait_notice("of the first", |_| true);
    sidecar.pause();
    publish(&mut bus, "events", "Changed", 2000..4000);
    publish(&mut bus, "events:critical", "Revoked", 4000..4100);
    // One that goes to the dead letters: it has to wait for memory.
    bus.publish("Changed", &[]);
    bus.cmd(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    bus.cmd(&["CONFIG", "SET", "maxmemory", "1mb"]);
    assert!(bus.try_cmd(&["SET", "full", "x"]).expect_err("memory is full").contains("OOM"));
    sidecar.resume();
    wait_until_sync("all keys to be gone", PATIENCE, || {
        let left = bus.keys().len();
        if left == 0 { Ok(()) } else { Err(format!("{left} keys")) }
    });
    // For longer than a lease lasts: beats don't need memory either.
    super::kit::pass(std::time::Duration::from_secs(3));
    assert_eq!(bus.reader(), Ok(sidecar.instance(&mut bus)));
    assert_eq!(bus.dead_letters(), []);
    let left = super::kit::wait_pending(&mut bus, "events", 1);
    assert_eq!(left.len(), 1, "{left:?}");
    assert_no_hot_loop(&mut bus, "memory full");
    assert_told_once(&sidecar, &[REFUSED]);

    bus.cmd(&["CONFIG", "SET", "maxmemory", "0"]);
    bus.wait_settled();
    sidecar.wait_log("Redis has not refused what is asked in this way");
    assert_told_once(&sidecar, &[REFUSED, "Redis has not refused what is asked in this way"]);
    assert_eq!(bus.dead_letters().len(), 1);
    let announced = super::kit::announced(&mut bus);
    assert_eq!(things(0..4100).difference(&announced).count(), 0);
}
