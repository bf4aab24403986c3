//! What is watched for the health report: connections, the time that Redis takes to answer, rights that were found missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use unstale_connect::{Fault, Link};
use unstale_events::StreamKind;

use crate::health::{Down, Health, Signs, Thresholds};
use crate::stats::Stats;

/// How long a missing right is reported after it was last missed.
const REMEMBERED: Duration = Duration::from_secs(30);

/// The observer of one process.
#[derive(Debug)]
pub(crate) struct Watch {
    links: Vec<(&'static str, watch::Receiver<Link>, bool)>,
    limits: Thresholds,
    connected_once: bool,
    answer: Option<Duration>,
    missing: BTreeMap<String, Instant>,
}

impl Watch {
    pub(crate) fn new(links: Vec<(&'static str, watch::Receiver<Link>)>, limits: Thresholds) -> Self {
        let links = links.into_iter().map(|(role, link)| (role, link, false)).collect();
        Self { links, limits, connected_once: false, answer: None, missing: BTreeMap::new() }
    }

    /// Whether the connection for this is up. What would be sent while it is down would only fail.
    pub(crate) fn is_up(&self, role: &str) -> bool {
        self.links.iter().any(|(name, link, _)| *name == role && link.borrow().is_up())
    }

    /// Takes note of how long Redis took to answer.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.answer = Some(took);
    }

    /// Takes note of a right that the user lacks, if that is what the fault says.
    pub(crate) fn missing(&mut self, fault: &Fault, now: Instant) {
        if let Some(right) = fault.missing_right() {
            self.missing.insert(right, now);
        }
    }

    /// Looks at the connections, and logs what has changed.
    pub(crate) fn links(&mut self, stats: &mut Stats) {
        for (role, link, was_up) in &mut self.links {
            let now = link.borrow_and_update().clone();
            match &now {
                Link::Up { generation } if !*was_up => tracing::info!(role, generation, "connected to Redis"),
                Link::Down { why, .. } if *was_up => {
                    tracing::warn!(role, %why, "lost the connection to Redis; trying again until it is back");
                }
                _ => {}
            }
            *was_up = now.is_up();
            stats.link(role, *was_up);
        }
        self.connected_once |= self.links.iter().all(|(_, _, up)| *up);
    }

    /// Weighs everything.
    pub(crate) fn judge(&mut self, stats: &Stats, draining: bool, now: Instant) -> Health {
        self.missing.retain(|_, last| now.saturating_duration_since(*last) < REMEMBERED);
        let links: Vec<_> = self.links.iter().map(|(role, link, _)| (*role, link.borrow().clone())).collect();
        let reasons: Vec<_> = links
            .iter()
            .filter_map(|(role, link)| match link {
                Link::Up { .. } => None,
                Link::Down { since, why } => Some((*role, now.saturating_duration_since(*since), why.to_string())),
            })
            .collect();
        let down: Vec<_> = reasons.iter().map(|(role, since, why)| Down { role, since: *since, why }).collect();
        let missing: Vec<String> = self.missing.keys().cloned().collect();
        let streams = StreamKind::ALL.map(|kind| stats.stream(kind));
        Health::judge(
            &Signs {
                connected_once: self.connected_once,
                draining,
                down: &down,
                missing_rights: &missing,
                depth: stats.depth(),
                ping: self.answer,
                error_rate: stats.error_rate(now),
                lag: streams.iter().map(|stream| stream.lag).sum(),
                oldest_pending: streams.iter().map(|stream| stream.oldest_pending).max().unwrap_or_default(),
            },
            &self.limits,
        )
    }
}
