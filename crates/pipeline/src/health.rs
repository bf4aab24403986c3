//! Whether all is well: a judgement over numbers that others gathered.
//!
//! Pure: no clock, no I/O; what a bad answer leads to (a 503, a page, a restart) is not decided here.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

/// How far back [`ErrorRate`] looks.
const ERROR_WINDOW: Duration = Duration::from_secs(300);
/// How finely it forgets.
const ERROR_SLICE: Duration = Duration::from_secs(10);

/// Where "well" ends: the settings `health.*`. A value above its threshold makes the process `degraded`, too many errors `unhealthy`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Lag and pending of both streams, in entries.
    pub depth: u64,
    /// The answer to a PING.
    pub ping: Duration,
    /// The share of delivery attempts that failed within five minutes, 0 to 1.
    pub error_rate: f64,
    /// Entries of both streams that no reader has seen yet.
    pub lag: u64,
    /// The age of the oldest entry that was read and isn't acknowledged.
    pub oldest_pending: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { depth: 10_000, ping: Duration::from_millis(100), error_rate: 0.05, lag: 10_000, oldest_pending: Duration::from_secs(60) }
    }
}

/// A connection to Redis that is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Down<'a> {
    /// What the connection is for.
    pub role: &'a str,
    /// For how long.
    pub since: Duration,
    /// Why, without key texts.
    pub why: &'a str,
}

/// What is known of the process, to be judged.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Signs<'a> {
    /// Whether every connection has been up once since the start.
    pub connected_once: bool,
    /// Whether the process has been told to end.
    pub draining: bool,
    /// The connections that are down.
    pub down: &'a [Down<'a>],
    /// Rights that the Redis user lacks, as `check --acl` writes them.
    pub missing_rights: &'a [String],
    /// Keys that should be streams and are something else.
    pub no_streams: &'a [String],
    /// What else Redis refuses to do, and why, without key texts.
    pub refusals: &'a [String],
    /// Lag and pending of both streams, in entries.
    pub depth: u64,
    /// The last answer to a PING, if there was one.
    pub ping: Option<Duration>,
    /// The share of delivery attempts that failed within five minutes, 0 to 1.
    pub error_rate: f64,
    /// Entries of both streams that no reader has seen yet.
    pub lag: u64,
    /// The age of the oldest entry that was read and isn't acknowledged.
    pub oldest_pending: Duration,
}

/// The judgement in one word; the order of the variants is the order of badness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to say.
    Ok,
    /// Works, but not as it should.
    Degraded,
    /// Nothing can be delivered, or someone must act.
    Unhealthy,
}

/// Why the status isn't [`Status::Ok`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cause {
    /// One of a closed set, for programs.
    pub code: &'static str,
    /// A sentence for people, without key texts.
    pub detail: String,
}

/// The judgement. As JSON it is the body of `/healthz` and `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// In one word.
    pub status: Status,
    /// Why; empty if all is well.
    pub reasons: Vec<Cause>,
    /// Whether the process takes part in the work: from the first connect until drain, whatever Redis does.
    #[serde(skip)]
    pub ready: bool,
}

impl Health {
    /// What holds before the loop has turned once.
    pub fn starting() -> Self {
        let mut health = Self { status: Status::Ok, reasons: Vec::new(), ready: false };
        health.add(Status::Unhealthy, "starting", "no connection to Redis yet".to_owned());
        health
    }

    /// Weighs the signs.
    pub fn judge(signs: &Signs<'_>, limits: &Thresholds) -> Self {
        let mut health = Self { status: Status::Ok, reasons: Vec::new(), ready: signs.connected_once && !signs.draining };
        for down in signs.down {
            let since = format!("{:.1} s", down.since.as_secs_f64());
            health.add(
                Status::Unhealthy,
                "redis_down",
                format!("the connection for {} has been down for {since}: {}", down.role, down.why),
            );
        }
        for right in signs.missing_rights {
            health.add(
                Status::Unhealthy,
                "missing_right",
                format!("the Redis user may not do what is needed: grant {right} (see `unstale check --acl`)"),
            );
        }
        for key in signs.no_streams {
            health.add(Status::Unhealthy, "no_stream", format!("the key {key} is no stream: rename or delete it"));
        }
        for refusal in signs.refusals {
            health.add(Status::Unhealthy, "redis_refuses", format!("Redis can be reached, but doesn't do what is asked: {refusal}"));
        }
        if signs.draining {
            health.add(Status::Degraded, "draining", "the process was told to end and finishes its work".to_owned());
        }
        health.weigh(signs, limits);
        health
    }

    /// Adds a reason; the status becomes at least this bad.
    pub fn add(&mut self, status: Status, code: &'static str, detail: String) {
        self.status = self.status.max(status);
        self.reasons.push(Cause { code, detail });
    }

    fn weigh(&mut self, signs: &Signs<'_>, limits: &Thresholds) {
        let ping = signs.ping.unwrap_or_default();
        self.above("depth", "entries unread or unacknowledged", signs.depth, limits.depth, |n| n.to_string());
        self.above("ping", "for the answer to a PING", ping, limits.ping, milliseconds);
        if signs.error_rate > limits.error_rate {
            let (share, limit) = (percent(signs.error_rate), percent(limits.error_rate));
            self.add(Status::Unhealthy, "errors", format!("{share} of delivery attempts failed within 5 minutes, above {limit}"));
        }
        self.above("lag", "entries unread", signs.lag, limits.lag, |n| n.to_string());
        self.above(
            "oldest_pending",
            "since the oldest unacknowledged entry was added",
            signs.oldest_pending,
            limits.oldest_pending,
            milliseconds,
        );
    }

    fn above<T: PartialOrd + Copy>(&mut self, code: &'static str, what: &str, value: T, limit: T, show: fn(T) -> String) {
        if value > limit {
            self.add(Status::Degraded, code, format!("{} {what}, above {}", show(value), show(limit)));
        }
    }
}

fn milliseconds(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        })
    }
}

/// Delivery attempts and errors of the last five minutes.
#[derive(Debug, Clone, Default)]
pub struct ErrorRate {
    /// Oldest first; at most as many as fit into the window.
    slices: VecDeque<Slice>,
}

#[derive(Debug, Clone, Copy)]
struct Slice {
    begun: Instant,
    attempts: u64,
    errors: u64,
}

impl ErrorRate {
    /// Counts attempts, and how many errors they met.
    pub fn record(&mut self, attempts: u64, errors: u64, now: Instant) {
        while self.slices.front().is_some_and(|slice| is_past(slice, now)) {
            self.slices.pop_front();
        }
        match self.slices.back_mut() {
            Some(slice) if now.saturating_duration_since(slice.begun) < ERROR_SLICE => {
                slice.attempts += attempts;
                slice.errors += errors;
            }
            _ => self.slices.push_back(Slice { begun: now, attempts, errors }),
        }
    }

    /// Errors / attempts, at most 1; 0 without attempts.
    #[expect(clippy::cast_precision_loss, reason = "five minutes hold fewer than 2^53 attempts")]
    pub fn share(&self, now: Instant) -> f64 {
        let recent = self.slices.iter().filter(|slice| !is_past(slice, now));
        let (attempts, errors) = recent.fold((0, 0), |(attempts, errors), slice| (attempts + slice.attempts, errors + slice.errors));
        if attempts == 0 { 0.0 } else { (errors as f64 / attempts as f64).min(1.0) }
    }
}

fn is_past(slice: &Slice, now: Instant) -> bool {
    now.saturating_duration_since(slice.begun) >= ERROR_WINDOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Signs<'static> {
        Signs { connected_once: true, ..Signs::default() }
    }

    fn codes(signs: &Signs<'_>) -> (Status, Vec<&'static str>) {
        let health = Health::judge(signs, &Thresholds::default());
        (health.status, health.reasons.iter().map(|reason| reason.code).collect())
    }

    #[test]
    fn at_every_threshold_all_is_well() {
        let limits = Thresholds::default();
        let signs = Signs {
            depth: limits.depth,
            ping: Some(limits.ping),
            error_rate: limits.error_rate,
            lag: limits.lag,
            oldest_pending: limits.oldest_pending,
            ..well()
        };
        let health = Health::judge(&signs, &limits);
        assert_eq!(health, Health { status: Status::Ok, reasons: vec![], ready: true });
    }

    #[test]
    fn above_each_threshold_it_degrades_and_says_by_how_much() {
        assert_eq!(codes(&Signs { depth: 10_001, ..well() }), (Status::Degraded, vec!["depth"]));
        assert_eq!(codes(&Signs { ping: Some(Duration::from_millis(101)), ..well() }), (Status::Degraded, vec!["ping"]));
        assert_eq!(codes(&Signs { error_rate: 0.051, ..well() }), (Status::Unhealthy, vec!["errors"]));
        assert_eq!(codes(&Signs { lag: 10_001, ..well() }), (Status::Degraded, vec!["lag"]));
        assert_eq!(codes(&Signs { oldest_pending: Duration::from_millis(60_001), ..well() }), (Status::Degraded, vec!["oldest_pending"]));
        let health = Health::judge(&Signs { depth: 10_001, ..well() }, &Thresholds::default());
        assert_eq!(health.reasons[0].detail, "10001 entries unread or unacknowledged, above 10000");
    }

    #[test]
    fn a_lost_connection_and_a_missing_right_are_unhealthy_but_ready() {
        let down = [Down { role: "reading", since: Duration::from_millis(1500), why: "unreachable: connection refused" }];
        let rights = ["+unlink".to_owned()];
        let refusals = ["beat: loading: LOADING Redis is loading the dataset in memory".to_owned()];
        let signs = Signs { down: &down, missing_rights: &rights, refusals: &refusals, depth: 20_000, ..well() };
        let health = Health::judge(&signs, &Thresholds::default());
        assert_eq!((health.status, health.ready), (Status::Unhealthy, true));
        assert_eq!(codes(&signs).1, ["redis_down", "missing_right", "redis_refuses", "depth"]);
        assert_eq!(health.reasons[0].detail, "the connection for reading has been down for 1.5 s: unreachable: connection refused");
        assert!(health.reasons[1].detail.contains("+unlink"));
    }

    #[test]
    fn it_is_ready_from_the_first_connect_until_drain() {
        let ready =
            |connected_once, draining| Health::judge(&Signs { connected_once, draining, ..Signs::default() }, &Thresholds::default()).ready;
        assert_eq!([ready(false, false), ready(true, false), ready(true, true)], [false, true, false]);
        assert!(!Health::starting().ready);
        assert_eq!(Health::starting().status, Status::Unhealthy);
    }

    #[test]
    fn the_body_is_the_contracts() {
        let down = [Down { role: "reading", since: Duration::ZERO, why: "gone" }];
        let health = Health::judge(&Signs { down: &down, ..well() }, &Thresholds::default());
        let body = serde_json::to_value(&health).unwrap();
        let detail = "the connection for reading has been down for 0.0 s: gone";
        assert_eq!(body, serde_json::json!({"status": "unhealthy", "reasons": [{"code": "redis_down", "detail": detail}]}));
    }

    #[test]
    fn errors_are_forgotten_after_five_minutes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut rate = ErrorRate::default();
        rate.record(1, 1, at(0));
        rate.record(3, 0, at(5));
        assert!((rate.share(at(5)) - 0.25).abs() < 1e-9);
        rate.record(4, 0, at(200));
        assert!((rate.share(at(299)) - 0.125).abs() < 1e-9);
        assert!(rate.share(at(300)).abs() < 1e-9, "the slice of the error is past");
        assert!(rate.share(at(600)).abs() < 1e-9, "nothing is left");
    }

    #[test]
    fn its_memory_is_bounded() {
        let start = Instant::now();
        let mut rate = ErrorRate::default();
        (0..10_000).for_each(|second| rate.record(1, 0, start + Duration::from_secs(second)));
        assert!(rate.slices.len() <= 31, "{} slices", rate.slices.len());
    }
}
