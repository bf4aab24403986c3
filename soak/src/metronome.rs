//! Notices what the machine does by itself, so that nobody is blamed for it: it stands still; and where it is so busy that servers don't hear each other,
//! they replace a master that nobody touched.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::stage::Deed;
use crate::world::World;

const STANDSTILL: Deed = Deed { kind: "the machine stood still", weight: 0, grace: Duration::from_millis(500), loses: false };
const UNASKED: Deed = Deed { kind: "failover unasked", weight: 0, grace: Duration::from_secs(5), loses: true };
/// The kinds of fault that these are noted as.
pub const KINDS: [&str; 2] = [STANDSTILL.kind, UNASKED.kind];

const BEAT: Duration = Duration::from_millis(20);
/// A beat that comes this much too late is a standstill.
const LATE: Duration = Duration::from_millis(250);
/// How long servers miss a master before they replace it, election included.
const MISSED: Duration = Duration::from_secs(6);

/// Beats until the run is over.
pub fn run(world: &Arc<World>) {
    let mut masters = world.route.masters();
    while !world.is_over() {
        let begun = Instant::now();
        thread::sleep(BEAT);
        let late = begun.elapsed().saturating_sub(BEAT);
        if late > LATE {
            world.calendar.past(&STANDSTILL, format!("for {late:.1?}"), late);
        }
        let now = world.route.masters();
        if now != masters && !world.calendar.replaces_masters() {
            world.calendar.past(&UNASKED, format!("{masters:?} became {now:?}"), MISSED);
        }
        masters = now;
    }
}
