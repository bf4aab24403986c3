//! The connections of a sidecar: which there are, to which server, and what they are called.
//!
//! Each is for one purpose, because a connection that waits makes everything behind it wait.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::runtime::Handle as Runtime;
use tokio::sync::watch;
use unstale_connect::{Client, Fault, Link, Place, Role, Site, Store as Keys};
use unstale_events::CacheId;
use unstale_notices::IDLE;
use unstale_pipeline::{Line, ROLES};
use unstale_router::{Router, Store};
use unstale_sink::{Clients, Elsewhere, Lanes};

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
    /// Begins to connect. What HTTP needs works in its runtime, `http`, all else in this one.
    ///
    /// # Errors
    /// What is wrong with the settings or files of a server.
    pub fn open(config: &Config, router: &Router, instance: &str, http: &Runtime) -> Result<Self, String> {
        let key = config.names().events;
        let site = site(config, &config.bus.redis)?;
        let mut bus = Opener { name: &config.bus.redis, instance, site: &site, prefix: String::new(), lines: Vec::new() };
        let reading = Role::Reader { block: BLOCK };
        let [read, read_critical, deliver, deliver_critical, scan, scan_critical, control, notices, replay] = ROLES;
        let (notices, replay, publisher) = {
            let _within = http.enter();
            let notices = bus.client(&key, Role::Reader { block: IDLE }, notices)?;
            (notices, bus.client(&key, Role::Commands, replay)?, bus.unwatched(&key, Role::Commands, "publish")?)
        };
        let opened = Self {
            read: bus.client(&key, reading, read)?,
            read_critical: bus.client(&key, reading, read_critical)?,
            here: Clients {
                scripts: Lanes {
                    ordinary: bus.client(&key, Role::Bulk, deliver)?,
                    critical: bus.client(&key, Role::Bulk, deliver_critical)?,
                },
                scans: if has_caches_here(config, router) { Some(bus.keys([scan, scan_critical])?) } else { None },
            },
            control: bus.client(&key, Role::Bulk, control)?,
            notices,
            replay,
            publisher,
            elsewhere: Vec::new(),
            lines: Vec::new(),
        };
        let mut lines = bus.lines;
        let mut elsewhere = Vec::new();
        for (name, caches) in apart(config, router) {
            // A cluster that holds the bus as well is watched once.
            let own = if name == config.bus.redis { site.clone() } else { self::site(config, &name)? };
            let mut server = Opener { name: &name, instance, site: &own, prefix: format!("{name}:"), lines: Vec::new() };
            let [delete, delete_critical, scan, scan_critical] = APART;
            elsewhere.push(Elsewhere {
                deletes: server.keys([delete, delete_critical])?,
                scans: server.keys([scan, scan_critical])?,
                failover_replay: config.redis.get(&name).map_or(Duration::ZERO, |redis| redis.failover_replay),
                server: name.clone(),
                caches,
            });
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

fn has_caches_here(config: &Config, router: &Router) -> bool {
    router.caches().iter().any(|(_, cache)| cache.store == Store::Redis && config.is_with_bus(&cache.redis))
}

fn site(config: &Config, name: &str) -> Result<Site, String> {
    let redis = config.redis.get(name).ok_or_else(|| format!("no server is named `{name}`"))?;
    let server = redis.server().map_err(|error| format!("redis.{name}: {error}"))?;
    Site::open(&server).map_err(|fault| format!("redis.{name}: {fault}"))
}

/// Opens connections to one server, and remembers them.
struct Opener<'a> {
    name: &'a str,
    instance: &'a str,
    site: &'a Site,
    /// What its roles begin with.
    prefix: String,
    lines: Vec<Line>,
}

impl Opener<'_> {
    fn wrong(&self, fault: &Fault) -> String {
        format!("redis.{}: {fault}", self.name)
    }

    fn unwatched(&self, key: &str, role: Role, what: &str) -> Result<Client, String> {
        let client = self.site.client(Place::Key(key), role, &format!("unstale:{what}:{}", self.instance));
        client.map_err(|fault| self.wrong(&fault))
    }

    /// A connection to where the bus is.
    fn client(&mut self, key: &str, role: Role, what: &str) -> Result<Client, String> {
        let client = self.unwatched(key, role, what)?;
        self.watch(what, client.link());
        Ok(client)
    }

    /// Connections to wherever keys are.
    fn keys(&mut self, [ordinary, critical]: [&str; 2]) -> Result<Lanes<Keys>, String> {
        Ok(Lanes { ordinary: self.store(ordinary)?, critical: self.store(critical)? })
    }

    fn store(&mut self, what: &str) -> Result<Keys, String> {
        let store = self.site.store(&format!("unstale:{what}:{}", self.instance)).map_err(|fault| self.wrong(&fault))?;
        self.watch(what, store.link());
        Ok(store)
    }

    fn watch(&mut self, what: &str, link: watch::Receiver<Link>) {
        self.lines.push(Line { server: self.name.to_owned(), role: format!("{}{what}", self.prefix), link });
    }
}
