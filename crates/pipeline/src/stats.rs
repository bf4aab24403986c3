//! The numbers: what one process has done, counted once, by the loop, in plain integers.
//!
//! The loop owns a [`Stats`] and publishes copies of it (see [`crate::handle`]); the metrics page, `GET /v1/stats` and the health report are all made
//! from such a copy. Targets are keys and patterns; counters that a route bumps are none. There is no clock in here: time is an argument.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use unstale_events::{CacheId, Cause, Code, Priority, StreamKind, TargetKind, Targets};

use crate::health::ErrorRate;

/// The label of events whose type no route names.
const OTHER: &str = "other";

/// The closed sets that labels are taken from, and what `build_info` says.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// The caches by [`CacheId`].
    pub caches: Vec<String>,
    /// The types that routes name, by the router's label.
    pub types: Vec<String>,
    /// The stages that can meet an error.
    pub stages: Vec<&'static str>,
    /// The kinds of errors.
    pub kinds: Vec<&'static str>,
    /// The connections to Redis, by what they are for.
    pub roles: Vec<String>,
    /// The release.
    pub version: String,
    /// Of which commit this program was built, if the build was told.
    pub commit: String,
    /// The fingerprint of the routes.
    pub routes: String,
}

/// What the routes made of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its targets were queued, or it has none.
    Routed,
    /// No route names its type.
    Unrouted,
    /// It goes to the dead letters; some of its targets may have been queued.
    DeadLettered,
}

impl Outcome {
    /// All outcomes, by their number.
    pub const ALL: [Self; 3] = [Self::Routed, Self::Unrouted, Self::DeadLettered];

    /// The name used in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Routed => "routed",
            Self::Unrouted => "unrouted",
            Self::DeadLettered => "dead_lettered",
        }
    }
}

/// Counts of targets, and of what came of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Targets that events asked for.
    pub queued: u64,
    /// Targets whose deletion was confirmed.
    pub processed: u64,
    /// Targets that another target of their batch covered.
    pub coalesced: u64,
    /// Targets whose delivery was given up.
    pub failed: u64,
    /// Keys that Redis said it deleted.
    pub keys_deleted: u64,
    /// Errors that deliveries of these targets met, those that a repetition mended included.
    pub errors: u64,
    batches: u64,
    time: Duration,
}

impl Tally {
    /// Targets queued of which nothing has come yet.
    pub fn pending(&self) -> u64 {
        let settled = self.processed + self.coalesced + self.failed;
        debug_assert!(settled <= self.queued, "more targets settled than queued");
        self.queued.saturating_sub(settled)
    }

    fn add(&mut self, other: &Self) {
        self.queued += other.queued;
        self.processed += other.processed;
        self.coalesced += other.coalesced;
        self.failed += other.failed;
        self.keys_deleted += other.keys_deleted;
    }

    fn delivered(&mut self, took: Duration, errors: u64) {
        self.batches += 1;
        self.time += took;
        self.errors += errors;
    }
}

/// What is known of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stream {
    /// Entries read, redelivered ones again.
    pub read: u64,
    /// Entries that the group hasn't seen yet, at the last look.
    pub lag: u64,
    /// Entries read by the group and not acknowledged, at the last look.
    pub pending: u64,
    /// The age of the oldest of them, zero if there is none.
    pub oldest_pending: Duration,
}

/// What became of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Notices {
    /// Written to the log by this process.
    pub published: u64,
    /// Written to receivers by this process.
    pub relayed: u64,
    /// Times that a reader of the log had to be told to flush.
    pub gaps: u64,
    /// Notices that the slowest of all living instances has yet to pass on.
    pub behind: u64,
}

/// What one delivery did to the targets of one cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// The cache.
    pub cache: CacheId,
    /// Targets whose deletion was confirmed.
    pub processed: u64,
    /// Targets that another target of the batch covered.
    pub coalesced: u64,
    /// Targets given up: left pending for redelivery, or dead letters.
    pub failed: u64,
    /// Keys that Redis said it deleted.
    pub keys_deleted: u64,
}

/// One delivery, ended.
#[derive(Debug, Clone, Copy)]
pub struct Delivered<'a> {
    /// The lane of the batch.
    pub priority: Priority,
    /// What it did, for each cache of the batch.
    pub caches: &'a [Settled],
    /// Time from the batch's closing to now.
    pub took: Duration,
    /// How often the delivery was tried, one at least.
    pub attempts: u64,
    /// The errors that the attempts met: stage, kind, and how often.
    pub errors: &'a [(&'static str, &'static str, u64)],
    /// When Redis confirmed the last delete, in milliseconds of its clock; `None` if nothing was confirmed.
    pub confirmed_ms: Option<u64>,
    /// Waits for an answer of Redis.
    pub round_trips: u64,
    /// Notices written to the log.
    pub notices: u64,
}

/// All numbers of one process. A copy is consistent in itself.
#[derive(Debug, Clone)]
pub struct Stats {
    labels: Arc<Labels>,
    /// By cache, then by priority.
    cells: Vec<[Tally; 4]>,
    /// Deliveries by cache: a batch may have targets of several caches.
    by_cache: Vec<Tally>,
    /// Deliveries by priority: a batch has one.
    by_priority: [Tally; 4],
    /// By the router's label, then by outcome; the last is `other`.
    events: Vec<[u64; 3]>,
    /// Few, and seldom counted: a list is copied faster than a map.
    errors: Vec<(&'static str, &'static str, u64)>,
    streams: [Stream; 2],
    queues: [u64; 4],
    links: Vec<bool>,
    /// By [`Cause`].
    flushes: [u64; Cause::ALL.len()],
    /// How many of [`Cause::Request`] came by in all.
    requests: u64,
    /// Dead letters, in the order of [`Code::ALL`].
    letters: [u64; Code::ALL.len()],
    instances: u64,
    notices: Notices,
    error_rate: ErrorRate,
    round_trips: u64,
    reader: bool,
    subscribers: u64,
    last_processed: Option<u64>,
}

/// Recording: for the loop.
impl Stats {
    /// All numbers at zero, for every label there can be.
    pub fn new(labels: Labels) -> Self {
        Self {
            cells: vec![Default::default(); labels.caches.len()],
            by_cache: vec![Tally::default(); labels.caches.len()],
            by_priority: Default::default(),
            events: vec![[0; 3]; labels.types.len() + 1],
            errors: labels.stages.iter().flat_map(|stage| labels.kinds.iter().map(|kind| (*stage, *kind, 0))).collect(),
            streams: Default::default(),
            queues: [0; 4],
            links: vec![false; labels.roles.len()],
            flushes: [0; Cause::ALL.len()],
            requests: 0,
            letters: [0; Code::ALL.len()],
            instances: 0,
            notices: Notices::default(),
            error_rate: ErrorRate::default(),
            round_trips: 0,
            reader: false,
            subscribers: 0,
            last_processed: None,
            labels: Arc::new(labels),
        }
    }

    /// Entries were read.
    pub fn read(&mut self, stream: StreamKind, entries: u64) {
        self.streams[stream as usize].read += entries;
    }

    /// An event went through the routes; `label` is the router's, `None` for a type that no route names.
    pub fn event(&mut self, label: Option<u32>, outcome: Outcome) {
        let other = self.labels.types.len();
        let row = label.map_or(other, |label| other.min(label as usize));
        self.events[row][outcome as usize] += 1;
    }

    /// Targets of one cache were queued.
    pub fn queued(&mut self, cache: CacheId, priority: Priority, targets: u64) {
        self.cells[cache.index()][priority.index()].queued += targets;
    }

    /// All targets of an event were queued; counters are passed over.
    pub fn queued_all(&mut self, priority: Priority, targets: &Targets) {
        let counted = targets.iter().filter(|target| target.kind != TargetKind::Bump);
        counted.for_each(|target| self.queued(target.cache, priority, 1));
    }

    /// A delivery ended: with success, or given up.
    pub fn delivered(&mut self, delivery: &Delivered<'_>, now: Instant) {
        let lane = delivery.priority.index();
        let errors = delivery.errors.iter().map(|error| error.2).sum();
        for settled in delivery.caches {
            self.settle(lane, settled);
            self.by_cache[settled.cache.index()].delivered(delivery.took, errors);
        }
        self.by_priority[lane].delivered(delivery.took, errors);
        self.last_processed = self.last_processed.max(delivery.confirmed_ms);
        self.error_rate.record(delivery.attempts, errors, now);
        delivery.errors.iter().for_each(|(stage, kind, times)| self.error(stage, kind, *times));
        self.round_trips += delivery.round_trips;
        self.notices.published += delivery.notices;
    }

    /// An error that was met `times` times, outside a delivery: [`Stats::delivered`] counts its own.
    pub fn error(&mut self, stage: &'static str, kind: &'static str, times: u64) {
        match self.errors.iter_mut().find(|known| (known.0, known.1) == (stage, kind)) {
            Some(known) => known.2 += times,
            None => self.errors.push((stage, kind, times)),
        }
    }

    /// What a look at a stream found.
    pub fn seen(&mut self, stream: StreamKind, lag: u64, pending: u64, oldest_pending: Duration) {
        let known = &mut self.streams[stream as usize];
        *known = Stream { read: known.read, lag, pending, oldest_pending };
    }

    /// How many entries wait in a lane.
    pub fn queue(&mut self, priority: Priority, entries: u64) {
        self.queues[priority.index()] = entries;
    }

    /// Whether this process reads the ordinary stream.
    pub fn reader(&mut self, holds_lease: bool) {
        self.reader = holds_lease;
    }

    /// Whether a connection is up; a role that is none of [`Labels::roles`] is passed over.
    pub fn link(&mut self, role: &str, up: bool) {
        if let Some(index) = self.labels.roles.iter().position(|name| *name == role) {
            self.links[index] = up;
        }
    }

    /// All receivers were asked to drop whole caches.
    pub fn flushed(&mut self, cause: Cause) {
        self.flushes[cause as usize] += 1;
    }

    /// A dead letter was written; `code` is the first of its reasons'.
    pub fn buried(&mut self, code: Code) {
        self.letters[code as usize] += 1;
    }

    /// How many sidecars live, by their beats.
    pub fn set_instances(&mut self, alive: u64) {
        self.instances = alive;
    }

    /// To count notices outside deliveries.
    pub fn notices_mut(&mut self) -> &mut Notices {
        &mut self.notices
    }

    /// Round trips outside deliveries.
    pub fn round_trips_add(&mut self, round_trips: u64) {
        self.round_trips += round_trips;
    }

    /// What receivers of notices have heard, in all.
    pub fn heard(&mut self, counts: &unstale_notices::Counts) {
        self.notices.relayed = counts.relayed;
        self.notices.gaps = counts.gaps;
        self.subscribers = counts.receivers;
        // Who asked is a command that has ended: the holder of the lease counts it, so that it is counted once.
        let asked = counts.requests - std::mem::replace(&mut self.requests, counts.requests);
        if self.reader {
            self.flushes[Cause::Request as usize] += asked;
        }
    }

    fn settle(&mut self, lane: usize, settled: &Settled) {
        let cell = &mut self.cells[settled.cache.index()][lane];
        cell.processed += settled.processed;
        cell.coalesced += settled.coalesced;
        cell.failed += settled.failed;
        cell.keys_deleted += settled.keys_deleted;
    }
}

/// Reading: for pages and reports.
impl Stats {
    /// The closed sets of labels.
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Everything together.
    pub fn totals(&self) -> Tally {
        let mut totals = Tally { errors: self.errors.iter().map(|error| error.2).sum(), ..Tally::default() };
        for lane in &self.by_priority {
            totals.batches += lane.batches;
            totals.time += lane.time;
        }
        self.cells.iter().flatten().for_each(|cell| totals.add(cell));
        totals
    }

    /// Each cache's name and counts, in the order of [`CacheId`].
    pub fn caches(&self) -> impl Iterator<Item = (&str, Tally)> {
        self.labels.caches.iter().zip(&self.cells).zip(&self.by_cache).map(|((name, cells), deliveries)| {
            let mut tally = *deliveries;
            for cell in cells {
                tally.add(cell);
            }
            (name.as_str(), tally)
        })
    }

    /// One priority's counts.
    pub fn priority(&self, priority: Priority) -> Tally {
        let mut tally = self.by_priority[priority.index()];
        self.cells.iter().for_each(|cells| tally.add(&cells[priority.index()]));
        tally
    }

    /// Each type's name and its events by outcome. `other` comes once, also if a route names a type so.
    pub fn events(&self) -> impl Iterator<Item = (&str, [u64; 3])> {
        let (unknown, known) = self.events.split_last().map_or(([0; 3], &[][..]), |(last, rest)| (*last, rest));
        let named = self.labels.types.iter().map(String::as_str).zip(known);
        let is_named = self.labels.types.iter().any(|name| name == OTHER);
        let merged = move |(name, counts): (_, &[u64; 3])| match name {
            OTHER => (name, std::array::from_fn(|outcome| counts[outcome] + unknown[outcome])),
            _ => (name, *counts),
        };
        named.map(merged).chain((!is_named).then_some((OTHER, unknown)))
    }

    /// Errors by stage and kind.
    pub fn errors(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.errors.iter().copied()
    }

    /// What is known of a stream.
    pub fn stream(&self, stream: StreamKind) -> Stream {
        self.streams[stream as usize]
    }

    /// Entries that wait in a lane.
    pub fn queue_depth(&self, priority: Priority) -> u64 {
        self.queues[priority.index()]
    }

    /// The streams' lag and pending entries together.
    pub fn depth(&self) -> u64 {
        self.streams.iter().map(|stream| stream.lag + stream.pending).sum()
    }

    /// Whether this process reads the ordinary stream.
    pub fn is_reader(&self) -> bool {
        self.reader
    }

    /// Each connection's role, and whether it is up.
    pub fn links(&self) -> impl Iterator<Item = (&str, bool)> {
        self.labels.roles.iter().map(String::as_str).zip(self.links.iter().copied())
    }

    /// Flushes by cause.
    pub fn flushes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Cause::ALL.into_iter().map(|cause| (cause.name(), self.flushes[cause as usize]))
    }

    /// Dead letters by the code of their first reason.
    pub fn letters(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Code::ALL.into_iter().map(Code::name).zip(self.letters)
    }

    /// How many sidecars lived at the last beat of this one.
    pub fn instances(&self) -> u64 {
        self.instances
    }

    /// Counts of notices.
    pub fn notices(&self) -> Notices {
        self.notices
    }

    /// Waits for an answer of Redis.
    pub fn round_trips(&self) -> u64 {
        self.round_trips
    }

    /// Connected receivers.
    pub fn subscribers(&self) -> u64 {
        self.subscribers
    }

    /// The share of delivery attempts that failed in the last five minutes, 0 to 1.
    pub fn error_rate(&self, now: Instant) -> f64 {
        self.error_rate.share(now)
    }

    /// What `GET /v1/stats` answers.
    pub fn report(&self) -> Report {
        let [critical, high, normal, low] = Priority::ALL.map(|priority| Summary::from(self.priority(priority)));
        Report {
            totals: self.totals().into(),
            caches: self.caches().map(|(name, tally)| (name.to_owned(), tally.into())).collect(),
            priorities: Priorities { critical, high, normal, low },
            depth: self.depth(),
            last_processed: self.last_processed,
        }
    }
}

/// The answer of `GET /v1/stats`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Everything together; its errors include those outside deliveries.
    pub totals: Summary,
    /// By cache.
    pub caches: BTreeMap<String, Summary>,
    /// By priority.
    pub priorities: Priorities,
    /// Lag and pending of both streams, in entries.
    pub depth: u64,
    /// When Redis last confirmed a delete, in milliseconds of its clock.
    pub last_processed: Option<u64>,
}

/// One [`Summary`] for each priority.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Priorities {
    pub critical: Summary,
    pub high: Summary,
    pub normal: Summary,
    pub low: Summary,
}

/// Counts of targets as `GET /v1/stats` gives them: queued = processed + coalesced + failed + pending.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Targets that events asked for.
    pub queued: u64,
    /// Targets whose deletion was confirmed.
    pub processed: u64,
    /// Targets that another target of their batch covered.
    pub coalesced: u64,
    /// Targets whose delivery was given up.
    pub failed: u64,
    /// Targets of which nothing has come yet.
    pub pending: u64,
    /// Coalesced / queued, 0 if none was queued.
    pub coalescing_rate: f64,
    /// The mean time from a batch's closing to the end of its delivery, in milliseconds.
    pub average_batch_ms: f64,
    /// Keys that Redis said it deleted.
    pub keys_deleted: u64,
    /// Errors that deliveries met, those that a repetition mended included.
    pub errors: u64,
}

impl From<Tally> for Summary {
    #[expect(clippy::cast_precision_loss, reason = "a count above 2^53 takes centuries")]
    fn from(tally: Tally) -> Self {
        let share = |part: f64, whole: u64| if whole == 0 { 0.0 } else { part / whole as f64 };
        Self {
            queued: tally.queued,
            processed: tally.processed,
            coalesced: tally.coalesced,
            failed: tally.failed,
            pending: tally.pending(),
            coalescing_rate: share(tally.coalesced as f64, tally.queued),
            average_batch_ms: share(tally.time.as_secs_f64() * 1000.0, tally.batches),
            keys_deleted: tally.keys_deleted,
            errors: tally.errors,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unstale_events::Target;

    const PRODUCT: CacheId = CacheId(0);
    const PRICE: CacheId = CacheId(1);

    fn stats() -> Stats {
        Stats::new(Labels {
            caches: vec!["product".into(), "price".into()],
            types: vec!["ProductUpdated".into()],
            stages: vec!["delete"],
            kinds: vec!["timeout"],
            ..Labels::default()
        })
    }

    fn settled(cache: CacheId, processed: u64, coalesced: u64, failed: u64) -> Settled {
        Settled { cache, processed, coalesced, failed, keys_deleted: processed }
    }

    fn delivery(caches: &[Settled]) -> Delivered<'_> {
        Delivered {
            priority: Priority::High,
            caches,
            took: Duration::from_millis(4),
            attempts: 1,
            errors: &[],
            confirmed_ms: Some(1_000),
            round_trips: 1,
            notices: 1,
        }
    }

    /// Queued = processed + coalesced + failed + pending, in each row, and the rows add up to the totals.
    fn add_up(report: &Report) {
        let balanced = |row: &Summary| assert_eq!(row.queued, row.processed + row.coalesced + row.failed + row.pending, "{row:?}");
        let priorities = [&report.priorities.critical, &report.priorities.high, &report.priorities.normal, &report.priorities.low];
        report.caches.values().chain(priorities).chain([&report.totals]).for_each(balanced);
        let sum = |count: fn(&Summary) -> u64| {
            let (by_cache, by_priority): (u64, u64) = (report.caches.values().map(count).sum(), priorities.into_iter().map(count).sum());
            assert_eq!((by_cache, by_priority), (count(&report.totals), count(&report.totals)));
        };
        let counts: [fn(&Summary) -> u64; 4] = [|row| row.queued, |row| row.pending, |row| row.processed, |row| row.keys_deleted];
        counts.into_iter().for_each(sum);
    }

    #[test]
    fn the_counts_add_up_at_every_step() {
        let (mut stats, now) = (stats(), Instant::now());
        add_up(&stats.report());
        stats.queued(PRODUCT, Priority::High, 5);
        stats.queued(PRICE, Priority::High, 2);
        stats.queued(PRICE, Priority::Low, 1);
        add_up(&stats.report());
        assert_eq!(stats.report().totals.pending, 8);
        stats.delivered(&delivery(&[settled(PRODUCT, 2, 1, 1), settled(PRICE, 2, 0, 0)]), now);
        let report = stats.report();
        add_up(&report);
        assert_eq!((report.caches["product"].pending, report.caches["price"].pending), (1, 1));
        assert_eq!((report.priorities.high.pending, report.priorities.low.pending), (1, 1));
        assert_eq!((report.totals.processed, report.totals.coalesced, report.totals.failed), (4, 1, 1));
    }

    #[test]
    fn counters_are_no_targets() {
        let mut stats = stats();
        let mut targets = Targets::default();
        for (kind, text) in [(TargetKind::Key, "product:1"), (TargetKind::Pattern, "product:*"), (TargetKind::Bump, "epoch")] {
            targets.push(Target { cache: PRODUCT, kind, text });
        }
        stats.queued_all(Priority::Normal, &targets);
        assert_eq!(stats.report().priorities.normal.queued, 2);
    }

    #[test]
    fn a_batch_counts_once_in_the_totals_and_once_in_each_of_its_caches() {
        let (mut stats, now) = (stats(), Instant::now());
        stats.queued(PRODUCT, Priority::High, 3);
        stats.queued(PRICE, Priority::High, 1);
        let both = [settled(PRODUCT, 1, 1, 0), settled(PRICE, 1, 0, 0)];
        stats.delivered(&Delivered { attempts: 2, errors: &[("delete", "timeout", 1)], ..delivery(&both) }, now);
        stats.delivered(&Delivered { took: Duration::from_millis(8), ..delivery(&[settled(PRODUCT, 1, 0, 0)]) }, now);
        stats.error("read", "unreachable", 1);
        let report = stats.report();
        let means =
            [&report.totals, &report.caches["product"], &report.caches["price"], &report.priorities.high].map(|row| row.average_batch_ms);
        assert_eq!(means.map(|mean| format!("{mean:.3}")), ["6.000", "6.000", "4.000", "6.000"]);
        let errors = [&report.totals, &report.caches["product"], &report.caches["price"], &report.priorities.high].map(|row| row.errors);
        assert_eq!(errors, [2, 1, 1, 1], "the error in reading belongs to no cache");
        assert!((report.totals.coalescing_rate - 0.25).abs() < 1e-9);
        assert!((stats.error_rate(now) - 1.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn the_last_confirmation_is_by_redis_clock_and_only_of_what_was_confirmed() {
        let (mut stats, now) = (stats(), Instant::now());
        let confirmed = |confirmed_ms| Delivered { confirmed_ms, ..delivery(&[]) };
        for (ms, last) in [(None, None), (Some(1_000), Some(1_000)), (None, Some(1_000)), (Some(900), Some(1_000))] {
            stats.delivered(&confirmed(ms), now);
            assert_eq!(stats.report().last_processed, last);
        }
    }

    #[test]
    fn events_of_unknown_types_are_other_even_if_a_route_names_that() {
        let mut stats = Stats::new(Labels { types: vec!["other".into()], ..Labels::default() });
        stats.event(None, Outcome::Unrouted);
        stats.event(Some(0), Outcome::Routed);
        stats.event(Some(7), Outcome::DeadLettered);
        assert_eq!(stats.events().collect::<Vec<_>>(), [("other", [1, 1, 1])]);
    }

    #[test]
    fn the_depth_is_what_is_unread_or_unfinished_on_both_streams() {
        let mut stats = stats();
        stats.seen(StreamKind::Ordinary, 8, 2, Duration::ZERO);
        stats.seen(StreamKind::Ordinary, 7, 3, Duration::from_secs(1));
        stats.seen(StreamKind::Critical, 1, 1, Duration::ZERO);
        assert_eq!(stats.depth(), 7 + 3 + 1 + 1);
    }

    #[test]
    fn the_report_is_the_contracts() {
        let row = serde_json::json!({"queued": 0, "processed": 0, "coalesced": 0, "failed": 0, "pending": 0, "coalescing_rate": 0.0,
            "average_batch_ms": 0.0, "keys_deleted": 0, "errors": 0});
        let expected = serde_json::json!({"totals": row, "caches": {"product": row, "price": row},
            "priorities": {"critical": row, "high": row, "normal": row, "low": row}, "depth": 0, "last_processed": null});
        assert_eq!(serde_json::to_value(stats().report()).unwrap(), expected);
    }
}
