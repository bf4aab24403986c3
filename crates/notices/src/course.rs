//! A reader's course through the log: what to do next, and what an answer means. No I/O and no clock: time is an argument.
//!
//! Notices are numbered without gaps, but numbers alone prove nothing: after a failover that lost the log's tail, or in a log that was deleted
//! and written anew, the numbers of the new history go on where the old one stood. So each notice also names the entry before it, and a reader
//! looks his own entry up after every break and every silence. It must be there, with its number; else history was changed or trimmed, and nobody
//! can say what was missed.

use std::time::{Duration, Instant};

use unstale_events::{EntryId, Position};

/// How long silence is believed before one's own entry is looked up again.
pub const IDLE: Duration = Duration::from_secs(2);

/// What a reader does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Find out where the log ends: there is no position yet.
    Begin,
    /// Look this position up; if it isn't there, find out where the log ends.
    Look(Position),
    /// Read what follows.
    Read {
        /// The entry before.
        after: EntryId,
        /// How long silence is still believed.
        patience: Duration,
    },
}

/// What was found where a position should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// The entry with the position's id; for [`Position::START`], the oldest of all.
    pub found: Option<Position>,
    /// The newest entry.
    pub newest: Position,
}

/// What a look means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looked {
    /// This is where to begin.
    Began(Position),
    /// Nothing was missed.
    Intact,
    /// Anything may have been missed: drop everything, and go on from here.
    Lost(Position),
}

/// What an entry that was read means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// It follows the one before.
    Next,
    /// Something before it is missing: drop everything, it included.
    Gap,
}

/// Where a reader is, and whether he can be sure of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    at: Option<Position>,
    /// When the log last vouched for the position; `None` since a break.
    sure: Option<Instant>,
}

impl Course {
    /// Begins where the log ends: for a reader who has nothing that could be stale.
    pub fn begin() -> Self {
        Self { at: None, sure: None }
    }

    /// Goes on from the last notice that somebody has.
    pub fn resume(at: Position) -> Self {
        Self { at: Some(at), sure: None }
    }

    /// The last notice that was read; `None` before the first look.
    pub fn at(&self) -> Option<Position> {
        self.at
    }

    /// A connection ended, or an answer was no answer: nothing is sure any more.
    pub fn doubt(&mut self) {
        self.sure = None;
    }

    /// What to do now.
    pub fn order(&self, now: Instant) -> Order {
        let Some(at) = self.at else { return Order::Begin };
        let believed = self.sure.map(|sure| IDLE.saturating_sub(now.saturating_duration_since(sure)));
        match believed {
            Some(patience) if !patience.is_zero() => Order::Read { after: at.id, patience },
            _ => Order::Look(at),
        }
    }

    /// The answer to [`Order::Begin`] or [`Order::Look`].
    pub fn looked(&mut self, sight: Sight, now: Instant) -> Looked {
        self.sure = Some(now);
        match self.at {
            Some(at) if is_intact(at, sight.found) => Looked::Intact,
            before => {
                self.at = Some(sight.newest);
                if before.is_none() { Looked::Began(sight.newest) } else { Looked::Lost(sight.newest) }
            }
        }
    }

    /// One of the entries that [`Order::Read`] brought, in their order, and the one before it, if it says so.
    pub fn read(&mut self, entry: Position, prev: Option<EntryId>, now: Instant) -> Followed {
        let is_after = |at: Position| entry.seq == at.seq.saturating_add(1) && entry.id > at.id && prev.is_none_or(|prev| prev == at.id);
        let follows = self.at.is_some_and(is_after);
        self.at = Some(entry);
        self.sure = Some(now);
        if follows { Followed::Next } else { Followed::Gap }
    }
}

/// Before the first notice there is no entry to find: it is the oldest that tells whether any went before it.
fn is_intact(at: Position, found: Option<Position>) -> bool {
    if at == Position::START { found.is_none_or(|oldest| oldest.seq == 1) } else { found == Some(at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64, seq: u64) -> Position {
        Position { id: EntryId { ms, seq: 0 }, seq }
    }

    fn sight(found: Option<Position>, newest: Position) -> Sight {
        Sight { found, newest }
    }

    #[test]
    fn it_begins_where_the_log_ends() {
        let now = Instant::now();
        let mut course = Course::begin();
        assert_eq!(course.order(now), Order::Begin);
        assert_eq!(course.looked(sight(None, at(9, 4)), now), Looked::Began(at(9, 4)));
        assert_eq!(course.order(now), Order::Read { after: at(9, 4).id, patience: IDLE });
    }

    #[test]
    fn silence_is_believed_for_a_while_and_then_looked_into() {
        let now = Instant::now();
        let mut course = Course::resume(at(9, 4));
        course.looked(sight(Some(at(9, 4)), at(9, 4)), now);
        let later = now + IDLE / 2;
        assert_eq!(course.order(later), Order::Read { after: at(9, 4).id, patience: IDLE / 2 });
        assert_eq!(course.order(now + IDLE), Order::Look(at(9, 4)));
        assert_eq!(course.read(at(10, 5), Some(at(9, 4).id), later), Followed::Next);
        assert_eq!(course.order(now + IDLE), Order::Read { after: at(10, 5).id, patience: IDLE / 2 });
        course.doubt();
        assert_eq!(course.order(later), Order::Look(at(10, 5)));
    }

    #[test]
    fn only_its_own_entry_with_its_own_number_vouches_for_it() {
        let now = Instant::now();
        for found in [None, Some(at(9, 5)), Some(at(8, 4))] {
            let mut course = Course::resume(at(9, 4));
            assert_eq!(course.looked(sight(found, at(20, 30)), now), Looked::Lost(at(20, 30)), "{found:?}");
            assert_eq!(course.at(), Some(at(20, 30)));
        }
        assert_eq!(Course::resume(at(9, 4)).looked(sight(Some(at(9, 4)), at(20, 30)), now), Looked::Intact);
    }

    #[test]
    fn the_start_is_there_as_long_as_the_first_notice_is() {
        let now = Instant::now();
        let look = |oldest| Course::resume(Position::START).looked(sight(oldest, at(20, 30)), now);
        assert_eq!((look(None), look(Some(at(3, 1)))), (Looked::Intact, Looked::Intact));
        assert_eq!(look(Some(at(3, 2))), Looked::Lost(at(20, 30)));
    }

    #[test]
    fn an_entry_follows_only_the_one_before_it() {
        let now = Instant::now();
        for wrong in [at(10, 4), at(10, 6), at(10, 0), at(9, 5), at(8, 5)] {
            let mut course = Course::resume(at(9, 4));
            assert_eq!(course.read(wrong, None, now), Followed::Gap, "{wrong}");
            assert_eq!(course.at(), Some(wrong), "what was told covers it");
        }
        let mut course = Course::resume(Position::START);
        assert_eq!(course.read(at(9, 1), Some(EntryId::ZERO), now), Followed::Next);
    }

    #[test]
    fn an_entry_that_names_another_before_it_belongs_to_another_history() {
        let now = Instant::now();
        let read = |prev| Course::resume(at(9, 4)).read(at(20, 5), prev, now);
        assert_eq!(read(Some(at(19, 4).id)), Followed::Gap);
        assert_eq!(read(Some(EntryId::ZERO)), Followed::Gap);
        assert_eq!((read(Some(at(9, 4).id)), read(None)), (Followed::Next, Followed::Next), "an older release doesn't say");
    }
}
