//! Critical events, one after the other while something else goes on, and how long each takes.

use std::thread;
use std::time::{Duration, Instant};

use unstale_testkit::Redis;

use crate::figures::Samples;

/// Between two looks at a key, so that looking is no load.
const LOOK: Duration = Duration::from_micros(100);
/// Between two events.
const PAUSE: Duration = Duration::from_millis(5);
/// No event takes so long.
const LIMIT: Duration = Duration::from_secs(20);

/// Publishes critical events of this kind, whose attribute `k` names the key after a prefix, as long as `goes_on` says so. Returns the milliseconds
/// from before each `XADD` until its key is gone.
///
/// # Panics
/// If a key stays.
pub fn critical(redis: &Redis, kind: &str, prefix: &str, attribute: &str, mut goes_on: impl FnMut() -> bool) -> Samples {
    let mut resp = redis.resp();
    let mut samples = Samples::default();
    while goes_on() {
        let name = format!("probe{}", samples.len());
        let key = format!("{prefix}{name}");
        resp.cmd(&["SET", &key, "value"]);
        let begun = Instant::now();
        resp.cmd(&["XADD", "unstale:events:critical", "*", "type", kind, attribute, &name]);
        while resp.cmd(&["EXISTS", &key]).int() == 1 {
            assert!(begun.elapsed() < LIMIT, "{key} is still there");
            thread::sleep(LOOK);
        }
        samples.push(begun.elapsed().as_secs_f64() * 1e3);
        thread::sleep(PAUSE);
    }
    samples
}
