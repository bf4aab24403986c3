//! The keys of caches, wherever they lie: on one server, behind sentinels, or spread over a cluster. Who deletes sees no difference.
//!
//! What it promises:
//! - [`Store::unlink`] and [`Store::incr`] answer for each group of keys by itself. A node that is down, slow or refuses costs its own keys
//!   only. Every key is in exactly one group, and a group without a fault was deleted by the node that had its slot at that moment.
//! - A slot that moves is followed: MOVED corrects the map and the command is sent again, ASK sends it to the other node with ASKING, and
//!   keys of which some have moved already (TRYAGAIN) are deleted one by one. Each is bounded; what is not done then is a fault that passes.
//! - Nothing is sent again whose fate is not known: a lost answer is a fault. No command spans two slots.
//! - [`Store::masters`] are what a scan has to visit, and [`Store::since`] tells whether it has seen every key.
//! - [`Store::link`] is up while every node that has slots can be reached and every slot has a node; commands for other slots go on meanwhile.
//! - [`Store::failovers`] grows when what was confirmed last may be missing: repeat the last deletes then.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{join_all, try_join, try_join_all};
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Role};
use crate::cluster::Slots;
use crate::commands::KEYS_AT_ONCE;
use crate::fault::{Fault, FaultKind, Redirect};
use crate::link::Link;
use crate::server::Host;
use crate::site::{Aim, Site};
use crate::slots::{self, Map, SLOTS};
use crate::wire::{Command, Reply};

/// How often one command is sent elsewhere: a slot that is moved twice while it is on its way is rare, and in a loop is a fault.
const REDIRECTS: usize = 5;
/// How long the connection to a node without slots is kept after its last use.
const IDLE: Duration = Duration::from_secs(60);
/// How long to wait before a connection is opened anew that couldn't be.
const PAUSE: Duration = Duration::from_millis(500);

/// Keys that were deleted, or not, by one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlinked {
    /// Their positions among the keys that were given.
    pub keys: Vec<usize>,
    /// How many there were, or why that is not known.
    pub outcome: Result<u64, Fault>,
}

/// What a scan of all keys has to visit, as it was when [`Store::masters`] was called.
#[derive(Debug)]
pub struct Masters {
    /// A connection to each.
    pub clients: Vec<Client>,
    /// Of a cluster.
    hosts: Vec<Host>,
    generations: Vec<u64>,
    /// Of the map.
    version: u64,
    /// Whether some slot was on its way.
    moving: bool,
}

/// What happened to the keys while they were scanned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// Nothing: whoever has scanned all masters from end to end has seen every key.
    Same,
    /// Keys moved, and one that moved may have been passed by. One more pass right after this one, over the masters of then, sees those.
    Moved,
    /// A connection ended or a master is another: the pass is worth nothing.
    Lost,
}

/// The keys of caches at one installation. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    One { client: Client, failovers: Arc<Failovers> },
    Cluster(Arc<Cluster>),
}

/// A number, and the task that counts it.
#[derive(Debug)]
struct Failovers {
    number: watch::Sender<u64>,
    counter: AbortHandle,
}

impl Drop for Failovers {
    fn drop(&mut self) {
        self.counter.abort();
    }
}

#[derive(Debug)]
struct Cluster {
    nodes: Arc<Nodes>,
    /// Dropped with the store.
    failovers: Failovers,
}

/// A connection to each node.
#[derive(Debug)]
struct Nodes {
    site: Site,
    slots: Arc<Slots>,
    name: String,
    clients: Mutex<HashMap<Host, (Client, Instant)>>,
    link: watch::Sender<Link>,
}

impl Store {
    pub(crate) fn open(site: &Site, name: &str) -> Result<Self, Fault> {
        let Some(slots) = site.slots() else {
            let client = Client::at(site, Aim::Any, Role::Commands, name)?;
            let number = watch::Sender::new(0);
            let counter = tokio::spawn(count_servers(client.link(), number.clone())).abort_handle();
            return Ok(Self { kind: Kind::One { client, failovers: Arc::new(Failovers { number, counter }) } });
        };
        let fault = Fault::new(FaultKind::Unreachable, "not connected yet");
        let nodes = Arc::new(Nodes {
            site: site.clone(),
            slots: Arc::clone(slots),
            name: name.to_owned(),
            clients: Mutex::default(),
            link: watch::Sender::new(Link::down(fault)),
        });
        let number = watch::Sender::new(0);
        let counter = tokio::spawn(Arc::clone(&nodes).watch(number.clone())).abort_handle();
        Ok(Self { kind: Kind::Cluster(Arc::new(Cluster { nodes, failovers: Failovers { number, counter } })) })
    }

    /// Sends a command on one key to the server that has it.
    pub(crate) async fn keyed(&self, key: &Bytes, command: Command) -> Result<Reply, Fault> {
        match &self.kind {
            Kind::One { client, .. } => client.reply(command).await,
            Kind::Cluster(cluster) => cluster.nodes.routed(slots::slot(key), command).await,
        }
    }

    /// Deletes keys: at most 1000 of one slot with each command, all commands sent together.
    pub async fn unlink(&self, keys: Vec<Bytes>) -> Vec<Unlinked> {
        match &self.kind {
            Kind::One { client, .. } => {
                let chunks = positions(0..keys.len());
                join_all(chunks.map(|keys_of| async {
                    let outcome = match client.reply(unlink(&keys, &keys_of)).await {
                        Ok(reply) => reply.count(),
                        Err(fault) => Err(fault),
                    };
                    Unlinked { keys: keys_of, outcome }
                }))
                .await
            }
            Kind::Cluster(cluster) => cluster.nodes.unlink(&keys).await,
        }
    }

    /// Which of these keys are there, the commands sent together; each has its own answer.
    pub async fn exists(&self, keys: &[Bytes]) -> Vec<Result<bool, Fault>> {
        let one = |key: &Bytes| {
            let (key, command) = (key.clone(), Command::new("EXISTS").key(key.clone()));
            async move { Ok(self.keyed(&key, command).await?.count()? > 0) }
        };
        join_all(keys.iter().map(one)).await
    }

    /// Increments counters, the commands sent together; each has its own answer.
    pub async fn incr(&self, counters: &[Bytes]) -> Vec<Result<i64, Fault>> {
        match &self.kind {
            Kind::One { client, .. } => client.incr(counters).await,
            Kind::Cluster(cluster) => {
                let one = |counter: &Bytes| {
                    let command = Command::new("INCR").key(counter.clone());
                    let slot = slots::slot(counter);
                    async move { cluster.nodes.routed(slot, command).await?.int() }
                };
                join_all(counters.iter().map(one)).await
            }
        }
    }

    /// The masters that together have every key, as they are now.
    ///
    /// # Errors
    /// If one of them can't be reached, or a slot has none: then nobody can see every key.
    pub async fn masters(&self) -> Result<Masters, Fault> {
        match &self.kind {
            Kind::One { client, .. } => {
                let generations = vec![client.generation()?];
                Ok(Masters { clients: vec![client.clone()], hosts: Vec::new(), generations, version: 0, moving: false })
            }
            Kind::Cluster(cluster) => cluster.nodes.masters().await,
        }
    }

    /// What happened to the keys since.
    pub async fn since(&self, then: &Masters) -> Since {
        let same = |client: &Client, generation: u64| client.generation().is_ok_and(|now| now == generation);
        if !then.clients.iter().zip(&then.generations).all(|(client, generation)| same(client, *generation)) {
            return Since::Lost;
        }
        match &self.kind {
            Kind::One { .. } => Since::Same,
            Kind::Cluster(cluster) => match cluster.nodes.masters().await {
                Err(_) => Since::Lost,
                Ok(now) if !then.hosts.iter().all(|host| now.hosts.contains(host)) => Since::Lost,
                Ok(now) if now.moving || then.moving || now.version != then.version => Since::Moved,
                Ok(_) => Since::Same,
            },
        }
    }

    /// Whether all of it can be reached, as it changes. A cluster that is down in part says which node is, and why.
    pub fn link(&self) -> watch::Receiver<Link> {
        match &self.kind {
            Kind::One { client, .. } => client.link(),
            Kind::Cluster(cluster) => cluster.nodes.link.subscribe(),
        }
    }

    /// How often, since this was opened, a master was found to be another process than before, or has gone and left its slots to another.
    /// Such a successor may lack what was confirmed last.
    pub fn failovers(&self) -> watch::Receiver<u64> {
        match &self.kind {
            Kind::One { failovers, .. } => failovers.number.subscribe(),
            Kind::Cluster(cluster) => cluster.failovers.number.subscribe(),
        }
    }
}

async fn count_servers(mut link: watch::Receiver<Link>, number: watch::Sender<u64>) {
    while link.changed().await.is_ok() {
        if let Link::Up { server, .. } = &*link.borrow_and_update() {
            number.send_if_modified(|number| std::mem::replace(number, server - 1) != server - 1);
        }
    }
}

/// Cuts them into what one command takes.
fn positions(all: impl IntoIterator<Item = usize>) -> impl Iterator<Item = Vec<usize>> {
    let all: Vec<usize> = all.into_iter().collect();
    all.chunks(KEYS_AT_ONCE).map(<[usize]>::to_vec).collect::<Vec<_>>().into_iter()
}

fn unlink(keys: &[Bytes], positions: &[usize]) -> Command {
    let mut keys = positions.iter().filter_map(|position| keys.get(*position).cloned());
    let command = Command::new("UNLINK");
    match keys.next() {
        Some(first) => command.key(first).args(keys),
        None => command,
    }
}

impl Nodes {
    async fn unlink(&self, keys: &[Bytes]) -> Vec<Unlinked> {
        let mut by_slot: BTreeMap<u16, Vec<usize>> = BTreeMap::new();
        for (position, key) in keys.iter().enumerate() {
            by_slot.entry(slots::slot(key)).or_default().push(position);
        }
        let groups = by_slot.into_iter().flat_map(|(slot, group)| positions(group).map(move |group| (slot, group)));
        join_all(groups.map(|(slot, group)| self.unlink_group(keys, slot, group))).await.into_iter().flatten().collect()
    }

    async fn unlink_group(&self, keys: &[Bytes], slot: u16, group: Vec<usize>) -> Vec<Unlinked> {
        match self.routed(slot, unlink(keys, &group)).await {
            Err(fault) if fault.is_torn() && group.len() > 1 => {
                let one = |position| async move {
                    let outcome = match self.routed(slot, unlink(keys, &[position])).await {
                        Ok(reply) => reply.count(),
                        Err(fault) => Err(fault),
                    };
                    Unlinked { keys: vec![position], outcome }
                };
                join_all(group.into_iter().map(one)).await
            }
            Ok(reply) => vec![Unlinked { keys: group, outcome: reply.count() }],
            Err(fault) => vec![Unlinked { keys: group, outcome: Err(fault) }],
        }
    }

    /// Sends a command to the node that has the slot, wherever that is.
    async fn routed(&self, slot: u16, command: Command) -> Result<Reply, Fault> {
        let mut at = self.owner(slot)?;
        let mut asking = false;
        for _ in 0..REDIRECTS {
            let client = self.client(&at)?;
            client.tried().await;
            let answer = if asking { client.send_asking(command.clone()).await } else { client.reply(command.clone()).await };
            let Err(fault) = answer else { return answer };
            let here = |to: Host| if to.name.is_empty() { Host { name: at.name.clone(), ..to } } else { to };
            (at, asking) = match fault.redirect() {
                Some(Redirect::Moved { slot, to }) => {
                    let to = here(to);
                    self.slots.moved(slot, &to);
                    (to, false)
                }
                Some(Redirect::Ask { to }) => (here(to), true),
                None => return Err(fault),
            };
        }
        Err(Fault::new(FaultKind::Cluster, format!("slot {slot} is sent from node to node")))
    }

    fn owner(&self, slot: u16) -> Result<Host, Fault> {
        let view = self.slots.view();
        let view = view.borrow();
        match view.map.as_ref().map(|map| map.owner(slot)) {
            Some(Some(owner)) => Ok(owner.clone()),
            Some(None) => Err(Fault::new(FaultKind::Cluster, format!("no node has slot {slot}"))),
            None => Err(unknown(view.trouble.as_ref())),
        }
    }

    /// The connection to a node, which need not have a slot yet.
    fn client(&self, host: &Host) -> Result<Client, Fault> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((client, used)) = clients.get_mut(host) {
            *used = Instant::now();
            return Ok(client.clone());
        }
        let client = Client::at(&self.site, Aim::Node(host.clone()), Role::Commands, &self.name)?;
        clients.insert(host.clone(), (client.clone(), Instant::now()));
        Ok(client)
    }

    fn forget_idle(&self, masters: &[Host]) {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|host, (_, used)| masters.contains(host) || used.elapsed() < IDLE);
    }

    /// As the map has them if all of them agree with it, which costs one round trip; else as the nodes say when they are asked anew.
    async fn masters(&self) -> Result<Masters, Fault> {
        let (known, version) = self.slots.known();
        if let Some(map) = known
            && let Ok((masters, true)) = self.masters_of(&map, version).await
        {
            return Ok(masters);
        }
        let (map, version) = self.slots.refreshed().await?;
        self.masters_of(&map, version).await.map(|(masters, _)| masters)
    }

    /// The masters of a map, and whether each of them knows the same.
    async fn masters_of(&self, map: &Map, version: u64) -> Result<(Masters, bool), Fault> {
        if map.uncovered() > 0 {
            return Err(uncovered(map));
        }
        let clients = map.masters().iter().map(|host| self.client(host)).collect::<Result<Vec<_>, _>>()?;
        join_all(clients.iter().map(Client::tried)).await;
        let generations = clients.iter().map(Client::generation).collect::<Result<_, _>>()?;
        let opinions = try_join_all(clients.iter().zip(map.masters()).map(|(client, host)| opinion(client, host))).await?;
        let moving = opinions.iter().any(|opinion| opinion.moving);
        let agree = opinions.iter().all(|opinion| opinion.map == *map);
        Ok((Masters { clients, hosts: map.masters().to_vec(), generations, version, moving }, agree))
    }

    /// Keeps the connections that the map asks for, tells whether all are up, and counts failovers.
    async fn watch(self: Arc<Self>, failovers: watch::Sender<u64>) {
        let mut view = self.slots.view();
        let mut known = Census::default();
        loop {
            let (map, version, trouble) = {
                let view = view.borrow_and_update();
                (view.map.clone(), view.version, view.trouble.clone())
            };
            let masters = map.as_ref().map_or(&[][..], |map| map.masters());
            self.forget_idle(masters);
            let links = masters.iter().map(|host| Ok((host.clone(), self.client(host)?.link())));
            let links = match links.collect::<Result<Vec<(Host, watch::Receiver<Link>)>, Fault>>() {
                Ok(links) => links,
                // A file of the settings has become unusable since the site was opened.
                Err(fault) => {
                    self.tell(Err(fault), *failovers.borrow() + 1);
                    sleep(PAUSE).await;
                    continue;
                }
            };
            let now: Vec<(&Host, Link)> = links.iter().map(|(host, link)| (host, link.borrow().clone())).collect();
            if map.is_some() && known.shows_failover(&now) {
                failovers.send_modify(|number| *number += 1);
            }
            let state = match &map {
                None => Err(unknown(trouble.as_ref())),
                Some(map) => whole(map, &now),
            };
            self.tell(state.map(|()| known.generation(version, &now)), *failovers.borrow() + 1);
            drop(now);
            let mut changes: FuturesUnordered<_> = links.into_iter().map(|(_, mut link)| async move { link.changed().await }).collect();
            tokio::select! {
                _ = view.changed() => {}
                Some(_) = changes.next() => {}
                () = sleep(IDLE) => {}
            }
        }
    }

    fn tell(&self, state: Result<u64, Fault>, server: u64) {
        self.link.send_if_modified(|link| {
            let before = link.clone();
            match (state, &mut *link) {
                (Ok(generation), link) => *link = Link::Up { generation, server, process: None },
                (Err(fault), Link::Down { why, .. }) => *why = fault,
                (Err(fault), link) => *link = Link::down(fault),
            }
            *link != before
        });
    }
}

/// What was known of the masters, to see what changed.
#[derive(Debug, Default)]
struct Census {
    servers: HashMap<Host, u64>,
    masters: Vec<Host>,
    /// What the newest generation of the whole was made of.
    parts: (u64, Vec<Link>),
    generation: u64,
}

impl Census {
    fn shows_failover(&mut self, now: &[(&Host, Link)]) -> bool {
        let is_master = |host: &Host| now.iter().any(|(known, _)| *known == host);
        let mut found = !self.masters.iter().all(is_master);
        self.masters = now.iter().map(|(host, _)| (*host).clone()).collect();
        self.servers.retain(|host, _| is_master(host));
        for (host, link) in now {
            if let Link::Up { server, .. } = link {
                found |= self.servers.insert((*host).clone(), *server).is_some_and(|before| before != *server);
            }
        }
        found
    }

    /// Grows when the map or any connection is another.
    fn generation(&mut self, version: u64, now: &[(&Host, Link)]) -> u64 {
        let parts = (version, now.iter().map(|(_, link)| link.clone()).collect());
        if self.parts != parts {
            self.generation += 1;
            self.parts = parts;
        }
        self.generation
    }
}

/// Whether every slot has a node that can be reached.
fn whole(map: &Map, now: &[(&Host, Link)]) -> Result<(), Fault> {
    let down: Vec<&Fault> = now.iter().filter_map(|(_, link)| if let Link::Down { why, .. } = link { Some(why) } else { None }).collect();
    match down.first() {
        Some(first) => Err(Fault::new(first.kind, format!("{} of {} masters can't be reached: {}", down.len(), now.len(), first.text))),
        None if map.uncovered() > 0 => Err(uncovered(map)),
        None => Ok(()),
    }
}

fn uncovered(map: &Map) -> Fault {
    Fault::new(FaultKind::Cluster, format!("{} of {SLOTS} slots have no node", map.uncovered()))
}

fn unknown(trouble: Option<&Fault>) -> Fault {
    trouble.cloned().unwrap_or_else(|| Fault::new(FaultKind::Unreachable, "the nodes of the cluster are being asked who has which slots"))
}

/// What a node says of the slots.
struct Opinion {
    map: Map,
    /// Whether slots of its own are on their way.
    moving: bool,
}

async fn opinion(client: &Client, host: &Host) -> Result<Opinion, Fault> {
    let ask = |what| client.reply(Command::new("CLUSTER").text(what));
    let (nodes, slots) = try_join(ask("NODES"), ask("SLOTS")).await?;
    // A node tells on its way only of its own slots: in brackets, behind the others.
    let moving = nodes.text()?.lines().any(|line| line.contains("myself") && line.contains('['));
    Ok(Opinion { map: Map::of(slots, host)?, moving })
}
