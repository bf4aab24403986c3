//! Carrying out what is on another server or database than the log: deleted there, counted there, and only then announced.
//!
//! What was deleted is remembered for as long as the delivery lasts, so that a log that can't be written to has nothing deleted twice. It
//! ends with the delivery: a redelivery deletes again, and counts again.

use bytes::Bytes;
use futures_util::future::join_all;
use unstale_batcher::TargetState;
use unstale_connect::Unlinked;
use unstale_events::{CacheId, Targets};

use crate::attempt::{Job, concerns_keys};
use crate::delivery::{Delivery, Stage};
use crate::plan::{Part, by_cache, halves, parts};
use crate::retry::Patience;
use crate::sink::Sink;

/// What is left to be done on one site, as positions in a batch's targets.
#[derive(Debug, Default)]
pub(crate) struct Todo {
    /// Keys to delete.
    pub(crate) undeleted: Part,
    /// Counters to increment, after all keys.
    pub(crate) uncounted: Part,
    /// Keys and patterns of which nothing is left, to be announced.
    pub(crate) unannounced: Part,
}

impl Sink {
    /// Deletes, counts and announces, again and again until all is done or the time is up. What could not be done in time stays
    /// [`TargetState::Failed`].
    pub(crate) async fn carry_out_apart(&self, job: &Job<'_>, site: usize, mut todo: Todo, delivery: &mut Delivery) {
        let mut patience = Patience::until(job.deadline);
        let (there, here) = (self.places.sites()[site].deletes(job.batch.priority), self.clients.scripts.of(job.batch.priority));
        let links = || [there.link(), here.link()];
        let failovers = self.places.sites()[site].deletes(job.batch.priority).failovers();
        let keys = todo.undeleted.clone();
        loop {
            let before = *failovers.borrow();
            let waits = self.delete(job, site, &mut todo, delivery).await;
            if !waits {
                self.increment(job, site, &mut todo, delivery).await;
            }
            self.announce(job, &mut todo, delivery).await;
            if *failovers.borrow() != before {
                // What the server before confirmed may be missing in this one, and the notice came too late for what repeats those.
                todo.undeleted.clone_from(&keys);
                todo.unannounced.retain(|target| !keys.contains(target));
                for key in &keys {
                    delivery.set(*key, TargetState::Failed);
                }
            }
            if todo.is_done() || !patience.wait(links()).await {
                return;
            }
            delivery.retries += 1;
        }
    }

    /// Tries all deletes once. Returns whether some are left that may succeed soon, for which counters wait; for a key that the server
    /// forbids they don't.
    async fn delete(&self, job: &Job<'_>, site: usize, todo: &mut Todo, delivery: &mut Delivery) -> bool {
        let mut waits = false;
        let mut at_once = by_caches(std::mem::take(&mut todo.undeleted), &job.batch.targets);
        while !at_once.is_empty() {
            let answers = join_all(at_once.iter().map(|(_, part)| self.unlink(job, site, part))).await;
            delivery.round_trips += 1;
            let asked = std::mem::take(&mut at_once);
            let groups = asked.into_iter().zip(answers).flat_map(|((cache, part), answers)| {
                answers.into_iter().map(move |answer| {
                    let group: Part = answer.keys.into_iter().map(|key| part[key]).collect();
                    (cache, group, answer.outcome)
                })
            });
            for (cache, part, outcome) in groups {
                match outcome.map_err(|fault| (concerns_keys(&fault), fault)) {
                    Ok(keys) => {
                        delivery.count_deleted(cache, keys);
                        todo.unannounced.extend(part);
                    }
                    Err((is_forbidden, fault)) => {
                        delivery.trouble(Stage::Delete, fault);
                        match if is_forbidden { halves(part) } else { Err(part) } {
                            Ok(halves) => at_once.extend(halves.map(|half| (cache, half))),
                            Err(part) => todo.undeleted.extend(part),
                        }
                        waits |= !is_forbidden;
                    }
                }
            }
        }
        waits
    }

    async fn unlink(&self, job: &Job<'_>, site: usize, part: &[usize]) -> Vec<Unlinked> {
        self.places.sites()[site].deletes(job.batch.priority).unlink(texts(part, &job.batch.targets)).await
    }

    async fn increment(&self, job: &Job<'_>, site: usize, todo: &mut Todo, delivery: &mut Delivery) {
        if todo.uncounted.is_empty() {
            return;
        }
        let counters = std::mem::take(&mut todo.uncounted);
        let answers = self.places.sites()[site].deletes(job.batch.priority).incr(&texts(&counters, &job.batch.targets)).await;
        delivery.round_trips += 1;
        for (counter, answer) in counters.into_iter().zip(answers) {
            match answer {
                Ok(_) => delivery.set(counter, TargetState::Done),
                Err(fault) => todo.uncounted.extend(self.not_counted(job, counter, fault, delivery)),
            }
        }
    }

    async fn announce(&self, job: &Job<'_>, todo: &mut Todo, delivery: &mut Delivery) {
        if todo.unannounced.is_empty() {
            return;
        }
        by_cache(&mut todo.unannounced, &job.batch.targets);
        let parts = parts(&std::mem::take(&mut todo.unannounced), &[], self.config.max_keys);
        let answers = join_all(parts.iter().map(|part| self.send(job, part))).await;
        delivery.round_trips += 1;
        for (part, answer) in parts.into_iter().zip(answers) {
            match answer {
                Ok((deleting, answer)) => drop(self.confirm(job, &part, &deleting, answer, delivery)),
                Err(fault) => {
                    delivery.trouble(Stage::Announce, fault);
                    todo.unannounced.extend(part);
                }
            }
        }
    }
}

impl Todo {
    fn is_done(&self) -> bool {
        self.undeleted.is_empty() && self.uncounted.is_empty() && self.unannounced.is_empty()
    }
}

/// The keys of each cache, so that they can be counted for it.
fn by_caches(mut keys: Part, targets: &Targets) -> Vec<(CacheId, Part)> {
    by_cache(&mut keys, targets);
    let cache = |position: &usize| targets.get(*position).map(|target| target.cache);
    keys.chunk_by(|one, next| cache(one) == cache(next)).filter_map(|group| Some((cache(&group[0])?, group.to_vec()))).collect()
}

/// Copies of these targets' texts, cut out of one buffer.
fn texts(part: &[usize], targets: &Targets) -> Vec<Bytes> {
    let all = || part.iter().filter_map(|position| targets.get(*position)).map(|target| target.text.as_bytes());
    let buffer = Bytes::from(all().flatten().copied().collect::<Vec<u8>>());
    let mut end = 0;
    let next = |text: &[u8]| {
        let start = end;
        end += text.len();
        buffer.slice(start..end)
    };
    all().map(next).collect()
}
