//! One run: a backlog, who works it off, and what that took.

use std::time::{Duration, Instant};

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::Bus;

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
/// Begin and end are what Redis shows of the group, the same for everybody. Both are seen up to 5 ms late.
///
/// # Panics
/// If it isn't, with what the consumers said.
pub fn drain(redis: &Redis, backlog: &Backlog, kind: &Kind) -> Drained {
    backlog.lay_out(redis);
    let server = server_pid(redis);
    let mut bus = Bus::new(redis);
    let consumers = kind.start(redis);
    let spent = || (consumers.iter().map(|consumer| proc::cpu(consumer.pid())).sum::<Duration>(), proc::cpu(server));
    let mut wait = |what: &str, wanted: &dyn Fn(&unstale_tests::Standing) -> bool| {
        wait_until_sync(what, LIMIT, || {
            let standing = bus.standing("events")?;
            if wanted(&standing) { Ok(()) } else { Err(format!("{standing:?}\n{}", said(&consumers))) }
        });
    };
    wait("the first event to be read", &|standing| standing.delivered != "0-0");
    let (begun, before) = (Instant::now(), spent());
    wait("all events to be acknowledged", &unstale_tests::Standing::is_done);
    let (took, after) = (begun.elapsed(), spent());
    let left = backlog.left(redis);
    assert_eq!(left, 0, "{kind:?} left keys\n{}", said(&consumers));
    let peak = consumers.iter().map(|consumer| proc::peak(consumer.pid())).max().unwrap_or_default();
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / backlog.events as f64;
    Drained {
        rate: backlog.events as f64 / took.as_secs_f64(),
        cpu: each(after.0.saturating_sub(before.0)),
        redis_cpu: each(after.1.saturating_sub(before.1)),
        peak,
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
