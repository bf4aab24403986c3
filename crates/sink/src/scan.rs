//! Patterns: passes over the keys, shared by the batches that wait for one.
//!
//! Batches with patterns may come faster than a pass over all keys ends, so there is a queue for each database and lane. While a pass is
//! under way the batches that come wait, and when it has ended one pass serves all of them: at most one runs and one is forming. A pass begins
//! after all of its batches were closed, and nobody joins one that has begun, for it may have gone by keys that were written since.
//!
//! There is no task and no leader by appointment. Whoever waits waits for two things at once, his answer and his turn at an async mutex. The
//! first to get the turn without an answer drives a pass for everybody who has joined by then, and answers them. If he is dropped on the way,
//! so are the answers' senders: the others notice, join anew, and the next of them drives. So no delivery depends on the life of another.
//!
//! If a pass fails, each of its batches decides by its own deadline whether it joins again. They do so at once, and pause before they ask for
//! the turn: whoever is ready first begins one pass for all.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::sync::{Mutex as Turn, MutexGuard};
use tokio::time::{Instant, sleep_until};
use unstale_batcher::TargetState;
use unstale_connect::{Fault, FaultKind, Store};
use unstale_events::{CacheId, Targets};
use unstale_router::Caches;

use crate::apart::Todo;
use crate::attempt::Job;
use crate::delivery::{Delivery, Stage};
use crate::pass::{Pass, Tally, Wishes};
use crate::place::Place;
use crate::plan::{Part, Plan, parts};
use crate::retry::Patience;
use crate::sink::Sink;

impl Sink {
    /// Deletes what the batch's patterns mean, then counts and announces.
    pub(crate) async fn patterns(&self, job: &Job<'_>, plan: &Plan, delivery: &mut Delivery) {
        let is_nowhere = |position: &usize| {
            let target = job.batch.targets.get(*position);
            target.is_some_and(|target| self.places.of(target.cache) == Place::Nowhere)
        };
        let (nowhere, sought): (Part, Part) = plan.patterns.iter().partition(|position| is_nowhere(position));
        let scans = self.places.scans(plan.site, job.batch.priority);
        let failovers = scans.map(|scans| scans.store().failovers());
        let before = failovers.as_ref().map(|number| *number.borrow());
        let gone = self.scan(job, plan.site, &sought, delivery).await;
        let announced: Part =
            plan.patterns.iter().copied().filter(|position| nowhere.contains(position) || gone.contains(position)).collect();
        let Some(site) = plan.site else {
            return self.carry_out(job, parts(&announced, &plan.counters, self.config.max_keys), delivery).await;
        };
        let todo = Todo { unannounced: announced, uncounted: plan.counters.clone(), ..Todo::default() };
        self.carry_out_apart(job, site, todo, delivery).await;
        if failovers.map(|number| *number.borrow()) != before {
            // As with keys: the server that the pass was over is another now. The next delivery scans that.
            for pattern in sought {
                delivery.set(pattern, TargetState::Failed);
            }
        }
    }

    /// Joins passes until one came to its end. Returns the patterns of which nothing is left.
    async fn scan(&self, job: &Job<'_>, site: Option<usize>, patterns: &[usize], delivery: &mut Delivery) -> Part {
        let Some(scans) = self.places.scans(site, job.batch.priority).filter(|_| !patterns.is_empty()) else { return Part::new() };
        let mut patience = Patience::until(job.deadline);
        let mut begin = None;
        loop {
            let answer = scans.pass(&job.batch.targets, patterns, begin).await;
            match answer.tell(delivery) {
                Ok(gone) => return gone,
                Err(fault) => delivery.trouble(Stage::Scan, fault),
            }
            begin = patience.next();
            if begin.is_none() {
                return Part::new();
            }
            delivery.retries += 1;
        }
    }
}

/// The passes of one lane over the keys of one database.
#[derive(Debug)]
pub(crate) struct Queue {
    store: Store,
    caches: Arc<Caches>,
    /// Whoever has it drives a pass.
    turn: Turn<()>,
    forming: Mutex<Forming>,
}

/// A pass that has not begun. The patterns of a batch that is dropped before it begins stay in it: deleting too often is never wrong.
#[derive(Debug, Default)]
struct Forming {
    wishes: Wishes,
    members: Vec<Member>,
}

/// A batch that shares a pass.
#[derive(Debug)]
struct Member {
    /// Its patterns: their positions in the batch, and their places in the pass.
    patterns: Vec<(usize, usize)>,
    answer: oneshot::Sender<Answer>,
}

/// What a pass did for one of its batches.
#[derive(Debug, Default)]
struct Answer {
    /// The patterns of which nothing is left, if there was no fault.
    gone: Part,
    /// Whether some are not among them because they mean a key that may not be deleted.
    is_blocked: bool,
    /// The keys that no earlier pattern of the pass meant too. A failed pass counts what it did.
    deleted: Vec<(CacheId, u64)>,
    /// Of the whole pass; counted for its first batch.
    round_trips: u64,
    fault: Option<Fault>,
}

impl Queue {
    pub(crate) fn new(store: Store, caches: Arc<Caches>) -> Self {
        Self { store, caches, turn: Turn::new(()), forming: Mutex::default() }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// One pass for these patterns, begun after this was called; not before `begin`, unless another batch wants one earlier.
    async fn pass(&self, targets: &Targets, patterns: &[usize], begin: Option<Instant>) -> Answer {
        loop {
            let mut answer = self.join(targets, patterns);
            let answer = tokio::select! {
                biased;
                answer = &mut answer => answer.ok(),
                _turn = self.turn(begin) => match answer.try_recv() {
                    // Nobody has taken this batch along, so it is in the pass that forms.
                    Err(TryRecvError::Empty) => {
                        self.drive().await;
                        answer.try_recv().ok()
                    }
                    served => served.ok(),
                },
            };
            if let Some(answer) = answer {
                return answer;
            }
            // Whoever drove the pass was dropped.
        }
    }

    fn join(&self, targets: &Targets, patterns: &[usize]) -> oneshot::Receiver<Answer> {
        let mut forming = self.forming.lock().unwrap_or_else(PoisonError::into_inner);
        let Forming { wishes, members } = &mut *forming;
        let add = |position: &usize| Some((*position, wishes.add(members.len(), targets.get(*position)?)));
        let patterns = patterns.iter().filter_map(add).collect();
        let (answer, receiver) = oneshot::channel();
        members.push(Member { patterns, answer });
        receiver
    }

    async fn turn(&self, begin: Option<Instant>) -> MutexGuard<'_, ()> {
        if let Some(begin) = begin {
            sleep_until(begin).await;
        }
        self.turn.lock().await
    }

    /// One pass for everybody who has joined; who comes from now on waits for the next.
    async fn drive(&self) {
        let Forming { wishes, members } = std::mem::take(&mut *self.forming.lock().unwrap_or_else(PoisonError::into_inner));
        let mut tally = Tally::default();
        let ended = Pass { store: &self.store, caches: &self.caches, wishes: &wishes }.run(&mut tally).await;
        for (index, Member { patterns, answer }) in members.into_iter().enumerate() {
            // Nobody may wait for the answer any more.
            let _ = answer.send(Answer::of(index, &patterns, &tally, ended.as_ref().err()));
        }
    }
}

impl Answer {
    fn of(member: usize, patterns: &[(usize, usize)], tally: &Tally, fault: Option<&Fault>) -> Self {
        let gone: Part = patterns.iter().filter(|(_, place)| !tally.blocked[*place]).map(|(position, _)| *position).collect();
        let mine = tally.deleted.range((member, CacheId(0))..=(member, CacheId(u16::MAX)));
        Self {
            is_blocked: gone.len() < patterns.len(),
            gone,
            deleted: mine.map(|((_, cache), keys)| (*cache, *keys)).collect(),
            round_trips: if member == 0 { tally.round_trips } else { 0 },
            fault: fault.cloned(),
        }
    }

    /// Adds this to a delivery. Returns the patterns of which nothing is left, or why the pass did not come to its end.
    fn tell(self, delivery: &mut Delivery) -> Result<Part, Fault> {
        delivery.round_trips += self.round_trips;
        self.deleted.into_iter().for_each(|(cache, keys)| delivery.count_deleted(cache, keys));
        if self.is_blocked {
            delivery.trouble(Stage::Scan, Fault::new(FaultKind::Denied, "no permission to delete some of the keys that a pattern means"));
        }
        self.fault.map_or(Ok(self.gone), Err)
    }
}
