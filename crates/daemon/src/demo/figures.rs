//! What Redis and the sidecars have counted.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Trouble;
use super::stage::Stage;
use crate::web::Connection;

/// How often Redis has run each command, by INFO commandstats: also those within scripts, under their own names.
pub(super) struct Commands(BTreeMap<String, u64>);

impl Commands {
    pub(super) async fn now(stage: &Stage) -> Result<Self, Trouble> {
        let info = stage.main.client().info("commandstats").await?;
        let calls = |line: &str| line.strip_prefix("calls=")?.split(',').next()?.parse().ok();
        let named = |(name, line): (&String, &String)| Some((name.strip_prefix("cmdstat_")?.to_owned(), calls(line)?));
        Ok(Self(info.iter().filter_map(named).collect()))
    }

    /// What was run since an earlier look, of these commands together.
    pub(super) fn since(&self, earlier: &Self, names: &[&str]) -> u64 {
        let sum = |commands: &Self| names.iter().filter_map(|name| commands.0.get(*name)).sum::<u64>();
        sum(self) - sum(earlier)
    }
}

/// What both sidecars have counted, added up.
#[derive(Debug, Default)]
pub(super) struct Sidecars {
    pub(super) queued: u64,
    pub(super) coalesced: u64,
    pub(super) keys_deleted: u64,
    pub(super) errors: u64,
    /// From XADD to the confirmed delete by Redis' clock, in seconds, over all critical events.
    pub(super) critical_age: f64,
    pub(super) critical_events: f64,
}

#[derive(Deserialize)]
struct Report {
    totals: Totals,
}

#[derive(Deserialize)]
struct Totals {
    queued: u64,
    coalesced: u64,
    keys_deleted: u64,
    errors: u64,
}

impl Sidecars {
    pub(super) async fn now(stage: &Stage) -> Result<Self, Trouble> {
        let mut sum = Self::default();
        for sidecar in stage.sidecars {
            let mut connection = Connection::open(sidecar).await?;
            let Report { totals } = connection.json("/v1/stats").await?;
            sum.queued += totals.queued;
            sum.coalesced += totals.coalesced;
            sum.keys_deleted += totals.keys_deleted;
            sum.errors += totals.errors;
            let (_, metrics) = connection.get("/metrics").await?;
            let metrics = String::from_utf8_lossy(&metrics);
            sum.critical_age += value(&metrics, r#"unstale_event_age_seconds_sum{priority="critical"}"#);
            sum.critical_events += value(&metrics, r#"unstale_event_age_seconds_count{priority="critical"}"#);
        }
        Ok(sum)
    }

    /// The part of all targets that needed no delete of its own, in percent.
    #[expect(clippy::cast_precision_loss, reason = "counts of some ten thousand")]
    pub(super) fn coalescing(&self) -> f64 {
        self.coalesced as f64 / self.queued.max(1) as f64 * 100.0
    }
}

/// A sample of a metrics page.
fn value(metrics: &str, series: &str) -> f64 {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_found_by_its_whole_name() {
        let page = "a_sum{priority=\"high\"} 3\na_sum{priority=\"critical\"} 0.0042\n";
        assert!((value(page, r#"a_sum{priority="critical"}"#) - 0.0042).abs() < 1e-9);
        assert!(value(page, "b_sum").abs() < 1e-9);
    }
}
