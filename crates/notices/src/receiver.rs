//! One receiver: what he is told first, and what comes then, for as long as he keeps up.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout;
use unstale_connect::Fault;
use unstale_events::Position;

use crate::course::{Course, IDLE};
use crate::follower::{Follower, News};
use crate::hub::{Head, Hub, Place};
use crate::log::Log;
use crate::told::{Filter, Kind, Told};

/// The longest silence while the log is being read.
const BEAT: Duration = Duration::from_secs(5);
/// How many bytes are handed out at a time.
const CHUNK: usize = 64 * 1024;
/// How long a new receiver waits for a log that isn't being read just now.
const PATIENCE: Duration = Duration::from_secs(1);
/// The pause after a fault while he reads the log by himself.
const PAUSE: Duration = Duration::from_millis(100);
/// How often a position is looked up again if the connection ends meanwhile.
const LOOKS: usize = 3;

/// What a receiver is told first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// Whether what follows continues what he has. If not, he drops everything.
    pub resumed: bool,
    /// From where it goes on.
    pub at: Position,
}

/// What a receiver is told then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The position that he has with it.
    pub at: Position,
    /// What it is; `None` if he misses nothing: a heartbeat.
    pub kind: Option<Kind>,
    /// The notice, on one line.
    pub json: Bytes,
}

/// Why somebody can't listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unheard {
    /// There are as many receivers as there may be.
    Full,
    /// The log isn't being read, so nobody could say whether anything was missed.
    Blind(String),
}

impl fmt::Display for Unheard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("there are as many receivers as there may be"),
            Self::Blind(why) => write!(f, "the notice log can't be read: {why}"),
        }
    }
}

impl std::error::Error for Unheard {}

/// A receiver of a hub; dropped, it is none any more.
#[derive(Debug)]
pub struct Receiver {
    seat: Seat,
    filter: Filter,
    head: watch::Receiver<Head>,
    way: Way,
    spoke: Instant,
}

/// A place among the receivers, given back when it is dropped.
#[derive(Debug)]
struct Seat {
    hub: Arc<Hub>,
    number: u64,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub.leave(self.number);
    }
}

/// Where his notices come from.
#[derive(Debug)]
enum Way {
    /// From the log itself, until he has caught up with what the hub has.
    Log(Box<Follower>),
    /// From the hub; this is the next.
    Ring(u64),
}

impl Receiver {
    /// Begins to listen. `last` is the position that a receiver says he has; what is no position was none. `log` must not block.
    ///
    /// # Errors
    /// If he can't be heard; he shouldn't trust what he has.
    pub async fn open(hub: Arc<Hub>, log: Log, last: Option<&str>, filter: Filter) -> Result<(Hello, Self), Unheard> {
        let mut head = hub.head();
        let sure = timeout(PATIENCE, head.wait_for(Hub::is_sure)).await.is_ok();
        if !sure {
            return Err(Unheard::Blind("it isn't being read".to_owned()));
        }
        let wish: Option<Position> = last.and_then(|last| last.parse().ok());
        let number = hub.enter(wish).ok_or(Unheard::Full)?;
        let seat = Seat { hub, number };
        let resumed = match wish {
            Some(at) => resume(&seat.hub, log, at).await.map_err(|fault| Unheard::Blind(fault.to_string()))?.map(|way| (at, way)),
            None => None,
        };
        let is_lost = last.is_some() && resumed.is_none();
        seat.hub.count(0, usize::from(is_lost));
        let (hello, way) = if let Some((at, way)) = resumed {
            (Hello { resumed: true, at }, way)
        } else {
            let (index, at) = seat.hub.end();
            (Hello { resumed: false, at }, Way::Ring(index))
        };
        Ok((hello, Self { seat, filter, head, way, spoke: Instant::now() }))
    }

    /// What comes next, one frame at least. When it is asked for, what came before counts as written. `None` at the end: the hub is closed,
    /// or he was too slow.
    pub async fn next(&mut self) -> Option<Vec<Frame>> {
        loop {
            self.seat.hub.has(self.seat.number, self.place());
            if self.head.borrow_and_update().closed {
                return None;
            }
            let frames = match self.way {
                Way::Log(_) => self.read_log().await,
                Way::Ring(index) => self.read_ring(index).await?,
            };
            if !frames.is_empty() {
                self.spoke = Instant::now();
                return Some(frames);
            }
        }
    }

    fn place(&self) -> Place {
        match &self.way {
            Way::Log(follower) => Place::Log(follower.at()),
            Way::Ring(index) => Place::Ring(*index),
        }
    }

    /// The next page of the log; nothing if the hub has what follows, or there is nothing yet.
    async fn read_log(&mut self) -> Vec<Frame> {
        let Way::Log(follower) = &mut self.way else { return Vec::new() };
        if let Some(index) = self.seat.hub.after(follower.at()) {
            self.way = Way::Ring(index);
            return Vec::new();
        }
        match follower.next().await {
            Ok(News::Told(told)) if !told.is_empty() => {
                self.seat.hub.count(0, told.iter().filter(|told| told.is_gap).count());
                self.frames(told.iter())
            }
            // At the log's end, and the hub isn't there yet.
            Ok(News::Told(_)) => {
                let _ = timeout(IDLE, self.head.changed()).await;
                Vec::new()
            }
            Ok(News::Began(_) | News::Intact) => Vec::new(),
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                Vec::new()
            }
        }
    }

    /// The next notices of the hub, or a heartbeat; nothing if it is to be looked again.
    async fn read_ring(&mut self, index: u64) -> Option<Vec<Frame>> {
        let Some((told, before)) = self.seat.hub.since(index, CHUNK) else {
            tracing::info!("a receiver of notices was too slow and is cut off; it can resume");
            return None;
        };
        if told.is_empty() {
            return Some(self.wait(index, before).await);
        }
        self.way = Way::Ring(index + told.len() as u64);
        Some(self.frames(told.iter().map(AsRef::as_ref)))
    }

    /// Waits for the hub. He has everything that there is, so the log's word that this is all is worth a heartbeat from time to time.
    async fn wait(&mut self, index: u64, at: Position) -> Vec<Frame> {
        let due = self.spoke + BEAT.saturating_sub(IDLE); // The log's next word may be one silence away.
        if self.head.changed().await.is_ok() && self.head.borrow().sure.is_some_and(|sure| sure >= due) && self.seat.hub.end().0 == index {
            return vec![beat(at)];
        }
        Vec::new()
    }

    fn frames<'t>(&self, told: impl Iterator<Item = &'t Told>) -> Vec<Frame> {
        let (mut frames, mut passed) = (Vec::new(), None);
        for told in told {
            passed = match told.only(&self.filter) {
                Some(json) => {
                    frames.push(Frame { at: told.at, kind: Some(told.kind), json });
                    None
                }
                None => Some(told.at),
            };
        }
        self.seat.hub.count(frames.len(), 0);
        // His position moves on, too, over what he didn't want to hear.
        frames.extend(passed.map(beat));
        frames
    }
}

fn beat(at: Position) -> Frame {
    Frame { at, kind: None, json: Bytes::from_static(b"{}") }
}

/// The way on from a position, if neither the hub nor the log has lost it.
async fn resume(hub: &Hub, log: Log, at: Position) -> Result<Option<Way>, Fault> {
    if let Some(index) = hub.after(at) {
        return Ok(Some(Way::Ring(index)));
    }
    let mut follower = Follower::passing(log, Course::resume(at));
    for _ in 0..LOOKS {
        match follower.next().await? {
            News::Intact => return Ok(Some(Way::Log(Box::new(follower)))),
            News::Told(told) if told.is_empty() => {}
            _ => break,
        }
    }
    Ok(None)
}
