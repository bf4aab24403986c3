//! A reader's course against a model of the log: notices are added, the log is trimmed, deleted, and replaced by one whose tail was lost;
//! connections end and silence passes. Whatever happens, a reader who was told that nothing is missing has heard everything, or was told to
//! drop everything since; and he is told that only if he had to be.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use unstale_events::{EntryId, Position};
use unstale_notices::{Course, Followed, IDLE, Looked, Order, Sight};

/// What happens to the log, or to its reader.
#[derive(Debug, Clone)]
enum Event {
    Add(u8),
    /// All but so many entries are trimmed away.
    Trim(u8),
    /// Its clock may be set back by so much, too.
    Delete {
        clock: u8,
    },
    /// A failover to a server that has not received the last entries and whose clock is this much behind: the connection ends, too.
    LoseTail {
        entries: u8,
        clock: u8,
    },
    /// A server is restarted with what it had, or only the connection ends.
    Break,
    /// The reader does what he wants to do next, and an answer has at most so many entries.
    Turn(u8),
    Silence,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (1..4u8).prop_map(Event::Add),
        1 => (0..4u8).prop_map(Event::Trim),
        1 => (0..30u8).prop_map(|clock| Event::Delete { clock }),
        2 => (0..3u8, 0..30u8).prop_map(|(entries, clock)| Event::LoseTail { entries, clock }),
        1 => Just(Event::Break),
        8 => (1..5u8).prop_map(Event::Turn),
        2 => Just(Event::Silence),
    ]
}

/// A notice: its place, the entry before it, and a name of its own.
type Entry = (Position, EntryId, u64);

/// The log, and every place that a notice ever had in it.
#[derive(Debug, Default)]
struct Log {
    entries: Vec<Entry>,
    added: u64,
    clock: u64,
    /// The highest id that was ever given out: a log keeps it, unless it is deleted.
    last: EntryId,
    ever: BTreeSet<Position>,
}

impl Log {
    /// Two histories never give the same id to notices of the same number here. In the world it takes clocks that differ by just so much.
    fn add(&mut self) {
        self.clock += 10;
        let before = self.entries.last().map_or(Position::START, |(at, ..)| *at);
        let seq = before.seq + 1;
        let mut id = EntryId { ms: self.clock, seq: 0 }.max(self.last.next());
        while !self.ever.insert(Position { id, seq }) {
            id = id.next();
        }
        self.entries.push((Position { id, seq }, before.id, self.added));
        self.added += 1;
        self.last = id;
    }

    fn trim(&mut self, keep: usize) {
        // The newest entry is never trimmed: its number is the log's memory.
        let gone = self.entries.len().saturating_sub(keep.max(1));
        self.entries.drain(..gone);
    }

    fn look(&self, at: Position) -> Sight {
        let found = if at == Position::START { self.entries.first() } else { self.entries.iter().find(|(own, ..)| own.id == at.id) };
        Sight { found: found.map(|(at, ..)| *at), newest: self.entries.last().map_or(Position::START, |(at, ..)| *at) }
    }

    fn after(&self, id: EntryId, count: usize) -> Vec<Entry> {
        self.entries.iter().filter(|(at, ..)| at.id > id).take(count).copied().collect()
    }
}

#[derive(Debug)]
struct World {
    log: Log,
    course: Course,
    now: Instant,
    /// The notices that the reader heard, or that came before he was last told to drop everything.
    knows: BTreeSet<u64>,
    heard: BTreeSet<u64>,
    /// Whether something happened that he can't know the extent of.
    excuse: bool,
    flushes: u64,
    harms: u64,
}

impl World {
    fn new() -> Self {
        Self {
            log: Log::default(),
            course: Course::begin(),
            now: Instant::now(),
            knows: BTreeSet::new(),
            heard: BTreeSet::new(),
            excuse: false,
            flushes: 0,
            harms: 0,
        }
    }

    fn apply(&mut self, event: &Event) {
        match *event {
            Event::Add(entries) => (0..entries).for_each(|_| self.log.add()),
            Event::Trim(keep) => {
                self.log.trim(usize::from(keep));
                let at = self.course.at().unwrap_or_default();
                if self.log.entries.first().is_some_and(|(first, ..)| *first > at && first.seq > 1) {
                    self.harm();
                }
            }
            Event::Delete { clock } => {
                let had = !self.log.entries.is_empty();
                self.log.entries.clear();
                self.log.clock = self.log.clock.saturating_sub(u64::from(clock));
                self.log.last = EntryId::ZERO;
                if had {
                    self.harm();
                }
            }
            Event::LoseTail { entries, clock } => self.fail_over(usize::from(entries), u64::from(clock)),
            Event::Break => self.course.doubt(),
            Event::Turn(count) => self.turn(usize::from(count)),
            Event::Silence => self.now += IDLE,
        }
    }

    fn harm(&mut self) {
        self.excuse = true;
        self.harms += 1;
    }

    fn fail_over(&mut self, entries: usize, clock: u64) {
        let kept = self.log.entries.len().saturating_sub(entries);
        let lost = self.log.entries.split_off(kept);
        self.log.last = self.log.entries.last().map_or(EntryId::ZERO, |(at, ..)| at.id);
        self.log.clock = self.log.clock.saturating_sub(clock);
        self.course.doubt();
        if lost.iter().any(|(at, ..)| self.course.at() == Some(*at)) {
            self.harm();
        }
        // What was lost before he could hear it is no part of any history; who wrote it, and deletes, may have lost more.
        self.knows.extend(lost.into_iter().map(|(.., name)| name));
    }

    fn turn(&mut self, count: usize) {
        match self.course.order(self.now) {
            Order::Begin => self.look(Position::START),
            Order::Look(at) => self.look(at),
            Order::Read { after, patience } => {
                let read = self.log.after(after, count);
                if read.is_empty() {
                    self.now += patience;
                }
                for (at, prev, name) in read {
                    match self.course.read(at, Some(prev), self.now) {
                        Followed::Next => {
                            assert!(self.heard.insert(name), "notice {name} was heard twice");
                            self.knows.insert(name);
                        }
                        Followed::Gap => self.flushed(),
                    }
                }
            }
        }
    }

    fn look(&mut self, at: Position) {
        let sight = self.log.look(at);
        match self.course.looked(sight, self.now) {
            Looked::Began(_) => self.forget(),
            Looked::Lost(_) => self.flushed(),
            Looked::Intact => {}
        }
    }

    /// Everything is dropped, so whatever was announced up to now is known.
    fn flushed(&mut self) {
        self.flushes += 1;
        assert!(self.excuse, "told to flush, and nothing was lost");
        self.forget();
    }

    fn forget(&mut self) {
        self.knows = (0..self.log.added).collect();
        self.excuse = false;
    }

    /// The reader is at the log's end and has just had his position confirmed.
    fn settle(&mut self) {
        self.course.doubt();
        for _ in 0..1000 {
            let before = self.course;
            self.turn(100);
            let Some(at) = self.course.at() else { continue };
            if before.at() == Some(at) && matches!(self.course.order(self.now), Order::Read { .. }) && self.log.after(at.id, 1).is_empty() {
                return;
            }
        }
        panic!("he never comes to the end");
    }
}

/// Whether the log was emptied before the reader had heard anything of it: by its numbers nobody can tell its second life from its first.
fn began_anew(world: &World) -> bool {
    world.course.at() == Some(Position::START)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_missed_silently_and_nothing_flushed_needlessly(events in proptest::collection::vec(event(), 1..60)) {
        let mut world = World::new();
        world.log.add();
        world.turn(1);
        for event in &events {
            if began_anew(&world) && matches!(event, Event::Delete { .. } | Event::LoseTail { .. }) {
                continue;
            }
            world.apply(event);
        }
        world.settle();
        let all: BTreeSet<u64> = (0..world.log.added).collect();
        prop_assert_eq!(&world.knows, &all);
        prop_assert!(world.flushes <= world.harms);
    }
}

#[test]
fn a_replaced_tail_is_noticed_although_its_numbers_go_on() {
    let mut world = World::new();
    (0..3).for_each(|_| world.log.add());
    world.turn(1);
    world.fail_over(1, 15);
    (0..3).for_each(|_| world.log.add());
    let numbers: Vec<u64> = world.log.entries.iter().map(|(at, ..)| at.seq).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5]);
    world.settle();
    assert_eq!((world.flushes, world.knows.len() as u64), (1, world.log.added));
}

#[test]
fn a_silence_of_hours_is_no_loss() {
    let mut world = World::new();
    (0..3).for_each(|_| world.log.add());
    for _ in 0..2000 {
        world.turn(1);
        world.now += Duration::from_secs(7);
    }
    assert_eq!(world.flushes, 0);
}
