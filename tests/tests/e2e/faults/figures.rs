//! What the figures say of the streams, held against what Redis itself says.

use std::time::Duration;

use unstale_testkit::{Value, wait_until_sync};
use unstale_tests::{PATIENCE, Sidecar, World};

use super::kit::{added_at, clock, pending, publish, slow, wait_pending};

/// Lag, pending entries, and the age of the oldest of these in seconds.
type Figures = (u64, u64, f64);

fn shown(sidecar: &Sidecar, stream: &str) -> Figures {
    let count = |name: &str| sidecar.metric(&format!("{name}{{stream=\"{stream}\"}}"));
    let series = format!("unstale_stream_oldest_pending_seconds{{stream=\"{stream}\"}} ");
    let (_, page) = sidecar.get("/metrics");
    let age = page.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse().ok());
    (count("unstale_stream_lag"), count("unstale_stream_pending"), age.unwrap_or_else(|| panic!("no {series}in\n{page}")))
}

/// The same by Redis, of the ordinary stream.
fn said(world: &mut World) -> Figures {
    let groups = world.cmd(&["XINFO", "GROUPS", "unstale:events"]);
    let lag = groups.array()[0].field("lag").filter(|lag| !lag.is_nil()).map_or(0, Value::int);
    let pending = pending(world, "events");
    let age = pending.first().map_or(0, |oldest| clock(world) - added_at(&oldest.id));
    (lag.unsigned_abs(), pending.len() as u64, Duration::from_millis(age.unsigned_abs()).as_secs_f64())
}

#[test]
fn lag_and_pending_entries_are_shown_as_redis_counts_them() {
    let mut world = World::start(&slow("9s"));
    if world.redis.version() < (7, 0) {
        eprintln!("skipped: this server doesn't count what a group has yet to read");
        return;
    }
    publish(&mut world, "events", "Touched", 0..5);
    wait_pending(&mut world, "events", 5);
    // From now on nothing is read; a read that is blocked already may still bring something.
    let user = world.sidecar.name().to_owned();
    world.cmd(&["ACL", "SETUSER", &user, "-xreadgroup"]);
    publish(&mut world, "events", "Touched", 5..6);
    world.sidecar.wait_log("grant +xreadgroup");
    publish(&mut world, "events", "Changed", 100..107);
    // The streams are looked at every second while something is pending.
    wait_until_sync("the figures to be those of Redis", PATIENCE, || {
        let (shown, said) = (shown(&world.sidecar, "ordinary"), said(&mut world));
        let counts = shown.0 == said.0 && shown.1 == said.1 && shown.0 >= 7 && shown.1 >= 5;
        let age = shown.2 > 2.0 && (said.2 - 5.0..=said.2).contains(&shown.2);
        if counts && age { Ok(()) } else { Err(format!("{shown:?}, and Redis says {said:?}")) }
    });
    world.cmd(&["ACL", "SETUSER", &user, "+xreadgroup"]);
    world.wait_settled();
    wait_until_sync("the figures to be 0 again", PATIENCE, || {
        let all = ["ordinary", "critical"].map(|stream| shown(&world.sidecar, stream));
        if all.iter().all(|(lag, pending, age)| (*lag, *pending) == (0, 0) && *age < 0.001) { Ok(()) } else { Err(format!("{all:?}")) }
    });
}
