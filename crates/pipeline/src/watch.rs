//! What is watched for the health report and the log: connections, the time that Redis takes to answer, and what it doesn't do.
//!
//! Each change is told once: when something begins, and when it is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use unstale_connect::{Fault, FaultKind, Link};
use unstale_events::StreamKind;

use crate::health::{Down, Health, Signs, Thresholds};
use crate::journal;
use crate::pipeline::CONTROL;
use crate::settings::{Line, ROLES};
use crate::stats::Stats;

/// Something wrong with what Redis does, though it can be reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Complaint {
    /// The user lacks this right.
    Right(String),
    /// This key should be a stream and is none.
    NoStream(String),
    /// It refuses what is asked with this kind of fault.
    Refusal(&'static str),
    /// Deliveries are given up.
    Undelivered,
}

impl Complaint {
    /// What a fault says about the installation. That Redis can't be reached is the connections' to tell, and a
    /// group that is missed is made.
    fn of(fault: &Fault) -> Option<Self> {
        match fault.kind {
            FaultKind::Unreachable | FaultKind::Timeout | FaultKind::NoGroup | FaultKind::NoKey | FaultKind::GroupExists => None,
            _ => Some(fault.missing_right().map_or(Self::Refusal(fault.kind.name()), Self::Right)),
        }
    }

    /// After so long without being met it is over: what may go wrong is tried that often.
    fn lasts(&self) -> Duration {
        match self {
            Self::Right(_) | Self::Undelivered => Duration::from_secs(30),
            Self::NoStream(_) | Self::Refusal(_) => Duration::from_secs(6),
        }
    }
}

/// When it was met last, and what was said of it.
#[derive(Debug)]
struct Met {
    last: Instant,
    detail: String,
}

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
    complaints: BTreeMap<Complaint, Met>,
    bus: Bus,
}

/// What is known of the process that a connection speaks to, or spoke to before it went down.
#[derive(Debug, Default)]
struct Known {
    /// How often it has been replaced by another.
    times: u64,
    /// Which it is, if it should be the same for all connections to the bus.
    process: Option<Arc<str>>,
}

/// The process that the connections to the bus speak to.
#[derive(Debug, Default)]
struct Bus {
    process: Option<Arc<str>>,
    /// Whether they spoke to different ones at the last look.
    is_torn: bool,
    /// How often another has taken its place.
    replaced: u64,
}

/// The connections to one server.
#[derive(Debug)]
struct Server {
    name: String,
    lines: Vec<Line>,
    /// The generation of each of them that was up last.
    generations: BTreeMap<String, u64>,
    /// What is known of the process behind each.
    replaced: Vec<Known>,
    /// Whether the log says that all of them are up.
    said: Option<bool>,
}

impl Watch {
    pub(crate) fn new(lines: Vec<Line>, limits: Thresholds, now: Instant) -> Self {
        let mut servers: Vec<Server> = Vec::new();
        for line in lines {
            match servers.iter_mut().find(|server| server.name == line.server) {
                Some(server) => server.lines.push(line),
                None => servers.push(Server {
                    name: line.server.clone(),
                    lines: vec![line],
                    generations: BTreeMap::new(),
                    replaced: Vec::new(),
                    said: None,
                }),
            }
        }
        for server in &mut servers {
            server.replaced.resize_with(server.lines.len(), Known::default);
        }
        Self { servers, began: now, limits, connected_once: false, answer: None, complaints: BTreeMap::new(), bus: Bus::default() }
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
    ///
    /// When the bus is replaced its connections come back one after the other. The first that does makes the number another; if each did, what
    /// is delivered meanwhile would be done again and again.
    pub(crate) fn ground(&mut self) -> Option<u64> {
        let (mut replaced, mut found, mut is_torn) = (0, None, false);
        for server in &mut self.servers {
            for (line, known) in server.lines.iter().zip(&mut server.replaced) {
                let is_of_bus = ROLES.contains(&&*line.role);
                if let Link::Up { server, process, .. } = &*line.link.borrow() {
                    let before = std::mem::replace(&mut known.times, server - 1);
                    known.process = process.clone().filter(|_| is_of_bus);
                    if let Some(process) = known.process.as_ref().filter(|_| EFFECTS.contains(&&*line.role)) {
                        // Torn as well if there was one between that nobody saw.
                        is_torn |= known.times > before + 1 || *found.get_or_insert_with(|| Arc::clone(process)) != *process;
                    }
                }
                replaced += if known.process.is_none() { known.times } else { 0 };
            }
        }
        let is_other = found.is_some() && self.bus.process.is_some() && found != self.bus.process;
        // After a time of different processes nobody can say which of them did what.
        self.bus.replaced += u64::from(is_other || (self.bus.is_torn && !is_torn));
        self.bus.is_torn = is_torn;
        self.bus.process = found.or(self.bus.process.take());
        (!is_torn).then_some(replaced + self.bus.replaced)
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.servers.iter().flat_map(|server| &server.lines)
    }

    /// Takes note of how long Redis took to answer.
    pub(crate) fn answered(&mut self, took: Duration) {
        self.answer = Some(took);
    }

    /// Takes note of a fault, if it says something about the installation.
    pub(crate) fn met(&mut self, stage: &'static str, fault: &Fault, now: Instant) {
        if let Some(complaint) = Complaint::of(fault) {
            self.complain(complaint, format!("{stage}: {fault}"), now);
        }
    }

    /// Takes note of a key that should be a stream and is none.
    pub(crate) fn no_stream(&mut self, key: &str, now: Instant) {
        self.complain(Complaint::NoStream(key.to_owned()), String::new(), now);
    }

    /// Takes note of deliveries that were given up.
    pub(crate) fn undelivered(&mut self, why: String, now: Instant) {
        self.complain(Complaint::Undelivered, why, now);
    }

    /// Nothing is left of what was given up.
    pub(crate) fn all_delivered(&mut self) {
        if self.complaints.remove(&Complaint::Undelivered).is_some() {
            journal::over(&Complaint::Undelivered);
        }
    }

    fn complain(&mut self, complaint: Complaint, detail: String, now: Instant) {
        if !self.complaints.contains_key(&complaint) {
            journal::complaint(&complaint, &detail);
        }
        self.complaints.insert(complaint, Met { last: now, detail });
    }

    fn forget(&mut self, now: Instant) {
        self.complaints.retain(|complaint, met| {
            let lasts = now.saturating_duration_since(met.last) < complaint.lasts();
            if !lasts {
                journal::over(complaint);
            }
            lasts
        });
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
        self.forget(now);
        let reasons: Vec<_> = self
            .lines()
            .filter_map(|Line { role, link, .. }| match &*link.borrow() {
                Link::Up { .. } => None,
                Link::Down { since, why } => Some((&**role, now.saturating_duration_since(*since), why.to_string())),
            })
            .collect();
        let down: Vec<_> = reasons.iter().map(|(role, since, why)| Down { role, since: *since, why }).collect();
        let (mut missing, mut no_streams, mut refusals) = (Vec::new(), Vec::new(), Vec::new());
        for (complaint, met) in &self.complaints {
            match complaint {
                Complaint::Right(right) => missing.push(right.clone()),
                Complaint::NoStream(key) => no_streams.push(key.clone()),
                Complaint::Refusal(_) => refusals.push(met.detail.clone()),
                Complaint::Undelivered => {}
            }
        }
        let streams = StreamKind::ALL.map(|kind| stats.stream(kind));
        Health::judge(
            &Signs {
                connected_once: self.connected_once,
                draining,
                down: &down,
                missing_rights: &missing,
                no_streams: &no_streams,
                refusals: &refusals,
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
        let (mut down, mut remade) = (Vec::new(), Vec::new());
        for Line { role, link, .. } in &self.lines {
            let link = link.borrow();
            stats.link(role, link.is_up());
            match &*link {
                Link::Down { why, .. } => down.push((&**role, why.clone())),
                Link::Up { generation, .. } => {
                    let known = self.generations.insert(role.clone(), *generation);
                    remade.extend(known.filter(|known| known < generation).map(|_| &**role));
                }
            }
        }
        let server = &*self.name;
        // Between two looks; one that was down at a look is told of below.
        if self.said == Some(true) && down.is_empty() && !remade.is_empty() {
            tracing::warn!(server, connections = remade.join(","), "connections to Redis ended, and were made again at once");
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Links of two connections that deliver to the bus, of one that acknowledges and one that reads, and of one to another server.
    struct Links {
        watch: Watch,
        links: BTreeMap<&'static str, tokio::sync::watch::Sender<Link>>,
    }

    const BUS: [&str; 4] = ["deliver", "scan", CONTROL, "read"];
    const ELSEWHERE: &str = "far:delete";

    impl Links {
        fn all_up() -> Self {
            let role = |role| (role, tokio::sync::watch::Sender::new(up(1, "a")));
            let links: BTreeMap<_, _> = BUS.into_iter().chain([ELSEWHERE]).map(role).collect();
            let line = |(role, link): (&&str, &tokio::sync::watch::Sender<Link>)| {
                let server = if *role == ELSEWHERE { "far" } else { "main" };
                Line { server: server.to_owned(), role: (*role).to_owned(), link: link.subscribe() }
            };
            let watch = Watch::new(links.iter().map(line).collect(), Thresholds::default(), Instant::now());
            Self { watch, links }
        }

        fn set(&mut self, role: &str, link: Link) -> Option<u64> {
            self.links[role].send_replace(link);
            self.watch.ground()
        }
    }

    fn up(server: u64, process: &str) -> Link {
        Link::Up { generation: server, server, process: Some(process.into()) }
    }

    fn down() -> Link {
        Link::Down { since: Instant::now(), why: Fault::new(FaultKind::Unreachable, "gone") }
    }

    #[test]
    fn the_ground_is_another_with_the_first_connection_that_comes_back_to_another_process() {
        let mut links = Links::all_up();
        let old = links.watch.ground();
        assert!(old.is_some());
        for role in BUS {
            assert_eq!(links.set(role, down()), old, "nothing is known to be replaced");
        }
        let new = links.set("scan", up(2, "b"));
        assert!(new.is_some() && new != old);
        for role in BUS {
            assert_eq!(links.set(role, up(2, "b")), new, "{role} comes to the same");
        }
        assert_eq!((links.set("deliver", down()), links.set("deliver", up(2, "b"))), (new, new));
    }

    #[test]
    fn there_is_no_ground_while_connections_speak_to_different_processes() {
        let mut links = Links::all_up();
        let old = links.watch.ground();
        assert_eq!(links.set("read", up(2, "b")), old, "it does nothing that is acknowledged");
        assert_eq!(links.set(CONTROL, up(2, "b")), None);
        assert_eq!(links.set("scan", up(2, "b")), None);
        let new = links.set("deliver", up(2, "b"));
        assert!(new.is_some() && new != old);
        // What it did in the old one meanwhile was not done on this ground.
        assert_eq!(links.set("scan", up(3, "a")), None);
        let next = links.set("scan", up(4, "b"));
        assert!(next.is_some() && next != new);
    }

    #[test]
    fn a_process_that_nobody_saw_is_one() {
        let mut links = Links::all_up();
        let old = links.watch.ground();
        assert_eq!(links.set("deliver", up(3, "a")), None);
        assert!(links.watch.ground().is_some_and(|now| Some(now) != old));
    }

    #[test]
    fn each_connection_to_another_server_counts() {
        let mut links = Links::all_up();
        let old = links.watch.ground();
        assert_eq!(links.set(ELSEWHERE, down()), old);
        let new = links.set(ELSEWHERE, up(2, "b"));
        assert!(new.is_some() && new != old);
    }
}
