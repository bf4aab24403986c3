//! The way back: from deliveries to what is owed, buried, released and answered, and to the numbers.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use unstale_batcher::{Batch, Settlement, Source, TargetState, Verdict};
use unstale_events::{EntryId, StreamKind};
use unstale_sink::{Delivery, Replay, Sink};

use crate::handle::{DeliverError, DeliverReport};
use crate::inputs::{Inputs, Returned};
use crate::journal;
use crate::pipeline::{State, Ticket, weight};
use crate::stats::{Delivered, Settled};

impl State {
    /// A batch is delivered: it is counted and its requests are answered. Its entries are settled too, unless something is to be deleted once
    /// more: an entry is acknowledged after all of its effects, but nobody waits for the second of them.
    pub(crate) fn returned(&mut self, returned: Box<Returned>, inputs: &mut Inputs, now: Instant) {
        let Returned { batch, delivery, closed, ground } = &*returned;
        let settlement = batch.settle(&delivery.states);
        self.count(batch, delivery, &settlement.counts, settlement.done.iter().map(|(_, id)| *id), *closed, now);
        journal::delivered(batch, delivery, self.router.caches());
        self.summary.note(batch);
        self.watch_delivery(batch, delivery, now);
        for (ticket, verdict) in &settlement.requests {
            self.answer(*ticket, verdict, delivery);
        }
        for (kind, id) in &settlement.done {
            let chore = inputs.stream(*kind).came_through(*id, delivery.is_to_be_repeated());
            inputs.chores.extend(chore);
        }
        if delivery.is_to_be_repeated() {
            inputs.repeats.push(repeat(Arc::clone(&self.sink), returned));
        } else {
            self.settle(batch, settlement, *ground, inputs, now);
        }
    }

    /// The second deletes of a batch ended. Its targets are counted already; only what this cost is not.
    pub(crate) fn repeated(&mut self, repeated: &Returned, inputs: &mut Inputs, now: Instant) {
        let Returned { batch, delivery, ground, .. } = repeated;
        self.stats.round_trips_add(delivery.round_trips);
        self.stats.notices_mut().published += delivery.notices;
        for trouble in &delivery.errors {
            self.stats.error(trouble.stage.name(), trouble.fault.kind.name(), trouble.count);
        }
        journal::repeated(batch, delivery);
        self.watch_delivery(batch, delivery, now);
        self.settle(batch, batch.settle(&delivery.states), *ground, inputs, now);
    }

    fn watch_delivery(&mut self, batch: &Batch, delivery: &Delivery, now: Instant) {
        for trouble in delivery.errors.iter().filter(|trouble| trouble.fault.is_transient()) {
            self.watch.met(trouble.stage.name(), &trouble.fault, now);
        }
        if delivery.states.contains(&TargetState::Failed) {
            // A request is answered, and nothing of it stays pending.
            let is_pending = batch.entries.iter().any(|entry| matches!(entry.source, Source::Entry(..)));
            if is_pending {
                self.watch.undelivered(journal::failed(batch, delivery), now);
            }
            journal::undone(batch, delivery, is_pending);
        }
    }

    /// What a server of caches may have lost was deleted again. It isn't counted again; only what that cost is.
    pub(crate) fn replayed(&mut self, replay: &Replay, now: Instant) {
        let Replay { server, targets, costs } = replay;
        self.stats.round_trips_add(costs.round_trips);
        self.stats.notices_mut().published += costs.notices;
        for trouble in &costs.errors {
            self.stats.error(trouble.stage.name(), trouble.fault.kind.name(), trouble.count);
            self.watch.met(trouble.stage.name(), &trouble.fault, now);
        }
        tracing::warn!(server, targets, "this server has failed over; what was deleted there lately was deleted again");
    }

    /// Lets go of a batch: what is done is owed to its group, what is dead is buried, what failed is left pending, and so is what was done
    /// on another ground than there is now.
    fn settle(&mut self, batch: &Batch, settlement: Settlement<'_>, ground: Option<u64>, inputs: &mut Inputs, now: Instant) {
        self.flying_bytes -= weight(batch);
        self.check_ground(inputs, now);
        if ground.is_some() && ground == self.ground {
            for (kind, id) in settlement.done {
                inputs.stream(kind).owed.push(id);
            }
        } else {
            give_up(settlement.done, inputs, now);
        }
        for buried in settlement.dead {
            let fields = buried.fields.cloned().unwrap_or_default();
            self.bury(inputs.stream(buried.stream), buried.id, fields, buried.reasons);
        }
        if settlement.failed.is_empty() {
            inputs.streams().into_iter().for_each(|stream| stream.recovery.delivering(now));
        }
        give_up(settlement.failed, inputs, now);
    }

    fn answer(&mut self, ticket: u64, verdict: &Verdict, delivery: &Delivery) {
        let Some(Ticket { reply, .. }) = self.tickets.remove(&ticket) else { return };
        let why = || delivery.errors.last().map_or_else(|| "given up".to_owned(), |trouble| trouble.fault.to_string());
        let answer = match verdict {
            Verdict::Done => Ok(DeliverReport { keys_deleted: delivery.deleted.iter().sum(), notice: delivery.last_notice }),
            Verdict::Failed => Err(DeliverError::Failed(why())),
            Verdict::Dead(reasons) => Err(DeliverError::Failed(reasons.first().map_or_else(why, ToString::to_string))),
        };
        // Nobody may wait for the answer any more; the work is done nevertheless.
        let _ = reply.send(answer);
    }

    fn count(
        &mut self,
        batch: &Batch,
        delivery: &Delivery,
        settled: &[unstale_batcher::Settled],
        done: impl Iterator<Item = EntryId>,
        closed: Instant,
        now: Instant,
    ) {
        let rows: Vec<_> = self
            .router
            .caches()
            .all()
            .zip(batch.counts.iter().zip(settled))
            .filter(|(_, (count, _))| count.queued > 0)
            .map(|((cache, _), (count, settled))| Settled {
                cache,
                processed: settled.processed,
                coalesced: count.coalesced,
                failed: settled.failed,
                keys_deleted: delivery.deleted.get(cache.index()).copied().unwrap_or(0),
            })
            .collect();
        let errors: Vec<_> =
            delivery.errors.iter().map(|trouble| (trouble.stage.name(), trouble.fault.kind.name(), trouble.count)).collect();
        let delivered = Delivered {
            priority: batch.priority,
            caches: &rows,
            took: now.saturating_duration_since(closed),
            attempts: 1 + delivery.retries,
            errors: &errors,
            confirmed_ms: delivery.at_ms,
            round_trips: delivery.round_trips,
            notices: delivery.notices,
        };
        self.stats.delivered(&delivered, now);
        self.metrics.delivered(&delivered, done);
    }
}

/// Keeps a batch in flight until its second deletes ended.
fn repeat(sink: Arc<Sink>, mut returned: Box<Returned>) -> BoxFuture<'static, Box<Returned>> {
    async move {
        let first = std::mem::take(&mut returned.delivery);
        returned.delivery = sink.repeat(&returned.batch, first).await;
        returned
    }
    .boxed()
}

/// Leaves entries pending, counted as often delivered as before this time.
pub(crate) fn give_up(failed: Vec<(StreamKind, EntryId)>, inputs: &mut Inputs, now: Instant) {
    let mut released: HashMap<(StreamKind, u64), Vec<EntryId>> = HashMap::new();
    for (kind, id) in failed {
        let deliveries = inputs.stream(kind).give_up(id, now);
        released.entry((kind, deliveries.saturating_sub(1))).or_default().push(id);
    }
    for ((kind, deliveries), ids) in released {
        let chore = inputs.stream(kind).release(ids, deliveries);
        inputs.chores.push(chore);
    }
}
