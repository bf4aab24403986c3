//! The metrics: every one's name, help text and labels, and how the numbers get to the exporter that writes them as Prometheus text.
//!
//! Counts and levels are kept by [`Stats`] alone; a page sets all of them from one state of it, so that they agree with each other (queued =
//! processed + coalesced + failed + pending) whatever the loop does meanwhile. Sizes, durations and ages are given to the exporter as the loop
//! observes them, and what the prober finds when it does. The recorder is an object, not the process's global one: two loops in one process don't mix their numbers.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Label, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;
use unstale_events::{EntryId, Priority, StreamKind};

use crate::probe::{Finding, Until};
use crate::stats::{Delivered, Outcome, Stats, Tally};

/// The content type of a page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const BATCH_TARGETS: &str = "unstale_batch_targets";
const BATCH_DURATION: &str = "unstale_batch_duration_seconds";
const EVENT_AGE: &str = "unstale_event_age_seconds";
const PROBE: &str = "unstale_probe_seconds";
const PROBES: &str = "unstale_probes_total";

/// Upper bounds of the buckets for durations and ages, in seconds.
pub const SECONDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 2.0, 5.0, 30.0];

/// Upper bounds of the buckets for canaries, in seconds: the horizons that one may promise something for.
const HORIZONS: &[f64] = &[0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0];

/// Upper bounds of the buckets for the size of batches, in targets.
const TARGETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 10_000.0];

/// One metric: its name, and what it tells.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// The name on the page.
    pub name: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for people.
    pub help: &'static str,
    numbers: Numbers,
}

/// Sets one series. The values of its labels stand in the order of their names.
type Set<'a, T> = dyn FnMut(&[&str], T) + 'a;

/// Sets every series of a metric.
type Series<T> = fn(&Stats, &mut Set<'_, T>);

/// What kind of numbers a metric has, and where they come from.
#[derive(Debug, Clone, Copy)]
enum Numbers {
    /// Only grow while the process lives.
    Counter(Series<u64>),
    /// Go up and down.
    Gauge(Series<f64>),
    /// Observations, counted by size in buckets with these upper bounds.
    Histogram(&'static [f64]),
}

/// Every metric of the sidecar itself.
const TABLE: &[Metric] = &[
    counter("unstale_events_read_total", &["stream"], "Entries read from a stream; a redelivered entry counts again.", |stats, set| {
        each(StreamKind::ALL, StreamKind::name, set, |kind| stats.stream(kind).read);
    }),
    counter(
        "unstale_events_total",
        &["type", "outcome"],
        "Events by type (`other`: none that a route names) and what the routes made of them.",
        |stats, set| {
            for (name, counts) in stats.events() {
                for outcome in Outcome::ALL {
                    set(&[name, outcome.name()], counts[outcome as usize]);
                }
            }
        },
    ),
    counter("unstale_targets_queued_total", &["cache"], "Keys and patterns that events asked to delete.", |stats, set| {
        by_cache(stats, set, |tally| tally.queued);
    }),
    counter(
        "unstale_targets_coalesced_total",
        &["cache"],
        "Targets that needed no delete of their own: another of their batch covered them.",
        |stats, set| by_cache(stats, set, |tally| tally.coalesced),
    ),
    counter("unstale_targets_processed_total", &["cache"], "Targets whose deletion Redis confirmed.", |stats, set| {
        by_cache(stats, set, |tally| tally.processed);
    }),
    counter(
        "unstale_targets_failed_total",
        &["cache"],
        "Targets whose delivery was given up; they stay pending in Redis or are dead letters.",
        |stats, set| by_cache(stats, set, |tally| tally.failed),
    ),
    gauge("unstale_targets_pending", &["cache"], "Targets queued and not yet processed, coalesced or failed.", |stats, set| {
        stats.caches().for_each(|(name, tally)| set(&[name], number(tally.pending())));
    }),
    counter("unstale_keys_deleted_total", &["cache"], "Keys that Redis said it deleted.", |stats, set| {
        by_cache(stats, set, |tally| tally.keys_deleted);
    }),
    counter("unstale_errors_total", &["stage", "kind"], "Errors by the stage that met them and their kind.", |stats, set| {
        stats.errors().for_each(|(stage, kind, count)| set(&[stage, kind], count));
    }),
    histogram(BATCH_TARGETS, &[], "Distinct targets of a delivered batch.", TARGETS),
    histogram(BATCH_DURATION, &["priority"], "Time from a batch's closing to the end of its delivery.", SECONDS),
    histogram(EVENT_AGE, &["priority"], "Time from XADD to the confirmed delete of all the event's targets, by Redis' clock.", SECONDS),
    gauge("unstale_queue_depth", &["priority"], "Entries read that wait in a lane for their batch.", |stats, set| {
        each(Priority::ALL, Priority::name, set, |priority| number(stats.queue_depth(priority)));
    }),
    gauge("unstale_stream_lag", &["stream"], "Entries that no reader of the group has seen yet.", |stats, set| {
        each(StreamKind::ALL, StreamKind::name, set, |kind| number(stats.stream(kind).lag));
    }),
    gauge("unstale_stream_pending", &["stream"], "Entries read by the group and not acknowledged.", |stats, set| {
        each(StreamKind::ALL, StreamKind::name, set, |kind| number(stats.stream(kind).pending));
    }),
    gauge(
        "unstale_stream_oldest_pending_seconds",
        &["stream"],
        "Age of the oldest unacknowledged entry, 0 if there is none.",
        |stats, set| each(StreamKind::ALL, StreamKind::name, set, |kind| stats.stream(kind).oldest_pending.as_secs_f64()),
    ),
    gauge("unstale_reader", &[], "1 if this process holds the lease and reads the ordinary stream.", |stats, set| {
        set(&[], f64::from(stats.is_reader()));
    }),
    gauge("unstale_redis_up", &["role"], "1 if this connection to Redis is up.", |stats, set| {
        stats.links().for_each(|(role, up)| set(&[role], f64::from(up)));
    }),
    counter("unstale_redis_round_trips_total", &[], "Waits for an answer of Redis by deliveries.", |stats, set| {
        set(&[], stats.round_trips());
    }),
    counter("unstale_notices_published_total", &[], "Notices written to the log by this process.", |stats, set| {
        set(&[], stats.notices().published);
    }),
    counter("unstale_notices_relayed_total", &[], "Notices written to receivers by this process.", |stats, set| {
        set(&[], stats.notices().relayed);
    }),
    counter("unstale_notice_gaps_total", &[], "Times that a reader of the notice log had to be told to flush.", |stats, set| {
        set(&[], stats.notices().gaps);
    }),
    gauge(
        "unstale_notices_behind",
        &[],
        "Notices that the slowest of all living instances has yet to pass on to its receivers.",
        |stats, set| set(&[], number(stats.notices().behind)),
    ),
    counter(
        "unstale_flushes_total",
        &["cause"],
        "Requests to drop whole caches: this process's own after a loss; those of commands, if it held the lease then.",
        |stats, set| stats.flushes().for_each(|(cause, count)| set(&[cause], count)),
    ),
    counter(
        "unstale_dead_letters_total",
        &["reason"],
        "Entries written to the dead letters, by the first of their reasons.",
        |stats, set| {
            stats.letters().for_each(|(reason, count)| set(&[reason], count));
        },
    ),
    gauge("unstale_instances", &[], "Sidecars of this namespace that live, by the beats that this one saw last.", |stats, set| {
        set(&[], number(stats.instances()));
    }),
    histogram(
        PROBE,
        &["until"],
        "Time from a canary's XADD until its key is gone from Redis, or every instance has told its receivers.",
        HORIZONS,
    ),
    counter(
        PROBES,
        &["until", "outcome"],
        "Canaries by what became of them: `lost` within `probe.timeout`, `unknown` if Redis couldn't be asked.",
        |_, _| {}, // counted as they end
    ),
    gauge("unstale_subscribers", &[], "Receivers of notices connected to this process.", |stats, set| {
        set(&[], number(stats.subscribers()));
    }),
    gauge(
        "unstale_build_info",
        &["version", "commit", "routes"],
        "Always 1; its labels name the release and the routes, to show a mixed fleet.",
        |stats, set| set(&[&stats.labels().version, &stats.labels().commit, &stats.labels().routes], 1.0),
    ),
];

/// Every metric of the sidecar itself. The page has those of the process, too.
pub fn all() -> &'static [Metric] {
    TABLE
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str, counts: Series<u64>) -> Metric {
    Metric { name, labels, help, numbers: Numbers::Counter(counts) }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str, levels: Series<f64>) -> Metric {
    Metric { name, labels, help, numbers: Numbers::Gauge(levels) }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str, bounds: &'static [f64]) -> Metric {
    Metric { name, labels, help, numbers: Numbers::Histogram(bounds) }
}

fn by_cache(stats: &Stats, set: &mut Set<'_, u64>, count: fn(&Tally) -> u64) {
    stats.caches().for_each(|(name, tally)| set(&[name], count(&tally)));
}

fn each<K: Copy, T, const N: usize>(keys: [K; N], name: fn(K) -> &'static str, set: &mut Set<'_, T>, value: impl Fn(K) -> T) {
    for key in keys {
        set(&[name(key)], value(key));
    }
}

#[expect(clippy::cast_precision_loss, reason = "gauges are f64; a number above 2^53 takes centuries")]
fn number(count: u64) -> f64 {
    count as f64
}

impl Metric {
    /// The word of the `# TYPE` line.
    pub fn kind(&self) -> &'static str {
        match self.numbers {
            Numbers::Counter(_) => "counter",
            Numbers::Gauge(_) => "gauge",
            Numbers::Histogram(_) => "histogram",
        }
    }

    /// Tells the local recorder what this metric is.
    fn describe(&self) {
        match self.numbers {
            Numbers::Counter(_) => describe_counter!(self.name, self.help),
            Numbers::Gauge(_) => describe_gauge!(self.name, self.help),
            Numbers::Histogram(_) => describe_histogram!(self.name, self.help),
        }
    }

    /// Sets every series in the local recorder; those not seen before come to be.
    fn set(&self, stats: &Stats) {
        match self.numbers {
            Numbers::Counter(counts) => counts(stats, &mut |values, count| counter!(self.name, self.pairs(values)).absolute(count)),
            Numbers::Gauge(levels) => levels(stats, &mut |values, level| gauge!(self.name, self.pairs(values)).set(level)),
            Numbers::Histogram(_) => {} // recorded as they are observed
        }
    }

    fn pairs(&self, values: &[&str]) -> Vec<Label> {
        self.labels.iter().zip(values).map(|(name, value)| Label::new(*name, (*value).to_owned())).collect()
    }
}

/// What one loop shows to Prometheus.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Locked while a page is made.
    recorder: Mutex<PrometheusRecorder>,
    exporter: PrometheusHandle,
    process: Collector,
    batch_targets: metrics::Histogram,
    batch_duration: [metrics::Histogram; 4],
    event_age: [metrics::Histogram; 4],
    /// By [`Until`], and by [`Finding::index`].
    probes: [(metrics::Histogram, [metrics::Counter; 3]); 2],
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let recorder = recorder();
        let by_priority = |name| Priority::ALL.map(|priority| histogram!(name, "priority" => priority.name()));
        let process = Collector::default();
        with_local_recorder(&recorder, || {
            TABLE.iter().for_each(Metric::describe);
            process.describe();
        });
        let (batch_targets, batch_duration, event_age) =
            with_local_recorder(&recorder, || (histogram!(BATCH_TARGETS), by_priority(BATCH_DURATION), by_priority(EVENT_AGE)));
        let probes = with_local_recorder(&recorder, || Until::ALL.map(probes));
        Self { exporter: recorder.handle(), recorder: Mutex::new(recorder), process, batch_targets, batch_duration, event_age, probes }
    }

    /// A delivery ended. `done` are the events all of whose targets were confirmed.
    pub(crate) fn delivered(&self, delivery: &Delivered<'_>, done: impl IntoIterator<Item = EntryId>) {
        let lane = delivery.priority.index();
        let targets: u64 = delivery.caches.iter().map(|settled| settled.processed + settled.failed).sum();
        self.batch_targets.record(number(targets));
        self.batch_duration[lane].record(delivery.took);
        if let Some(confirmed) = delivery.confirmed_ms {
            let age = |id: EntryId| Duration::from_millis(confirmed.saturating_sub(id.ms));
            done.into_iter().for_each(|id| self.event_age[lane].record(age(id)));
        }
    }

    /// A canary came as far as this, or it is given up.
    pub(crate) fn probed(&self, until: Until, found: Finding) {
        let (seconds, outcomes) = &self.probes[until as usize];
        if let Finding::After(took) = found {
            seconds.record(took);
        }
        outcomes[found.index()].increment(1);
    }

    /// Counts what was observed since the last time into its buckets. Until then the exporter keeps each observation by itself: the loop calls this
    /// often, so that they don't pile up when nobody looks at the page.
    pub(crate) fn upkeep(&self) {
        self.exporter.run_upkeep();
    }

    /// How many events were at most as old as each bound of [`SECONDS`], and how many in all; by priority. The exporter alone keeps the buckets,
    /// and tells them as text.
    pub(crate) fn ages(&self) -> [Vec<u64>; 4] {
        let page = self.exporter.render();
        Priority::ALL.map(|priority| {
            let series = format!("{EVENT_AGE}_bucket{{priority=\"{}\",le=", priority.name());
            let buckets = page.lines().filter(|line| line.starts_with(&series));
            buckets.filter_map(|line| line.rsplit_once(' ')?.1.parse().ok()).collect()
        })
    }

    /// The page. `latest` is called under the lock, so that no page is made from older numbers than the one before.
    pub(crate) fn page(&self, latest: impl FnOnce() -> Arc<Stats>) -> String {
        let recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = latest();
        with_local_recorder(&*recorder, || {
            for metric in TABLE {
                metric.set(&stats);
            }
            self.process.collect();
        });
        self.exporter.render()
    }
}

fn probes(until: Until) -> (metrics::Histogram, [metrics::Counter; 3]) {
    let until = until.name();
    (histogram!(PROBE, "until" => until), Finding::OUTCOMES.map(|outcome| counter!(PROBES, "until" => until, "outcome" => outcome)))
}

/// A recorder that knows the buckets of every histogram; one without buckets would be shown as a summary.
fn recorder() -> PrometheusRecorder {
    let buckets = TABLE.iter().filter_map(|metric| match metric.numbers {
        Numbers::Histogram(bounds) => Some((metric.name, bounds)),
        _ => None,
    });
    let with_buckets = |builder: PrometheusBuilder, (name, bounds): (&str, &[f64])| {
        builder
            .set_buckets_for_metric(Matcher::Full(name.to_owned()), bounds)
            .expect("refused are only empty buckets, and none of the table are")
    };
    buckets.fold(PrometheusBuilder::new(), with_buckets).build_recorder()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use unstale_events::{CacheId, Cause, Code};

    use super::*;
    use crate::handle::{Handle, seat};
    use crate::stats::{Labels, Settled};

    const PRICE: CacheId = CacheId(1);

    fn stats() -> Stats {
        Stats::new(Labels {
            caches: vec!["product".into(), "price".into()],
            types: vec!["ProductUpdated".into()],
            stages: vec!["read", "delete"],
            kinds: vec!["timeout", "denied"],
            roles: vec!["reading".into(), "deleting".into()],
            version: "1.2.3".into(),
            commit: "f00".into(),
            routes: "ab\"c".into(),
        })
    }

    /// The first page over these numbers.
    fn page(stats: Stats) -> String {
        Metrics::new().page(|| Arc::new(stats))
    }

    fn settled(processed: u64, coalesced: u64, failed: u64) -> [Settled; 1] {
        [Settled { cache: PRICE, processed, coalesced, failed, keys_deleted: 3 }]
    }

    fn delivery(caches: &[Settled]) -> Delivered<'_> {
        Delivered {
            priority: Priority::Critical,
            caches,
            took: Duration::from_millis(20),
            attempts: 2,
            errors: &[("delete", "timeout", 1)],
            confirmed_ms: Some(1_040),
            round_trips: 2,
            notices: 1,
        }
    }

    fn id(ms: u64) -> EntryId {
        EntryId { ms, seq: 0 }
    }

    /// A page, read as Prometheus reads it: samples by series; every rule of the text format that a writer can break is checked.
    fn parse(page: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
        let (mut types, mut samples, mut current) = (BTreeMap::new(), BTreeMap::new(), String::new());
        let mut lines = page.lines().filter(|line| !line.is_empty());
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a help text");
                assert!(!text.is_empty());
                let (of, kind) = lines.next().and_then(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).expect("TYPE after HELP");
                assert_eq!(of, name);
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} comes twice");
                current = name.to_owned();
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect("a sample");
            let name = series.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix)).filter(|base| *base == current);
            assert_eq!(base.unwrap_or(name), current, "a sample outside its metric");
            assert!(samples.insert(series.to_owned(), value.parse().expect("a number")).is_none(), "{series} comes twice");
        }
        assert!(page.ends_with('\n'));
        (types, samples)
    }

    #[test]
    fn every_series_of_the_contract_is_there_from_the_start() {
        let (types, samples) = parse(&page(stats()));
        for (series, value) in [
            (r#"unstale_events_read_total{stream="critical"}"#, 0.0),
            (r#"unstale_events_total{type="ProductUpdated",outcome="routed"}"#, 0.0),
            (r#"unstale_events_total{type="other",outcome="unrouted"}"#, 0.0),
            (r#"unstale_events_total{type="other",outcome="dead_lettered"}"#, 0.0),
            (r#"unstale_targets_queued_total{cache="product"}"#, 0.0),
            (r#"unstale_targets_coalesced_total{cache="price"}"#, 0.0),
            (r#"unstale_targets_processed_total{cache="price"}"#, 0.0),
            (r#"unstale_targets_failed_total{cache="price"}"#, 0.0),
            (r#"unstale_targets_pending{cache="price"}"#, 0.0),
            (r#"unstale_keys_deleted_total{cache="price"}"#, 0.0),
            (r#"unstale_errors_total{stage="read",kind="denied"}"#, 0.0),
            (r#"unstale_errors_total{stage="delete",kind="timeout"}"#, 0.0),
            ("unstale_batch_targets_count", 0.0),
            (r#"unstale_batch_duration_seconds_count{priority="critical"}"#, 0.0),
            (r#"unstale_event_age_seconds_sum{priority="low"}"#, 0.0),
            (r#"unstale_event_age_seconds_bucket{priority="low",le="+Inf"}"#, 0.0),
            (r#"unstale_queue_depth{priority="normal"}"#, 0.0),
            (r#"unstale_stream_lag{stream="ordinary"}"#, 0.0),
            (r#"unstale_stream_pending{stream="ordinary"}"#, 0.0),
            (r#"unstale_stream_oldest_pending_seconds{stream="ordinary"}"#, 0.0),
            ("unstale_reader", 0.0),
            (r#"unstale_redis_up{role="reading"}"#, 0.0),
            ("unstale_redis_round_trips_total", 0.0),
            ("unstale_notices_published_total", 0.0),
            ("unstale_notices_relayed_total", 0.0),
            ("unstale_notice_gaps_total", 0.0),
            ("unstale_notices_behind", 0.0),
            (r#"unstale_flushes_total{cause="request"}"#, 0.0),
            (r#"unstale_flushes_total{cause="loss"}"#, 0.0),
            (r#"unstale_dead_letters_total{reason="undecodable"}"#, 0.0),
            (r#"unstale_dead_letters_total{reason="deliveries"}"#, 0.0),
            (r#"unstale_probe_seconds_bucket{until="deleted",le="0.1"}"#, 0.0),
            (r#"unstale_probes_total{until="deleted",outcome="ok"}"#, 0.0),
            (r#"unstale_probes_total{until="everywhere",outcome="lost"}"#, 0.0),
            ("unstale_instances", 0.0),
            ("unstale_subscribers", 0.0),
            (r#"unstale_build_info{version="1.2.3",commit="f00",routes="ab\"c"}"#, 1.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
        let ours = types.keys().filter(|name| name.starts_with("unstale_")).count();
        assert_eq!(ours, 30, "a metric more or less is a change of the contract");
        assert!(samples["process_resident_memory_bytes"] > 0.0);
    }

    #[test]
    fn names_and_kinds_follow_the_conventions() {
        let (types, _) = parse(&page(stats()));
        for metric in all() {
            assert_eq!(types[metric.name], metric.kind(), "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}", metric.name);
        }
        for (name, kind) in types {
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name}");
        }
    }

    #[test]
    fn no_label_says_more_than_the_closed_sets() {
        let mut stats = stats();
        stats.event(None, Outcome::Unrouted);
        stats.delivered(&delivery(&[]), Instant::now());
        let text = page(stats);
        let pairs: BTreeSet<(&str, &str)> = text
            .lines()
            .filter_map(|line| Some(line.split_once('{')?.1.rsplit_once('}')?.0))
            .flat_map(|labels| labels.split(','))
            .filter_map(|label| label.split_once('='))
            .filter(|(name, _)| *name != "le")
            .collect();
        let values = |of: &str| pairs.iter().filter(|(name, _)| *name == of).map(|(_, value)| value.trim_matches('"')).collect::<Vec<_>>();
        let priorities = ["critical", "high", "low", "normal"];
        let mut reasons = Code::ALL.map(Code::name);
        reasons.sort_unstable();
        let sets: [(&str, &[&str]); 14] = [
            ("cache", &["price", "product"]),
            ("cause", &["loss", "request"]),
            ("commit", &["f00"]),
            ("kind", &["denied", "timeout"]),
            ("outcome", &["dead_lettered", "lost", "ok", "routed", "unknown", "unrouted"]),
            ("priority", &priorities),
            ("reason", &reasons),
            ("role", &["deleting", "reading"]),
            ("routes", &["ab\\\"c"]),
            ("stage", &["delete", "read"]),
            ("stream", &["critical", "ordinary"]),
            ("type", &["ProductUpdated", "other"]),
            ("until", &["deleted", "everywhere"]),
            ("version", &["1.2.3"]),
        ];
        for (name, set) in sets {
            assert_eq!(values(name), set, "{name}");
        }
        assert_eq!(pairs.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), sets.map(|(name, _)| name).into());
    }

    #[test]
    fn ages_have_the_buckets_of_the_contract() {
        let (_, samples) = parse(&page(stats()));
        for bound in ["0.001", "0.002", "0.005", "0.01", "0.025", "0.05", "0.1", "0.3", "1", "2", "5", "30", "+Inf"] {
            let series = format!(r#"unstale_event_age_seconds_bucket{{priority="critical",le="{bound}"}}"#);
            assert!(samples.contains_key(&series), "{series}");
        }
        let buckets = samples.keys().filter(|series| series.starts_with(r#"unstale_event_age_seconds_bucket{priority="critical""#));
        assert_eq!(buckets.count(), 13);
    }

    #[test]
    fn what_was_done_is_on_the_page() {
        let mut stats = stats();
        stats.read(StreamKind::Critical, 3);
        stats.event(Some(0), Outcome::Routed);
        stats.queued(PRICE, Priority::Critical, 9);
        stats.queue(Priority::Low, 4);
        stats.seen(StreamKind::Ordinary, 5, 6, Duration::from_millis(1500));
        stats.reader(true);
        stats.link("deleting", true);
        stats.flushed(Cause::Loss);
        stats.reader(true);
        stats.heard(&unstale_notices::Counts { relayed: 7, gaps: 1, receivers: 2, requests: 3 });
        stats.buried(Code::RefusedTarget);
        stats.set_instances(3);
        stats.round_trips_add(2);
        let (metrics, settled) = (Metrics::new(), settled(4, 2, 1));
        stats.delivered(&delivery(&settled), Instant::now());
        metrics.delivered(&delivery(&settled), [id(1_000)]);
        let (_, samples) = parse(&metrics.page(|| Arc::new(stats)));
        for (series, value) in [
            (r#"unstale_events_read_total{stream="critical"}"#, 3.0),
            (r#"unstale_events_total{type="ProductUpdated",outcome="routed"}"#, 1.0),
            (r#"unstale_targets_queued_total{cache="price"}"#, 9.0),
            (r#"unstale_targets_processed_total{cache="price"}"#, 4.0),
            (r#"unstale_targets_coalesced_total{cache="price"}"#, 2.0),
            (r#"unstale_targets_failed_total{cache="price"}"#, 1.0),
            (r#"unstale_targets_pending{cache="price"}"#, 2.0),
            (r#"unstale_targets_queued_total{cache="product"}"#, 0.0),
            (r#"unstale_keys_deleted_total{cache="price"}"#, 3.0),
            (r#"unstale_errors_total{stage="delete",kind="timeout"}"#, 1.0),
            (r#"unstale_batch_targets_bucket{le="5"}"#, 1.0),
            (r#"unstale_batch_targets_bucket{le="2"}"#, 0.0),
            (r#"unstale_batch_duration_seconds_sum{priority="critical"}"#, 0.02),
            (r#"unstale_event_age_seconds_sum{priority="critical"}"#, 0.04),
            (r#"unstale_event_age_seconds_bucket{priority="critical",le="0.025"}"#, 0.0),
            (r#"unstale_event_age_seconds_bucket{priority="critical",le="0.05"}"#, 1.0),
            (r#"unstale_queue_depth{priority="low"}"#, 4.0),
            (r#"unstale_stream_lag{stream="ordinary"}"#, 5.0),
            (r#"unstale_stream_pending{stream="ordinary"}"#, 6.0),
            (r#"unstale_stream_oldest_pending_seconds{stream="ordinary"}"#, 1.5),
            ("unstale_reader", 1.0),
            (r#"unstale_redis_up{role="reading"}"#, 0.0),
            (r#"unstale_redis_up{role="deleting"}"#, 1.0),
            ("unstale_redis_round_trips_total", 4.0),
            ("unstale_notices_published_total", 1.0),
            ("unstale_notice_gaps_total", 1.0),
            (r#"unstale_flushes_total{cause="request"}"#, 3.0),
            (r#"unstale_flushes_total{cause="loss"}"#, 1.0),
            (r#"unstale_dead_letters_total{reason="refused_target"}"#, 1.0),
            (r#"unstale_dead_letters_total{reason="unrouted"}"#, 0.0),
            ("unstale_instances", 3.0),
            ("unstale_subscribers", 2.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
    }

    #[test]
    fn ages_are_by_redis_clock_and_none_is_below_zero() {
        let metrics = Metrics::new();
        metrics.delivered(&Delivered { confirmed_ms: Some(1_000), ..delivery(&[]) }, [999, 999, 999, 900, 2_000].map(id));
        metrics.delivered(&Delivered { confirmed_ms: None, ..delivery(&[]) }, [id(1)]);
        let (_, samples) = parse(&metrics.page(|| Arc::new(stats())));
        let age = |rest: &str| samples[&format!("unstale_event_age_seconds_{rest}")];
        assert!((age(r#"sum{priority="critical"}"#) - 0.103).abs() < 1e-9);
        let counts = ["0.001", "0.05", "0.1", "+Inf"].map(|le| age(&format!(r#"bucket{{priority="critical",le="{le}"}}"#)));
        assert_eq!(counts.map(|count| format!("{count}")), ["4", "4", "5", "5"]);
        assert_eq!(format!("{}", age(r#"count{priority="low"}"#)), "0");
    }

    #[test]
    fn a_canary_is_timed_if_it_arrived_and_counted_in_any_case() {
        let metrics = Metrics::new();
        for found in [Finding::After(Duration::from_millis(200)), Finding::After(Duration::from_secs(3)), Finding::Lost, Finding::Unknown] {
            metrics.probed(Until::Everywhere, found);
        }
        let (_, samples) = parse(&metrics.page(|| Arc::new(stats())));
        for (series, value) in [
            (r#"unstale_probe_seconds_bucket{until="everywhere",le="0.25"}"#, 1.0),
            (r#"unstale_probe_seconds_count{until="everywhere"}"#, 2.0),
            (r#"unstale_probes_total{until="everywhere",outcome="ok"}"#, 2.0),
            (r#"unstale_probes_total{until="everywhere",outcome="lost"}"#, 1.0),
            (r#"unstale_probes_total{until="everywhere",outcome="unknown"}"#, 1.0),
            (r#"unstale_probes_total{until="deleted",outcome="lost"}"#, 0.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
    }

    #[test]
    fn ages_are_told_bucket_by_bucket() {
        let metrics = Metrics::new();
        assert_eq!(metrics.ages(), [const { [0; 13] }; 4].map(Vec::from));
        metrics.delivered(&Delivered { confirmed_ms: Some(1_000), ..delivery(&[]) }, [999, 980, 10].map(id));
        let [critical, others @ ..] = metrics.ages();
        assert_eq!(critical, [1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
        assert!(others.iter().flatten().all(|count| *count == 0));
    }

    #[test]
    fn observations_are_kept_over_upkeep_and_pages() {
        let metrics = Metrics::new();
        for _ in 0..3 {
            metrics.delivered(&delivery(&[]), [id(1_000), id(1_000)]);
            metrics.upkeep();
            metrics.page(|| Arc::new(stats()));
        }
        let (_, samples) = parse(&metrics.page(|| Arc::new(stats())));
        assert_eq!(format!("{}", samples[r#"unstale_event_age_seconds_count{priority="critical"}"#]), "6");
        assert_eq!(format!("{}", samples["unstale_batch_targets_count"]), "3");
    }

    /// Plays the loop until the readers of pages are done.
    fn work(seat: &crate::handle::Seat, mut stats: Stats, done: &AtomicBool) {
        let metrics = seat.metrics();
        while !done.load(Ordering::Relaxed) {
            for settled in [settled(1, 0, 0), settled(0, 1, 0), settled(2, 3, 1)] {
                stats.queued(PRICE, Priority::Critical, 7);
                seat.publish(&stats);
                stats.delivered(&delivery(&settled), Instant::now());
                metrics.delivered(&delivery(&settled), [id(1_000), id(1_039)]);
                seat.publish(&stats);
            }
            metrics.upkeep();
        }
    }

    /// Looks at pages, each in itself and against the one before.
    fn watch(handle: &Handle, pages: usize) {
        let mut last = BTreeMap::new();
        for _ in 0..pages {
            let (_, samples) = parse(&handle.metrics_page());
            let of = |what: &str| samples[&format!("unstale_targets_{what}{{cache=\"price\"}}")];
            let settled = of("processed_total") + of("coalesced_total") + of("failed_total");
            assert!((of("queued_total") - settled - of("pending")).abs() < 0.5, "{samples:#?}");
            let ages = |rest: &str| samples[&format!("unstale_event_age_seconds_{rest}")];
            let [count, in_all] = [ages(r#"count{priority="critical"}"#), ages(r#"bucket{priority="critical",le="+Inf"}"#)];
            assert!((count - in_all).abs() < 0.5);
            for (series, value) in samples.iter().filter(|(series, _)| series.contains("_total") || series.contains("_count")) {
                assert!(last.get(series).is_none_or(|before| before <= value), "{series} went back");
            }
            last = samples;
        }
    }

    #[test]
    fn the_counts_agree_on_every_page_while_the_loop_works() {
        let (seat, handle) = seat(stats());
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watchers = [(); 3].map(|()| scope.spawn(|| watch(&handle, 100)));
            scope.spawn(|| work(&seat, stats(), &done));
            // The loop must be let go before a failure is told, or the scope waits for it for ever.
            let seen = watchers.map(std::thread::ScopedJoinHandle::join);
            done.store(true, Ordering::Relaxed);
            assert!(seen.iter().all(Result::is_ok));
        });
    }
}
