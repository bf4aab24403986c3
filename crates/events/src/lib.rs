//! The vocabulary that every other crate speaks: stream entries and their ids, events, priorities, targets, notices, dead letters.
//!
//! No I/O, no async, no Redis client, and no clock: this crate only gives things names and wire forms.

pub mod catalogue;
pub mod dead;
pub mod entry;
pub mod event;
pub mod fingerprint;
pub mod glob;
pub mod json;
mod msgpack;
pub mod names;
pub mod notice;
mod plain;
pub mod publish;
pub mod target;
pub mod value;

pub use dead::{Code, Reason};
pub use entry::{Entry, EntryId, Fields, StreamKind, detached};
pub use event::Event;
pub use fingerprint::fingerprint;
pub use glob::Glob;
pub use notice::{Cause, Notice, Position};
pub use publish::{Encoding, EventType, PublishError};
pub use target::{CacheId, Invalidation, Priority, Target, TargetKind, Targets};
pub use value::Value;
