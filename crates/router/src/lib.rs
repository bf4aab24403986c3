//! Routes: from an event to cache targets and a priority.
//!
//! [`compile`] reads a configuration file, presets and overrides into a [`Router`], or gathers every mistake in them with its place.
//! [`Router::route`] then says what an event asks for, and [`Caches`] what may be deleted at all. Pure: no I/O, no clock.

mod attribute;
mod caches;
pub mod canary;
mod compile;
mod declare;
mod document;
mod pack;
mod prefixes;
mod presets;
mod problem;
mod request;
mod router;
mod template;
mod when;

pub use caches::{Cache, Caches, Store};
pub use compile::{Input, compile};
pub use declare::{Format, Republish};
pub use document::Override;
pub use pack::KEYS;
pub use presets::presets_available;
pub use problem::{Problem, Problems, Source, suggest};
pub use router::Router;
