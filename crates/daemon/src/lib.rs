//! The program `unstale`: configuration, log, command line, HTTP. What it does with events is in the crates below.
//!
//! A library only so that the parts can be tested and documented; other programs use the binary.

pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod connections;
pub mod demo;
pub mod explain;
pub mod http;
pub mod letters;
mod prober;
pub mod release;
pub mod rights;
pub mod run;
mod service;
pub mod signals;
pub mod telemetry;
mod terminal;
pub mod tools;
mod waiting;
mod web;
