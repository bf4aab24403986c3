//! The workloads.

mod throughput;

use clap::ValueEnum;

use crate::Bench;
use crate::section::Section;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// A backlog worked off, beside consumers written by hand.
    Drain,
}

impl Workload {
    /// Runs it.
    ///
    /// # Panics
    /// If something doesn't work at all.
    pub fn run(self, bench: &Bench) -> Section {
        match self {
            Self::Drain => throughput::run(bench),
        }
    }
}
