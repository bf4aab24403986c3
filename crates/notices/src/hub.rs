//! What one follower has read lately, and how far each receiver has come: many receivers for one connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use unstale_connect::{Fault, FaultKind};
use unstale_events::Position;

use crate::course::IDLE;
use crate::follower::{Follower, News};
use crate::ring::Ring;
use crate::told::Told;

/// How long the log's word holds that nothing was missed: two silences and a slow answer.
const SURE: Duration = IDLE.saturating_mul(3);
/// How long notices are let gather while they come one upon the other: each read costs Redis, and everyone who reads, as much as many notices do.
const GATHER: Duration = Duration::from_millis(2);
/// After so many reads in a row that waited less than that.
const STREAK: u32 = 8;
/// The pause after a fault before the log is asked again.
const PAUSE: Duration = Duration::from_millis(50);
/// The pause if the server answered, but not with the log.
const LONG_PAUSE: Duration = Duration::from_secs(1);

/// What a hub may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The latest notices that it keeps; a receiver that falls further behind is cut off.
    pub notices: usize,
    /// The same in bytes.
    pub bytes: usize,
    /// `http.subscribers`: how many receivers there may be at once.
    pub receivers: usize,
}

/// What a hub has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Notices handed to receivers.
    pub relayed: u64,
    /// How often a receiver, or the follower for all of them, had to be told to drop everything because nobody could say what was missed.
    pub gaps: u64,
    /// Receivers that are connected.
    pub receivers: u64,
    /// Requests of commands to drop whole caches that came by.
    pub requests: u64,
}

/// The latest notices, and who has come how far with them. Shared by the follower's task, the receivers, and who reports.
#[derive(Debug)]
pub struct Hub {
    bounds: Bounds,
    state: Mutex<State>,
    head: watch::Sender<Head>,
    confirmed: watch::Sender<u64>,
}

/// What receivers wait for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head {
    /// When the log last vouched for what is here.
    pub(crate) sure: Option<Instant>,
    /// Whether there will be no more.
    pub(crate) closed: bool,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    began: bool,
    receivers: BTreeMap<u64, Place>,
    /// Cut off, or not, by their number: what they are is decided here, not by when they notice.
    connected: u64,
    next: u64,
    /// The index after the latest notice that somebody waits for and that not all receivers have.
    awaited: Option<u64>,
    relayed: u64,
    gaps: u64,
    requests: u64,
}

/// How far a receiver has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the log, before what is kept here.
    Log(Position),
    /// He has everything before this index.
    Ring(u64),
}

impl Hub {
    /// Knows nothing so far; [`Hub::follow`] has to be run.
    pub fn new(bounds: Bounds) -> Self {
        let state = State {
            ring: Ring::new(bounds.notices, bounds.bytes),
            began: false,
            receivers: BTreeMap::new(),
            connected: 0,
            next: 0,
            awaited: None,
            relayed: 0,
            gaps: 0,
            requests: 0,
        };
        Self { bounds, state: Mutex::new(state), head: watch::Sender::default(), confirmed: watch::Sender::default() }
    }

    /// Takes in what a follower reads, for ever. Nothing is lost if it is dropped, and run again with the same follower.
    pub async fn follow(&self, follower: &mut Follower) {
        let mut streak = 0;
        loop {
            let asked = Instant::now();
            match follower.next().await {
                Ok(news) => self.take(news),
                Err(fault) => tokio::time::sleep(pause(&fault)).await,
            }
            streak = if asked.elapsed() < GATHER { streak + 1 } else { 0 };
            if streak >= STREAK {
                tokio::time::sleep(GATHER).await;
            }
        }
    }

    fn take(&self, news: News) {
        if let News::Told(told) = &news
            && told.is_empty()
        {
            return; // Silence says nothing: it is the look after it that does.
        }
        {
            let mut state = self.state();
            match news {
                News::Began(at) => state.begin(at),
                News::Told(told) => told.into_iter().for_each(|told| state.push(told)),
                News::Intact => {}
            }
            self.report(&mut state);
        }
        self.head.send_modify(|head| head.sure = Some(Instant::now()));
    }

    /// Ends all receivers' streams, and refuses new ones: the process is about to end.
    pub fn close(&self) {
        self.head.send_modify(|head| head.closed = true);
    }

    /// The last notice that all receivers have, or that was read if there are none; `None` before the log was first read.
    pub fn position(&self) -> Option<Position> {
        let state = self.state();
        state.began.then(|| state.slowest())
    }

    /// Grows each time that all receivers have a notice for which somebody waits.
    pub fn confirmed(&self) -> watch::Receiver<u64> {
        self.confirmed.subscribe()
    }

    /// How many notices have come so far, for [`Hub::heard`].
    pub fn index(&self) -> u64 {
        self.state().ring.end()
    }

    /// Waits for a notice with this text in it, of those from an index on, and returns its position. `None` if nobody can say whether there was
    /// one: what is kept begins after the index.
    pub async fn heard(&self, mut from: u64, text: &str) -> Option<Position> {
        let mut head = self.head();
        loop {
            head.borrow_and_update();
            let (told, _) = self.since(from, usize::MAX)?;
            let has = |told: &&Arc<Told>| std::str::from_utf8(&told.json).is_ok_and(|json| json.contains(text));
            if let Some(told) = told.iter().find(has) {
                return Some(told.at);
            }
            from += told.len() as u64;
            head.changed().await.ok()?;
        }
    }

    /// What it has done.
    pub fn counts(&self) -> Counts {
        let state = self.state();
        Counts { relayed: state.relayed, gaps: state.gaps, receivers: state.connected, requests: state.requests }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says so if what somebody waits for has come to all.
    fn report(&self, state: &mut State) {
        if state.awaited.is_some_and(|index| state.all_have(index)) {
            state.awaited = None;
            self.confirmed.send_modify(|count| *count += 1);
        }
    }
}

/// For [`crate::Receiver`].
impl Hub {
    pub(crate) fn head(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// Whether the log is being read.
    pub(crate) fn is_sure(head: &Head) -> bool {
        !head.closed && head.sure.is_some_and(|sure| sure.elapsed() < SURE)
    }

    /// A number for a new receiver; `None` if there are as many as there may be.
    pub(crate) fn enter(&self, at: Option<Position>) -> Option<u64> {
        let mut state = self.state();
        if state.connected >= self.bounds.receivers as u64 {
            return None;
        }
        let place = at.map_or(Place::Ring(state.ring.end()), Place::Log);
        let number = state.next;
        state.next += 1;
        state.connected += 1;
        state.receivers.insert(number, place);
        Some(number)
    }

    pub(crate) fn leave(&self, number: u64) {
        let mut state = self.state();
        state.connected -= 1;
        state.receivers.remove(&number);
        self.report(&mut state);
    }

    /// A receiver has everything up to here.
    pub(crate) fn has(&self, number: u64, place: Place) {
        let mut state = self.state();
        // Who was cut off stays so.
        if let Some(known) = state.receivers.get_mut(&number)
            && *known != place
        {
            *known = place;
            self.report(&mut state);
        }
    }

    /// Where to go on after a position, if that is here.
    pub(crate) fn after(&self, at: Position) -> Option<u64> {
        self.state().ring.after(at)
    }

    /// The end of what is here, and the position of the last of it.
    pub(crate) fn end(&self) -> (u64, Position) {
        let state = self.state();
        (state.ring.end(), state.ring.before(state.ring.end()))
    }

    /// The notices from an index on, up to about so many bytes, and the position before them; `None` if they are gone.
    pub(crate) fn since(&self, index: u64, bytes: usize) -> Option<(Vec<Arc<Told>>, Position)> {
        let state = self.state();
        Some((state.ring.since(index, bytes)?, state.ring.before(index)))
    }

    pub(crate) fn count(&self, relayed: usize, gaps: usize) {
        let mut state = self.state();
        state.relayed += relayed as u64;
        state.gaps += gaps as u64;
    }
}

impl State {
    fn begin(&mut self, at: Position) {
        self.began = true;
        self.ring.begin(at);
    }

    /// Takes a notice in. Receivers whose next one it pushes out are cut off, and hold nobody up any more.
    fn push(&mut self, told: Told) {
        let (confirm, is_gap) = (told.confirm, told.is_gap);
        if is_gap {
            tracing::warn!(at = %told.at, "history of the notice log was lost or trimmed; all receivers are told to drop everything");
            self.gaps += 1;
        }
        self.requests += u64::from(told.is_request);
        self.ring.push(told);
        if confirm {
            self.awaited = Some(self.ring.end());
        }
        let first = self.ring.first();
        self.receivers.retain(|_, place| !matches!(place, Place::Ring(index) if *index < first));
    }

    fn all_have(&self, index: u64) -> bool {
        let at = self.ring.before(index);
        self.receivers.values().all(|place| match place {
            Place::Ring(next) => *next >= index,
            Place::Log(position) => *position >= at,
        })
    }

    fn slowest(&self) -> Position {
        let position = |place: &Place| match place {
            Place::Ring(index) => self.ring.before(*index),
            Place::Log(position) => *position,
        };
        self.receivers.values().map(position).min().unwrap_or_else(|| self.ring.before(self.ring.end()))
    }
}

/// A connection that ended comes back soon; a server that refuses will refuse again.
fn pause(fault: &Fault) -> Duration {
    if matches!(fault.kind, FaultKind::Unreachable | FaultKind::Timeout) {
        return PAUSE;
    }
    tracing::warn!(%fault, "the notice log can't be read; receivers hear nothing until it can");
    LONG_PAUSE
}

#[cfg(test)]
mod tests {
    use unstale_events::EntryId;

    use super::*;

    fn at(seq: u64) -> Position {
        Position { id: EntryId { ms: seq, seq: 0 }, seq }
    }

    fn hub(told: std::ops::RangeInclusive<u64>) -> Hub {
        let hub = Hub::new(Bounds { notices: 4, bytes: usize::MAX, receivers: 2 });
        hub.take(News::Began(at(told.start() - 1)));
        told.for_each(|seq| tell(&hub, seq, false));
        hub
    }

    fn tell(hub: &Hub, seq: u64, confirm: bool) {
        hub.take(News::Told(vec![Told { confirm, is_gap: false, ..Told::gap(at(seq)) }]));
    }

    #[test]
    fn its_position_is_that_of_the_slowest_receiver() {
        let hub = hub(5..=6);
        assert_eq!(hub.position(), Some(at(6)));
        let (one, other) = (hub.enter(None).unwrap(), hub.enter(None).unwrap());
        tell(&hub, 7, false);
        assert_eq!(hub.position(), Some(at(6)));
        hub.has(one, Place::Ring(3));
        assert_eq!(hub.position(), Some(at(6)));
        hub.leave(other);
        assert_eq!((hub.position(), hub.counts().receivers), (Some(at(7)), 1));
        let resumed = hub.enter(Some(at(2))).unwrap();
        assert_eq!(hub.position(), Some(at(2)));
        hub.has(resumed, Place::Ring(3));
        assert_eq!(hub.position(), Some(at(7)));
    }

    #[test]
    fn nothing_is_known_before_the_log_was_read() {
        let hub = Hub::new(Bounds { notices: 4, bytes: usize::MAX, receivers: 1 });
        assert_eq!(hub.position(), None);
        assert!(!Hub::is_sure(&hub.head().borrow()));
        hub.take(News::Told(Vec::new()));
        assert!(!Hub::is_sure(&hub.head().borrow()), "silence says nothing");
        hub.take(News::Began(Position::START));
        assert!(Hub::is_sure(&hub.head().borrow()));
        assert_eq!(hub.position(), Some(Position::START));
    }

    #[test]
    fn who_falls_behind_what_is_kept_is_cut_off_and_holds_nobody_up() {
        let hub = hub(5..=6);
        let slow = hub.enter(None).unwrap();
        (7..=10).for_each(|seq| tell(&hub, seq, false));
        assert_eq!(hub.position(), Some(at(6)));
        tell(&hub, 11, false);
        assert_eq!(hub.position(), Some(at(11)));
        assert!(hub.since(2, 1000).is_none());
        hub.has(slow, Place::Ring(2));
        assert_eq!((hub.position(), hub.counts().receivers), (Some(at(11)), 1));
        hub.leave(slow);
        assert_eq!(hub.counts().receivers, 0);
    }

    #[tokio::test]
    async fn a_notice_is_waited_for_by_what_is_in_it() {
        let hub = hub(1..=2);
        let from = hub.index();
        let (heard, ()) = tokio::join!(hub.heard(from, "\"seq\":4,"), async {
            tell(&hub, 3, false);
            tokio::task::yield_now().await;
            tell(&hub, 4, false);
        });
        assert_eq!(heard, Some(at(4)));
        (5..=9).for_each(|seq| tell(&hub, seq, false));
        assert_eq!(hub.heard(from, "\"seq\":4,").await, None, "it is not kept any more");
    }

    #[test]
    fn a_notice_that_somebody_waits_for_is_confirmed_when_all_have_it() {
        let hub = hub(5..=6);
        let confirmed = hub.confirmed();
        tell(&hub, 7, true);
        assert_eq!(*confirmed.borrow(), 1, "nobody is connected");
        let (one, other) = (hub.enter(None).unwrap(), hub.enter(Some(at(6))).unwrap());
        tell(&hub, 8, true);
        tell(&hub, 9, false);
        hub.has(one, Place::Ring(4));
        hub.has(other, Place::Log(at(7)));
        assert_eq!(*confirmed.borrow(), 1);
        hub.has(other, Place::Log(at(8)));
        assert_eq!(*confirmed.borrow(), 2);
        tell(&hub, 10, true);
        hub.has(one, Place::Ring(6));
        hub.leave(other);
        assert_eq!(*confirmed.borrow(), 3, "who is gone has no copy");
    }

    #[test]
    fn there_may_be_so_many_receivers() {
        let hub = hub(5..=6);
        let one = hub.enter(None).unwrap();
        assert!(hub.enter(None).is_some() && hub.enter(None).is_none());
        hub.leave(one);
        assert!(hub.enter(None).is_some());
    }
}
