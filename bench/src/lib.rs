//! How fast unstale is, beside consumers written by hand, on real servers of its own.
//!
//! Everything that is compared is measured in the same run, in turn, round by round, and the same way: by what Redis and `/proc` show of it. The
//! machine's speed drifts; ratios of neighbours drift less. What is known here of the product is what it promises to other programs.

#![expect(clippy::cast_precision_loss, reason = "figures are told with three or four digits")]

pub mod backlog;
pub mod contender;
pub mod drain;
pub mod ear;
pub mod figures;
pub mod machine;
pub mod probe;
pub mod proc;
pub mod section;
pub mod workloads;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Bench {
    /// How often.
    pub rounds: u32,
    /// By how much everything is smaller than it should be: 1, or more to see whether it works at all.
    pub smaller: u64,
}

impl Bench {
    /// So many, or fewer if everything is smaller.
    pub fn many(&self, full: u64) -> u64 {
        full.div_ceil(self.smaller)
    }

    /// The numbers of the rounds, each said as it begins.
    pub fn rounds(&self, workload: &str) -> impl Iterator<Item = u32> {
        (1..=self.rounds).inspect(move |round| eprintln!("{workload}: round {round} of {}", self.rounds))
    }
}
