//! What a workload has shown.

use std::fmt;

use crate::figures::{Bar, Table};

/// A workload's tables and bars, and what is to be known about them.
#[derive(Debug, Clone)]
pub struct Section {
    /// Its heading.
    pub title: &'static str,
    /// What was done.
    pub about: String,
    /// What was measured.
    pub tables: Vec<Table>,
    /// What is wanted of it.
    pub bars: Vec<Bar>,
    /// Why not to trust it, if so.
    pub doubts: Vec<String>,
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "### {}\n\n{}", self.title, self.about)?;
        self.tables.iter().try_for_each(|table| write!(f, "\n{}", table.markdown()))?;
        self.doubts.iter().try_for_each(|doubt| writeln!(f, "\n**{doubt}**"))
    }
}
