//! A reader of the log with a connection.

use std::time::{Duration, Instant};

use unstale_connect::Fault;
use unstale_events::{Entry, EntryId, Position};

use crate::course::{Course, Followed, IDLE, Looked, Order};
use crate::log::Log;
use crate::told::{self, Told};

/// How many bytes of notices one read is to bring.
const PAGE_BYTES: usize = 64 * 1024;
/// How many entries the first read asks for.
const FIRST_PAGE: usize = 32;
/// How many entries a read asks for at most.
const LONGEST_PAGE: usize = 1000;

/// What the log had to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It has been found out where the log ends; nothing before concerns this reader.
    Began(Position),
    /// What follows the last news; may be nothing. A [`Told::is_gap`] among it stands for all that may have been missed.
    Told(Vec<Told>),
    /// The reader's own entry was looked up: nothing was missed until now.
    Intact,
}

/// Follows the log, on one connection that comes back by itself. After a fault it goes on where it was, if the log still vouches for that.
#[derive(Debug)]
pub struct Follower {
    log: Log,
    course: Course,
    /// The connection on which the position was looked up. What another one says may be another history.
    generation: u64,
    waits: bool,
    page: usize,
}

impl Follower {
    /// Waits for news on a connection of its own that may block.
    pub fn waiting(log: Log, course: Course) -> Self {
        Self { log, course, generation: 0, waits: true, page: FIRST_PAGE }
    }

    /// Never blocks its connection: at the log's end it is told nothing.
    pub fn passing(log: Log, course: Course) -> Self {
        Self { waits: false, ..Self::waiting(log, course) }
    }

    /// The last notice that it read; [`Position::START`] before the first news.
    pub fn at(&self) -> Position {
        self.course.at().unwrap_or_default()
    }

    /// The next news. Cancel-safe: what was not told is read again.
    ///
    /// # Errors
    /// Nothing was missed by it; call again. While there is no connection it comes after a moment, not at once.
    pub async fn next(&mut self) -> Result<News, Fault> {
        let news = match self.course.order(Instant::now()) {
            Order::Begin => self.look(Position::START).await,
            Order::Look(at) => self.look(at).await,
            Order::Read { after, patience } => self.read(after, patience).await,
        };
        if news.is_err() {
            self.course.doubt();
        }
        news
    }

    async fn look(&mut self, at: Position) -> Result<News, Fault> {
        self.generation = self.log.ready(IDLE).await?;
        let sight = self.log.look(at).await?;
        if self.has_moved() {
            return Ok(News::Told(Vec::new()));
        }
        Ok(match self.course.looked(sight, Instant::now()) {
            Looked::Began(at) => News::Began(at),
            Looked::Intact => News::Intact,
            Looked::Lost(at) => News::Told(vec![Told::gap(at)]),
        })
    }

    async fn read(&mut self, after: EntryId, patience: Duration) -> Result<News, Fault> {
        let entries = self.log.read(after, self.page, self.waits.then_some(patience)).await?;
        if self.has_moved() {
            self.course.doubt();
            return Ok(News::Told(Vec::new()));
        }
        self.measure(&entries);
        let now = Instant::now();
        Ok(News::Told(entries.iter().map(|entry| self.follow(entry, now)).collect()))
    }

    fn follow(&mut self, entry: &Entry, now: Instant) -> Told {
        let told = Told::read(told::position(entry), entry);
        match self.course.read(told.at, told.prev, now) {
            Followed::Next => told,
            Followed::Gap => Told::gap(told.at),
        }
    }

    /// Whether the connection is no longer the one on which the position was looked up.
    fn has_moved(&self) -> bool {
        self.log.generation().ok() != Some(self.generation)
    }

    /// Asks for as many entries as are about a page, by the size of these.
    fn measure(&mut self, entries: &[Entry]) {
        if !entries.is_empty() {
            let bytes: usize = entries.iter().flat_map(|entry| entry.fields.iter().flatten()).map(|(_, value)| value.len()).sum();
            self.page = (PAGE_BYTES * entries.len() / bytes.max(1)).clamp(1, LONGEST_PAGE);
        }
    }
}
