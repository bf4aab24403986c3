//! One stream as the loop sees it: the reader, the entries that this process holds, and what is owed to their group.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
use unstale_events::{Entry, EntryId, StreamKind};
use unstale_source::{Delivered, EntryLimit, Group, PendingAt, Reader};

use crate::chores::{self, Chore};
use crate::journal;
use crate::recovery::{PAUSES, Recovery, Suspect};
use crate::walk::{Found, Step, Whose};

/// The most entries that one read asks for. How large they are is known only once they are here, so it is also what memory must bear if
/// large ones follow small ones.
const MOST: usize = 256;
/// What the first read after silence asks for, when entries come one by one; each later one asks for at most twice what the last brought.
const FIRST: usize = 16;
/// How many reads may be under way: Redis, which has most of the work, shall not wait for the next while the last is taken in.
const READS: usize = 3;
/// About how many bytes the reads under way, or one claim, may bring.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// How many entries are taken in at a time. Between them the loop turns to what is more urgent.
const SLICE: usize = 64;
/// What holding an entry costs beside its batch, in bytes.
const HELD_BYTES: usize = 64;
/// While others are being delivered, what is done is not acknowledged more often than this, for an XACK of one entry costs Redis and this process
/// nearly as much as one of hundreds ...
const ACK_PAUSE: Duration = Duration::from_millis(5);
/// ... unless it is so many entries.
const ACK_ENOUGH: usize = 1000;
/// So many reads that found nothing too large are made without bodies, after one that had no answer in time.
const CAREFUL: u32 = 16;

/// An entry between read and acknowledged.
#[derive(Debug, Clone, Copy)]
struct Held {
    /// How often it has been delivered, this time included.
    deliveries: u64,
    /// Whether it was claimed, not read.
    claimed: bool,
    /// Whether it was claimed, and has not come through a delivery yet.
    untried: bool,
    /// How often others had been told of what is held when it came.
    round: u32,
}

/// The state of one stream.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they say different things, and none of them follows from another")]
pub(crate) struct Stream {
    pub(crate) reader: Reader,
    pub(crate) recovery: Recovery,
    /// Whether this process has found the stream there.
    pub(crate) seen: bool,
    /// The ground on which the group's count of what it was given is known to be right.
    pub(crate) counted_on: u64,
    /// Below this it was trimmed last.
    pub(crate) trimmed: Option<EntryId>,
    /// Whether a look at the group would find something new: entries came, or were there at the last, or nobody could be judged then.
    pub(crate) is_stirred: bool,
    /// Read, but not taken in yet.
    arrived: VecDeque<Entry>,
    held: HashMap<EntryId, Held, RandomState>,
    /// How many of them were claimed.
    claimed: usize,
    /// How many of those have not come through a delivery yet.
    untried: usize,
    /// Done, and to be acknowledged with the next XACK.
    pub(crate) owed: Vec<EntryId>,
    acking: bool,
    /// When the next XACK may be sent, after one failed.
    ack_at: Instant,
    /// When the last one was sent.
    acked: Instant,
    /// When others are told next that what is held is at work.
    keep_at: Instant,
    keeping: bool,
    round: u32,
    /// When the next read may be sent, after one failed.
    pub(crate) resting_until: Option<Instant>,
    /// How many reads are still made without bodies.
    careful: u32,
    average_bytes: usize,
    /// The most that the next read may ask for; `None` before the first, and after one that failed: what is in the stream by then may be of
    /// any size, so it begins with one.
    most: Option<usize>,
    /// Whether the last read brought as much as one may, so that there is more.
    is_behind: bool,
}

impl Stream {
    pub(crate) fn new(reader: Reader, now: Instant) -> Self {
        Self {
            reader,
            recovery: Recovery::new(now),
            seen: false,
            counted_on: 0,
            trimmed: None,
            is_stirred: true,
            arrived: VecDeque::new(),
            held: HashMap::default(),
            claimed: 0,
            untried: 0,
            owed: Vec::new(),
            acking: false,
            ack_at: now,
            acked: now,
            keep_at: now,
            keeping: false,
            round: 0,
            resting_until: None,
            careful: 0,
            average_bytes: 0,
            most: None,
            is_behind: false,
        }
    }

    pub(crate) fn kind(&self) -> StreamKind {
        self.reader.group().kind()
    }

    pub(crate) fn group(&self) -> &Group {
        self.reader.group()
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    /// What it remembers, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        (self.held.len() + self.recovery.remembered()) * HELD_BYTES + self.arrived.len() * self.average_bytes
    }

    /// When something that waits here is to be started, if anything does.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let later = |at: Instant| Some(at).filter(|at| *at > now);
        let keep = later(self.keep_at).filter(|_| !self.held.is_empty());
        let ack = later(self.ack_at.max(self.acked + ACK_PAUSE)).filter(|_| !self.owed.is_empty());
        [self.recovery.due(), ack, keep, self.resting_until.and_then(later)].into_iter().flatten().min()
    }

    /// How many entries are this process's to finish: held, or given up.
    pub(crate) fn unfinished(&self) -> usize {
        self.arrived.len() + self.held.len() + self.recovery.given_up()
    }

    /// Whether nothing is left of what was given up or taken over.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.claimed == 0 && self.recovery.given_up() == 0
    }

    /// Whether nothing is left to finish, nor can anything come.
    pub(crate) fn is_finished(&self) -> bool {
        self.arrived.is_empty() && self.held.is_empty() && self.recovery.is_finished() && !self.reader.is_reading()
    }
}

/// Reading.
impl Stream {
    /// Sends the next read, and more ahead if others can wait: for many entries, but together not more than about [`READ_BYTES`].
    pub(crate) fn read(&mut self, limit: EntryLimit, ahead: bool) {
        if self.careful > 0 {
            // Those that it delivered before are claimed before the next.
            if self.recovery.is_over() {
                self.reader.begin_without_bodies(MOST, READ_BYTES, limit);
            }
            return;
        }
        let Some(most) = self.most else { return self.reader.begin_with_one() };
        let count = (READ_BYTES / READS / self.average_bytes.max(1)).clamp(1, most);
        self.reader.begin(count);
        while ahead && self.is_behind && self.reader.under_way() < READS {
            self.reader.begin_ahead(count);
        }
    }

    /// A read brought so many entries of so many bytes.
    pub(crate) fn has_read(&mut self, bytes: usize, entries: usize) {
        self.is_behind = entries == MOST;
        self.most = Some((entries * 2).clamp(FIRST, MOST));
        self.weigh(bytes, entries);
    }

    /// Entries were read.
    pub(crate) fn arrived(&mut self, entries: Vec<Entry>) {
        self.seen = true;
        self.resting_until = None;
        self.arrived.extend(entries);
    }

    /// Whether some of what was read is to be taken in.
    pub(crate) fn has_arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    /// The next entries to take in.
    pub(crate) fn slice(&mut self) -> Vec<Entry> {
        self.arrived.drain(..self.arrived.len().min(SLICE)).collect()
    }

    /// Takes note of how large entries are. Large ones count at once, small ones bit by bit.
    pub(crate) fn weigh(&mut self, bytes: usize, entries: usize) {
        if let Some(average) = bytes.checked_div(entries) {
            self.average_bytes = average.max((self.average_bytes * 3 + average) / 4);
        }
    }

    /// Entries were delivered and are pending; they are to be claimed.
    pub(crate) fn delivered(&mut self, delivered: Delivered, now: Instant) {
        self.resting_until = None;
        self.careful = match delivered {
            Delivered { heavy: 1.., .. } => CAREFUL,
            Delivered { was_last: true, .. } => 0,
            _ => self.careful.saturating_sub(1),
        };
        if delivered.entries > 0 {
            self.recovery.want(now);
        }
    }

    /// A read failed: what it may have brought is pending, and the next waits a little. If it took too long, what comes next may be too large
    /// to be read.
    pub(crate) fn read_failed(&mut self, in_time: bool, now: Instant) {
        self.recovery.want(now);
        self.resting_until = Some(now + PAUSES[0]);
        if !in_time {
            self.careful = CAREFUL;
        }
        self.most = None;
        self.is_behind = false;
    }
}

/// Holding.
impl Stream {
    /// Begins to hold an entry. `false` if it is held already.
    pub(crate) fn hold(&mut self, id: EntryId, deliveries: u64, claimed: bool) -> bool {
        self.is_stirred = true;
        match self.held.entry(id) {
            Slot::Occupied(_) => false,
            Slot::Vacant(slot) => {
                slot.insert(Held { deliveries, claimed, untried: claimed, round: self.round });
                self.claimed += usize::from(claimed);
                self.untried += usize::from(claimed);
                true
            }
        }
    }

    /// Lets go of an entry; returns how often it had been delivered.
    pub(crate) fn let_go(&mut self, id: EntryId) -> u64 {
        self.recovery.let_go(id);
        let Some(held) = self.held.remove(&id) else { return 1 };
        self.claimed -= usize::from(held.claimed);
        self.untried -= usize::from(held.untried);
        held.deliveries
    }

    /// Gives an entry up: it stays pending, to be tried again. Returns how often it had been delivered.
    pub(crate) fn give_up(&mut self, id: EntryId, now: Instant) -> u64 {
        self.recovery.give_up(now);
        self.let_go(id)
    }

    /// How often a held entry has been delivered.
    pub(crate) fn deliveries(&self, id: EntryId) -> u64 {
        self.held.get(&id).map_or(1, |held| held.deliveries)
    }

    /// What is to be acknowledged now, if anything is; `calm` if nothing is being delivered that more would come of.
    pub(crate) fn begin_ack(&mut self, calm: bool, now: Instant) -> Option<Vec<EntryId>> {
        let is_enough = calm || self.owed.len() >= ACK_ENOUGH || self.acked + ACK_PAUSE <= now;
        if self.acking || self.owed.is_empty() || self.ack_at > now || !is_enough {
            return None;
        }
        self.acking = true;
        self.acked = now;
        Some(std::mem::take(&mut self.owed))
    }

    /// An XACK was answered.
    pub(crate) fn ack_ended(&mut self) {
        self.acking = false;
    }

    /// An XACK failed: it is sent again after a pause.
    pub(crate) fn ack_failed(&mut self, left: Vec<EntryId>, now: Instant) {
        self.owed.extend(left);
        self.ack_at = now + PAUSES[0];
    }

    /// Three times within the time after which others would take for stuck what is held here, they are told that it is at work.
    pub(crate) fn keep(&mut self, min_idle: Duration, now: Instant) -> Option<Chore> {
        if self.keeping || self.keep_at > now {
            return None;
        }
        let period = min_idle / 3;
        self.keep_at = now + period;
        self.round += 1;
        // What came since the last time is young.
        let old: Vec<EntryId> = self.held.iter().filter(|(_, held)| held.round + 1 < self.round).map(|(id, _)| *id).collect();
        self.keeping = !old.is_empty();
        self.keeping.then(|| chores::keep(self.group(), old, period / 2))
    }

    pub(crate) fn kept(&mut self) {
        self.keeping = false;
    }
}

/// Recovering.
impl Stream {
    /// The next steps of what recovers entries, as `room` bytes let it that `used` are taken of.
    pub(crate) fn recover(&mut self, used: usize, room: usize, limit: EntryLimit, now: Instant) -> Vec<Chore> {
        let group = self.reader.group().clone();
        let mut chores: Vec<Chore> =
            self.recovery.begin(group.consumer(), now).into_iter().map(|(deliveries, ids)| self.release(ids, deliveries)).collect();
        // New entries keep half of the room, or those that fail again and again would leave them none.
        let has_room = used < room && self.claimed * self.average_bytes.max(HELD_BYTES) < room / 2;
        for (whose, step) in self.recovery.steps(has_room) {
            chores.push(match step {
                Step::List(at, from) => chores::list(&group, whose, at, from),
                Step::Claim(found, at) => self.claim(found, at, whose, limit),
            });
        }
        self.recovery.ended().for_each(|walk| journal::walked(group.kind(), walk.whose(), walk.taken));
        chores
    }

    /// Claims the next suspect, if one waits; `at_work` is as in [`Recovery::next_suspect`].
    pub(crate) fn try_suspect(&mut self, at_work: bool, limit: EntryLimit, now: Instant) -> Option<Chore> {
        let Suspect { id, deliveries, whose, place } = self.recovery.next_suspect(at_work, now)?;
        Some(self.claim(vec![(id, deliveries)], place, whose, limit))
    }

    /// Whether entries are at work that were pending, or are being looked for.
    pub(crate) fn is_taking_up(&self) -> bool {
        self.untried > 0 || self.recovery.is_looking()
    }

    /// An entry has come through a delivery: it isn't what ends the process, and makes way for the next suspect. If it waits for another
    /// delivery, whoever ends the process meanwhile, that is not to be counted against a suspect.
    pub(crate) fn came_through(&mut self, id: EntryId, waits: bool) -> Option<Chore> {
        if self.untried == 0 {
            return None;
        }
        let held = self.held.get_mut(&id)?;
        self.untried -= usize::from(std::mem::take(&mut held.untried));
        let deliveries = held.deliveries - 1;
        let is_suspect = self.recovery.is_suspect(id);
        self.recovery.let_go(id);
        (is_suspect && waits).then(|| self.release(vec![id], deliveries))
    }

    fn claim(&mut self, found: Vec<Found>, at: PendingAt, whose: Whose, limit: EntryLimit) -> Chore {
        self.recovery.claim_began();
        chores::claim(self.group(), found, at, whose, READ_BYTES, limit)
    }

    /// Begins to set back how often entries count as delivered.
    pub(crate) fn release(&mut self, ids: Vec<EntryId>, deliveries: u64) -> Chore {
        self.recovery.release_began(ids.len());
        chores::release(self.group(), ids, deliveries)
    }

    /// Of a page of pending entries, those to claim.
    pub(crate) fn choose(&mut self, page: &[unstale_connect::PendingEntry], whose: Whose) -> Vec<Found> {
        let free = page.iter().filter(|entry| !self.held.contains_key(&entry.id)).map(|entry| (entry.id, entry.deliveries));
        self.recovery.choose(free, whose)
    }
}

#[cfg(test)]
mod tests {
    use unstale_connect::{Client, Role};
    use unstale_source::Start;

    use super::*;

    fn stream(now: Instant) -> Stream {
        let client = Client::open(&"redis://127.0.0.1:1".parse().unwrap(), Role::Commands, "stream test").unwrap();
        let group = Group::new(client.clone(), StreamKind::Ordinary, "s", "g", "me", Start::Beginning);
        Stream::new(Reader::new(client, group, Duration::ZERO), now)
    }

    #[tokio::test]
    async fn what_was_read_is_taken_in_slice_by_slice_and_in_order() {
        let began = Instant::now();
        let mut stream = stream(began);
        stream.arrived((1..=100).map(|ms| Entry { id: EntryId { ms, seq: 0 }, fields: None }).collect());
        assert_eq!((stream.unfinished(), stream.is_finished()), (100, false));
        let slices: Vec<_> = std::iter::from_fn(|| Some(stream.slice()).filter(|slice| !slice.is_empty())).collect();
        assert_eq!(slices.iter().map(Vec::len).collect::<Vec<_>>(), [SLICE, 100 - SLICE]);
        assert!(slices.concat().is_sorted_by_key(|entry| entry.id));
        assert!(!stream.has_arrived());
    }

    #[tokio::test]
    async fn reads_are_sent_ahead_as_long_as_they_bring_all_that_they_may_and_nobody_is_in_a_hurry() {
        let mut stream = stream(Instant::now());
        let limit = EntryLimit::new(1 << 20);
        let mut under_way = |entries, ahead| {
            stream.has_read(entries * 100, entries);
            stream.read(limit, ahead);
            stream.reader.under_way()
        };
        assert_eq!(under_way(MOST - 1, true), 1);
        assert_eq!(under_way(MOST, false), 1);
        assert_eq!(under_way(MOST, true), READS);
    }

    #[tokio::test]
    async fn what_is_done_is_acknowledged_together_as_long_as_more_comes_of_deliveries() {
        let began = Instant::now();
        let mut stream = stream(began);
        assert_eq!(stream.begin_ack(true, began), None, "nothing is done");

        stream.owed = vec![EntryId::ZERO];
        assert_eq!(stream.begin_ack(false, began), None);
        stream.recovery.begin("me", began);
        assert_eq!(stream.due(began), Some(began + ACK_PAUSE));
        assert!(stream.begin_ack(true, began).is_some(), "nothing more comes");
        stream.owed = vec![EntryId::ZERO; ACK_ENOUGH];
        assert_eq!(stream.begin_ack(false, began), None, "one is under way");
        stream.ack_ended();
        assert!(stream.begin_ack(false, began).is_some(), "they are enough");
        stream.ack_ended();
        stream.owed = vec![EntryId::ZERO];
        assert!(stream.begin_ack(false, began + ACK_PAUSE).is_some(), "it waited for long enough");
    }
}
