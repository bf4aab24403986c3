//! The metrics page: every metric's name, help text and labels, and how the numbers of [`Stats`] are written as Prometheus text.
//!
//! It keeps no numbers of its own. A page is written from one state of the [`Stats`], so the counts on it agree with each other (queued = processed
//! + coalesced + failed + pending) whatever the loop does meanwhile, recording costs the loop an addition, and memory doesn't grow between scrapes.

use std::fmt::{self, Write};

use unstale_events::{Priority, StreamKind};

use crate::stats::{Histogram, Outcome, Stats, Tally};

/// The content type of [`page`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What kind of numbers a metric has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows while the process lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations, counted by size.
    Histogram,
}

impl Kind {
    /// The word of the `# TYPE` line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric: its name, and what it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// The name on the page.
    pub name: &'static str,
    /// What kind of numbers it has.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// One sentence for people.
    pub help: &'static str,
}

/// Writes the samples of one metric.
type Samples = fn(&Stats, &mut Series<'_>) -> fmt::Result;

/// Every metric of the sidecar itself, in the order of the page.
const TABLE: &[(Metric, Samples)] = &[
    (counter("unstale_events_read_total", &["stream"], "Entries read from a stream; a redelivered entry counts again."), |stats, out| {
        StreamKind::ALL.into_iter().try_for_each(|kind| out.add(&[kind.name()], stats.stream(kind).read))
    }),
    (
        counter(
            "unstale_events_total",
            &["type", "outcome"],
            "Events by type (`other`: none that a route names) and what the routes made of them.",
        ),
        |stats, out| {
            stats.events().try_for_each(|(name, counts)| {
                Outcome::ALL.into_iter().try_for_each(|outcome| out.add(&[name, outcome.name()], counts[outcome as usize]))
            })
        },
    ),
    (counter("unstale_targets_queued_total", &["cache"], "Keys and patterns that events asked to delete."), |stats, out| {
        by_cache(stats, out, |tally| tally.queued)
    }),
    (
        counter(
            "unstale_targets_coalesced_total",
            &["cache"],
            "Targets that needed no delete of their own: another of their batch covered them.",
        ),
        |stats, out| by_cache(stats, out, |tally| tally.coalesced),
    ),
    (counter("unstale_targets_processed_total", &["cache"], "Targets whose deletion Redis confirmed."), |stats, out| {
        by_cache(stats, out, |tally| tally.processed)
    }),
    (
        counter(
            "unstale_targets_failed_total",
            &["cache"],
            "Targets whose delivery was given up; they stay pending in Redis or are dead letters.",
        ),
        |stats, out| by_cache(stats, out, |tally| tally.failed),
    ),
    (gauge("unstale_targets_pending", &["cache"], "Targets queued and not yet processed, coalesced or failed."), |stats, out| {
        by_cache(stats, out, Tally::pending)
    }),
    (counter("unstale_keys_deleted_total", &["cache"], "Keys that Redis said it deleted."), |stats, out| {
        by_cache(stats, out, |tally| tally.keys_deleted)
    }),
    (counter("unstale_errors_total", &["stage", "kind"], "Errors by the stage that met them and their kind."), |stats, out| {
        stats.errors().try_for_each(|(stage, kind, count)| out.add(&[stage, kind], count))
    }),
    (histogram("unstale_batch_targets", &[], "Distinct targets of a delivered batch."), |stats, out| {
        out.observed(&[], stats.batch_targets())
    }),
    (
        histogram("unstale_batch_duration_seconds", &["priority"], "Time from a batch's closing to the end of its delivery."),
        |stats, out| Priority::ALL.into_iter().try_for_each(|priority| out.observed(&[priority.name()], stats.batch_duration(priority))),
    ),
    (
        histogram(
            "unstale_event_age_seconds",
            &["priority"],
            "Time from XADD to the confirmed delete of all the event's targets, by Redis' clock.",
        ),
        |stats, out| Priority::ALL.into_iter().try_for_each(|priority| out.observed(&[priority.name()], stats.event_age(priority))),
    ),
    (gauge("unstale_queue_depth", &["priority"], "Entries read that wait in a lane for their batch."), |stats, out| {
        Priority::ALL.into_iter().try_for_each(|priority| out.add(&[priority.name()], stats.queue_depth(priority)))
    }),
    (gauge("unstale_stream_lag", &["stream"], "Entries that no reader of the group has seen yet."), |stats, out| {
        StreamKind::ALL.into_iter().try_for_each(|kind| out.add(&[kind.name()], stats.stream(kind).lag))
    }),
    (gauge("unstale_stream_pending", &["stream"], "Entries read by the group and not acknowledged."), |stats, out| {
        StreamKind::ALL.into_iter().try_for_each(|kind| out.add(&[kind.name()], stats.stream(kind).pending))
    }),
    (
        gauge("unstale_stream_oldest_pending_seconds", &["stream"], "Age of the oldest unacknowledged entry, 0 if there is none."),
        |stats, out| {
            StreamKind::ALL.into_iter().try_for_each(|kind| out.add(&[kind.name()], stats.stream(kind).oldest_pending.as_secs_f64()))
        },
    ),
    (gauge("unstale_reader", &[], "1 if this process holds the lease and reads the ordinary stream."), |stats, out| {
        out.add(&[], u8::from(stats.is_reader()))
    }),
    (gauge("unstale_redis_up", &["role"], "1 if this connection to Redis is up."), |stats, out| {
        stats.links().try_for_each(|(role, up)| out.add(&[role], u8::from(up)))
    }),
    (counter("unstale_redis_round_trips_total", &[], "Waits for an answer of Redis by deliveries."), |stats, out| {
        out.add(&[], stats.round_trips())
    }),
    (counter("unstale_notices_published_total", &[], "Notices written to the log by this process."), |stats, out| {
        out.add(&[], stats.notices().published)
    }),
    (counter("unstale_notices_relayed_total", &[], "Notices written to receivers by this process."), |stats, out| {
        out.add(&[], stats.notices().relayed)
    }),
    (counter("unstale_notice_gaps_total", &[], "Times that a reader of the notice log had to be told to flush."), |stats, out| {
        out.add(&[], stats.notices().gaps)
    }),
    (counter("unstale_flushes_total", &["cause"], "Published requests to drop whole caches."), |stats, out| {
        stats.flushes().try_for_each(|(cause, count)| out.add(&[cause], count))
    }),
    (gauge("unstale_subscribers", &[], "Receivers of notices connected to this process."), |stats, out| out.add(&[], stats.subscribers())),
    (
        gauge("unstale_build_info", &["version", "routes"], "Always 1; its labels name the release and the routes, to show a mixed fleet."),
        |stats, out| out.add(&[&stats.labels().version, &stats.labels().routes], 1),
    ),
];

/// Takes one number from what the system tells of the process.
type Reading = fn(&metrics_process::collector::Metrics) -> Option<f64>;

/// The standard metrics of a process, left out where the system doesn't tell them.
const PROCESS: &[(Metric, Reading)] = &[
    (counter("process_cpu_seconds_total", &[], "Total user and system CPU time spent in seconds."), |process| process.cpu_seconds_total),
    (gauge("process_open_fds", &[], "Number of open file descriptors."), |process| number(process.open_fds)),
    (gauge("process_max_fds", &[], "Maximum number of open file descriptors, 0 if unlimited."), |process| number(process.max_fds)),
    (gauge("process_virtual_memory_bytes", &[], "Virtual memory size in bytes."), |process| number(process.virtual_memory_bytes)),
    (gauge("process_virtual_memory_max_bytes", &[], "Maximum amount of virtual memory in bytes, 0 if unlimited."), |process| {
        number(process.virtual_memory_max_bytes)
    }),
    (gauge("process_resident_memory_bytes", &[], "Resident memory size in bytes."), |process| number(process.resident_memory_bytes)),
    (gauge("process_start_time_seconds", &[], "Start time of the process since the Unix epoch in seconds."), |process| {
        number(process.start_time_seconds)
    }),
    (gauge("process_threads", &[], "Number of threads of the process."), |process| number(process.threads)),
];

/// Every metric on the page, the process metrics included.
pub fn all() -> impl Iterator<Item = Metric> {
    TABLE.iter().map(|(metric, _)| *metric).chain(PROCESS.iter().map(|(metric, _)| *metric))
}

/// The page for Prometheus, in its text format.
pub fn page(stats: &Stats) -> String {
    let mut text = String::with_capacity(16 * 1024);
    // Writing to a String doesn't fail.
    let _ = write_page(stats, &mut text);
    text
}

fn write_page(stats: &Stats, text: &mut String) -> fmt::Result {
    for (metric, samples) in TABLE {
        samples(stats, &mut Series::begin(text, *metric)?)?;
    }
    let process = metrics_process::collector::collect();
    for (metric, value) in PROCESS {
        if let Some(value) = value(&process) {
            Series::begin(text, *metric)?.add(&[], value)?;
        }
    }
    Ok(())
}

fn by_cache(stats: &Stats, out: &mut Series<'_>, count: fn(&Tally) -> u64) -> fmt::Result {
    stats.caches().try_for_each(|(name, tally)| out.add(&[name], count(&tally)))
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus knows no numbers but f64")]
fn number(value: Option<u64>) -> Option<f64> {
    value.map(|value| value as f64)
}

const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, labels, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, help }
}

const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Metric {
    Metric { name, kind: Kind::Histogram, labels, help }
}

/// The lines of one metric.
struct Series<'a> {
    text: &'a mut String,
    metric: Metric,
}

impl<'a> Series<'a> {
    /// Writes the two lines that head a metric.
    fn begin(text: &'a mut String, metric: Metric) -> Result<Self, fmt::Error> {
        writeln!(text, "# HELP {} {}", metric.name, metric.help)?;
        writeln!(text, "# TYPE {} {}", metric.name, metric.kind.name())?;
        Ok(Self { text, metric })
    }

    /// Writes a sample; the values of the labels stand in the order of their names.
    fn add(&mut self, labels: &[&str], value: impl fmt::Display) -> fmt::Result {
        self.line("", labels, None, value)
    }

    /// Writes the samples of a histogram.
    fn observed(&mut self, labels: &[&str], histogram: &Histogram) -> fmt::Result {
        for (bound, count) in histogram.cumulative() {
            let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            self.line("_bucket", labels, Some(&bound), count)?;
        }
        self.line("_sum", labels, None, histogram.sum())?;
        self.line("_count", labels, None, histogram.count())
    }

    fn line(&mut self, suffix: &str, labels: &[&str], le: Option<&str>, value: impl fmt::Display) -> fmt::Result {
        write!(self.text, "{}{suffix}", self.metric.name)?;
        let pairs = self.metric.labels.iter().copied().zip(labels.iter().copied()).chain(le.map(|le| ("le", le)));
        let mut open = '{';
        for (name, value) in pairs {
            write!(self.text, "{open}{name}=\"{}\"", Escaped(value))?;
            open = ',';
        }
        let close = if open == ',' { "}" } else { "" };
        writeln!(self.text, "{close} {value}")
    }
}

/// A label's value as the text format wants it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            other => f.write_char(other),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::{Duration, Instant};

    use unstale_events::{CacheId, EntryId};

    use super::*;
    use crate::stats::{Delivered, Labels, Settled};

    fn stats() -> Stats {
        Stats::new(Labels {
            caches: vec!["product".into(), "price".into()],
            types: vec!["ProductUpdated".into()],
            stages: vec!["read", "delete"],
            kinds: vec!["timeout", "denied"],
            roles: vec!["reading", "deleting"],
            causes: vec!["loss"],
            version: "1.2.3".into(),
            routes: "ab\"c".into(),
        })
    }

    /// A page, read as Prometheus reads it: samples by series; every rule of the text format that a writer can break is checked.
    fn parse(page: &str) -> (BTreeMap<String, String>, BTreeMap<String, f64>) {
        let (mut types, mut samples, mut current) = (BTreeMap::new(), BTreeMap::new(), String::new());
        let mut lines = page.lines();
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
        let (types, samples) = parse(&page(&stats()));
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
            (r#"unstale_flushes_total{cause="loss"}"#, 0.0),
            ("unstale_subscribers", 0.0),
            (r#"unstale_build_info{version="1.2.3",routes="ab\"c"}"#, 1.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
        let ours = types.keys().filter(|name| name.starts_with("unstale_")).count();
        assert_eq!(ours, 25, "a metric more or less is a change of the contract");
        assert!(samples["process_resident_memory_bytes"] > 0.0);
    }

    #[test]
    fn names_and_kinds_follow_the_conventions() {
        for metric in all() {
            assert_eq!(metric.kind == Kind::Counter, metric.name.ends_with("_total"), "{}", metric.name);
            assert!(metric.help.ends_with('.') && !metric.help.contains('\n'), "{}", metric.name);
        }
    }

    #[test]
    fn ages_have_the_buckets_of_the_contract() {
        let (_, samples) = parse(&page(&stats()));
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
        let price = CacheId(1);
        stats.read(StreamKind::Critical, 3);
        stats.event(Some(0), Outcome::Routed);
        stats.queued(price, Priority::Critical, 9);
        stats.queue(Priority::Low, 4);
        stats.seen(StreamKind::Ordinary, Some(5), 6, Duration::from_millis(1500));
        stats.reader(true);
        stats.link("deleting", true);
        stats.flushed("loss");
        stats.set_subscribers(2);
        stats.round_trips_add(2);
        stats.notices_mut().gaps += 1;
        let delivered = Delivered {
            priority: Priority::Critical,
            caches: &[Settled { cache: price, processed: 4, coalesced: 2, failed: 1, keys_deleted: 3 }],
            took: Duration::from_millis(20),
            attempts: 2,
            errors: &[("delete", "timeout", 1)],
            confirmed_ms: Some(1_040),
            round_trips: 2,
            notices: 1,
        };
        stats.delivered(&delivered, [EntryId { ms: 1_000, seq: 0 }], Instant::now());
        let (_, samples) = parse(&page(&stats));
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
            (r#"unstale_flushes_total{cause="loss"}"#, 1.0),
            ("unstale_subscribers", 2.0),
        ] {
            assert_eq!(samples.get(series), Some(&value), "{series}");
        }
    }
}
