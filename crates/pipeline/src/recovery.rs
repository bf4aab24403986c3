//! What is pending and not held here: when it is looked for, how far the looks have come, and who of it travels alone.
//!
//! Of the entries themselves it remembers no more than a page for each look; what was given up is counted, and found again in Redis.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use unstale_events::EntryId;
use unstale_source::PendingAt;

use crate::walk::{Found, Step, Walk, Whose};

/// From this delivery count on an entry is suspected to kill the process, and travels alone.
pub(crate) const SUSPECT: u64 = 3;
/// How many suspects wait for their turn; others are found again by a later look.
const WAITING: usize = 1000;
/// How long they wait at most for what was taken up with them and nobody suspects.
const COURTESY: Duration = Duration::from_secs(5);
/// The pauses between two looks at one's own pending entries while deliveries fail.
pub(crate) const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// An entry that may kill the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Suspect {
    pub(crate) id: EntryId,
    pub(crate) deliveries: u64,
    pub(crate) whose: Whose,
    /// Where it was found.
    pub(crate) place: PendingAt,
}

/// The state of one stream's recovery.
#[derive(Debug)]
pub(crate) struct Recovery {
    /// From when on something may be pending that isn't held; `None` if nothing is known to be.
    wanted: Option<Instant>,
    own: Option<Walk>,
    others: Option<Walk>,
    /// Entries that were given up before the walk under way began, and are this process's still until it has ended.
    given_up_before: usize,
    /// Entries that were given up since.
    given_up_since: usize,
    /// The suspect that travels alone, if one does.
    suspect: Option<EntryId>,
    /// Suspects that wait for it.
    waiting: BTreeMap<EntryId, Suspect>,
    /// The walk that found the first of them, until it has ended.
    found_by: Option<Whose>,
    /// Since when they have waited for others.
    waiting_since: Option<Instant>,
    /// Claims under way: what they bring is this process's, and not held yet.
    claims: usize,
    /// Entries whose count of deliveries could not be set back, by what it should be.
    unreleased: Vec<(u64, Vec<EntryId>)>,
    /// Orders to set it back that are under way, and how many entries they are about.
    releases: usize,
    releasing: usize,
    pause: Duration,
}

impl Recovery {
    /// A consumer of this name is new, so nothing can be pending; but looking costs two commands and proves it.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            wanted: Some(now),
            own: None,
            others: None,
            given_up_before: 0,
            given_up_since: 0,
            suspect: None,
            waiting: BTreeMap::new(),
            found_by: None,
            waiting_since: None,
            claims: 0,
            unreleased: Vec::new(),
            releases: 0,
            releasing: 0,
            pause: PAUSES[0],
        }
    }

    /// How many entries it remembers one by one.
    pub(crate) fn remembered(&self) -> usize {
        self.unreleased.iter().map(|(_, ids)| ids.len()).sum::<usize>() + self.releasing + self.waiting.len()
    }
}

/// When.
impl Recovery {
    /// Whether new entries may be read: what was given up waits for its next try, but what was lost on the way comes first.
    pub(crate) fn lets_read(&self, now: Instant) -> bool {
        match &self.own {
            Some(walk) => walk.has_listed(),
            None => self.wanted.is_none_or(|at| at > now),
        }
    }

    /// Whether all that is pending with this process is held, as far as is known.
    pub(crate) fn is_over(&self) -> bool {
        self.own.is_none() && self.wanted.is_none()
    }

    /// When a look is due to begin, if nothing else has to end first.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.wanted.filter(|_| self.releases == 0 && self.own.is_none())
    }

    /// A look at one's own pending entries is due at once, or as soon as the one under way has ended.
    pub(crate) fn want(&mut self, now: Instant) {
        self.wanted = Some(now);
    }

    /// Something failed: a look is due after a pause, longer each time.
    pub(crate) fn want_later(&mut self, now: Instant) {
        if self.wanted.is_none() {
            self.wanted = Some(now + self.pause);
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }

    /// Deliveries succeed (again): what waits for its next try need not wait longer.
    pub(crate) fn delivering(&mut self, now: Instant) {
        self.wanted = self.wanted.map(|at| at.min(now));
        self.pause = PAUSES[0];
    }

    /// Redis is there (again): what was given up meanwhile, or read by a read whose answer was lost, is looked for at once.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        self.want(now);
        self.pause = PAUSES[0];
    }
}

/// Giving up.
impl Recovery {
    /// An entry was given up: it stays pending, to be tried again.
    pub(crate) fn give_up(&mut self, now: Instant) {
        self.given_up_since += 1;
        self.want_later(now);
    }

    /// How many entries were given up and not claimed again, at most.
    pub(crate) fn given_up(&self) -> usize {
        let taken = self.own.as_ref().map_or(0, |walk| walk.taken);
        self.given_up_before.saturating_sub(taken) + self.given_up_since
    }

    /// Whether nothing was given up that may still be this process's, and no claim is under way.
    pub(crate) fn is_finished(&self) -> bool {
        self.given_up_before + self.given_up_since == 0 && self.claims == 0
    }

    /// It is being set back how often so many entries count as delivered.
    pub(crate) fn release_began(&mut self, entries: usize) {
        self.releases += 1;
        self.releasing += entries;
    }

    /// That has ended; what failed is tried again before the entries are claimed, or they would count as delivered too often.
    pub(crate) fn release_ended(&mut self, entries: usize, failed: Option<(u64, Vec<EntryId>)>, now: Instant) {
        self.releases -= 1;
        self.releasing -= entries;
        if let Some(failed) = failed {
            self.unreleased.push(failed);
            self.wanted = Some(now + self.pause);
        }
    }
}

/// Walks.
impl Recovery {
    /// If a look is due: what must be released before, or else nothing, and the walk has begun.
    pub(crate) fn begin(&mut self, consumer: &str, now: Instant) -> Vec<(u64, Vec<EntryId>)> {
        if self.own.is_none() && self.given_up_before + self.given_up_since > 0 {
            self.want_later(now);
        }
        if self.due().is_none_or(|at| at > now) {
            return Vec::new();
        }
        if self.unreleased.is_empty() {
            self.wanted = None;
            self.given_up_before += std::mem::take(&mut self.given_up_since);
            self.own = Some(Walk::own(consumer));
        }
        std::mem::take(&mut self.unreleased)
    }

    /// Begins to take over what the dead left and what anybody has had for too long, unless that is under way.
    pub(crate) fn begin_takeover(&mut self, dead: Vec<String>, stuck: Duration) {
        self.others.get_or_insert_with(|| Walk::others(dead, stuck));
    }

    /// The next steps of the walks under way.
    pub(crate) fn steps(&mut self, has_room: bool) -> Vec<(Whose, Step)> {
        let walks = [&mut self.own, &mut self.others].into_iter().flatten();
        walks.filter_map(|walk| Some((walk.whose(), walk.step(has_room)?))).collect()
    }

    /// The walks that have ended.
    pub(crate) fn ended(&mut self) -> impl Iterator<Item = Walk> {
        let own = self.own.take_if(|walk| walk.has_ended());
        if let Some(walk) = &own {
            // All that was given up before was claimed, or is gone, or is a suspect that is found again.
            self.given_up_before = walk.passed_over;
        }
        let ended = [own, self.others.take_if(|walk| walk.has_ended())];
        self.found_by.take_if(|found_by| ended.iter().flatten().any(|walk| walk.whose() == *found_by));
        ended.into_iter().flatten()
    }

    pub(crate) fn walk(&mut self, whose: Whose) -> Option<&mut Walk> {
        match whose {
            Whose::Own => self.own.as_mut(),
            Whose::Others => self.others.as_mut(),
        }
    }

    /// The claim of the suspect failed. Whether it was carried out isn't known: if so, the entry is now this process's own.
    pub(crate) fn suspect_failed(&mut self, id: EntryId, now: Instant) {
        self.let_go(id);
        self.want_later(now);
    }

    /// A step of a walk failed, and with it the walk: another will begin where it began. As with a suspect, a look is due.
    pub(crate) fn walk_failed(&mut self, whose: Whose, now: Instant) {
        match whose {
            Whose::Own => self.own = None,
            Whose::Others => self.others = None,
        }
        self.found_by.take_if(|found_by| *found_by == whose);
        self.want_later(now);
    }

    /// Of pending entries that are free, those to claim now: all that nobody suspects. Suspects wait for their turn, if there is a place.
    pub(crate) fn choose(&mut self, free: impl Iterator<Item = Found>, whose: Whose) -> Vec<Found> {
        let Some(place) = self.walk(whose).and_then(|walk| walk.place()).cloned() else { return Vec::new() };
        let (mut plain, mut passed_over) = (Vec::new(), 0);
        for (id, deliveries) in free {
            match deliveries < SUSPECT {
                true => plain.push((id, deliveries)),
                false if self.suspect == Some(id) || self.waiting.contains_key(&id) => {}
                false if self.waiting.len() < WAITING => {
                    if self.waiting.is_empty() {
                        self.found_by = Some(whose);
                    }
                    self.waiting.insert(id, Suspect { id, deliveries, whose, place: place.clone() });
                }
                false => passed_over += 1,
            }
        }
        if let Some(walk) = self.walk(whose) {
            walk.passed_over += passed_over;
        }
        plain
    }

    /// No work is begun any more that another instance can do.
    pub(crate) fn leave_to_others(&mut self) {
        self.waiting.retain(|_, suspect| suspect.whose == Whose::Own);
        self.others.iter_mut().for_each(Walk::stop);
    }
}

/// Claims, and suspects.
impl Recovery {
    pub(crate) fn claim_began(&mut self) {
        self.claims += 1;
    }

    pub(crate) fn claim_ended(&mut self) {
        self.claims -= 1;
    }

    /// The suspect whose turn it is. Those come first that were delivered least: in which no process has died yet, or fewer have. Who has
    /// been there at many deaths by chance is done then before he could be there at another; who is the cause of them is left.
    ///
    /// `at_work` says whether entries are that were pending as well, and that nobody suspects yet: one of them may be what ends the process,
    /// and no suspect shall be charged with that. They aren't waited for for long, for they may fail again and again.
    pub(crate) fn next_suspect(&mut self, at_work: bool, now: Instant) -> Option<Suspect> {
        let next = self.waiting.values().map(|suspect| (suspect.deliveries, suspect.id)).min();
        if next.is_none() || !at_work {
            self.waiting_since = None;
        } else if now < *self.waiting_since.get_or_insert(now) + COURTESY {
            return None;
        }
        let suspect = self.waiting.remove(&next?.1)?;
        self.suspect = Some(suspect.id);
        Some(suspect)
    }

    /// Whether a suspect is under way.
    pub(crate) fn has_suspect(&self) -> bool {
        self.suspect.is_some()
    }

    /// Whether the walk that found the suspects may find more yet, or what nobody suspects is on its way here.
    pub(crate) fn is_looking(&self) -> bool {
        self.found_by.is_some() || self.claims > 0
    }

    /// Whether this is the suspect that travels alone.
    pub(crate) fn is_suspect(&self, id: EntryId) -> bool {
        self.suspect == Some(id)
    }

    /// An entry is no longer held, or didn't come: if it was the suspect, it makes way for the next.
    pub(crate) fn let_go(&mut self, id: EntryId) {
        self.suspect.take_if(|suspect| *suspect == id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    /// A walk through pages, each claimed whole, to its end; `given_up` entries of each page are given up again meanwhile.
    fn walk(recovery: &mut Recovery, pages: &[Vec<Found>], given_up: usize, now: Instant) {
        assert!(recovery.begin("me", now).is_empty());
        for page in pages {
            assert!(matches!(recovery.steps(true)[..], [(Whose::Own, Step::List(..))]));
            let wanted = recovery.choose(page.iter().copied(), Whose::Own);
            let walk = recovery.walk(Whose::Own).unwrap();
            walk.listed(page.last().map(|(id, _)| *id), wanted);
            if let [(Whose::Own, Step::Claim(found, _))] = &recovery.steps(true)[..] {
                recovery.walk(Whose::Own).unwrap().claimed(found.len(), &[]);
                (0..given_up).for_each(|_| recovery.give_up(now));
            }
        }
        recovery.steps(true);
        recovery.walk(Whose::Own).unwrap().listed(None, vec![]);
        assert!(recovery.steps(true).is_empty());
        assert_eq!(recovery.ended().count(), 1);
    }

    #[test]
    fn what_was_given_up_is_left_until_a_whole_walk_has_passed() {
        let now = Instant::now();
        let mut recovery = Recovery::new(now);
        walk(&mut recovery, &[], 0, now);
        assert!(recovery.is_over() && recovery.is_finished());
        (0..5).for_each(|_| recovery.give_up(now));
        assert_eq!((recovery.given_up(), recovery.is_finished()), (5, false));
        recovery.delivering(now);
        // All five are claimed again, two of them fail again.
        walk(&mut recovery, &[(0..5).map(|ms| (id(ms), 1)).collect()], 2, now);
        assert_eq!((recovery.given_up(), recovery.is_over()), (2, false));
        recovery.delivering(now);
        walk(&mut recovery, &[(0..2).map(|ms| (id(ms), 1)).collect()], 0, now);
        assert!(recovery.is_over() && recovery.is_finished());
    }

    #[test]
    fn a_walk_that_fails_leaves_what_was_given_up_and_is_tried_again_later() {
        let now = Instant::now();
        let mut recovery = Recovery::new(now);
        walk(&mut recovery, &[], 0, now);
        recovery.give_up(now);
        recovery.delivering(now);
        recovery.begin("me", now);
        assert_eq!(recovery.steps(true).len(), 1);
        recovery.walk_failed(Whose::Own, now);
        assert_eq!((recovery.given_up(), recovery.is_finished()), (1, false));
        assert!(recovery.due().is_some_and(|at| at > now));
    }

    #[test]
    fn something_lost_during_a_walk_is_looked_for_after_it() {
        let now = Instant::now();
        let mut recovery = Recovery::new(now);
        recovery.begin("me", now);
        recovery.steps(true);
        assert!(!recovery.lets_read(now), "what was lost on the way comes first");
        recovery.want(now);
        recovery.walk(Whose::Own).unwrap().listed(None, vec![]);
        assert!(recovery.lets_read(now) && recovery.due().is_none(), "one walk at a time");
        recovery.steps(true);
        assert_eq!(recovery.ended().count(), 1);
        assert_eq!(recovery.due(), Some(now));
    }

    #[test]
    fn suspects_take_turns_and_only_so_many_wait() {
        let now = Instant::now();
        let mut recovery = Recovery::new(now);
        recovery.give_up(now);
        let many: Vec<Found> = (0..WAITING as u64 + 10).map(|ms| (id(ms), SUSPECT)).collect();
        walk(&mut recovery, &[many], 0, now);
        assert_eq!(recovery.remembered(), WAITING);
        assert_eq!((recovery.given_up(), recovery.is_finished()), (10, false), "those without a place are found again");
        let mut next = || recovery.next_suspect(false, now).map(|suspect| suspect.id);
        assert_eq!((next(), next()), (Some(id(0)), Some(id(1))));
    }

    #[test]
    fn of_suspects_those_go_first_that_were_delivered_least() {
        let now = Instant::now();
        let mut recovery = Recovery::new(now);
        let counts = [(1, 4), (2, 3), (3, 5), (4, 3)];
        walk(&mut recovery, &[counts.map(|(ms, deliveries)| (id(ms), deliveries)).to_vec()], 0, now);
        let order: Vec<_> = std::iter::from_fn(|| recovery.next_suspect(false, now)).map(|suspect| suspect.id).collect();
        assert_eq!(order, [2, 4, 1, 3].map(id));
    }

    #[test]
    fn suspects_wait_until_all_is_found_that_they_were_found_with() {
        let now = Instant::now();
        let mut recovery = Recovery::new(now);
        recovery.begin("me", now);
        recovery.steps(true);
        recovery.choose([(id(1), SUSPECT)].into_iter(), Whose::Own);
        recovery.walk(Whose::Own).unwrap().listed(Some(id(1)), vec![]);
        assert!(recovery.is_looking());
        recovery.steps(true);
        recovery.walk(Whose::Own).unwrap().listed(None, vec![]);
        recovery.steps(true);
        assert_eq!((recovery.ended().count(), recovery.is_looking()), (1, false));
        // Whoever looks for others meanwhile is not waited for.
        recovery.begin_takeover(vec![], PAUSES[0]);
        recovery.choose([(id(2), SUSPECT)].into_iter(), Whose::Others);
        assert!(!recovery.is_looking());
    }

    #[test]
    fn suspects_wait_for_what_nobody_suspects_but_not_for_long() {
        let now = Instant::now();
        let mut recovery = Recovery::new(now);
        assert_eq!(recovery.next_suspect(true, now), None);
        walk(&mut recovery, &[vec![(id(1), SUSPECT), (id(2), SUSPECT)]], 0, now);
        let later = now + COURTESY * 2;
        assert_eq!(recovery.next_suspect(true, later), None, "nobody waited before");
        assert_eq!(recovery.next_suspect(true, later + COURTESY / 2), None);
        assert!(recovery.next_suspect(true, later + COURTESY).is_some() && recovery.has_suspect());
        assert!(recovery.next_suspect(true, later + COURTESY).is_some(), "all of them have waited");
    }

    #[test]
    fn what_could_not_be_released_is_released_before_the_next_walk() {
        let now = Instant::now();
        let mut recovery = Recovery::new(now);
        recovery.release_began(2);
        assert_eq!((recovery.due(), recovery.remembered()), (None, 2));
        recovery.release_ended(2, Some((1, vec![id(1), id(2)])), now);
        let later = now + PAUSES[1];
        assert_eq!(recovery.begin("me", later), [(1, vec![id(1), id(2)])]);
        assert!(recovery.own.is_none());
        recovery.release_began(2);
        recovery.release_ended(2, None, later);
        assert!(recovery.begin("me", later).is_empty() && recovery.own.is_some());
    }
}
