//! The loop: one task that owns the state between reading and acknowledging.

pub mod handle;
pub mod health;
pub mod metrics;
pub mod stats;
