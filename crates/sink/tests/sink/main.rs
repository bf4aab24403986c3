//! Deliveries to a real Redis.

#![allow(clippy::unwrap_used)] // Helpers of tests are tests.

mod apart;
mod counters;
mod faults;
mod keys;
mod log;
mod passes;
mod patterns;
mod replay;
mod republish;
mod second;
mod world;
