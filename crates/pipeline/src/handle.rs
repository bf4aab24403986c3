//! The seam between the loop and everything that looks at it or asks it for something: HTTP, the command line, signals.
//!
//! The loop holds the [`Seat`]; others hold clones of the [`Handle`]. Nothing here blocks the loop: what it publishes is a copy, and what it is asked
//! for comes through a bounded channel that it reads when it has room.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use unstale_events::{Invalidation, Position};

use crate::health::{Health, Status};
use crate::metrics::Metrics;
use crate::probe::{Finding, Until};
use crate::stats::Stats;

/// How many requests wait for the loop; more are refused as [`DeliverError::Busy`].
const REQUESTS: usize = 64;

/// After so long without a turn the loop counts as stuck. It turns at least once a second.
const STUCK: Duration = Duration::from_secs(5);

/// What the loop last said of itself.
#[derive(Debug, Clone)]
struct Published {
    stats: Arc<Stats>,
    health: Arc<Health>,
    at: Instant,
}

/// A request to the loop.
#[derive(Debug)]
pub enum Request {
    /// Deliver now, past the stream.
    Deliver(Deliver),
}

/// What the loop is called for.
#[derive(Debug)]
pub(crate) enum Call {
    /// To finish its work and end.
    Drain,
    /// To do something.
    Request(Request),
}

/// Targets to be deleted and announced now, at the request's own priority; the reply comes when all is confirmed or given up.
#[derive(Debug)]
pub struct Deliver {
    /// What to do; without reasons, and with targets.
    pub invalidation: Invalidation,
    /// Whether every instance is to say at once that its receivers have the notice.
    pub confirm: bool,
    /// Where the answer goes. If nobody waits any more, the work is done nevertheless.
    pub reply: oneshot::Sender<Result<DeliverReport, DeliverError>>,
}

/// A delivery that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DeliverReport {
    /// Keys that Redis said it deleted.
    pub keys_deleted: u64,
    /// The last notice of what was deleted: who has it has all of them.
    pub notice: Option<Position>,
}

/// Why something wasn't delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliverError {
    /// The loop has as much work as it may hold: try again later.
    Busy,
    /// The process is about to end: ask another one.
    Draining,
    /// Redis couldn't be reached, or refused; the text has no keys in it. Some of the targets may have been deleted.
    Failed(String),
}

impl std::fmt::Display for DeliverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Busy => f.write_str("too much work is waiting; try again later"),
            Self::Draining => f.write_str("this process is about to end; ask another one"),
            Self::Failed(why) => write!(f, "not confirmed within the retry budget: {why}"),
        }
    }
}

impl std::error::Error for DeliverError {}

/// What others hold of the loop.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    published: watch::Receiver<Published>,
    drain: Arc<watch::Sender<bool>>,
    metrics: Arc<Metrics>,
}

impl Handle {
    /// The numbers as the loop last published them: after its last turn.
    pub fn stats(&self) -> Arc<Stats> {
        Arc::clone(&self.published.borrow().stats)
    }

    /// The numbers as [`Handle::stats`] gives them, and what the loop observed until now, as text for Prometheus.
    pub fn metrics_page(&self) -> String {
        self.metrics.page(|| self.stats())
    }

    /// How many events were at most as old as each of [`crate::metrics::SECONDS`] when their deletes were confirmed, and how many in all; by
    /// priority.
    pub fn ages(&self) -> [Vec<u64>; 4] {
        self.metrics.ages()
    }

    /// The loop's judgement, or that it is stuck.
    pub fn health(&self) -> Arc<Health> {
        let published = self.published.borrow();
        let silence = published.at.elapsed();
        if self.published.has_changed().is_ok() && silence < STUCK {
            return Arc::clone(&published.health);
        }
        let mut health = Health::clone(&published.health);
        health.add(Status::Unhealthy, "loop_stuck", format!("the loop hasn't turned for {:.1} s", silence.as_secs_f64()));
        Arc::new(health)
    }

    /// Whether the loop turns.
    pub fn is_alive(&self) -> bool {
        self.published.has_changed().is_ok() && self.published.borrow().at.elapsed() < STUCK
    }

    /// Has this process delete and announce now.
    ///
    /// # Errors
    /// If it wasn't done, or not wholly.
    pub async fn deliver(&self, invalidation: Invalidation) -> Result<DeliverReport, DeliverError> {
        self.ask(invalidation, false).await
    }

    /// The same, and has every instance say at once that its receivers have the notice.
    ///
    /// # Errors
    /// As [`Handle::deliver`].
    pub async fn deliver_confirmed(&self, invalidation: Invalidation) -> Result<DeliverReport, DeliverError> {
        self.ask(invalidation, true).await
    }

    async fn ask(&self, invalidation: Invalidation, confirm: bool) -> Result<DeliverReport, DeliverError> {
        let (reply, answer) = oneshot::channel();
        self.requests.try_send(Request::Deliver(Deliver { invalidation, confirm, reply })).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => DeliverError::Busy,
            mpsc::error::TrySendError::Closed(_) => DeliverError::Draining,
        })?;
        answer.await.unwrap_or(Err(DeliverError::Draining))
    }

    /// Counts what became of a canary.
    pub fn probed(&self, until: Until, found: Finding) {
        self.metrics.probed(until, found);
    }

    /// Tells the loop to finish its work and end.
    pub fn drain(&self) {
        self.drain.send_replace(true);
    }
}

/// The loop's side.
#[derive(Debug)]
pub struct Seat {
    requests: mpsc::Receiver<Request>,
    published: watch::Sender<Published>,
    drain: watch::Receiver<bool>,
    metrics: Arc<Metrics>,
}

/// A loop's seat, and the handle to it.
pub fn seat(stats: Stats) -> (Seat, Handle) {
    let (sender, requests) = mpsc::channel(REQUESTS);
    let first = Published { stats: Arc::new(stats), health: Arc::new(Health::starting()), at: Instant::now() };
    let (shown, published) = watch::channel(first);
    let (drain_sender, drain) = watch::channel(false);
    let metrics = Arc::new(Metrics::new());
    let handle = Handle { requests: sender, published, drain: Arc::new(drain_sender), metrics: Arc::clone(&metrics) };
    (Seat { requests, published: shown, drain, metrics }, handle)
}

impl Seat {
    /// Whatever comes first: the order to drain, unless it was heard already, or a request. Cancel-safe.
    pub(crate) async fn called(&mut self, draining: bool) -> Call {
        let Self { drain, requests, .. } = self;
        let drain = async { drain.wait_for(|drain| *drain).await.is_ok() };
        tokio::select! {
            biased;
            true = drain, if !draining => Call::Drain,
            Some(request) = requests.recv() => Call::Request(request),
            else => std::future::pending().await,
        }
    }

    /// Where the loop says what it observes.
    pub(crate) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.metrics)
    }

    /// Refuses further requests, with [`DeliverError::Draining`]; those that wait can still be taken.
    pub fn close(&mut self) {
        self.requests.close();
    }

    /// A request that waits already.
    pub fn waiting_request(&mut self) -> Option<Request> {
        self.requests.try_recv().ok()
    }

    /// Shows the numbers as they are now, and that the loop turns. To be called once a second at least.
    pub fn publish(&self, stats: &Stats) {
        self.published.send_modify(|shown| {
            shown.stats = Arc::new(stats.clone());
            shown.at = Instant::now();
        });
    }

    /// Shows the judgement.
    pub fn publish_health(&self, health: Health) {
        self.published.send_modify(|shown| shown.health = Arc::new(health));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Labels;
    use unstale_events::StreamKind;

    #[tokio::test]
    async fn what_the_loop_publishes_is_what_others_see() {
        let mut stats = Stats::new(Labels::default());
        let (seat, handle) = seat(stats.clone());
        assert_eq!(handle.health().reasons[0].code, "starting");
        stats.read(StreamKind::Critical, 2);
        assert_eq!(handle.stats().stream(StreamKind::Critical).read, 0);
        seat.publish(&stats);
        seat.publish_health(Health { status: Status::Ok, reasons: vec![], ready: true });
        assert_eq!(handle.stats().stream(StreamKind::Critical).read, 2);
        assert_eq!(handle.health().status, Status::Ok);
        assert!(handle.is_alive());
    }

    #[tokio::test]
    async fn a_loop_that_is_gone_is_neither_alive_nor_healthy() {
        let (seat, handle) = seat(Stats::new(Labels::default()));
        drop(seat);
        assert!(!handle.is_alive());
        assert_eq!(handle.health().reasons.last().unwrap().code, "loop_stuck");
        assert_eq!(handle.deliver(Invalidation::default()).await, Err(DeliverError::Draining));
    }

    #[tokio::test]
    async fn a_request_is_answered_or_refused_but_never_forgotten() {
        let (mut seat, handle) = seat(Stats::new(Labels::default()));
        let asked = tokio::spawn({
            let handle = handle.clone();
            async move { handle.deliver(Invalidation::default()).await }
        });
        let Call::Request(Request::Deliver(deliver)) = seat.called(false).await else { panic!("nobody said drain") };
        deliver.reply.send(Ok(DeliverReport { keys_deleted: 3, notice: None })).unwrap();
        assert_eq!(asked.await.unwrap(), Ok(DeliverReport { keys_deleted: 3, notice: None }));

        let dropped = tokio::spawn({
            let handle = handle.clone();
            async move { handle.deliver(Invalidation::default()).await }
        });
        drop(seat.called(false).await);
        assert_eq!(dropped.await.unwrap(), Err(DeliverError::Draining));
        seat.close();
        assert!(seat.waiting_request().is_none());
        assert_eq!(handle.deliver(Invalidation::default()).await, Err(DeliverError::Draining));
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let (_seat, handle) = seat(Stats::new(Labels::default()));
        let waiting: Vec<_> = (0..REQUESTS).map(|_| Box::pin(handle.deliver(Invalidation::default()))).collect();
        let mut all = futures_util::future::join_all(waiting);
        assert!(futures_util::poll!(&mut all).is_pending());
        assert_eq!(handle.deliver(Invalidation::default()).await, Err(DeliverError::Busy));
    }

    #[tokio::test]
    async fn the_loop_hears_of_the_drain() {
        let (mut seat, handle) = seat(Stats::new(Labels::default()));
        {
            let mut called = Box::pin(seat.called(false));
            assert!(futures_util::poll!(&mut called).is_pending());
        }
        handle.drain();
        assert!(matches!(seat.called(false).await, Call::Drain));
    }
}
