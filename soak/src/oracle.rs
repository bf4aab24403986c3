//! Knows what every reader may still see: the versions of all rows, when Redis confirmed the event of each, and what was seen since.
//!
//! A row has one version more with each commit. The promise begins when Redis has confirmed the event of a commit: from the deadline of the
//! event's lane on, nobody may read an older version. Time under a fault and its grace is not counted, see [`Calendar`].

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crate::calendar::Calendar;
use crate::model::{Model, Priority};

/// How many confirmed events, and how many happenings, are remembered of each row.
const REMEMBERED: usize = 40;

/// An event that Redis confirmed.
#[derive(Debug, Clone)]
pub struct Told {
    /// The version that it announces.
    pub version: u64,
    /// Its entry's id.
    pub id: String,
    /// Its lane.
    pub priority: Priority,
    /// When Redis had confirmed it.
    pub at: Instant,
    /// Whether a notice has named its key since.
    pub announced: bool,
}

/// Something that happened to a row, for the history of what went wrong with it.
#[derive(Debug, Clone)]
enum Happening {
    Committed(u64),
    Confirmed(u64, String),
    StoredInRedis(u64, usize),
    StoredInProcess(u64, usize),
    Announced { seq: u64, id: String, origin: String },
}

/// Where a value was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the shared cache.
    Redis,
    /// In the in-process cache of this instance.
    Process(usize),
}

/// What was found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wrong {
    /// A stale value was there after everything was worked off.
    Lost,
    /// A confirmed event was worked off and its key never named by a notice.
    NotAnnounced,
    /// A stale value was read after the deadline.
    Late,
    /// Anything else that was not promised so: a gap in the numbers, a flush without a cause, a dead letter that isn't poison.
    Broken,
}

/// Something wrong, with its history.
#[derive(Debug, Clone)]
pub struct Violation {
    /// What kind.
    pub wrong: Wrong,
    /// What and when, in words.
    pub what: String,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    told: VecDeque<Told>,
    /// The newest notice that named the key, in milliseconds of Redis' clock.
    announced_ms: u64,
    /// The entries that the newest notices about it named: of the same millisecond only they are sure to be among what was announced.
    named: VecDeque<String>,
    history: VecDeque<(Instant, Happening)>,
    /// Versions up to this one have been found late already.
    found_late: u64,
}

impl State {
    fn note(&mut self, happening: Happening) {
        if self.history.len() == REMEMBERED {
            self.history.pop_front();
        }
        self.history.push_back((Instant::now(), happening));
    }
}

#[derive(Debug, Default)]
struct Row {
    /// Held while a value is on its way from the database to Redis, so that no commit comes between: the race that only the application can
    /// lose stays out of the picture.
    fill: Mutex<()>,
    state: Mutex<State>,
}

/// The database, and what is known of its rows.
#[derive(Debug)]
pub struct Oracle {
    /// What the rows are.
    pub model: Model,
    rows: Vec<Row>,
    calendar: Arc<Calendar>,
    patience: Duration,
    zero: Instant,
    violations: Mutex<Vec<Violation>>,
}

impl Oracle {
    /// All rows at version 1, nothing cached. `patience` is what an event may take beside the window of its lane.
    pub fn new(calendar: Arc<Calendar>, patience: Duration) -> Self {
        let model = Model::default();
        let rows: Vec<Row> = (0..model.rows()).map(|_| Row::default()).collect();
        for row in &rows {
            lock(&row.state).version = 1;
        }
        Self { model, rows, calendar, patience, zero: Instant::now(), violations: Mutex::default() }
    }

    /// Commits a new version of these rows; `None` if a value of one of them is just on its way to Redis.
    pub fn commit(&self, rows: &[usize]) -> Option<Vec<(usize, u64)>> {
        let mut held = Vec::new();
        for row in rows {
            held.push(match self.rows[*row].fill.try_lock() {
                Ok(guard) => guard,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return None,
            });
        }
        let commit = |row: &usize| {
            let mut state = self.state(*row);
            state.version += 1;
            let version = state.version;
            state.note(Happening::Committed(version));
            (*row, version)
        };
        Some(rows.iter().map(commit).collect())
    }

    /// Redis has confirmed the event of these commits.
    pub fn confirmed(&self, committed: &[(usize, u64)], id: &str, priority: Priority, at: Instant) {
        for (row, version) in committed {
            let mut state = self.state(*row);
            let announced = state.announced_ms > milliseconds(id) || state.named.iter().any(|named| named == id);
            state.note(Happening::Confirmed(*version, id.to_owned()));
            state.told.push_back(Told { version: *version, id: id.to_owned(), priority, at, announced });
            if state.told.len() > REMEMBERED && state.told.front().is_some_and(|told| told.announced) {
                state.told.pop_front();
            }
        }
    }

    /// Takes the row's version from the database to Redis by `store`, with no commit in between. Returns it.
    ///
    /// # Errors
    /// Those of `store`.
    pub fn fill<E>(&self, row: usize, by: usize, store: impl FnOnce(u64) -> Result<(), E>) -> Result<u64, E> {
        let _held = lock(&self.rows[row].fill);
        let version = self.state(row).version;
        store(version)?;
        self.state(row).note(Happening::StoredInRedis(version, by));
        Ok(version)
    }

    /// The row's version now.
    pub fn version(&self, row: usize) -> u64 {
        self.state(row).version
    }

    /// An instance has stored this version in its own cache.
    pub fn stored_in_process(&self, row: usize, version: u64, instance: usize) {
        self.state(row).note(Happening::StoredInProcess(version, instance));
    }

    /// A notice names the row's key.
    pub fn announced(&self, row: usize, seq: u64, id: &str, origin: &str, events: &[String]) {
        let (now, ms) = (Instant::now(), milliseconds(id));
        let mut worked_off = Vec::new();
        let mut state = self.state(row);
        state.announced_ms = state.announced_ms.max(ms);
        state.named.extend(events.iter().filter(|event| milliseconds(event) == ms).cloned());
        let old = state.named.len().saturating_sub(REMEMBERED);
        state.named.drain(..old);
        state.note(Happening::Announced { seq, id: id.to_owned(), origin: origin.to_owned() });
        for told in state.told.iter_mut().filter(|told| !told.announced && (milliseconds(&told.id) < ms || events.contains(&told.id))) {
            told.announced = true;
            worked_off.push(told.at + told.priority.window());
        }
        drop(state);
        for due in worked_off {
            self.calendar.worked_off(due, now);
        }
    }

    /// Judges what was read: `version` of `row`, asked for at `asked`. A failover may bring back what was deleted long ago, so that under a fault
    /// and its grace nothing is judged: what is wrong is so still when they are over.
    pub fn read(&self, row: usize, version: u64, asked: Instant, place: Place) {
        let mut state = self.state(row);
        if version >= state.version || version < state.found_late || self.calendar.excuses(asked) {
            return;
        }
        let too_late = |told: &&Told| {
            told.version > version && self.calendar.undisturbed(told.at, asked) > told.priority.window() + self.patience && told.at < asked
        };
        let Some(told) = state.told.iter().find(too_late).cloned() else { return };
        state.found_late = told.version;
        drop(state);
        let age = asked - told.at;
        self.found(
            Wrong::Late,
            row,
            &format!("version {version} was read {} {age:.2?} after entry {} was confirmed", shown(place), told.id),
        );
    }

    /// At the end: a value that is there must be the newest.
    pub fn left(&self, row: usize, version: u64, place: Place) {
        if version < self.version(row) {
            self.found(Wrong::Lost, row, &format!("version {version} is left {}", shown(place)));
        }
    }

    /// At the end: every confirmed event must have been announced.
    pub fn all_announced(&self) {
        for row in 0..self.rows.len() {
            let missing: Vec<String> = self.state(row).told.iter().filter(|told| !told.announced).map(|told| told.id.clone()).collect();
            if !missing.is_empty() {
                self.found(Wrong::NotAnnounced, row, &format!("no notice names it after {}", missing.join(", ")));
            }
        }
    }

    /// Notes something wrong that is about no row.
    pub fn broken(&self, what: String) {
        self.add(Violation { wrong: Wrong::Broken, what });
    }

    fn found(&self, wrong: Wrong, row: usize, what: &str) {
        let what = format!("{}: {what} (version {} is committed)\n{}", self.model.key(row), self.version(row), self.history(row));
        self.add(Violation { wrong, what });
    }

    fn add(&self, violation: Violation) {
        lock(&self.violations).push(violation);
    }

    /// What was found wrong so far.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.violations).clone()
    }

    /// The newest happenings of a row, and the faults that were on.
    fn history(&self, row: usize) -> String {
        let state = self.state(row);
        let mut text = String::new();
        let mut from = Instant::now();
        for (at, happening) in state.history.iter().rev().take(16).rev() {
            from = from.min(*at);
            let seconds = at.saturating_duration_since(self.zero).as_secs_f64();
            // Writing to a String never fails.
            let _ = writeln!(text, "    {seconds:9.3} s  {happening}");
        }
        for fault in self.calendar.named(from, Instant::now(), self.zero) {
            let _ = writeln!(text, "    fault: {fault}");
        }
        text
    }

    /// When the run began, for times in words.
    pub fn zero(&self) -> Instant {
        self.zero
    }

    fn state(&self, row: usize) -> MutexGuard<'_, State> {
        lock(&self.rows[row].state)
    }
}

impl std::fmt::Display for Happening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Committed(version) => write!(f, "version {version} committed"),
            Self::Confirmed(version, id) => write!(f, "the event of version {version} confirmed: entry {id}"),
            Self::StoredInRedis(version, by) => write!(f, "version {version} stored in Redis by instance {by}"),
            Self::StoredInProcess(version, by) => write!(f, "version {version} stored in the L1 of instance {by}"),
            Self::Announced { seq, id, origin } => write!(f, "notice {seq} ({id}, from {origin}) names it"),
        }
    }
}

fn shown(place: Place) -> String {
    match place {
        Place::Redis => "in Redis".to_owned(),
        Place::Process(instance) => format!("in the L1 of instance {instance}"),
    }
}

/// The time of an entry's id.
pub fn milliseconds(id: &str) -> u64 {
    id.split('-').next().and_then(|ms| ms.parse().ok()).unwrap_or_default()
}

/// What a panicked thread held is taken as it is: the panic is reported anyway.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oracle() -> Oracle {
        Oracle::new(Arc::default(), Duration::from_secs(1))
    }

    fn told(oracle: &Oracle, ago: Duration) -> Instant {
        let committed = oracle.commit(&[7]).unwrap();
        let at = Instant::now().checked_sub(ago).unwrap();
        oracle.confirmed(&committed, "1000-0", Priority::Normal, at);
        at
    }

    fn wrongs(oracle: &Oracle) -> Vec<Wrong> {
        oracle.violations().iter().map(|violation| violation.wrong).collect()
    }

    #[test]
    fn an_old_version_is_late_after_the_deadline_and_not_before() {
        let oracle = oracle();
        told(&oracle, Duration::from_millis(900));
        oracle.read(7, 1, Instant::now(), Place::Redis);
        oracle.read(7, 2, Instant::now(), Place::Redis);
        assert_eq!(wrongs(&oracle), []);
        oracle.read(7, 1, Instant::now() + Duration::from_millis(300), Place::Redis);
        assert_eq!(wrongs(&oracle), [Wrong::Late]);
    }

    #[test]
    fn what_no_event_was_confirmed_of_is_never_late() {
        let oracle = oracle();
        oracle.commit(&[7]).unwrap();
        oracle.read(7, 1, Instant::now() + Duration::from_secs(60), Place::Process(0));
        assert_eq!(wrongs(&oracle), []);
    }

    #[test]
    fn an_event_counts_as_announced_by_a_later_notice_only() {
        let oracle = oracle();
        told(&oracle, Duration::ZERO);
        oracle.announced(7, 1, "1000-0", "a", &[]);
        oracle.all_announced();
        assert_eq!(wrongs(&oracle), [Wrong::NotAnnounced]);
        oracle.announced(7, 2, "1001-0", "a", &[]);
        oracle.all_announced();
        assert_eq!(wrongs(&oracle).len(), 1);
    }

    #[test]
    fn an_event_confirmed_after_its_notice_was_read_is_announced_even_in_the_same_millisecond() {
        let oracle = oracle();
        oracle.announced(7, 1, "1000-0", "a", &["1000-0".to_owned()]);
        told(&oracle, Duration::ZERO);
        oracle.all_announced();
        assert_eq!(wrongs(&oracle), []);
    }

    #[test]
    fn no_commit_comes_between_database_and_redis() {
        let oracle = oracle();
        let stored = oracle.fill(7, 0, |version| {
            assert!(oracle.commit(&[7, 8]).is_none());
            assert!(oracle.commit(&[8]).is_some());
            let _: () = assert_eq!(version, 1);
            Ok::<(), ()>(())
        });
        assert_eq!(stored, Ok(1));
        assert!(oracle.commit(&[7]).is_some());
    }
}
