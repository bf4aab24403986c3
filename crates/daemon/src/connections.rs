//! The connections of a sidecar: which there are, to which server, and what they are called.
//!
//! Each is for one purpose, because a connection that waits makes everything behind it wait.

use std::collections::BTreeMap;
use std::time::Duration;

use unstale_connect::{Client, Fault, Role, Server};
use unstale_events::CacheId;
use unstale_notices::IDLE;
use unstale_pipeline::{Line, ROLES};
use unstale_router::{Router, Store};
use unstale_sink::{Clients, Elsewhere};

use crate::config::Config;

/// How long a read waits for entries: also how seldom an idle sidecar asks.
pub const BLOCK: Duration = Duration::from_secs(2);

/// What the connections to the server of caches that lie apart from the bus are for.
const APART: [&str; 4] = ["delete", "delete_critical", "scan", "scan_critical"];

/// All of them. They are made at once, and again whenever they end.
#[derive(Debug)]
pub struct Connections {
    /// Blocking reads of the ordinary stream.
    pub read: Client,
    /// Blocking reads of the critical stream.
    pub read_critical: Client,
    /// What goes to the database of the notice log.
    pub here: Clients,
    /// What goes to other databases.
    pub elsewhere: Vec<Elsewhere>,
    /// Everything else that the loop asks of the bus.
    pub control: Client,
    /// Blocking reads of the notice log, for all receivers.
    pub notices: Client,
    /// The notice log, for receivers that read it by themselves, and all that people look at.
    pub replay: Client,
    /// What others ask to be added to the streams.
    pub publisher: Client,
    /// All but the publisher, to be watched.
    pub lines: Vec<Line>,
}

impl Connections {
    /// Begins to connect.
    ///
    /// # Errors
    /// What is wrong with the settings or files of a server.
    pub fn open(config: &Config, router: &Router, instance: &str) -> Result<Self, String> {
        let mut lines = Vec::new();
        let mut bus = Opener::new(config, &config.bus.redis, instance)?;
        let reading = Role::Reader { block: BLOCK };
        let [read, read_critical, deliver, deliver_critical, scan, scan_critical, control, notices, replay] = ROLES;
        let opened = Self {
            read: bus.open(reading, read)?,
            read_critical: bus.open(reading, read_critical)?,
            here: bus.clients([deliver, deliver_critical, scan, scan_critical])?,
            control: bus.open(Role::Commands, control)?,
            notices: bus.open(Role::Reader { block: IDLE }, notices)?,
            replay: bus.open(Role::Commands, replay)?,
            publisher: bus.unwatched(Role::Commands, "publish")?,
            elsewhere: Vec::new(),
            lines: Vec::new(),
        };
        lines.append(&mut bus.lines);
        let mut elsewhere = Vec::new();
        for (name, caches) in apart(config, router) {
            let mut server = Opener::new(config, &name, instance)?.prefixed();
            elsewhere.push(Elsewhere { caches, clients: server.clients(APART)? });
            lines.append(&mut server.lines);
        }
        Ok(Self { elsewhere, lines, ..opened })
    }

    /// What each watched connection is for.
    pub fn roles(&self) -> Vec<String> {
        self.lines.iter().map(|line| line.role.clone()).collect()
    }
}

/// The caches that are in another database than the bus, by the name of their server.
fn apart(config: &Config, router: &Router) -> BTreeMap<String, Vec<CacheId>> {
    let mut apart: BTreeMap<String, Vec<CacheId>> = BTreeMap::new();
    for (id, cache) in router.caches().iter().filter(|(_, cache)| cache.store == Store::Redis && !config.is_with_bus(&cache.redis)) {
        apart.entry(cache.redis.clone()).or_default().push(id);
    }
    apart
}

/// Opens connections to one server, and remembers them.
struct Opener<'a> {
    name: &'a str,
    instance: &'a str,
    server: Server,
    /// What its roles begin with.
    prefix: String,
    lines: Vec<Line>,
}

impl<'a> Opener<'a> {
    fn new(config: &Config, name: &'a str, instance: &'a str) -> Result<Self, String> {
        let redis = config.redis.get(name).ok_or_else(|| format!("no server is named `{name}`"))?;
        let server = redis.server().map_err(|error| format!("redis.{name}: {error}"))?;
        Ok(Self { name, instance, server, prefix: String::new(), lines: Vec::new() })
    }

    /// What is said of its connections names the server.
    fn prefixed(self) -> Self {
        Self { prefix: format!("{}:", self.name), ..self }
    }

    fn unwatched(&self, role: Role, what: &str) -> Result<Client, String> {
        let client = Client::open(&self.server, role, &format!("unstale:{what}:{}", self.instance));
        client.map_err(|fault: Fault| format!("redis.{}: {fault}", self.name))
    }

    fn open(&mut self, role: Role, what: &str) -> Result<Client, String> {
        let client = self.unwatched(role, what)?;
        self.lines.push(Line { server: self.name.to_owned(), role: format!("{}{what}", self.prefix), link: client.link() });
        Ok(client)
    }

    fn clients(&mut self, [ordinary, critical, scan, critical_scan]: [&str; 4]) -> Result<Clients, String> {
        Ok(Clients {
            ordinary: self.open(Role::Commands, ordinary)?,
            critical: self.open(Role::Commands, critical)?,
            scan: self.open(Role::Commands, scan)?,
            critical_scan: self.open(Role::Commands, critical_scan)?,
        })
    }
}
