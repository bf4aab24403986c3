//! Finds lost and late invalidations: a load with an oracle, and faults at random.
//!
//! An imagined application commits versions to a database in this process and publishes events to a real Redis; real sidecars work them off;
//! imagined instances read through their caches and hear notices. Whatever they read is held against what was committed and confirmed.
//! What is known here of the product is what it promises to other programs. `docs/testing.md` says how to run and read it.

pub mod auditor;
pub mod calendar;
pub mod client;
pub mod cluster;
pub mod conductor;
pub mod crew;
pub mod follower;
pub mod hearing;
pub mod instance;
pub mod kills;
pub mod l1;
pub mod metronome;
pub mod model;
pub mod notice;
pub mod oracle;
pub mod plant;
pub mod publisher;
pub mod report;
pub mod sentinels;
pub mod soak;
pub mod stage;
pub mod standalone;
pub mod world;

use std::sync::atomic::{AtomicBool, Ordering};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Asks runs to end early, with their verdict.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Whether somebody has asked.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
