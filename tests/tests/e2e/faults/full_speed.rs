//! Publishers at full speed, and a Redis that is not as it should be in the middle of it. Each outage in turn: memory stays within its bound, nothing
//! is lost, each change of state is told by one line, Redis is asked no more than need be, and the status tells the truth during and after.

use std::collections::BTreeMap;
use std::time::Duration;

use unstale_testkit::{Fault, FaultProxy, Redis, runtime, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar};

use super::flood::{Flood, MOST};
use super::kit::{back, cpu_time, pass, routes, wait_code, wait_well};

/// How long each lasts, once the status has told of it.
const LENGTH: Duration = Duration::from_secs(2);
/// How many commands a second a sidecar may send while it can't work, those within its scripts and the refused ones included.
const COMMANDS: u64 = 200;
/// What publishers and tests send; a sidecar's own XADDs are in scripts that count as well.
const NOT_ITS_OWN: [&str; 8] = ["eval", "set", "xadd", "info", "ping", "replicaof", "config|set", "acl|setuser"];

/// What is there before, during and after an outage.
struct Stage {
    redis: Redis,
    bus: Bus,
    proxy: FaultProxy,
    sidecar: Sidecar,
    _runtime: tokio::runtime::Runtime,
}

/// One kind of outage.
struct Outage {
    /// How the server is started.
    args: &'static [&'static str],
    begin: fn(&mut Stage),
    end: fn(&mut Stage),
    /// What the status says meanwhile; empty if nothing.
    code: &'static str,
    /// What the log has once, and never again.
    once: &'static [&'static str],
    /// Whether the sidecar can do nothing meanwhile.
    is_idle: bool,
}

const DOWN: &str = "Redis can't be reached";
const REFUSES: [&str; 2] = ["Redis can be reached, but doesn't do what is asked", "Redis has not refused what is asked in this way"];

/// What a killed server has written is with the system, and outlives it.
const KEEPS: &[&str] = &["--appendonly", "yes", "--appendfsync", "no"];

impl Outage {
    fn play(&self) {
        let mut stage = Stage::start(self.args);
        let flood = Flood::start(&stage.redis);
        pass(LENGTH / 2);
        (self.begin)(&mut stage);
        if !self.code.is_empty() {
            wait_code(&stage.sidecar, self.code);
        }
        self.endure(&mut stage);
        (self.end)(&mut stage);
        pass(LENGTH / 2);
        let published = flood.stop();
        stage.settle();
        wait_well(&stage.sidecar);
        let (status, health) = stage.sidecar.get("/healthz?strict=1");
        assert!(status == 200 || health.contains("errors"), "{health}");
        let log = stage.sidecar.log();
        for text in self.once {
            assert_eq!(log.matches(text).count(), 1, "{text:?} in\n{log}");
        }
        let peak = stage.sidecar.peak_bytes();
        eprintln!("{published} events, {} MB at the most", peak >> 20);
        assert!(peak < MOST, "{} MB", peak >> 20);
        assert_eq!((stage.bus.keys(), stage.bus.dead_letters()), ([].into(), vec![]));
    }

    fn endure(&self, stage: &mut Stage) {
        let (used, sent) = (cpu_time(&stage.sidecar), commands(&mut stage.bus));
        pass(LENGTH);
        let used = cpu_time(&stage.sidecar).saturating_sub(used);
        let sent = commands(&mut stage.bus).zip(sent).map(|(after, before)| after.saturating_sub(before) / LENGTH.as_secs());
        eprintln!("within {LENGTH:?}: {used:?} of processor time, {sent:?} commands a second");
        if self.is_idle {
            // Work that was begun is given up meanwhile. A loop that doesn't wait would use all of it.
            assert!(used < LENGTH / 2, "{used:?}\n{}", stage.sidecar.log());
            assert!(sent.is_none_or(|sent| sent < COMMANDS), "{sent:?} commands a second");
        }
        let told = warnings(&stage.sidecar);
        assert!(told.values().all(|times| *times == 1), "{told:?}\n{}", stage.sidecar.log());
    }
}

impl Stage {
    fn start(args: &[&str]) -> Self {
        let redis = Redis::builder().args(args.iter().copied()).start_sync();
        let runtime = runtime();
        let proxy = runtime.block_on(FaultProxy::start(redis.address()));
        let setup = Setup::at(proxy.url()).config(&routes()).set("redis.main.command_timeout=1s").set("redis.main.connect_timeout=1s");
        let sidecar = setup.set("retry.budget=1s").set("retry.critical_budget=1s").start(&redis);
        Self { bus: Bus::new(&redis), redis, proxy, sidecar, _runtime: runtime }
    }

    /// Waits until all is done, however much it is.
    fn settle(&mut self) {
        wait_until_sync("all to be done", PATIENCE * 10, || {
            let standing = self.bus.standing("events")?;
            if standing.is_done() { Ok(()) } else { Err(format!("{standing:?}\n{}", self.sidecar.log())) }
        });
    }

    fn restart(&mut self) {
        back(&mut self.redis, &mut self.bus);
    }
}

/// How many commands were sent that are a sidecar's, if anybody answers: what is stopped doesn't, and would be waited for.
fn commands(bus: &mut Bus) -> Option<u64> {
    let info = bus.try_cmd(&["INFO", "commandstats"]).ok()?.text();
    let figure =
        |figures: &str, name: &str| figures.split(',').find_map(|pair| pair.strip_prefix(name)?.parse::<u64>().ok()).unwrap_or_default();
    let line = |line: &str| {
        let (name, figures) = line.trim().strip_prefix("cmdstat_")?.split_once(':')?;
        let sent = figure(figures, "calls=") + figure(figures, "rejected_calls=");
        (!NOT_ITS_OWN.contains(&name)).then_some(sent)
    };
    Some(info.lines().filter_map(line).sum())
}

/// What was warned of, each how often.
fn warnings(sidecar: &Sidecar) -> BTreeMap<String, usize> {
    let mut told = BTreeMap::new();
    for line in sidecar.log().lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR ")) {
        let message = line.split(": ").nth(1).unwrap_or(line);
        let message = message.split(['=', ';']).next().unwrap_or(message).to_owned();
        *told.entry(message).or_default() += 1;
    }
    told
}

fn cmd(stage: &mut Stage, words: &[&str]) {
    stage.bus.cmd(words);
}

#[test]
fn a_pause() {
    let begin = |stage: &mut Stage| stage.redis.pause();
    let end = |stage: &mut Stage| stage.redis.resume();
    Outage { args: &[], begin, end, code: "redis_down", once: &[DOWN], is_idle: true }.play();
}

#[test]
fn a_restart() {
    Outage { args: KEEPS, begin: |stage| stage.redis.kill(), end: Stage::restart, code: "redis_down", once: &[DOWN], is_idle: true }.play();
}

#[test]
fn a_restart_without_what_was_there() {
    let end = |stage: &mut Stage| {
        stage.redis.wipe();
        stage.restart();
    };
    Outage { args: &[], begin: |stage| stage.redis.kill(), end, code: "redis_down", once: &[DOWN], is_idle: true }.play();
}

/// A key takes 0.2 ms to load, and events are looked at between two; at the end the rest is loaded at once, for how many keys the publishers have
/// made until then is nobody's guess.
#[test]
fn loading() {
    const FILLER: usize = 20_000;
    if Redis::start_sync().version() < (7, 0) {
        eprintln!("skipped: this server can't be made to load slowly");
        return;
    }
    let begin = |stage: &mut Stage| {
        let filler = (0..FILLER).flat_map(|number| [format!("unstale:filler:{number}"), String::new()]);
        stage.bus.cmd(&["MSET".to_owned()].into_iter().chain(filler).collect::<Vec<_>>());
        stage.bus.cmd(&["SAVE"]);
        stage.redis.kill();
        stage.redis.launch();
        wait_until_sync("health to say that it is loading", PATIENCE, || {
            let (_, health) = stage.sidecar.get("/healthz");
            if health.contains("LOADING") { Ok(()) } else { Err(health) }
        });
    };
    let end = |stage: &mut Stage| {
        cmd(stage, &["CONFIG", "SET", "key-load-delay", "0"]);
        wait_until_sync("Redis to have loaded its data", PATIENCE * 2, || stage.bus.try_cmd(&["XLEN", "unstale:events"]).map(drop));
        let filler = (0..FILLER).map(|number| format!("unstale:filler:{number}"));
        stage.bus.cmd(&["UNLINK".to_owned()].into_iter().chain(filler).collect::<Vec<_>>());
    };
    let args = &["--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024"];
    Outage { args, begin, end, code: "redis_down", once: &[DOWN], is_idle: true }.play();
}

/// A replica of a master that isn't there.
#[test]
fn read_only() {
    let begin = |stage: &mut Stage| cmd(stage, &["REPLICAOF", "127.0.0.1", "1"]);
    let end = |stage: &mut Stage| cmd(stage, &["REPLICAOF", "NO", "ONE"]);
    Outage { args: &[], begin, end, code: "redis_refuses", once: &REFUSES, is_idle: true }.play();
}

/// Publishers are refused; what is there is done all the same.
#[test]
fn memory_that_is_full() {
    let begin = |stage: &mut Stage| cmd(stage, &["CONFIG", "SET", "maxmemory", "1mb"]);
    let end = |stage: &mut Stage| cmd(stage, &["CONFIG", "SET", "maxmemory", "0"]);
    Outage { args: &["--maxmemory-policy", "noeviction"], begin, end, code: "", once: &[], is_idle: false }.play();
}

#[test]
fn a_right_that_is_missing() {
    let begin = |stage: &mut Stage| {
        let user = stage.sidecar.name().to_owned();
        cmd(stage, &["ACL", "SETUSER", &user, "-unlink"]);
    };
    let end = |stage: &mut Stage| {
        let user = stage.sidecar.name().to_owned();
        cmd(stage, &["ACL", "SETUSER", &user, "+unlink"]);
    };
    Outage { args: &[], begin, end, code: "missing_right", once: &["deliveries fail; what failed stays pending"], is_idle: false }.play();
}

/// A machine between has vanished: nothing comes any more, and nothing says so.
#[test]
fn connections_that_are_half_open() {
    Outage { args: &[], begin: |stage| stage.proxy.freeze(), end: |_| {}, code: "", once: &[], is_idle: false }.play();
}

#[test]
fn slowness() {
    let begin = |stage: &mut Stage| stage.proxy.set(Fault::Delay(Duration::from_millis(300)));
    let end = |stage: &mut Stage| stage.proxy.set(Fault::None);
    Outage { args: &[], begin, end, code: "ping", once: &[], is_idle: false }.play();
}
