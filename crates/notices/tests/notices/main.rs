//! The log's readers: their logic against a model of everything that can happen to a log, and the real thing against a real Redis.

#![allow(clippy::unwrap_used)] // this crate is nothing but tests

mod followers;
mod kit;
mod model;
mod receivers;
