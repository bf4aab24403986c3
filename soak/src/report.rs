//! What a run has shown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::calendar::Fault;
use crate::oracle::{Violation, Wrong};

/// How many violations are told with their histories.
const TOLD: usize = 20;

/// Faults of one kind.
#[derive(Debug, Clone)]
pub struct Kind {
    /// Its name.
    pub name: &'static str,
    /// How often.
    pub count: usize,
    /// The longest that events were late after the end of one, other faults aside.
    pub recovery: Duration,
    /// The same for those that came on top of another's traces.
    pub on_top: Duration,
}

/// The figures of a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// How to do it again.
    pub command: String,
    /// How long events were published.
    pub lasted: Duration,
    /// Name and figure, in the order of printing.
    pub figures: Vec<(&'static str, u64)>,
    /// By kind of fault.
    pub kinds: Vec<Kind>,
    /// What was wrong.
    pub violations: Vec<Violation>,
}

impl Report {
    /// How many were found wrong in this way.
    pub fn count(&self, wrong: Wrong) -> usize {
        self.violations.iter().filter(|violation| violation.wrong == wrong).count()
    }

    /// Whether nothing was.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty()
    }

    /// For programs.
    pub fn json(&self) -> Json {
        let seconds = |duration: Duration| (duration.as_secs_f64() * 1000.0).round() / 1000.0;
        let figures: serde_json::Map<String, Json> =
            self.figures.iter().map(|(name, figure)| (name.replace(' ', "_"), json!(figure))).collect();
        let kinds: Vec<Json> = self
            .kinds
            .iter()
            .map(|kind| json!({"kind": kind.name, "count": kind.count, "worst_recovery_seconds": seconds(kind.recovery), "on_top_seconds": seconds(kind.on_top)}))
            .collect();
        let violations: Vec<Json> =
            self.violations.iter().map(|violation| json!({"wrong": name(violation.wrong), "what": violation.what})).collect();
        json!({
            "command": self.command, "seconds": seconds(self.lasted), "figures": figures, "faults": kinds,
            "lost": self.count(Wrong::Lost), "not_announced": self.count(Wrong::NotAnnounced),
            "late": self.count(Wrong::Late), "broken": self.count(Wrong::Broken), "violations": violations,
        })
    }
}

/// Gathers faults by kind.
pub fn kinds(faults: BTreeMap<&'static str, Vec<Fault>>) -> Vec<Kind> {
    let worst = |faults: &[Fault], on_top: bool| {
        faults.iter().filter(|fault| fault.on_top == on_top).map(|fault| fault.recovery).max().unwrap_or_default()
    };
    let kind = |(name, faults): (&'static str, Vec<Fault>)| Kind {
        name,
        count: faults.len(),
        recovery: worst(&faults, false),
        on_top: worst(&faults, true),
    };
    faults.into_iter().map(kind).collect()
}

fn name(wrong: Wrong) -> &'static str {
    match wrong {
        Wrong::Lost => "lost",
        Wrong::NotAnnounced => "not announced",
        Wrong::Late => "late",
        Wrong::Broken => "broken",
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.command)?;
        writeln!(f, "{:<44} {:>9.1} s", "lasted", self.lasted.as_secs_f64())?;
        for (name, figure) in &self.figures {
            writeln!(f, "{name:<44} {figure:>9}")?;
        }
        writeln!(f, "\n{:<28} {:>6} {:>17} {:>20}", "fault", "count", "worst recovery", "on top of another")?;
        for Kind { name, count, recovery, on_top } in &self.kinds {
            writeln!(f, "{name:<28} {count:>6} {:>15.2} s {:>18.2} s", recovery.as_secs_f64(), on_top.as_secs_f64())?;
        }
        writeln!(f)?;
        for wrong in [Wrong::Lost, Wrong::NotAnnounced, Wrong::Late, Wrong::Broken] {
            writeln!(f, "{:<44} {:>9}", name(wrong), self.count(wrong))?;
        }
        for violation in self.violations.iter().take(TOLD) {
            writeln!(f, "\n{}: {}", name(violation.wrong).to_uppercase(), violation.what)?;
        }
        if self.violations.len() > TOLD {
            writeln!(f, "\n… and {} more (--json tells all)", self.violations.len() - TOLD)?;
        }
        Ok(())
    }
}
