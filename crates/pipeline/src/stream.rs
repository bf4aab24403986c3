//! One stream as the loop sees it: the reader, the entries that this process holds, and what is owed to their group.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::hash_map::Entry as Slot;
use hashbrown::{HashMap, HashSet};
use unstale_connect::PendingEntry;
use unstale_events::{Entry, EntryId, StreamKind};
use unstale_source::{Group, Reader};

use crate::chores::{self, Chore, Whose};

/// From this delivery count on an entry is suspected to kill the process, and travels alone.
pub(crate) const SUSPECT: u64 = 3;
/// The most entries that one read asks for. How large they are is known only once they are here, so it is also what memory must bear if
/// large ones follow small ones.
const MOST: usize = 256;
/// What the first read asks for, and the first after silence; each later one asks for at most twice what the last brought.
const FIRST: usize = 16;
/// About how many bytes one read may bring.
const READ_BYTES: usize = 4 * 1024 * 1024;
/// What holding an entry costs beside its batch, in bytes.
const HELD_BYTES: usize = 64;
/// The pauses between two looks at one's own pending entries while deliveries fail.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(5)];

/// Whether this process's own pending entries must be looked at before new ones are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// Nothing is known to be pending that isn't held.
    None,
    /// Something may be, from this moment on.
    Wanted(Instant),
    /// The look is under way.
    Looking,
}

/// A pending entry, and how often it was delivered.
pub(crate) type Found = (EntryId, u64);

/// The state of one stream.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) reader: Reader,
    /// Whether this process has found the stream there.
    pub(crate) seen: bool,
    /// Every entry between read and acknowledged, with how often it has been delivered, this time included.
    held: HashMap<EntryId, u64, RandomState>,
    /// Done, and to be acknowledged with the next XACK.
    pub(crate) owed: Vec<EntryId>,
    pub(crate) acking: bool,
    /// When the next XACK may be sent, after one failed.
    pub(crate) ack_at: Instant,
    pub(crate) recovery: Recovery,
    /// Whether a look for the entries of others is under way.
    pub(crate) sweeping: bool,
    /// The suspect that travels alone, if one does.
    pub(crate) suspect: Option<EntryId>,
    /// Suspects that wait for it.
    waiting: BTreeMap<EntryId, (u64, Whose)>,
    /// Claims under way: what they bring is this process's, and not held yet.
    pub(crate) claims: usize,
    /// Entries whose count of deliveries could not be set back, by what it should be.
    unreleased: Vec<(u64, Vec<EntryId>)>,
    /// Orders to set it back that are under way.
    releases: usize,
    /// Entries that were given up and are this process's still, though it doesn't hold them.
    left: HashSet<EntryId, RandomState>,
    /// When the next read may be sent, after one failed.
    pub(crate) resting_until: Option<Instant>,
    average_bytes: usize,
    most: usize,
    pause: Duration,
}

impl Stream {
    pub(crate) fn new(reader: Reader, now: Instant) -> Self {
        Self {
            reader,
            seen: false,
            held: HashMap::default(),
            owed: Vec::new(),
            acking: false,
            ack_at: now,
            // A consumer of this name is new, so nothing can be pending; but looking costs one command and proves it.
            recovery: Recovery::Wanted(now),
            sweeping: false,
            suspect: None,
            waiting: BTreeMap::new(),
            claims: 0,
            unreleased: Vec::new(),
            releases: 0,
            left: HashSet::default(),
            resting_until: None,
            average_bytes: 0,
            most: FIRST,
            pause: PAUSES[0],
        }
    }

    pub(crate) fn kind(&self) -> StreamKind {
        self.reader.group().kind()
    }

    pub(crate) fn group(&self) -> &Group {
        self.reader.group()
    }

    /// How many entries the next read asks for: many, but not more than about [`READ_BYTES`].
    pub(crate) fn count(&self) -> usize {
        (READ_BYTES / self.average_bytes.max(1)).clamp(1, self.most)
    }

    /// Takes note of how large entries are. Large ones count at once, small ones bit by bit.
    pub(crate) fn weigh(&mut self, bytes: usize, entries: usize) {
        self.most = (entries * 2).clamp(FIRST, MOST);
        if let Some(average) = bytes.checked_div(entries) {
            self.average_bytes = average.max((self.average_bytes * 3 + average) / 4);
        }
    }

    /// Begins to hold an entry. `false` if it is held already.
    pub(crate) fn hold(&mut self, id: EntryId, deliveries: u64) -> bool {
        match self.held.entry(id) {
            Slot::Occupied(_) => false,
            Slot::Vacant(slot) => {
                slot.insert(deliveries);
                self.left.remove(&id);
                true
            }
        }
    }

    pub(crate) fn holds(&self, id: EntryId) -> bool {
        self.held.contains_key(&id)
    }

    /// Lets go of an entry; returns how often it had been delivered.
    pub(crate) fn let_go(&mut self, id: EntryId) -> u64 {
        if self.suspect == Some(id) {
            self.suspect = None;
        }
        self.held.remove(&id).unwrap_or(1)
    }

    /// Gives an entry up: it stays pending, to be tried again. Returns how often it had been delivered.
    pub(crate) fn give_up(&mut self, id: EntryId, now: Instant) -> u64 {
        self.left.insert(id);
        self.recover_later(now);
        self.let_go(id)
    }

    /// How often a held entry has been delivered.
    pub(crate) fn deliveries(&self, id: EntryId) -> u64 {
        self.held.get(&id).copied().unwrap_or(1)
    }

    pub(crate) fn held(&self) -> usize {
        self.held.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held.len() * HELD_BYTES
    }

    /// When something that waits here is to be started, if anything does.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        let recovery = match self.recovery {
            Recovery::Wanted(at) if self.releases == 0 => Some(at),
            _ => None,
        };
        let later = |at: Instant| Some(at).filter(|at| *at > now);
        [recovery, later(self.ack_at), self.resting_until.and_then(later)].into_iter().flatten().min()
    }

    /// A look at one's own pending entries is due at once.
    pub(crate) fn recover(&mut self, now: Instant) {
        if self.recovery != Recovery::Looking {
            self.recovery = Recovery::Wanted(now);
        }
    }

    /// Entries were given up: they are looked for again after a pause, longer each time.
    pub(crate) fn recover_later(&mut self, now: Instant) {
        if self.recovery == Recovery::None {
            self.recovery = Recovery::Wanted(now + self.pause);
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }

    /// Deliveries succeed (again): what waits for its next try need not wait longer.
    pub(crate) fn delivering(&mut self, now: Instant) {
        if let Recovery::Wanted(at) = self.recovery
            && at > now
        {
            self.recovery = Recovery::Wanted(now);
        }
        self.pause = PAUSES[0];
    }

    /// Redis is there (again): what was given up meanwhile, or read by a read whose answer was lost, is looked for at once.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        self.recover(now);
        self.pause = PAUSES[0];
    }

    /// A read failed: what it may have brought is pending, and the next waits a little.
    pub(crate) fn read_failed(&mut self, now: Instant) {
        self.recover(now);
        self.resting_until = Some(now + PAUSES[0]);
    }

    /// A claim has ended. The suspect among these, if it didn't come, makes way for the next.
    pub(crate) fn claim_ended(&mut self, asked: &[Found], came: &[Entry]) {
        self.claims -= 1;
        let asked = asked.iter().any(|(id, _)| self.suspect == Some(*id));
        if asked && !came.iter().any(|entry| self.suspect == Some(entry.id)) {
            self.suspect = None;
        }
    }

    /// Begins to set back how often entries count as delivered.
    pub(crate) fn release(&mut self, ids: Vec<EntryId>, deliveries: u64) -> Chore {
        self.releases += 1;
        chores::release(self.group(), ids, deliveries)
    }

    /// That has ended; what failed is tried again before the entries are claimed, or they would count as delivered too often.
    pub(crate) fn release_ended(&mut self, failed: Option<(u64, Vec<EntryId>)>, now: Instant) {
        self.releases -= 1;
        if let Some(failed) = failed {
            self.unreleased.push(failed);
            if self.recovery != Recovery::Looking {
                self.recovery = Recovery::Wanted(now + self.pause);
            }
        }
    }

    /// What a look at one's own pending entries that is due begins with: setting counts back if that failed before, else the look itself.
    pub(crate) fn look(&mut self, now: Instant) -> Vec<Chore> {
        if !self.left.is_empty() {
            self.recover_later(now);
        }
        if self.releases > 0 || !matches!(self.recovery, Recovery::Wanted(at) if at <= now) {
            return Vec::new();
        }
        if self.unreleased.is_empty() {
            self.recovery = Recovery::Looking;
            return vec![chores::list_own(self.group())];
        }
        std::mem::take(&mut self.unreleased).into_iter().map(|(deliveries, ids)| self.release(ids, deliveries)).collect()
    }

    /// A look at pending entries has ended.
    pub(crate) fn looked(&mut self, whose: Whose) {
        match whose {
            Whose::Own => self.recovery = Recovery::None,
            Whose::Others => self.sweeping = false,
        }
    }

    /// An XACK failed: it is sent again after a pause.
    pub(crate) fn ack_failed(&mut self, left: Vec<EntryId>, now: Instant) {
        self.owed.extend(left);
        self.ack_at = now + PAUSES[0];
    }

    /// Of listed pending entries, those to claim now: all that nobody suspects. Suspects wait for their turn.
    pub(crate) fn choose(&mut self, listed: Vec<PendingEntry>, whose: Whose) -> Vec<Found> {
        if whose == Whose::Own {
            let listed: HashSet<EntryId, RandomState> = listed.iter().map(|entry| entry.id).collect();
            self.left.retain(|id| listed.contains(id));
        }
        let free = listed.into_iter().filter(|entry| !self.holds(entry.id)).map(|entry| (entry.id, entry.deliveries));
        let (suspects, plain): (Vec<_>, Vec<_>) = free.partition(|(_, deliveries)| *deliveries >= SUSPECT);
        let others = suspects.into_iter().filter(|(id, _)| self.suspect != Some(*id));
        self.waiting.extend(others.map(|(id, deliveries)| (id, (deliveries, whose))).collect::<Vec<_>>());
        plain
    }

    /// The suspect whose turn it is, if none is under way.
    pub(crate) fn next_suspect(&mut self) -> Option<(Found, Whose)> {
        if self.suspect.is_some() {
            return None;
        }
        let (id, (deliveries, whose)) = self.waiting.pop_first()?;
        self.suspect = Some(id);
        Some(((id, deliveries), whose))
    }

    /// Claims what was found.
    pub(crate) fn claim(&mut self, found: Vec<Found>, whose: Whose) -> Chore {
        self.claims += 1;
        chores::claim(self.group(), found, whose)
    }

    /// How many entries are this process's to finish: held, or given up.
    pub(crate) fn unfinished(&self) -> usize {
        self.held.len() + self.left.len()
    }

    /// Whether nothing is left to finish, nor can anything come.
    pub(crate) fn is_finished(&self) -> bool {
        self.unfinished() == 0 && self.claims == 0 && !self.reader.is_reading()
    }

    /// No work is begun any more that another instance can do.
    pub(crate) fn leave_to_others(&mut self) {
        self.waiting.retain(|_, (_, whose)| *whose == Whose::Own);
    }
}
