//! What is watched for the health report and the log: connections, the time that Redis takes to answer, and what it doesn't do.
//!
//! Each change is told once: when something begins, and when it is over. It is over when it could have been met for a while and wasn't: what
//! comes and goes is one, and nothing is over only because nobody could tell.

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

    /// After so long without being met, though it could have been, it is over: what may go wrong is tried that often, and more rarely where
    /// deliveries meet it. `None` if it ends in another way.
    fn lasts(&self, is_delivering_again: bool) -> Option<Duration> {
        match self {
            Self::Right(_) => Some(RARELY_TRIED),
            Self::NoStream(_) | Self::Refusal(_) => Some(if is_delivering_again { RARELY_TRIED } else { OFTEN_TRIED }),
            Self::Undelivered => None,
        }
    }
}

/// When it was met last, and what was said of it.
#[derive(Debug)]
struct Met {
    last: Instant,
    /// For how long some connection had been down until then.
    blind: Duration,
    detail: String,
}

/// The connections over which is done what is acknowledged later, and that which acknowledges it.
const EFFECTS: [&str; 5] = ["deliver", "deliver_critical", "scan", "scan_critical", CONTROL];

/// What is met by looks and beats is tried within this time, and what is met by deliveries within that: after their budget and a pause.
const OFTEN_TRIED: Duration = Duration::from_secs(6);
const RARELY_TRIED: Duration = Duration::from_secs(30);

/// All connections to a server must have held so long before the log says that it is there again: by then one that nobody uses was asked as
/// well. What comes and goes meanwhile is one outage.
const STEADY: Duration = Duration::from_secs(6);

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
    /// For how long some connection was down: nothing that goes wrong over it can have been met then.
    blind: Duration,
    /// When everything was weighed last.
    weighed: Instant,
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
    /// Whether all of them were up at the last look.
    is_up: bool,
    /// When one of them was found to be down, or to have been, last.
    broke: Option<Instant>,
    told: Told,
}

/// What the log says of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Nothing,
    Connected,
    /// That connections ended and were made again.
    Remade,
    Unreachable,
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
                    is_up: false,
                    broke: None,
                    told: Told::Nothing,
                }),
            }
        }
        for server in &mut servers {
            server.replaced.resize_with(server.lines.len(), Known::default);
        }
        Self {
            servers,
            began: now,
            limits,
            connected_once: false,
            answer: None,
            complaints: BTreeMap::new(),
            blind: Duration::ZERO,
            weighed: now,
            bus: Bus::default(),
        }
    }

    /// Whether all connections were up at the last look.
    pub(crate) fn all_up(&self) -> bool {
        self.servers.iter().all(|server| server.is_up)
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
        self.complaints.insert(complaint, Met { last: now, blind: self.blind, detail });
    }

    fn forget(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.weighed, now));
        if !self.all_up() {
            self.blind += passed;
        }
        let (blind, is_delivering_again) = (self.blind, self.complaints.contains_key(&Complaint::Undelivered));
        self.complaints.retain(|complaint, met| {
            let unmet = now.saturating_duration_since(met.last).saturating_sub(blind.saturating_sub(met.blind));
            let is_over = complaint.lasts(is_delivering_again).is_some_and(|lasts| unmet >= lasts);
            if is_over {
                journal::over(complaint);
            }
            !is_over
        });
    }

    /// Looks at the connections, and logs once what has changed. Returns whether a server is there (again).
    pub(crate) fn links(&mut self, stats: &mut Stats, now: Instant) -> bool {
        let is_late = now.saturating_duration_since(self.began) > PATIENCE;
        let is_refused = self.complaints.keys().any(|complaint| matches!(complaint, Complaint::Refusal(_)));
        let (mut is_back, mut refusals) = (false, Vec::new());
        for server in &mut self.servers {
            let sight = server.look(stats);
            is_back |= server.is_back(&sight, now);
            server.tell(&sight, is_late, is_refused, now);
            refusals.extend(sight.refusal);
        }
        for refusal in refusals {
            self.met("connect", &refusal, now);
        }
        self.connected_once |= self.all_up();
        is_back
    }

    /// Weighs everything.
    pub(crate) fn judge(&mut self, stats: &Stats, draining: bool, now: Instant) -> Health {
        self.forget(now);
        let reasons: Vec<_> = self
            .lines()
            .filter_map(|Line { role, link, .. }| match &*link.borrow() {
                // A server that refuses can be reached: that it does is told below.
                Link::Down { why, .. } if is_refusal(why) => None,
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

/// Whether a connection was given up for what the server said, though it can be reached.
fn is_refusal(why: &Fault) -> bool {
    why.kind == FaultKind::ReadOnly
}

/// How a server's connections are at a look.
#[derive(Debug, Default)]
struct Sight {
    /// Those that are down, and why.
    down: Vec<(String, Fault)>,
    /// What a server said that doesn't do what is asked, and to which a connection was given up for that.
    refusal: Option<Fault>,
    /// Those that are up, and weren't all the time since the last look.
    remade: Vec<String>,
}

impl Sight {
    fn is_up(&self) -> bool {
        self.down.is_empty() && self.refusal.is_none()
    }
}

impl Server {
    fn look(&mut self, stats: &mut Stats) -> Sight {
        let mut sight = Sight::default();
        for Line { role, link, .. } in &self.lines {
            let link = link.borrow();
            stats.link(role, link.is_up());
            match &*link {
                Link::Down { why, .. } if is_refusal(why) => sight.refusal = Some(why.clone()),
                Link::Down { why, .. } => sight.down.push((role.clone(), why.clone())),
                Link::Up { generation, .. } => {
                    let known = self.generations.insert(role.clone(), *generation);
                    sight.remade.extend(known.filter(|known| known < generation).map(|_| role.clone()));
                }
            }
        }
        sight
    }

    /// Whether it is there (again).
    fn is_back(&mut self, sight: &Sight, now: Instant) -> bool {
        if !sight.is_up() || !sight.remade.is_empty() {
            self.broke = Some(now);
        }
        let was_up = std::mem::replace(&mut self.is_up, sight.is_up());
        self.is_up && !was_up
    }

    /// Has the log say what has changed, if anything has. `is_refused` if it says already that what is asked is not done: connections are
    /// given up over that.
    fn tell(&mut self, sight: &Sight, is_late: bool, is_refused: bool, now: Instant) {
        let (server, down) = (&*self.name, sight.down.first());
        let is_steady = sight.is_up() && self.broke.is_none_or(|broke| now.saturating_duration_since(broke) >= STEADY);
        self.told = match (self.told, down) {
            (Told::Nothing, None) if sight.is_up() => {
                tracing::info!(server, "connected to Redis");
                Told::Connected
            }
            // A connection takes a moment to be made.
            (Told::Nothing, Some(_)) if !is_late => Told::Nothing,
            (Told::Nothing | Told::Connected | Told::Remade, Some((_, why))) => {
                let connections = sight.down.iter().map(|(role, _)| &**role).collect::<Vec<_>>().join(",");
                tracing::warn!(server, connections, %why, "Redis can't be reached; trying again until it can");
                Told::Unreachable
            }
            (Told::Unreachable, None) if is_steady => {
                tracing::info!(server, "connected to Redis again, without a break for {STEADY:?}");
                Told::Connected
            }
            (Told::Remade, None) if is_steady => Told::Connected,
            // Between two looks.
            (Told::Connected, None) if sight.is_up() && !sight.remade.is_empty() && !is_refused => {
                let connections = sight.remade.join(",");
                tracing::warn!(server, connections, "connections to Redis ended, and were made again at once");
                Told::Remade
            }
            (told, _) => told,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::Labels;

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

    /// Looks ten times a second, for so long; before each look connections may be `changed`. Returns what the log says of the bus after each.
    fn looks(links: &mut Links, from: Instant, time: Duration, mut change: impl FnMut(&Links, u64)) -> (Instant, Vec<Told>) {
        let (mut stats, mut now, mut told) = (Stats::new(Labels::default()), from, Vec::new());
        for turn in 0.. {
            change(links, turn);
            links.watch.links(&mut stats, now);
            links.watch.judge(&stats, false, now);
            told.push(links.watch.servers.iter().find(|server| server.name == "main").map_or(Told::Nothing, |server| server.told));
            if now - from >= time {
                break;
            }
            now += Duration::from_millis(100);
        }
        told.dedup();
        (now, told)
    }

    #[test]
    fn connections_that_come_and_go_are_told_of_once() {
        let (mut links, now) = (Links::all_up(), Instant::now());
        let flap = |links: &Links, turn: u64| {
            let link = if turn % 20 == 3 { down() } else { Link::Up { generation: 2 + turn, server: 1, process: Some("a".into()) } };
            links.links["deliver"].send_replace(link);
        };
        let (now, told) = looks(&mut links, now, Duration::from_secs(60), flap);
        assert_eq!(told, [Told::Connected, Told::Remade, Told::Unreachable]);
        let (_, told) = looks(&mut links, now, STEADY * 2, |_, _| {});
        assert_eq!(told, [Told::Unreachable, Told::Connected]);
    }

    #[test]
    fn a_connection_given_up_over_a_refusal_is_no_server_that_can_not_be_reached() {
        let (mut links, now) = (Links::all_up(), Instant::now());
        let refused = |links: &Links, turn: u64| {
            let why = Fault::new(FaultKind::ReadOnly, "READONLY You can't write against a read only replica.");
            let again = Link::Up { generation: 2 + turn, server: 1, process: Some("a".into()) };
            links.links[CONTROL].send_replace(if turn % 2 == 1 { Link::Down { since: Instant::now(), why } } else { again });
        };
        let (now, told) = looks(&mut links, now, Duration::ZERO, |_, _| {});
        assert_eq!(told, [Told::Connected]);
        links.watch.met("read", &Fault::new(FaultKind::ReadOnly, "READONLY"), now);
        let (now, told) = looks(&mut links, now, Duration::from_secs(60), refused);
        assert_eq!(told, [Told::Connected]);
        let refusal = Complaint::Refusal(FaultKind::ReadOnly.name());
        assert!(links.watch.complaints.contains_key(&refusal));
        refused(&links, 1);
        let health = links.watch.judge(&Stats::new(Labels::default()), false, now);
        assert_eq!(health.reasons.iter().map(|reason| reason.code).collect::<Vec<_>>(), ["redis_refuses"]);
        looks(&mut links, now, OFTEN_TRIED * 2, |links, _| drop(links.links[CONTROL].send_replace(up(1, "a"))));
        assert!(links.watch.complaints.is_empty());
    }

    #[test]
    fn what_can_not_be_met_is_not_over() {
        let (mut links, now) = (Links::all_up(), Instant::now());
        let refusal = Complaint::Refusal(FaultKind::Busy.name());
        links.watch.met("deliver", &Fault::new(FaultKind::Busy, "MISCONF"), now);
        let (now, _) = looks(&mut links, now, RARELY_TRIED * 3, |links, _| drop(links.links["deliver"].send_replace(down())));
        assert!(links.watch.complaints.contains_key(&refusal), "nothing was asked meanwhile");
        let (now, _) = looks(&mut links, now, OFTEN_TRIED / 2, |links, _| drop(links.links["deliver"].send_replace(up(1, "a"))));
        assert!(links.watch.complaints.contains_key(&refusal), "it may not have been met yet");
        looks(&mut links, now, OFTEN_TRIED, |_, _| {});
        assert!(!links.watch.complaints.contains_key(&refusal));
    }

    #[test]
    fn what_failed_is_not_delivered_by_waiting() {
        let (mut links, now) = (Links::all_up(), Instant::now());
        links.watch.undelivered("loading".to_owned(), now);
        looks(&mut links, now, RARELY_TRIED * 3, |_, _| {});
        assert!(links.watch.complaints.contains_key(&Complaint::Undelivered));
        links.watch.all_delivered();
        assert!(links.watch.complaints.is_empty());
    }

    #[test]
    fn what_deliveries_meet_is_not_over_while_they_wait_for_their_next_try() {
        let (mut links, now) = (Links::all_up(), Instant::now());
        links.watch.met("delete", &Fault::new(FaultKind::ReadOnly, "READONLY"), now);
        links.watch.undelivered("read-only".to_owned(), now);
        let (now, _) = looks(&mut links, now, OFTEN_TRIED * 2, |_, _| {});
        assert_eq!(links.watch.complaints.len(), 2);
        links.watch.all_delivered();
        looks(&mut links, now, Duration::ZERO, |_, _| {});
        assert!(links.watch.complaints.is_empty());
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
