//! A Redis Cluster of processes of a test's own: made within some three seconds, then killed, failed over and resharded at will.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;

use crate::redis::{Builder, blocking};
use crate::{Error, FaultProxy, Redis, Resp, Value, wait_until, wait_until_sync};

/// How many slots a cluster has.
pub const SLOTS: u16 = 16_384;

/// How long the nodes may take to agree, on a loaded machine.
const AGREE: Duration = Duration::from_secs(60);

/// Waits for a state that takes many questions to find out.
pub(crate) async fn agreed<T>(what: &str, mut state: impl FnMut() -> Result<T, String>) -> T {
    let asked = || {
        let answer = state();
        async {
            sleep(Duration::from_millis(20)).await;
            answer
        }
    };
    wait_until(what, AGREE, asked).await
}

/// What a cluster is started with.
#[derive(Debug)]
pub struct ClusterBuilder {
    masters: usize,
    replicas: usize,
    node: Builder,
}

impl ClusterBuilder {
    /// More command line arguments for each node, as in `.args(["--cluster-require-full-coverage", "no"])`.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.node = self.node.args(args);
        self
    }

    /// Clients and nodes speak TLS, with the files given, and clients show a certificate. Tests still look at nodes without it.
    #[must_use]
    pub fn tls(mut self, cert: &Path, key: &Path, ca: &Path) -> Self {
        self.node = self.node.tls(cert, key, Some(ca)).args(["--tls-cluster", "yes"]);
        self
    }

    /// Every node wants this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.node = self.node.password(password);
        self
    }

    /// Starts the nodes, joins them, and waits until each says that all is well.
    ///
    /// # Panics
    /// If they don't get there.
    pub async fn start(self) -> Cluster {
        let cluster = blocking(move || self.join()).await;
        cluster.settled().await;
        cluster.replicate().await;
        cluster
    }

    /// Nodes that have been told of each other. The first are the masters.
    fn join(self) -> Cluster {
        let start = |_| self.node.clone().start_sync();
        let nodes: Vec<Redis> = (0..self.masters * (1 + self.replicas)).map(start).collect();
        let ids = nodes.iter().map(|node| node.cmd(&["CLUSTER", "MYID"]).text()).collect();
        let share = usize::from(SLOTS).div_ceil(self.masters);
        for (index, node) in nodes.iter().enumerate() {
            let mut resp = node.resp();
            resp.cmd(&["CLUSTER", "SET-CONFIG-EPOCH", &(index + 1).to_string()]);
            if index < self.masters {
                let slots = (0..usize::from(SLOTS)).skip(index * share).take(share);
                let words = ["CLUSTER", "ADDSLOTS"].map(str::to_owned).into_iter().chain(slots.map(|slot| slot.to_string()));
                resp.cmd(&words.collect::<Vec<_>>());
            }
            for other in &nodes[..index] {
                let other = other.public_address();
                resp.cmd(&["CLUSTER", "MEET", &other.ip().to_string(), &other.port().to_string()]);
            }
        }
        Cluster { nodes, ids, masters: self.masters }
    }
}

/// A running cluster; dropping it kills all of it. Nodes go by their index: at first the masters in the order of their slots, then the
/// replicas, and who is what changes with each failover.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Redis>,
    ids: Vec<String>,
    masters: usize,
}

/// What a node is in the eyes of another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    /// Whose replica it is, if it is one.
    of: Option<usize>,
    /// From and to, both included.
    slots: Vec<(u16, u16)>,
}

impl Seen {
    fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|(from, to)| (*from..=*to).contains(&slot))
    }
}

type View = BTreeMap<usize, Seen>;

fn owner(view: &View, slot: u16) -> Option<usize> {
    view.iter().find(|(_, seen)| seen.has(slot)).map(|(index, _)| *index)
}

impl Cluster {
    /// Starts a cluster of so many masters with so many replicas each.
    ///
    /// # Panics
    /// If it doesn't come to be.
    pub async fn start(masters: usize, replicas: usize) -> Self {
        Self::builder(masters, replicas).start().await
    }

    /// A cluster with settings.
    pub fn builder(masters: usize, replicas: usize) -> ClusterBuilder {
        let args = ["--cluster-node-timeout", "2000", "--cluster-replica-validity-factor", "0", "--cluster-migration-barrier", "100"];
        let node = Redis::builder().node().args(args).args(["--repl-diskless-sync-delay", "0"]);
        ClusterBuilder { masters, replicas, node }
    }

    /// `redis-cluster://` (or `rediss-cluster://`) and all of its nodes.
    pub fn url(&self) -> String {
        let scheme = if self.nodes[0].url().starts_with("rediss") { "rediss" } else { "redis" };
        let hosts: Vec<String> = self.nodes.iter().map(|node| node.public_address().to_string()).collect();
        format!("{scheme}-cluster://{}", hosts.join(","))
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Redis] {
        &self.nodes
    }

    /// One of them.
    pub fn node(&self, index: usize) -> &Redis {
        &self.nodes[index]
    }

    /// One of them, to kill it and to start it again.
    pub fn node_mut(&mut self, index: usize) -> &mut Redis {
        &mut self.nodes[index]
    }

    /// The nodes that have slots, as a living one sees it.
    pub fn masters(&self) -> Vec<usize> {
        self.any_view().into_iter().filter(|(_, seen)| !seen.slots.is_empty()).map(|(index, _)| index).collect()
    }

    /// The replicas of a master, as a living node sees it.
    pub fn replicas_of(&self, master: usize) -> Vec<usize> {
        self.any_view().into_iter().filter(|(_, seen)| seen.of == Some(master)).map(|(index, _)| index).collect()
    }

    /// The node that has this slot, as a living one sees it.
    ///
    /// # Panics
    /// If nobody has it.
    pub fn owner(&self, slot: u16) -> usize {
        owner(&self.any_view(), slot).unwrap_or_else(|| panic!("no node has slot {slot}"))
    }

    /// The node that has the slot of this key.
    ///
    /// # Panics
    /// If nobody has it.
    pub fn owner_of(&self, key: impl AsRef<[u8]>) -> usize {
        self.owner(slot_of(key))
    }

    /// Runs a command on the node that has this key's slot. Waits while that thinks that the cluster is down, as each may for a moment that misses
    /// another.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn cmd<A: AsRef<[u8]>>(&self, key: &str, args: &[A]) -> Value {
        let answer = || match self.node(self.owner_of(key)).resp().try_cmd(args) {
            Err(Error::Server(text)) if text.starts_with("CLUSTERDOWN") => Err(text),
            answer => Ok(answer),
        };
        wait_until_sync("the cluster to be up", AGREE, answer).unwrap_or_else(|error| panic!("about {key}: {error}"))
    }

    /// Waits until all running nodes say that all is well and agree on who has which slots.
    ///
    /// # Panics
    /// If they don't.
    pub async fn settled(&self) {
        agreed("the nodes of the cluster to agree", || self.agreement().map(drop)).await;
    }

    /// Waits until another node has taken the slots of this one, which was killed or is stopped, and all running nodes know. Returns it.
    ///
    /// # Panics
    /// If nobody does.
    pub async fn replaced(&self, master: usize, slot: u16) -> usize {
        let state = || {
            let view = self.agreement()?;
            let owner = owner(&view, slot);
            owner.filter(|owner| *owner != master).ok_or_else(|| format!("slot {slot} is with {owner:?}"))
        };
        agreed("another node to have the slot", state).await
    }

    /// Has a replica take over from its living master, without loss, and waits until all nodes know. Returns the new master.
    ///
    /// # Panics
    /// If it has no replica, or the replica doesn't.
    pub async fn fail_over(&self, master: usize) -> usize {
        let replica = *self.replicas_of(master).first().expect("a master with a replica");
        let state = || {
            let view = self.agreement()?;
            if view[&replica].of.is_none() {
                return Ok(());
            }
            // Refused while one is under way.
            let answer = self.node(replica).resp().try_cmd(&["CLUSTER", "FAILOVER"]);
            Err(format!("{replica} is a replica still; CLUSTER FAILOVER: {answer:?}"))
        };
        agreed("the replica to take over", state).await;
        replica
    }

    /// Has clients find a node behind a proxy from now on, and waits until all nodes name that. Not with TLS, and not
    /// before Redis 7.0.
    ///
    /// # Panics
    /// If the nodes don't.
    pub async fn proxy(&self, index: usize) -> FaultProxy {
        let node = self.node(index);
        let proxy = FaultProxy::start(node.address()).await;
        let port = proxy.address().port().to_string();
        node.cmd(&["CONFIG", "SET", "cluster-announce-port", &port]);
        let named = || {
            let unaware = self.running().find(|node| !node.cmd(&["CLUSTER", "NODES"]).text().contains(&format!(":{port}@")));
            unaware.map_or(Ok(()), |node| Err(format!("port {} doesn't name it", node.port())))
        };
        agreed("all nodes to name the proxy", named).await;
        proxy
    }

    /// Begins to move a slot: the two nodes redirect and ask for it from now on, until [`Migration::finish`].
    ///
    /// # Panics
    /// If the nodes refuse.
    pub fn migrate(&self, slot: u16, to: usize) -> Migration<'_> {
        self.try_migrate(slot, self.owner(slot), to).expect("the nodes begin to move a slot")
    }

    fn try_migrate(&self, slot: u16, from: usize, to: usize) -> Result<Migration<'_>, Error> {
        let (mut source, mut target) = (self.node(from).try_resp()?, self.node(to).try_resp()?);
        let name = slot.to_string();
        target.try_cmd(&["CLUSTER", "SETSLOT", &name, "IMPORTING", &self.ids[from]])?;
        source.try_cmd(&["CLUSTER", "SETSLOT", &name, "MIGRATING", &self.ids[to]])?;
        Ok(Migration { cluster: self, slot, from, to, source, target })
    }

    /// Moves slots with their keys, one after the other, while clients go on, and waits until all nodes know. If a node is replaced by its replica
    /// meanwhile, that has its part.
    ///
    /// # Panics
    /// If the nodes go on refusing.
    pub async fn reshard(&self, slots: impl IntoIterator<Item = u16>, to: usize) {
        let slots: Vec<u16> = slots.into_iter().collect();
        for slot in &slots {
            wait_until(&format!("slot {slot} to move"), AGREE, || self.try_move(*slot, to)).await;
        }
        let state = || {
            self.adopt(&slots, to)?;
            self.agreement().map(drop)
        };
        agreed("the nodes to agree on the slots that moved", state).await;
    }

    /// Moves a slot from where it is, if it is anywhere, however far a move was that was cut short.
    async fn try_move(&self, slot: u16, to: usize) -> Result<(), String> {
        let view = self.any_view();
        let to = in_place_of(to, &view);
        let Some(from) = owner(&view, slot).filter(|from| *from != to) else { return Ok(()) };
        let mut migration = self.try_migrate(slot, from, to)?;
        while migration.try_move_keys(10)? > 0 {
            yield_now().await;
        }
        migration.try_finish()?;
        yield_now().await;
        Ok(())
    }

    /// Gives slots away that nobody has: a node that took the place of its master may not have heard what that was given last. It has the keys.
    fn adopt(&self, slots: &[u16], to: usize) -> Result<(), String> {
        let views: Vec<View> = self.running().filter_map(|node| self.view(&mut node.try_resp().ok()?)).collect();
        let Some(view) = views.last() else { return Ok(()) };
        let is_nobodys = |slot: &u16| views.iter().all(|view| owner(view, *slot).is_none());
        slots.iter().copied().filter(is_nobodys).try_for_each(|slot| Ok(self.give(slot, in_place_of(to, view))?))
    }

    /// Has all running masters know who has a slot, him first.
    fn give(&self, slot: u16, to: usize) -> Result<(), Error> {
        let others = self.masters().into_iter().filter(|index| *index != to && self.node(*index).is_running());
        for index in std::iter::once(to).chain(others) {
            self.node(index).try_resp()?.try_cmd(&["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &self.ids[to]])?;
        }
        Ok(())
    }

    async fn replicate(&self) {
        for (replica, node) in self.nodes.iter().enumerate().skip(self.masters) {
            node.cmd(&["CLUSTER", "REPLICATE", &self.ids[replica % self.masters]]);
        }
        let state = || {
            self.agreement()?;
            self.nodes.iter().skip(self.masters).try_for_each(in_sync)
        };
        agreed("the replicas to be in sync", state).await;
    }

    /// What all running nodes say, if they say the same and that all is well.
    fn agreement(&self) -> Result<View, String> {
        let mut views: Vec<View> = Vec::new();
        for node in self.running() {
            let mut resp = node.try_resp().map_err(|error| error.to_string())?;
            let info = resp.try_cmd(&["CLUSTER", "INFO"]).map_err(|error| error.to_string())?.text();
            if !info.contains("cluster_state:ok") {
                return Err(format!("port {}: {info}", node.port()));
            }
            let view = self.view(&mut resp).ok_or_else(|| format!("port {} doesn't know all nodes: {info}", node.port()))?;
            views.push(view);
        }
        let first = views.pop().ok_or("no node is running")?;
        if views.iter().all(|view| *view == first) { Ok(first) } else { Err(format!("{views:?} and {first:?}")) }
    }

    fn running(&self) -> impl Iterator<Item = &Redis> {
        self.nodes.iter().filter(|node| node.is_running())
    }

    /// What the first of them says that answers and knows all others: one that was started a moment ago may not yet.
    fn any_view(&self) -> View {
        let view = || self.running().find_map(|node| self.view(&mut node.try_resp().ok()?)).ok_or_else(|| "none does".to_owned());
        wait_until_sync("a node that knows all others", AGREE, view)
    }

    /// Lines of: id, address, flags, master's id or `-`, three numbers, link state, slots.
    fn view(&self, resp: &mut Resp) -> Option<View> {
        let text = resp.try_cmd(&["CLUSTER", "NODES"]).ok()?.text();
        let index = |id: &str| self.ids.iter().position(|known| known == id);
        let view: Option<View> = text
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                let slots = words.get(8..)?.iter().filter_map(|word| range(word)).collect();
                Some((index(words[0])?, Seen { of: index(words[3]), slots }))
            })
            .collect();
        view.filter(|view| view.len() == self.nodes.len())
    }
}

/// `5`, or `0-5460`; slots on the move are in brackets, and told with those that a node has.
fn range(word: &str) -> Option<(u16, u16)> {
    let (from, to) = word.split_once('-').unwrap_or((word, word));
    Some((from.parse().ok()?, to.parse().ok()?))
}

/// The node itself, or its master if it is a replica now.
fn in_place_of(node: usize, view: &View) -> usize {
    view[&node].of.unwrap_or(node)
}

/// Whether a replica has all that its master has.
pub(crate) fn in_sync(replica: &Redis) -> Result<(), String> {
    let info = replica.cmd(&["INFO", "replication"]).text();
    if info.contains("role:slave") && info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
}

/// The slot of a key: CRC16 (XMODEM) of it, or of what stands in its first braces.
pub fn slot_of(key: impl AsRef<[u8]>) -> u16 {
    let key = key.as_ref();
    let tag = key.iter().position(|byte| *byte == b'{').map(|open| &key[open + 1..]);
    let tag = tag.and_then(|rest| rest.iter().position(|byte| *byte == b'}').map(|close| &rest[..close]));
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let byte =
        |crc: u16, byte: &u8| (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 });
    hashed.iter().fold(0, byte) % SLOTS
}

/// A slot on its way from one node to another. Dropped, it stays as it is: half moved.
pub struct Migration<'a> {
    cluster: &'a Cluster,
    slot: u16,
    from: usize,
    to: usize,
    source: Resp,
    target: Resp,
}

impl Migration<'_> {
    /// The node that it comes from.
    pub fn from(&self) -> usize {
        self.from
    }

    /// Moves at most so many keys of the slot; returns how many there were to move.
    ///
    /// # Panics
    /// If the nodes refuse.
    pub fn move_keys(&mut self, most: usize) -> usize {
        let keys = self.keys(most).expect("the source names its keys");
        self.move_these(&keys)
    }

    fn try_move_keys(&mut self, most: usize) -> Result<usize, Error> {
        let keys = self.keys(most)?;
        self.try_move_these(&keys)?;
        Ok(keys.len())
    }

    fn keys(&mut self, most: usize) -> Result<Vec<Vec<u8>>, Error> {
        let keys = self.source.try_cmd(&["CLUSTER", "GETKEYSINSLOT", &self.slot.to_string(), &most.to_string()])?;
        let Value::Array(keys) = keys else { panic!("expected keys, got {keys:?}") };
        Ok(keys.into_iter().filter_map(|key| if let Value::Bulk(key) = key { Some(key) } else { None }).collect())
    }

    /// Moves these keys, as far as they are there still; returns how many were named. Tries again while the nodes can't: one of a cluster whose
    /// master died may think for a moment longer than the others that the whole is down. The source's copy is the one that counts.
    ///
    /// # Panics
    /// If the nodes go on refusing.
    pub fn move_these<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> usize {
        wait_until_sync("the nodes to move keys", AGREE, || Ok(self.try_move_these(keys)?));
        keys.len()
    }

    fn try_move_these<K: AsRef<[u8]>>(&mut self, keys: &[K]) -> Result<(), Error> {
        if keys.is_empty() {
            return Ok(());
        }
        let target = self.cluster.node(self.to);
        let (host, port) = (target.public_address().ip().to_string(), target.public_address().port().to_string());
        let mut words: Vec<&[u8]> = [&*host, &*port, "", "0", "5000"].map(str::as_bytes).to_vec();
        words.insert(0, b"MIGRATE");
        if let Some(password) = target.password() {
            words.extend([b"AUTH", password.as_bytes()]);
        }
        words.extend([b"REPLACE".as_slice(), b"KEYS"]);
        words.extend(keys.iter().map(AsRef::as_ref));
        self.source.try_cmd(&words).map(drop)
    }

    /// Gives the slot to its new node, which all masters are told.
    ///
    /// # Panics
    /// If the nodes refuse.
    pub fn finish(self) {
        self.try_finish().expect("the nodes end the move of a slot");
    }

    /// The new node first, then the old one: who asks it in between is sent on.
    fn try_finish(mut self) -> Result<(), Error> {
        let words = ["CLUSTER", "SETSLOT", &self.slot.to_string(), "NODE", &self.cluster.ids[self.to]];
        self.target.try_cmd(&words)?;
        self.source.try_cmd(&words)?;
        self.cluster.give(self.slot, self.to)
    }
}
