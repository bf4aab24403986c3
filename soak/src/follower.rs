//! Reads the log of notices from its beginning to its end: every number must follow the one before, and every confirmed event must be named.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::client::{Client, Failure};
use crate::notice::{Dropped, NOTICES, Notice, PAGE, Position};
use crate::world::{World, count};

const PAUSE: Duration = Duration::from_millis(25);

/// How far it has read.
#[derive(Debug, Default)]
pub struct Progress {
    seq: AtomicU64,
}

impl Progress {
    /// The number of the last notice that was read.
    pub fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }
}

/// Reads until the run is over.
pub fn run(world: &Arc<World>, progress: &Arc<Progress>) {
    let mut follower = Follower { world: Arc::clone(world), client: world.client(), at: Position::default(), newest: (0, 0), epoch: 0 };
    while !world.is_over() {
        // Redis is away now and then; what it holds is read when it is back.
        let _ = follower.read_on();
        progress.seq.store(follower.at.seq, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
}

struct Follower {
    world: Arc<World>,
    client: Client,
    at: Position,
    /// The highest id that was ever there.
    newest: (u64, u64),
    epoch: u64,
}

impl Follower {
    fn read_on(&mut self) -> Result<(), Failure> {
        let epoch = self.world.route.epoch();
        if epoch != self.epoch {
            self.client.forget();
            self.epoch = epoch;
        }
        loop {
            let known = usize::from(self.at.seq > 0);
            let from = if known == 1 { self.at.id.as_str() } else { "-" };
            let page = self.client.cmd(NOTICES, &["XRANGE", NOTICES, from, "+", "COUNT", &PAGE.to_string()])?;
            let page: Vec<Notice> = page.array().iter().filter_map(|entry| Notice::of_entry(entry, &self.world.oracle.model)).collect();
            if known == 1 && page.first().map(|first| &first.position) != Some(&self.at) {
                self.other_history(page.first().map(|first| &first.position));
                continue;
            }
            for notice in &page[known.min(page.len())..] {
                self.follow(notice);
            }
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }

    fn follow(&mut self, notice: &Notice) {
        let Position { id, seq } = &notice.position;
        if self.at.seq > 0 && !notice.follows(&self.at) {
            self.world.oracle.broken(format!("notice {seq} ({id}) comes after notice {} ({})", self.at.seq, self.at.id));
        }
        // After a loss the log is read again from its beginning.
        let is_new = notice.position.key() > self.newest;
        if is_new {
            self.newest = notice.position.key();
            count(&self.world.counts.notices);
        }
        let announced = |row| self.world.oracle.announced(row, *seq, id, &notice.origin, &notice.events);
        match &notice.drop {
            Dropped::Rows(rows) => rows.iter().copied().for_each(announced),
            Dropped::Everything => {
                if is_new {
                    count(&self.world.counts.flushes);
                }
                if is_new && !self.world.calendar.may_have_lost() {
                    self.world
                        .oracle
                        .broken(format!("notice {seq} ({id}, from {}) asks to drop everything without a cause", notice.origin));
                }
                (0..self.world.oracle.model.rows()).for_each(announced);
            }
        }
        self.at = notice.position.clone();
    }

    /// The servers lost what they had not replicated: the log is read again from its beginning.
    fn other_history(&mut self, found: Option<&Position>) {
        count(&self.world.counts.histories);
        if !self.world.calendar.may_have_lost() {
            self.world.oracle.broken(format!("the log lost notice {} ({}): there is {found:?}", self.at.seq, self.at.id));
        }
        self.at = Position::default();
    }
}
