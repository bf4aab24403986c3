//! The steps of a delivery, in their order.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until};
use unstale_batcher::{Batch, TargetState};
use unstale_connect::{Fault, FaultKind};
use unstale_events::{Cause, Position, Targets};
use unstale_router::Caches;

use crate::apart::Todo;
use crate::attempt::Job;
use crate::config::{Clients, Config, Elsewhere};
use crate::delivery::{Delivery, Second};
use crate::notice;
use crate::place::Places;
use crate::plan::{Part, Plan, parts};
use crate::retention::Retention;

/// The most keys that a script is given: Lua can't unpack many thousands.
const MOST_KEYS: usize = 1000;

/// Delivers batches. Shared by all deliveries; each is one future, and they don't wait for each other.
#[derive(Debug)]
pub struct Sink {
    pub(crate) config: Config,
    pub(crate) caches: Arc<Caches>,
    pub(crate) clients: Clients,
    pub(crate) places: Places,
    pub(crate) retention: Retention,
    pub(crate) head: String,
}

impl Sink {
    /// A sink for the caches of a router. `clients` lead to the notice log, and to the database of all caches that are not `elsewhere`.
    pub fn new(config: Config, caches: Arc<Caches>, clients: Clients, elsewhere: Vec<Elsewhere>) -> Self {
        let config = Config { max_keys: config.max_keys.clamp(1, MOST_KEYS), ..config };
        let retention = Retention::new(config.retain, config.retain_bytes);
        let (head, places) = (notice::head(&config.origin), Places::new(&caches, &clients, elsewhere));
        Self { config, caches, clients, places, retention, head }
    }

    /// Carries out a batch and says what became of it. Never fails as a whole; ends when keys, patterns and counters are done, or when the
    /// budget is spent (see [`crate::Budgets`]). A scan that goes well is never cut short. Second deletes are left to [`Sink::repeat`].
    ///
    /// May be dropped at any time: what was done stays done, and the entries are pending still.
    pub async fn deliver(&self, batch: &Batch) -> Delivery {
        self.carry(batch, &notice::about(batch)).await
    }

    /// The same for a batch that somebody waits for: its notices ask every instance to say at once that its receivers have them.
    pub async fn deliver_confirmed(&self, batch: &Batch) -> Delivery {
        self.carry(batch, &notice::confirmed(notice::about(batch))).await
    }

    async fn carry(&self, batch: &Batch, about: &str) -> Delivery {
        let plans = Plan::of(batch, &self.places);
        let job = Job { batch, about, deadline: Instant::now() + self.config.budgets.of(batch.priority) };
        match &plans[..] {
            [plan] => self.on_site(&job, plan).await,
            plans => Box::pin(self.on_sites(&job, plans)).await,
        }
    }

    /// Each site for itself, so that one that is slow or gone holds up no other.
    async fn on_sites(&self, job: &Job<'_>, plans: &[Plan]) -> Delivery {
        let done = join_all(plans.iter().map(|plan| self.on_site(job, plan))).await;
        let mut delivery = self.blank(job.batch);
        plans.iter().zip(done).for_each(|(plan, done)| delivery.join(plan.positions(), done));
        delivery
    }

    async fn on_site(&self, job: &Job<'_>, plan: &Plan) -> Delivery {
        let mut delivery = self.blank(job.batch);
        self.keys(job, plan, &mut delivery).await;
        delivery.seconds = self.seconds(job, plan, &delivery);
        if !plan.patterns.is_empty() {
            let first_effect = delivery.at_ms;
            // Boxed, for most deliveries end here, and many are held at a time.
            Box::pin(self.patterns(job, plan, &mut delivery)).await;
            delivery.at_ms = first_effect.or(delivery.at_ms);
        }
        delivery
    }

    /// Waits, and deletes once more what is left of a delivery (see [`Delivery::is_to_be_repeated`]), each delay for itself.
    ///
    /// Returns the states of the first delivery, but failed where the second delete failed, with the costs and troubles of the second deletes
    /// alone. It deleted and confirmed nothing that counts: the delivery ended before. May be dropped at any time, as the delivery itself.
    pub async fn repeat(&self, batch: &Batch, first: Delivery) -> Delivery {
        let Delivery { states, seconds, .. } = first;
        // Many wait at a time, and nearly all their states are alike.
        let undone: Vec<_> = states.into_iter().enumerate().filter(|(_, state)| *state != TargetState::Done).collect();
        let seconds = join_all(seconds.into_iter().map(|second| self.delete_again(batch, second))).await;

        let mut delivery = self.blank(batch);
        delivery.states.fill(TargetState::Done);
        for (position, state) in undone {
            delivery.set(position, state);
        }
        for (keys, second) in seconds {
            keys.into_iter().filter(|position| !second.is_done(*position)).for_each(|position| delivery.set(position, TargetState::Failed));
            delivery.add_costs(second);
        }
        delivery
    }

    /// Asks all receivers to drop whole caches, or everything with the one name `*`. Deletes nothing. Tried once.
    pub async fn flush(&self, caches: &[&str], cause: Cause) -> Result<Position, Fault> {
        let tail = Some(notice::flush(caches, cause));
        let (_, answer) = self.call(&self.clients.scripts.critical, &Targets::default(), &[], tail, Vec::new()).await?;
        answer.notice.ok_or_else(|| Fault::new(FaultKind::Protocol, "the script logged no notice"))
    }

    fn blank(&self, batch: &Batch) -> Delivery {
        Delivery::new(batch.targets.len(), self.caches.all().len())
    }

    /// Deletes and announces the keys. Counters come with the last part, which then waits for the others.
    async fn keys(&self, job: &Job<'_>, plan: &Plan, delivery: &mut Delivery) {
        let counters = if plan.patterns.is_empty() { &plan.counters[..] } else { &[] };
        if let Some(site) = plan.site {
            let todo = Todo { undeleted: plan.keys.clone(), uncounted: counters.to_vec(), ..Todo::default() };
            return self.carry_out_apart(job, site, todo, delivery).await;
        }
        let mut parts = parts(&plan.keys, counters, self.config.max_keys);
        if !counters.is_empty() && parts.len() > 1 {
            let last = parts.split_off(parts.len() - 1);
            self.carry_out(job, parts, delivery).await;
            parts = last;
        }
        self.carry_out(job, parts, delivery).await;
    }

    /// The keys that were deleted just now and are to be deleted once more.
    fn seconds(&self, job: &Job<'_>, plan: &Plan, delivery: &Delivery) -> Vec<Second> {
        let confirmed = Instant::now();
        let mut seconds: Vec<Second> = Vec::new();
        for position in plan.keys.iter().filter(|position| delivery.is_done(**position)) {
            let delay = job.batch.targets.get(*position).map_or(Duration::ZERO, |target| self.caches.get(target.cache).second_delete);
            let due = confirmed + delay;
            match seconds.iter_mut().find(|known| known.due == due) {
                _ if delay.is_zero() => {}
                Some(known) => known.keys.push(*position),
                None => seconds.push(Second { site: plan.site, due, deadline: job.deadline + delay, keys: vec![*position] }),
            }
        }
        seconds
    }

    async fn delete_again(&self, batch: &Batch, second: Second) -> (Part, Delivery) {
        let Second { site, due, deadline, keys } = second;
        sleep_until(due).await;
        let about = notice::about(batch);
        let mut delivery = self.blank(batch);
        let job = Job { batch, about: &about, deadline };
        // Boxed, so that those that sleep take little.
        if let Some(site) = site {
            let todo = Todo { undeleted: keys.clone(), ..Todo::default() };
            Box::pin(self.carry_out_apart(&job, site, todo, &mut delivery)).await;
        } else {
            Box::pin(self.carry_out(&job, parts(&keys, &[], self.config.max_keys), &mut delivery)).await;
        }
        (keys, delivery)
    }
}
