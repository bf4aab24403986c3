//! Notices when the machine itself stood still, so that nobody is blamed for it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::world::World;

/// The kind of fault that a standstill is noted as.
pub const KIND: &str = "the machine stood still";
const BEAT: Duration = Duration::from_millis(20);
/// A beat that comes this much too late is a standstill.
const LATE: Duration = Duration::from_millis(250);
const GRACE: Duration = Duration::from_millis(500);

/// Beats until the run is over.
pub fn run(world: &Arc<World>) {
    while !world.is_over() {
        let begun = Instant::now();
        thread::sleep(BEAT);
        let late = begun.elapsed().saturating_sub(BEAT);
        if late > LATE {
            world.calendar.past(KIND, format!("for {late:.1?}"), late, GRACE);
        }
    }
}
