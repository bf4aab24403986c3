//! The vocabulary that every other crate speaks: stream entries and their ids, events, priorities, targets, notices, dead letters.
//!
//! No I/O, no async, no Redis client, and no clock: this crate only gives things names and wire forms.

pub mod dead;
pub mod entry;
pub mod target;

pub use dead::{Code, Reason};
pub use entry::{Entry, EntryId, Fields, StreamKind};
pub use target::{CacheId, Invalidation, Priority, Target, TargetKind, Targets};
