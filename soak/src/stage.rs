//! The servers of a run, and what may be done to them.

use std::ops::Range;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::calendar::Calendar;
use crate::client::Route;

/// Servers keep what they confirmed when their process is killed. Without fsync a write is in the file before its answer goes out, which the end
/// of the machine would lose, but not that of the process.
pub const PERSISTENT: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "no"];
/// How long replicas may take to be in sync again.
pub const SYNC: Duration = Duration::from_secs(60);

/// Something that may be done.
#[derive(Debug, Clone, Copy)]
pub struct Deed {
    /// Its name in the report.
    pub kind: &'static str,
    /// How often it is done in relation to others.
    pub weight: u32,
    /// How long after its end events may be late because of it.
    pub grace: Duration,
    /// Whether servers may lose by it what they confirmed to one who didn't wait for replicas.
    pub loses: bool,
}

/// Who does a deed.
pub struct Strike<'a> {
    /// Where it is noted.
    pub calendar: &'a Calendar,
    /// What decides about its details.
    pub random: &'a mut StdRng,
}

impl Strike<'_> {
    /// Notes that it begins.
    pub fn begin(&self, deed: &Deed, what: String) -> usize {
        self.calendar.begin(deed, what)
    }

    /// Notes that it is over.
    pub fn end(&self, fault: usize) {
        self.calendar.end(fault);
    }

    /// One of so many.
    pub fn one_of(&mut self, many: usize) -> usize {
        self.random.random_range(0..many)
    }

    /// Lets it last, for a random number of milliseconds.
    pub fn pass(&mut self, milliseconds: Range<u64>) {
        thread::sleep(Duration::from_millis(self.random.random_range(milliseconds)));
    }
}

/// A topology of real servers.
pub trait Stage: Send {
    /// Where the application finds its keys.
    fn route(&self) -> Arc<dyn Route>;

    /// The URL for each of so many sidecars.
    fn urls(&self, sidecars: usize) -> Vec<String>;

    /// What may be done to it.
    fn deeds(&self) -> &'static [Deed];

    /// Does one of [`Stage::deeds`].
    fn act(&mut self, deed: &Deed, strike: &mut Strike<'_>);
}
