//! The loop: one task that owns the state between reading and acknowledging.

pub mod handle;
pub mod health;
pub mod metrics;
pub mod probe;
pub mod stats;

mod chores;
mod company;
mod inputs;
mod intake;
mod journal;
mod loss;
mod outcome;
mod pipeline;
mod recovery;
mod settings;
mod stream;
mod walk;
mod watch;

pub use pipeline::{Ended, Pipeline};
pub use settings::{Line, Parts, ROLES, Settings, Unrouted};
