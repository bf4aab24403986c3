//! What is watched for the health report: connections, the time that Redis takes to answer, rights that were found missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unstale_connect::{Fault, Link};
use unstale_events::StreamKind;

use crate::health::{Down, Health, Signs, Thresholds};
use crate::pipeline::CONTROL;
use crate::settings::Line;
use crate::stats::Stats;

/// How long a missing right is reported after it was last missed.
const REMEMBERED: Duration = Duration::from_secs(30);

/// How long a key that is no stream is reported after it was last met: every instance meets it within seconds if it is there still.
const LOOKED_AGAIN: Duration = Duration::from_secs(6);

/// The connections over which is done what is acknowledged later, and that which acknowledges it.
const EFFECTS: [&str; 5] = ["deliver", "deliver_critical", "scan", "scan_critical", CONTROL];

/// How long a first connection may take before the log says that it takes long.
const PATIENCE: Duration = Duration::from_secs(1);

/// The observer of one process.
#[derive(Debug)]
pub(crate) struct Watch {
    servers: Vec<Server>,
    began: Instant,
    limits: Thresholds,
    connected_once: bool,
    answer: Option<Duration>,
    missing: BTreeMap<String, Instant>,
    no_streams: BTreeMap<String, Instant>,
}

/// The connections to one server.
#[derive(Debug)]
struct Server {
    name: String,
    lines: Vec<Line>,
    /// How often the process behind each has been replaced by another.
    replaced: Vec<u64>,
    /// Whether the log says that all of them are up.
    said: Option<bool>,
}

impl Watch {
    pub(crate) fn new(lines: Vec<Line>, limits: Thresholds, now: Instant) -> Self {
        let mut servers: Vec<Server> = Vec::new();
        for line in lines {
            match servers.iter_mut().find(|server| server.name == line.server) {
                Some(server) => server.lines.push(line),
                None => servers.push(Server { name: line.server.clone(), lines: vec![line], replaced: Vec::new(), said: None }),
            }
        }
        for server in &mut servers {
            server.replaced.resize(server.lines.len(), 0);
        }
        Self { servers, began: now, limits, connected_once: false, answer: None, missing: BTreeMap::new(), no_streams: BTreeMap::new() }
    }

    /// Whether all connections were up at the last look.
    pub(crate) fn all_up(&self) -> bool {
        self.servers.iter().all(|server| server.said == Some(true))
    }

    /// Whether the connection for this is up. What would be sent while it is down would only fail.
    pub(crate) fn is_up(&self, role: &str) -> bool {
        self.lines().any(|line| line.role == role && line.link.borrow().is_up())
    }

    /// What deliveries stand on now: a number that is another once any server has been replaced by another process, which may lack what
    /// was confirmed last. `None` while connections speak to different processes, as when some of them have not heard of a failover yet.
    pub(crate) fn ground(&mut self) -> Option<u64> {
        let (mut replaced, mut common, mut is_one) = (0, None, true);
        for server in &mut self.servers {
            for (line, known) in server.lines.iter().zip(&mut server.replaced) {
                if let Link::Up { server, process, .. } = &*line.link.borrow() {
                    *known = server - 1;
                    if let Some(process) = process.as_ref().filter(|_| EFFECTS.contains(&&*line.role)) {
                        is_one &= *common.get_or_insert_with(|| Arc::clone(process)) == *process;
                    }
                }
                replaced += *known;
            }
        }
        is_one.then_some(replaced)
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.servers.iter().flat_map(|server| &server.lines)
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

    /// Takes note of a key that should be a stream and is none.
    pub(crate) fn no_stream(&mut self, key: &str, now: Instant) {
        self.no_streams.insert(key.to_owned(), now);
    }

    /// Looks at the connections, and logs once what has changed. Returns whether a server is there (again).
    pub(crate) fn links(&mut self, stats: &mut Stats, now: Instant) -> bool {
        let is_late = now.saturating_duration_since(self.began) > PATIENCE;
        // All are looked at, whatever the first says.
        let back = self.servers.iter_mut().map(|server| server.look(stats, is_late)).filter(|is_back| *is_back).count();
        self.connected_once |= self.all_up();
        back > 0
    }

    /// Weighs everything.
    pub(crate) fn judge(&mut self, stats: &Stats, draining: bool, now: Instant) -> Health {
        self.missing.retain(|_, last| now.saturating_duration_since(*last) < REMEMBERED);
        self.no_streams.retain(|_, last| now.saturating_duration_since(*last) < LOOKED_AGAIN);
        let reasons: Vec<_> = self
            .lines()
            .filter_map(|Line { role, link, .. }| match &*link.borrow() {
                Link::Up { .. } => None,
                Link::Down { since, why } => Some((&**role, now.saturating_duration_since(*since), why.to_string())),
            })
            .collect();
        let down: Vec<_> = reasons.iter().map(|(role, since, why)| Down { role, since: *since, why }).collect();
        let missing: Vec<String> = self.missing.keys().cloned().collect();
        let no_streams: Vec<String> = self.no_streams.keys().cloned().collect();
        let streams = StreamKind::ALL.map(|kind| stats.stream(kind));
        Health::judge(
            &Signs {
                connected_once: self.connected_once,
                draining,
                down: &down,
                missing_rights: &missing,
                no_streams: &no_streams,
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

impl Server {
    /// Returns whether it is there (again), and says so, or that it is gone.
    fn look(&mut self, stats: &mut Stats, is_late: bool) -> bool {
        let mut down = Vec::new();
        for Line { role, link, .. } in &self.lines {
            let link = link.borrow();
            stats.link(role, link.is_up());
            if let Link::Down { why, .. } = &*link {
                down.push((&**role, why.clone()));
            }
        }
        let server = &*self.name;
        match down.first() {
            None if self.said != Some(true) => {
                tracing::info!(server, "connected to Redis");
                self.said = Some(true);
                return true;
            }
            // A connection takes a moment to be made.
            Some((_, why)) if self.said == Some(true) || (self.said.is_none() && is_late) => {
                let roles: Vec<_> = down.iter().map(|(role, _)| *role).collect();
                tracing::warn!(server, connections = roles.join(","), %why, "Redis can't be reached; trying again until it can");
                self.said = Some(false);
            }
            _ => {}
        }
        false
    }
}
