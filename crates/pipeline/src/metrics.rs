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
