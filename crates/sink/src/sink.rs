//! The steps of a delivery, in their order.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep_until};
use unstale_batcher::{Batch, TargetState};
use unstale_connect::{Fault, FaultKind};
use unstale_events::{EntryId, Targets};
use unstale_router::Caches;

use crate::attempt::Job;
use crate::config::{Clients, Config};
use crate::delivery::Delivery;
use crate::notice;
use crate::plan::{Part, Plan, parts};
use crate::retention::Retention;
use crate::scan::Scans;

/// The most keys that a script is given: Lua can't unpack many thousands.
const MOST_KEYS: usize = 1000;

/// Delivers batches. Shared by all deliveries; each is one future, and they don't wait for each other.
#[derive(Debug)]
pub struct Sink {
    pub(crate) config: Config,
    pub(crate) caches: Arc<Caches>,
    pub(crate) clients: Clients,
    pub(crate) retention: Retention,
    pub(crate) head: String,
    pub(crate) scans: Scans,
}

impl Sink {
    /// A sink for the caches of a router.
    pub fn new(config: Config, caches: Arc<Caches>, clients: Clients) -> Self {
        let config = Config { max_keys: config.max_keys.clamp(1, MOST_KEYS), ..config };
        let retention = Retention::new(config.retain, config.retain_bytes);
        let (head, scans) = (notice::head(&config.origin), Scans::new(&clients, &caches));
        Self { config, caches, clients, retention, head, scans }
    }

    /// Carries out a batch and says what became of it. Never fails as a whole; ends when everything is done, second deletes included, or
    /// when the budget is spent (see [`crate::Budgets`]). A scan that goes well is never cut short.
    ///
    /// May be dropped at any time: what was done stays done, and the entries are pending still.
    pub async fn deliver(&self, batch: &Batch) -> Delivery {
        let plan = Plan::of(batch);
        let about = notice::about(batch);
        let job = Job { batch, about: &about, deadline: Instant::now() + self.config.budgets.of(batch.priority) };
        let mut delivery = self.blank(batch);

        self.keys(&job, &plan, &mut delivery).await;
        let delayed = self.delayed(batch, &plan.keys, &delivery);
        if !plan.patterns.is_empty() || !delayed.is_empty() {
            // Boxed, for most deliveries end here, and many are held at a time.
            Box::pin(self.further_steps(&job, &plan, delayed, &mut delivery)).await;
        }
        delivery
    }

    /// Asks all receivers to drop whole caches, or everything with the one name `*`: when events were lost, or somebody asks for it. Deletes
    /// nothing. Tried once.
    pub async fn flush(&self, caches: &[&str]) -> Result<EntryId, Fault> {
        let tail = Some(notice::flush(caches));
        let (_, answer) = self.call(&self.clients.critical, &Targets::default(), &[], tail, Vec::new()).await?;
        answer.notice.ok_or_else(|| Fault::new(FaultKind::Protocol, "the script logged no notice"))
    }

    /// Patterns and second deletes, side by side.
    async fn further_steps(&self, job: &Job<'_>, plan: &Plan, delayed: Vec<(Duration, Part)>, delivery: &mut Delivery) {
        let first_effect = delivery.at_ms;
        let (again, ()) = join(self.second_deletes(job, delayed), self.patterns(job, plan, delivery)).await;
        delivery.at_ms = first_effect.or(delivery.at_ms);
        for (part, second) in again {
            repeated(&part, second, delivery);
        }
    }

    fn blank(&self, batch: &Batch) -> Delivery {
        Delivery::new(batch.targets.len(), self.caches.len())
    }

    /// Deletes and announces the keys. Counters come with the last part, which then waits for the others.
    async fn keys(&self, job: &Job<'_>, plan: &Plan, delivery: &mut Delivery) {
        let counters = if plan.patterns.is_empty() { &plan.counters[..] } else { &[] };
        let mut parts = parts(&plan.keys, counters, self.config.max_keys);
        if !counters.is_empty() && parts.len() > 1 {
            let last = parts.split_off(parts.len() - 1);
            self.carry_out(job, parts, delivery).await;
            parts = last;
        }
        self.carry_out(job, parts, delivery).await;
    }

    /// The keys that were deleted and are to be deleted once more, by delay.
    fn delayed(&self, batch: &Batch, keys: &[usize], delivery: &Delivery) -> Vec<(Duration, Part)> {
        let mut delayed: Vec<(Duration, Part)> = Vec::new();
        for position in keys.iter().filter(|position| delivery.is_done(**position)) {
            let delay = batch.targets.get(*position).map_or(Duration::ZERO, |target| self.caches.get(target.cache).second_delete);
            match delayed.iter_mut().find(|(known, _)| *known == delay) {
                _ if delay.is_zero() => {}
                Some((_, part)) => part.push(*position),
                None => delayed.push((delay, vec![*position])),
            }
        }
        delayed
    }

    /// Waits and deletes once more, each delay for itself.
    async fn second_deletes(&self, job: &Job<'_>, delayed: Vec<(Duration, Part)>) -> Vec<(Part, Delivery)> {
        let confirmed = Instant::now();
        join_all(delayed.into_iter().map(|(delay, part)| async move {
            sleep_until(confirmed + delay).await;
            let mut second = self.blank(job.batch);
            let job = Job { deadline: job.deadline + delay, ..*job };
            self.carry_out(&job, parts(&part, &[], self.config.max_keys), &mut second).await;
            (part, second)
        }))
        .await
    }
}

/// Adds a second delete to its delivery: what it could not do is not done, but what it did is not counted again.
fn repeated(part: &[usize], second: Delivery, delivery: &mut Delivery) {
    for position in part.iter().filter(|position| !second.is_done(**position)) {
        delivery.set(*position, TargetState::Failed);
    }
    delivery.add_costs(second);
}
