//! Caches on other servers and databases than the bus: deleted there, announced here, each server for itself.

use std::collections::BTreeSet;

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar, run};

const ROUTES: &str = r#"
[cache.near]
prefixes = ["near:"]
[cache.far]
prefixes = ["far:"]
redis = "far"
[cache.deep]
prefixes = ["deep:"]
redis = "deep"
[[route]]
event = "Near"
cache = "near"
keys = ["near:{id}"]
[[route]]
event = ["Far", "Both"]
cache = "far"
keys = ["far:{id}"]
[[route]]
event = "Both"
cache = "near"
keys = ["near:{id}"]
[[route]]
event = "Sweep"
cache = "far"
patterns = ["far:{id}*"]
bump = ["far:epoch"]
[[route]]
event = "Deep"
cache = "deep"
priority = "critical"
keys = ["deep:{id}"]
"#;

/// A bus with a cache, a second server with one, and one in database 1 of that.
struct Two {
    sidecar: Sidecar,
    bus: Bus,
    near: Redis,
    far: Redis,
}

impl Two {
    fn start() -> Self {
        let (near, far) = (Redis::start_sync(), Redis::start_sync());
        let sidecar = Self::setup(&near, &far).start(&near);
        sidecar.wait_log("server=\"far\"");
        sidecar.wait_log("server=\"deep\"");
        let bus = Bus::new(&near);
        Self { sidecar, bus, near, far }
    }

    fn setup(near: &Redis, far: &Redis) -> Setup {
        let deep = format!("{}/1", far.url());
        Setup::on(near).config(ROUTES).server("far", far).server("deep", far).redis("deep", "url", &deep).set("retry.budget=400ms")
    }

    /// Makes keys on the far server.
    fn seed_far(&self, keys: impl IntoIterator<Item = String>) {
        let mut far = self.far.resp();
        for key in keys {
            far.cmd(&["SET", &key, "old"]);
        }
    }

    fn announced(&mut self) -> BTreeSet<String> {
        self.bus.notices().iter().flat_map(unstale_tests::Notice::keys).collect()
    }

    fn up(&self, role: &str) -> u64 {
        self.sidecar.metric(&format!("unstale_redis_up{{role=\"{role}\"}}"))
    }
}

fn keys(server: &Redis) -> BTreeSet<String> {
    server.cmd(&["KEYS", "*"]).texts().into_iter().filter(|key| !key.starts_with("unstale:")).collect()
}

fn far(numbers: std::ops::Range<usize>) -> BTreeSet<String> {
    numbers.map(|number| format!("far:{number}")).collect()
}

fn many(kind: &str, numbers: std::ops::Range<usize>) -> Vec<Vec<String>> {
    numbers.map(|number| ["type", kind, "id", &number.to_string()].map(str::to_owned).to_vec()).collect()
}

#[test]
fn what_lies_apart_is_deleted_where_it_is_and_announced_on_the_bus() {
    let mut two = Two::start();
    two.bus.seed(["near:1", "far:1", "deep:1"]);
    two.seed_far(["far:1", "far:1x", "far:epoch", "near:1"].map(str::to_owned));
    two.far.cmd(&["SET", "far:epoch", "6"]);
    let mut deep = two.far.resp();
    deep.cmd(&["SELECT", "1"]);
    deep.cmd(&["MSET", "deep:1", "old", "far:1", "another"]);
    two.bus.publish("Both", &[("id", "1")]);
    two.bus.publish_critical("Deep", &[("id", "1")]);
    two.bus.wait_settled();
    two.bus.publish("Sweep", &[("id", "1")]);
    two.bus.wait_settled();
    assert_eq!(two.announced(), ["near:1", "far:1", "deep:1"].map(str::to_owned).into());
    // Nothing was touched where it isn't the cache's own server and database.
    assert_eq!(keys(&two.near), ["far:1", "deep:1"].map(str::to_owned).into());
    assert_eq!(keys(&two.far), ["far:epoch", "near:1"].map(str::to_owned).into());
    assert_eq!((two.far.cmd(&["GET", "far:epoch"]).int(), deep.cmd(&["KEYS", "*"]).texts()), (7, vec!["far:1".to_owned()]));
    let names = two.far.cmd(&["CLIENT", "LIST"]).text();
    for name in ["delete", "delete_critical", "scan", "scan_critical"] {
        assert_eq!(names.matches(&format!("name=unstale:{name}:")).count(), 2, "one for each database: {names}");
        assert_eq!((two.up(&format!("far:{name}")), two.up(&format!("deep:{name}"))), (1, 1));
    }
    let answer = two.sidecar.post("/v1/invalidate?wait=deleted", &serde_json::json!({"keys": ["near:1", "far:1"], "patterns": ["far:n*"]}));
    assert_eq!(answer.0, 200, "{}", answer.1);
}

#[test]
fn p2_2_a_caches_server_that_is_down_delays_its_own_events_only() {
    const COUNT: usize = 300;
    let mut two = Two::start();
    two.far.kill();
    wait_until_sync("the connections to be down", PATIENCE, || if two.up("far:delete") == 0 { Ok(()) } else { Err("up".to_owned()) });
    let (_, health) = two.sidecar.get("/healthz");
    assert!(health.contains("redis_down") && health.contains("far:delete") && health.contains("unhealthy"), "{health}");
    two.bus.seed((0..COUNT).map(|number| format!("near:{number}")));
    two.bus.add_all(&many("Far", 0..COUNT));
    two.bus.add_all(&many("Near", 0..COUNT));
    wait_until_sync("the near keys to go, and their events", PATIENCE, || {
        let standing = two.bus.standing("events")?;
        if two.bus.keys().is_empty() && usize::try_from(standing.pending) == Ok(COUNT) { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    assert!(two.announced().iter().all(|key| key.starts_with("near:")));
    let answer = two.sidecar.post("/v1/invalidate?wait=deleted", &serde_json::json!({"keys": ["far:1"]}));
    assert_eq!(answer.0, 503, "{}", answer.1);

    two.far.launch();
    two.far.ready_sync();
    two.bus.wait_settled();
    assert!(two.announced().is_superset(&far(0..COUNT)));
    assert_eq!((keys(&two.far), two.bus.dead_letters().len()), (BTreeSet::new(), 0));
}

#[test]
fn a_bus_that_is_down_loses_nothing_of_what_was_deleted_elsewhere() {
    let far_server = Redis::start_sync();
    let mut near = Redis::builder().args(["--appendonly", "yes", "--appendfsync", "always"]).start_sync();
    let sidecar = Two::setup(&near, &far_server).start(&near);
    let mut bus = Bus::new(&near);
    far_server.cmd(&["SET", "far:1", "old"]);
    // Deleting hangs, so the bus dies between the read and the notice.
    far_server.pause();
    bus.publish("Far", &[("id", "1")]);
    wait_until_sync("the entry to be read", PATIENCE, || {
        let standing = bus.standing("events")?;
        if standing.pending == 1 { Ok(()) } else { Err(format!("{standing:?}")) }
    });
    near.kill();
    far_server.resume();
    wait_until_sync("the key to go", PATIENCE, || if keys(&far_server).is_empty() { Ok(()) } else { Err("there".to_owned()) });
    near.launch();
    near.ready_sync();
    bus.wait_settled();
    let announced: BTreeSet<String> = bus.notices().iter().flat_map(unstale_tests::Notice::keys).collect();
    assert_eq!(announced, far(1..2), "{}", sidecar.log());
}

#[test]
fn check_looks_at_every_server_and_names_the_least_rights_of_each() {
    let (near, far) = (Redis::start_sync(), Redis::start_sync());
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("unstale.toml");
    let servers = format!("[redis.main]\nurl = \"{}\"\n[redis.far]\nurl = \"{1}\"\n[redis.deep]\nurl = \"{1}/1\"\n", near.url(), far.url());
    std::fs::write(&file, format!("{ROUTES}{servers}")).expect("a temporary file can be written");
    let config = file.to_str().expect("paths are text");
    let good = run(&["check", "--config", config], &[]);
    assert_eq!(good.code, Some(0), "{}{}", good.out, good.err);
    assert!(["redis.main", "redis.far", "redis.deep"].iter().all(|name| good.out.contains(name)), "{}", good.out);

    let acl = run(&["check", "--acl", "--config", config], &[]).out;
    let line = |key: &str| acl.lines().find(|line| line.contains(key)).unwrap_or_else(|| panic!("no {key} in {acl}")).to_owned();
    let (bus, caches) = (line("~near:*"), line("~far:*"));
    assert!(bus.contains("+xreadgroup") && bus.contains("~unstale:*") && !bus.contains("far"), "{bus}");
    assert!(caches.contains("+unlink") && caches.contains("+scan"), "{caches}");
    assert!(!caches.contains("+x") && !caches.contains("+eval") && !caches.contains("unstale:") && !caches.contains('&'), "{caches}");

    // With no more than that, a sidecar does all it has to.
    for (server, acl, name) in [(&near, bus, "main"), (&far, caches, "far")] {
        let rights = acl.split(' ').skip(3).map(|word| word.replace(">PASSWORD", ">secret"));
        server.cmd(&["ACL", "SETUSER", name].map(str::to_owned).into_iter().chain(rights).collect::<Vec<_>>());
    }
    let with = |server: &Redis, user: &str| server.url().replace("redis://", &format!("redis://{user}:secret@"));
    let servers = format!("[redis.far]\nurl = \"{}\"\n[redis.deep]\nurl = \"{}/1\"\n", with(&far, "far"), far.url());
    let mut sidecar = Setup::at(with(&near, "main")).config(ROUTES).config(&servers).spawn();
    let mut bus = Bus::new(&near);
    sidecar.ready(&mut bus);
    far.cmd(&["MSET", "far:1", "old", "far:2x", "old"]);
    bus.publish("Far", &[("id", "1")]);
    bus.publish("Sweep", &[("id", "2")]);
    bus.wait_settled();
    assert_eq!((keys(&far), far.cmd(&["GET", "far:epoch"]).int()), (["far:epoch".to_owned()].into(), 1));
    let (_, health) = sidecar.get("/healthz");
    assert!(!health.contains("missing_right"), "{health}");
}
