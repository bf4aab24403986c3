//! Caches and the bus on a cluster and behind sentinels, while slots move and masters come and go.
//!
//! A topology takes seconds to start, so each is started once and goes through several phases.

mod cluster;
mod sentinels;

use std::collections::BTreeSet;
use std::ops::Range;

use unstale_testkit::{Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE};

/// `Changed` names one key, `Listed` many, and `Swept` a pattern. `AnnouncedAll` is of the bus' own server.
const ROUTES: &str = r#"
[cache.thing]
prefixes = ["thing:"]
redis = "far"
[[route]]
event = "Changed"
cache = "thing"
keys = ["thing:{id}"]
[[route]]
event = "Listed"
cache = "thing"
keys = ["thing:{ids[]}"]
[[route]]
event = "Swept"
cache = "thing"
patterns = ["thing:{id}*"]
"#;

fn changed(numbers: Range<usize>) -> Vec<Vec<String>> {
    numbers.map(|number| ["type", "Changed", "id", &number.to_string()].map(str::to_owned).to_vec()).collect()
}

fn things(numbers: Range<usize>) -> BTreeSet<String> {
    numbers.map(|number| format!("thing:{number}")).collect()
}

/// The caches' keys of a server.
fn left(server: &Redis) -> Vec<String> {
    server.cmd(&["KEYS", "thing:*"]).texts()
}

#[track_caller]
fn wait_gone(server: &Redis) {
    wait_until_sync("nothing to be left of the caches", PATIENCE * 2, || match left(server) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{} keys, such as {}", left.len(), left[0])),
    });
}

/// How often each key was announced.
fn announced(bus: &mut Bus, key: &str) -> usize {
    bus.notices().iter().flat_map(unstale_tests::Notice::keys).filter(|known| known == key).count()
}
