//! One run: a backlog, who works it off, and what that took.

use std::time::{Duration, Instant};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, Standing};

use crate::backlog::Backlog;
use crate::contender::{Kind, Running};
use crate::proc;

/// How long a run may take; none takes a tenth of it.
const LIMIT: Duration = Duration::from_secs(120);

/// What a run took.
#[derive(Debug, Clone, Copy)]
pub struct Drained {
    /// Events in a second, from the first that was read to the last that was acknowledged.
    pub rate: f64,
    /// Microseconds of processor time that the consumers took for an event.
    pub cpu: f64,
    /// The same of Redis.
    pub redis_cpu: f64,
    /// The most that a consumer had in memory, in bytes.
    pub peak: u64,
}

/// Has a backlog worked off, and sees that it was: everything acknowledged, no key left.
///
/// # Panics
/// If it isn't, with what the consumers said.
pub fn drain(redis: &Redis, backlog: &Backlog, kind: &Kind) -> Drained {
    backlog.lay_out(redis);
    let consumers = kind.start(redis);
    let drained = watch(&mut Bus::new(redis), &[server_pid(redis)], &consumers, backlog.events);
    let left = backlog.left(redis);
    assert_eq!(left, 0, "{kind:?} left keys\n{}", said(&consumers));
    drained
}

/// Waits until so many events are worked off. Begin and end are what Redis shows of the group, the same for everybody; both are seen up to 5 ms
/// late.
///
/// # Panics
/// If they aren't, with what the consumers said.
pub fn watch(bus: &mut Bus, servers: &[u32], consumers: &[Running], events: u64) -> Drained {
    let pids: Vec<u32> = consumers.iter().map(Running::pid).collect();
    let spent = |pids: &[u32]| pids.iter().map(|pid| proc::cpu(*pid)).sum::<Duration>();
    let mut wait = |what: &str, wanted: fn(&Standing) -> bool| {
        wait_until_sync(what, LIMIT, || {
            assert!(pids.iter().all(|pid| proc::is_running(*pid)), "a consumer has ended:\n{}", said(consumers));
            let standing = bus.standing("events")?;
            if wanted(&standing) { Ok(()) } else { Err(format!("{standing:?}\n{}", said(consumers))) }
        });
        (Instant::now(), spent(&pids), spent(servers))
    };
    let begun = wait("the first event to be read", |standing| standing.delivered != "0-0");
    let ended = wait("all events to be acknowledged", Standing::is_done);
    let each = |begun: Duration, ended: Duration| ended.saturating_sub(begun).as_secs_f64() * 1e6 / events as f64;
    Drained {
        rate: events as f64 / ended.0.duration_since(begun.0).as_secs_f64(),
        cpu: each(begun.1, ended.1),
        redis_cpu: each(begun.2, ended.2),
        peak: pids.iter().map(|pid| proc::peak(*pid)).max().unwrap_or_default(),
    }
}

/// The server's process.
///
/// # Panics
/// If it doesn't say.
pub fn server_pid(redis: &Redis) -> u32 {
    let info = redis.cmd(&["INFO", "server"]).text();
    let pid = info.lines().find_map(|line| line.strip_prefix("process_id:"));
    pid.and_then(|pid| pid.trim().parse().ok()).expect("INFO names the process")
}

fn said(consumers: &[Running]) -> String {
    consumers.iter().map(Running::log).collect::<Vec<_>>().join("\n")
}
