//! A walk through pending entries, a step at a time: a page is listed, what is wanted of it is claimed as memory has room, then the next.
//!
//! No I/O: it says what the next step is and is told what came of it. However long the list, it remembers one page of it.

use std::collections::VecDeque;
use std::time::Duration;

use unstale_events::EntryId;
use unstale_source::PendingAt;

/// The most entries that one step claims.
const MOST: usize = 256;

/// Whose pending entries a walk is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// This process's own: whatever it doesn't hold was lost on the way, or given up.
    Own,
    /// A dead instance's, or what a living one has had for too long.
    Others,
}

/// A pending entry, and how often it was delivered.
pub(crate) type Found = (EntryId, u64);

/// What a walk does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// List a page, from this id on.
    List(PendingAt, EntryId),
    /// Claim these, which were found there.
    Claim(Vec<Found>, PendingAt),
}

/// The state of a walk.
#[derive(Debug)]
pub(crate) struct Walk {
    whose: Whose,
    /// Where is still to be looked, here first.
    places: VecDeque<PendingAt>,
    /// Where the next page begins; `None` if there is none.
    from: Option<EntryId>,
    /// What of the page is still to be claimed.
    page: VecDeque<Found>,
    /// Whether a step is under way.
    stepping: bool,
    has_listed: bool,
    /// How many entries it has claimed.
    pub(crate) taken: usize,
    /// How many it had to pass over.
    pub(crate) passed_over: usize,
}

impl Walk {
    /// A walk through this process's own entries.
    pub(crate) fn own(consumer: &str) -> Self {
        Self::new(Whose::Own, [of(consumer.to_owned())].into())
    }

    /// A walk through the entries of the dead, and then through those that anybody has had for `stuck`.
    pub(crate) fn others(dead: Vec<String>, stuck: Duration) -> Self {
        Self::new(Whose::Others, dead.into_iter().map(of).chain([PendingAt { consumer: None, min_idle: stuck }]).collect())
    }

    fn new(whose: Whose, places: VecDeque<PendingAt>) -> Self {
        let (from, page) = (Some(EntryId::ZERO), VecDeque::new());
        Self { whose, places, from, page, stepping: false, has_listed: false, taken: 0, passed_over: 0 }
    }

    pub(crate) fn whose(&self) -> Whose {
        self.whose
    }

    /// Where it looks now; `None` if it looks no more.
    pub(crate) fn place(&self) -> Option<&PendingAt> {
        self.places.front()
    }

    /// Whether a page has come.
    pub(crate) fn has_listed(&self) -> bool {
        self.has_listed
    }

    /// Whether all is looked at and nothing is under way; known after [`Walk::step`] had nothing.
    pub(crate) fn has_ended(&self) -> bool {
        self.places.is_empty() && !self.stepping
    }

    /// Begins the next step, unless one is under way, or it is to claim and there is no room.
    pub(crate) fn step(&mut self, has_room: bool) -> Option<Step> {
        if self.stepping {
            return None;
        }
        if self.page.is_empty() && self.from.is_none() {
            self.places.pop_front();
            self.from = Some(EntryId::ZERO);
        }
        let place = self.places.front()?.clone();
        let step = match (self.page.len().min(MOST), self.from) {
            (0, from) => Step::List(place, from?),
            (most, _) if has_room => Step::Claim(self.page.drain(..most).collect(), place),
            _ => return None,
        };
        self.stepping = true;
        Some(step)
    }

    /// A page came, with `last` as its last; `wanted` is what is to be claimed of it.
    pub(crate) fn listed(&mut self, last: Option<EntryId>, wanted: Vec<Found>) {
        self.stepping = false;
        self.has_listed = true;
        self.page.extend(wanted);
        self.from = last.filter(|last| *last < EntryId::MAX).map(EntryId::next);
    }

    /// A claim ended: `left` of what it was for was too much for one step.
    pub(crate) fn claimed(&mut self, taken: usize, left: &[Found]) {
        self.stepping = false;
        self.taken += taken;
        left.iter().rev().for_each(|found| self.page.push_front(*found));
    }

    /// Nothing more is begun.
    pub(crate) fn stop(&mut self) {
        self.places.clear();
        self.page.clear();
    }
}

/// All that one consumer has.
fn of(consumer: String) -> PendingAt {
    PendingAt { consumer: Some(consumer), min_idle: Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    fn found(ids: std::ops::Range<u64>) -> Vec<Found> {
        ids.map(|ms| (id(ms), 1)).collect()
    }

    #[test]
    fn it_lists_page_after_page_and_claims_each_before_the_next() {
        let mut walk = Walk::own("me");
        let own = of("me".to_owned());
        assert_eq!(walk.step(true), Some(Step::List(own.clone(), EntryId::ZERO)));
        assert_eq!((walk.step(true), walk.has_listed()), (None, false), "one step at a time");
        walk.listed(Some(id(299)), found(0..300));
        assert_eq!(walk.step(true), Some(Step::Claim(found(0..256), own.clone())));
        // Only two hundred of these were not too much.
        walk.claimed(200, &found(200..256));
        assert_eq!(walk.step(true), Some(Step::Claim(found(200..300), own.clone())));
        walk.claimed(100, &[]);
        assert_eq!(walk.step(true), Some(Step::List(own, id(299).next())));
        walk.listed(None, vec![]);
        assert_eq!((walk.step(true), walk.has_ended(), walk.taken), (None, true, 300));
    }

    #[test]
    fn without_room_it_waits_with_the_page_in_hand() {
        let mut walk = Walk::own("me");
        walk.step(false);
        walk.listed(Some(id(2)), found(1..3));
        assert_eq!((walk.step(false), walk.has_ended()), (None, false));
        assert_eq!(walk.step(true), Some(Step::Claim(found(1..3), of("me".to_owned()))));
    }

    #[test]
    fn after_the_dead_it_looks_for_what_anybody_is_stuck_with() {
        let stuck = PendingAt { consumer: None, min_idle: Duration::from_secs(30) };
        let mut walk = Walk::others(vec!["one".to_owned()], stuck.min_idle);
        assert_eq!(walk.step(true), Some(Step::List(of("one".to_owned()), EntryId::ZERO)));
        walk.listed(None, vec![]);
        assert_eq!(walk.step(true), Some(Step::List(stuck.clone(), EntryId::ZERO)));
        // The highest id there can be has none behind it.
        walk.listed(Some(EntryId::MAX), vec![(EntryId::MAX, 2)]);
        assert_eq!(walk.step(true), Some(Step::Claim(vec![(EntryId::MAX, 2)], stuck)));
        walk.claimed(0, &[]);
        assert_eq!((walk.step(true), walk.has_ended()), (None, true));
    }

    #[test]
    fn stopped_it_ends_with_the_step_under_way() {
        let mut walk = Walk::others(vec!["one".to_owned(), "two".to_owned()], Duration::ZERO);
        walk.step(true);
        walk.stop();
        assert!(!walk.has_ended());
        walk.listed(None, vec![]);
        assert_eq!((walk.step(true), walk.has_ended()), (None, true));
    }
}
