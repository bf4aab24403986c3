//! An in-process cache as the notices' documentation asks for: a value whose fetch began before a drop of its key is not stored.

use std::collections::HashMap;

/// Versions by row, and how often each row was dropped.
#[derive(Debug)]
pub struct L1 {
    values: HashMap<usize, u64>,
    drops: Vec<u64>,
}

/// To be taken before a value is fetched.
#[derive(Debug, Clone, Copy)]
pub struct Ticket(u64);

impl L1 {
    /// An empty one, for so many rows.
    pub fn new(rows: usize) -> Self {
        Self { values: HashMap::new(), drops: vec![0; rows] }
    }

    /// What is there.
    pub fn get(&self, row: usize) -> Option<u64> {
        self.values.get(&row).copied()
    }

    /// All that is there.
    pub fn all(&self) -> Vec<(usize, u64)> {
        self.values.iter().map(|(row, version)| (*row, *version)).collect()
    }

    /// The ticket for a fetch that begins now.
    pub fn ticket(&self, row: usize) -> Ticket {
        Ticket(self.drops[row])
    }

    /// Stores what was fetched, unless the row was dropped meanwhile. Returns whether it did.
    pub fn fill(&mut self, row: usize, ticket: Ticket, version: u64) -> bool {
        let current = self.drops[row] == ticket.0;
        if current {
            self.values.insert(row, version);
        }
        current
    }

    /// Drops rows.
    pub fn drop_rows(&mut self, rows: impl IntoIterator<Item = usize>) {
        for row in rows {
            self.drops[row] += 1;
            self.values.remove(&row);
        }
    }

    /// Refuses all that is being fetched just now.
    pub fn refuse_fetched(&mut self) {
        self.drops.iter_mut().for_each(|drops| *drops += 1);
    }

    /// Drops everything.
    pub fn flush(&mut self) {
        self.refuse_fetched();
        self.values.clear();
    }
}

/// What a value of Redis says; 0, which is older than everything, if it is none of ours.
pub fn version(value: &unstale_testkit::Value) -> u64 {
    value.text().parse().unwrap_or_default()
}
