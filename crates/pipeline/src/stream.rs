//! One stream as the loop sees it: the reader, the entries that this process holds, and what is owed to their group.

use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use hashbrown::hash_map::Entry as Slot;
use unstale_connect::PendingEntry;
use unstale_events::{EntryId, StreamKind};
use unstale_source::{Group, Reader};

use crate::chores::Whose;

/// From this delivery count on an entry is suspected to kill the process, and travels alone.
pub(crate) const SUSPECT: u64 = 3;
/// The most entries that one read asks for.
const MOST: usize = 1000;
/// The fewest.
const FEWEST: usize = 16;
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
    /// When the next read may be sent, after one failed.
    pub(crate) resting_until: Option<Instant>,
    average_bytes: usize,
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
            resting_until: None,
            average_bytes: READ_BYTES / MOST,
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
        (READ_BYTES / self.average_bytes.max(1)).clamp(FEWEST, MOST)
    }

    /// Takes note of how large entries are. Large ones count at once, small ones bit by bit.
    pub(crate) fn weigh(&mut self, bytes: usize, entries: usize) {
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
            Recovery::Wanted(at) => Some(at),
            Recovery::None | Recovery::Looking => None,
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

    /// A read failed: what it may have brought is pending, and the next waits a little.
    pub(crate) fn read_failed(&mut self, now: Instant) {
        self.recover(now);
        self.resting_until = Some(now + PAUSES[0]);
    }

    /// A claim failed: the suspect among these, if one was, may be chosen again.
    pub(crate) fn forget_suspect(&mut self, claimed: &[(EntryId, u64)]) {
        if claimed.iter().any(|(id, _)| self.suspect == Some(*id)) {
            self.suspect = None;
        }
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

    /// Of listed pending entries, those to claim now: all that nobody suspects, and one suspect if none is under way. What stays behind
    /// is looked at again.
    pub(crate) fn choose(&mut self, listed: Vec<PendingEntry>, now: Instant) -> (Vec<Found>, Option<Found>) {
        let free = listed.into_iter().filter(|entry| !self.holds(entry.id)).map(|entry| (entry.id, entry.deliveries));
        let (suspects, plain): (Vec<_>, Vec<_>) = free.partition(|(_, deliveries)| *deliveries >= SUSPECT);
        let suspect = if self.suspect.is_none() { suspects.first().copied() } else { None };
        self.suspect = self.suspect.or(suspect.map(|(id, _)| id));
        if suspects.len() > usize::from(suspect.is_some()) {
            self.recover_later(now);
        }
        (plain, suspect)
    }
}
