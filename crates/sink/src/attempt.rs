//! Carrying out parts, again and again until they are done or the time is up.

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;
use unstale_batcher::{Batch, TargetState};
use unstale_connect::{Client, Fault};
use unstale_events::{CacheId, Code, Reason, TargetKind, Targets};

use crate::delivery::{Delivery, Stage};
use crate::notice;
use crate::plan::{Part, halves};
use crate::republish;
use crate::request::{Announcement, Answer, Request};
use crate::retry::Patience;
use crate::sink::Sink;

/// What the steps of a delivery have in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) batch: &'a Batch,
    /// The end of all its notices.
    pub(crate) about: &'a str,
    /// After this nothing is tried again.
    pub(crate) deadline: Instant,
}

/// What is to be tried again, at once and after a pause.
#[derive(Debug, Default)]
struct Again {
    at_once: Vec<Part>,
    later: Vec<Part>,
}

impl Sink {
    /// Deletes, counts and announces these parts. What could not be done in time stays [`TargetState::Failed`].
    pub(crate) async fn carry_out(&self, job: &Job<'_>, parts: Vec<Part>, delivery: &mut Delivery) {
        let mut patience = Patience::until(job.deadline);
        let mut again = Again { at_once: parts, later: Vec::new() };
        while !again.at_once.is_empty() {
            self.round(job, &mut again, delivery).await;
            let link = || self.clients.scripts.of(job.batch.priority).link();
            if again.at_once.is_empty() && !again.later.is_empty() && patience.wait([link()]).await {
                delivery.retries += 1;
                again.at_once = std::mem::take(&mut again.later);
            }
        }
    }

    /// Sends parts together and sorts out the answers.
    async fn round(&self, job: &Job<'_>, again: &mut Again, delivery: &mut Delivery) {
        let parts = std::mem::take(&mut again.at_once);
        let answers = join_all(parts.iter().map(|part| self.send(job, part))).await;
        delivery.round_trips += 1;
        for (part, answer) in parts.into_iter().zip(answers) {
            match answer {
                Ok((deleting, answer)) => again.later.extend(self.confirm(job, &part, &deleting, answer, delivery)),
                Err(fault) => refused(job, part, fault, again, delivery),
            }
        }
    }

    pub(crate) async fn send(&self, job: &Job<'_>, part: &[usize]) -> Result<(Vec<CacheId>, Answer), Fault> {
        let tail = notice::tail(job.batch, part, &self.caches, job.about);
        let republished = republish::messages(&self.config.republish, job.batch, part);
        self.call(self.clients.scripts.of(job.batch.priority), &job.batch.targets, part, tail, republished).await
    }

    /// Calls the script for these targets, with this notice.
    pub(crate) async fn call(
        &self,
        client: &Client,
        targets: &Targets,
        part: &[usize],
        tail: Option<String>,
        republished: Vec<(String, Bytes)>,
    ) -> Result<(Vec<CacheId>, Answer), Fault> {
        let size = tail.as_ref().map(|tail| tail.len() + self.head.len());
        let announcement = Announcement {
            log: &self.config.notices,
            bound: self.retention.bound(),
            measure: self.retention.is_due(),
            channel: self.config.publish.then_some(&*self.config.notices),
            head: &self.head,
            tail,
            republished,
        };
        let (deleting, answer) = Request::new(announcement, targets, part, &self.places).send(client).await?;
        if let Some(size) = size {
            self.retention.wrote(size as u64);
        }
        self.retention.measured(answer.log);
        Ok((deleting, answer))
    }

    /// Notes what a part did. Returns the counters that are to be tried again.
    pub(crate) fn confirm(
        &self,
        job: &Job<'_>,
        part: &[usize],
        deleting: &[CacheId],
        answer: Answer,
        delivery: &mut Delivery,
    ) -> Option<Part> {
        delivery.confirmed(answer.at_ms);
        delivery.announced(answer.notice);
        for (cache, keys) in deleting.iter().zip(answer.deleted) {
            delivery.count_deleted(*cache, keys);
        }
        if let Some(fault) = answer.unheard {
            delivery.trouble(Stage::Publish, fault);
        }
        for position in part {
            delivery.set(*position, TargetState::Done);
        }
        let is_counter = |position: &&usize| job.batch.targets.get(**position).is_some_and(|target| target.kind == TargetKind::Bump);
        let counters = part.iter().filter(is_counter);
        let mut again = Part::new();
        for (position, fault) in counters.zip(answer.counters) {
            let Some(fault) = fault else { continue };
            again.extend(self.not_counted(job, *position, fault, delivery));
        }
        Some(again).filter(|again| !again.is_empty())
    }

    /// Notes why a counter was not incremented. Returns it if trying again can help.
    pub(crate) fn not_counted(&self, job: &Job<'_>, counter: usize, fault: Fault, delivery: &mut Delivery) -> Option<usize> {
        delivery.set(counter, self.counter_state(job, counter, &fault));
        let again = fault.is_transient().then_some(counter);
        delivery.trouble(Stage::Bump, fault);
        again
    }

    fn counter_state(&self, job: &Job<'_>, position: usize, fault: &Fault) -> TargetState {
        match job.batch.targets.get(position) {
            Some(counter) if !fault.is_transient() => {
                let text = format!("counter `{}` of cache `{}`", counter.text, self.caches.get(counter.cache).name);
                let text = format!("{text} can't be incremented: {}; set it to a whole number, then replay this", fault.text);
                TargetState::Permanent(Reason::new(Code::CommandFailed, text))
            }
            _ => TargetState::Failed,
        }
    }
}

/// A part that the server refused to touch is halved, for one forbidden key must not keep the others; all else waits for its next turn.
fn refused(job: &Job<'_>, part: Part, fault: Fault, again: &mut Again, delivery: &mut Delivery) {
    let may_be_one_key = concerns_keys(&fault);
    delivery.trouble(stage(job.batch, &part), fault);
    match if may_be_one_key { halves(part) } else { Err(part) } {
        Ok(halves) => again.at_once.extend(halves),
        Err(part) => again.later.push(part),
    }
}

/// Whether a right is missing on a key, rather than on a command or a channel: then others may be free.
pub(crate) fn concerns_keys(fault: &Fault) -> bool {
    fault.missing_right().is_some_and(|right| right == "keys")
}

fn stage(batch: &Batch, part: &[usize]) -> Stage {
    let only_counters = part.iter().filter_map(|position| batch.targets.get(*position)).all(|target| target.kind == TargetKind::Bump);
    if only_counters { Stage::Bump } else { Stage::Delete }
}
