//! The workloads.

mod backlog;
mod bursts;
mod cluster;
mod distance;
mod drain;
mod fleet;
mod footprint;
mod latency;
mod patterns;
mod priorities;
mod routes;

use clap::ValueEnum;

use crate::Bench;
use crate::drain::Drained;
use crate::figures::{Samples, Table, Unit};
use crate::section::Section;

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Workload {
    /// A backlog worked off, beside consumers written by hand
    Drain,
    /// Events of all priorities at once, and how old they are when they are done
    Priorities,
    /// Bursts in which some keys come again and again, and what they cost Redis
    Bursts,
    /// Patterns over a million keys, and critical events meanwhile
    Patterns,
    /// One event after silence
    Latency,
    /// Critical events behind a million others
    Backlog,
    /// Start, memory, and what an idle sidecar costs
    Footprint,
    /// A Redis that is 100 ms away
    Distance,
    /// A backlog worked off on a cluster of three nodes
    Cluster,
    /// A backlog worked off by one, five and twenty sidecars
    Fleet,
    /// A backlog worked off by tables of 1, 50 and 500 routes
    Routes,
}

impl Workload {
    /// Runs it.
    ///
    /// # Panics
    /// If something doesn't work at all.
    pub fn run(self, bench: &Bench) -> Section {
        match self {
            Self::Drain => drain::run(bench),
            Self::Priorities => priorities::run(bench),
            Self::Bursts => bursts::run(bench),
            Self::Patterns => patterns::run(bench),
            Self::Latency => latency::run(bench),
            Self::Backlog => backlog::run(bench),
            Self::Footprint => footprint::run(bench),
            Self::Distance => distance::run(bench),
            Self::Cluster => cluster::run(bench),
            Self::Fleet => fleet::run(bench),
            Self::Routes => routes::run(bench),
        }
    }
}

/// A figure as a row of a table shows it: the middle one, and the one that 99 of 100 don't exceed.
fn middle_and_worst(name: &str, samples: &Samples, unit: Unit) -> [String; 4] {
    [name.to_owned(), samples.len().to_string(), unit.show(samples.quantile(0.5)), unit.show(samples.quantile(0.99))]
}

/// Runs side by side, each with its name: how fast, also of the first one's speed, and what processor time that took of the sidecars and of Redis.
fn side_by_side(columns: &[&str; 5], contenders: &[(String, Vec<Drained>)]) -> Table {
    let mut table = Table::new(columns);
    let samples = |runs: &[Drained], figure: fn(&Drained) -> f64| runs.iter().map(figure).collect::<Samples>();
    let first = samples(&contenders[0].1, |run| run.rate);
    for (name, runs) in contenders {
        let rates = samples(runs, |run| run.rate);
        table.row([
            name.clone(),
            rates.show(Unit::PerSecond),
            rates.over(&first).show(Unit::Times),
            samples(runs, |run| run.cpu).show(Unit::Microseconds),
            samples(runs, |run| run.redis_cpu).show(Unit::Microseconds),
        ]);
    }
    table
}
