//! A Redis Cluster of three masters with a replica each. A failover may lose what the replica had not received.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use tokio::runtime::Handle;
use unstale_testkit::{Cluster, Redis, Resp, SLOTS, Value, slot_of, wait_until_sync};

use crate::client::Route;
use crate::notice::NOTICES;
use crate::oracle::lock;
use crate::publisher::STREAMS;
use crate::stage::{Deed, PERSISTENT, SYNC, Stage, Strike};

const SWITCH: Duration = Duration::from_secs(5);
const WIRE: Duration = Duration::from_secs(5);
/// How often the nodes are asked who has which slots.
const ASK: Duration = Duration::from_millis(100);

const DEEDS: [Deed; 7] = [
    Deed { kind: "failover by command", weight: 8, grace: SWITCH, loses: true },
    Deed { kind: "master killed", weight: 8, grace: SWITCH, loses: true },
    Deed { kind: "master stopped shortly", weight: 4, grace: SWITCH, loses: false },
    Deed { kind: "replica killed", weight: 4, grace: WIRE, loses: false },
    Deed { kind: "slots moved", weight: 8, grace: WIRE, loses: false },
    Deed { kind: "clients killed", weight: 5, grace: WIRE, loses: false },
    Deed { kind: "scripts flushed", weight: 4, grace: Duration::from_secs(1), loses: false },
];

/// The nodes.
pub struct ClusterStage {
    cluster: Cluster,
    route: Arc<Slots>,
    runtime: Handle,
}

impl ClusterStage {
    /// Starts them.
    pub fn start(runtime: &Handle) -> Self {
        let cluster = runtime.block_on(Cluster::builder(3, 1).args(PERSISTENT).start());
        let route = Slots::follow(cluster.nodes().iter().map(Redis::address).collect());
        Self { cluster, route, runtime: runtime.clone() }
    }

    /// Waits until every replica has all that its master has: else the next failover can't be.
    fn in_sync(&self) {
        self.runtime.block_on(self.cluster.settled());
        wait_until_sync("the replicas to be in sync", SYNC, || {
            let masters = self.cluster.masters();
            masters.iter().try_for_each(|master| match self.cluster.replicas_of(*master).first() {
                Some(replica) => {
                    let info = self.cluster.node(*replica).cmd(&["INFO", "replication"]).text();
                    if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
                }
                None => Err(format!("node {master} has no replica")),
            })
        });
    }

    /// One of the masters; often the one with a stream or the log.
    fn some_master(&self, strike: &mut Strike<'_>) -> usize {
        match strike.one_of(6) {
            0 => self.cluster.owner_of(STREAMS[0]),
            1 => self.cluster.owner_of(STREAMS[1]),
            2 => self.cluster.owner_of(NOTICES),
            _ => {
                let masters = self.cluster.masters();
                masters[strike.one_of(masters.len())]
            }
        }
    }

    fn kill_master(&mut self, master: usize, strike: &mut Strike<'_>, fault: usize) {
        let slot = (0..SLOTS).find(|slot| self.cluster.owner(*slot) == master).expect("a master has slots");
        self.cluster.node_mut(master).kill();
        self.runtime.block_on(self.cluster.replaced(master, slot));
        strike.end(fault);
        strike.pass(0..2000);
        self.cluster.node_mut(master).launch();
        self.cluster.node_mut(master).ready_sync();
    }

    /// Moves some slots, now and then that of a stream, to another master while everything goes on.
    fn move_slots(&self, strike: &mut Strike<'_>) {
        let masters = self.cluster.masters();
        let to = masters[strike.one_of(masters.len())];
        let first = strike.random.random_range(0..SLOTS - 100);
        let names = [STREAMS[0], STREAMS[1], NOTICES];
        let own = strike.random.random_bool(0.5).then(|| slot_of(names[strike.one_of(3)]));
        self.runtime.block_on(self.cluster.reshard((first..first + 60).chain(own), to));
    }

    fn each_master(&self, words: &[&str]) {
        for master in self.cluster.masters() {
            self.cluster.node(master).cmd(words);
        }
    }
}

impl Stage for ClusterStage {
    fn route(&self) -> Arc<dyn Route> {
        Arc::clone(&self.route) as Arc<dyn Route>
    }

    fn urls(&self, sidecars: usize) -> Vec<String> {
        vec![self.cluster.url(); sidecars]
    }

    fn deeds(&self) -> &'static [Deed] {
        &DEEDS
    }

    fn act(&mut self, deed: &Deed, strike: &mut Strike<'_>) {
        let master = self.some_master(strike);
        let fault = strike.begin(deed, format!("node {master}"));
        match deed.kind {
            "failover by command" => drop(self.runtime.block_on(self.cluster.fail_over(master))),
            "master killed" => self.kill_master(master, strike, fault),
            "master stopped shortly" => {
                self.cluster.node(master).pause();
                strike.pass(100..1200);
                self.cluster.node(master).resume();
            }
            "replica killed" => {
                let replica = self.cluster.replicas_of(master)[0];
                self.cluster.node_mut(replica).kill();
                strike.pass(0..3000);
                self.cluster.node_mut(replica).launch();
                self.cluster.node_mut(replica).ready_sync();
            }
            "slots moved" => self.move_slots(strike),
            "clients killed" => {
                self.each_master(&["CLIENT", "KILL", "TYPE", "normal"]);
                self.each_master(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            }
            _ => self.each_master(&["SCRIPT", "FLUSH"]),
        }
        if deed.kind != "master killed" {
            strike.end(fault);
        }
        self.in_sync();
    }
}

/// Who has which slots, asked again and again.
#[derive(Debug)]
struct Slots {
    nodes: Vec<SocketAddr>,
    known: Mutex<Map>,
    epoch: AtomicU64,
}

/// From, to (both included), and who has them.
type Map = Vec<(u16, u16, SocketAddr)>;

impl Slots {
    fn follow(nodes: Vec<SocketAddr>) -> Arc<Self> {
        let slots = Arc::new(Self { nodes, known: Mutex::default(), epoch: AtomicU64::new(0) });
        slots.ask();
        let asking = Arc::downgrade(&slots);
        thread::spawn(move || {
            while let Some(slots) = asking.upgrade() {
                slots.ask();
                drop(slots);
                thread::sleep(ASK);
            }
        });
        slots
    }

    fn ask(&self) {
        let Some(map) = self.nodes.iter().find_map(|node| map(*node)) else { return };
        let mut known = lock(&self.known);
        if masters(&map) != masters(&known) {
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
        *known = map;
    }
}

fn masters(map: &Map) -> BTreeSet<SocketAddr> {
    map.iter().map(|(_, _, master)| *master).collect()
}

/// What this node says, if it has a say.
fn map(node: SocketAddr) -> Option<Map> {
    let mut resp = Resp::tcp(node).ok()?;
    resp.set_timeout(Some(Duration::from_millis(300)));
    // One that has just come back knows the world of before.
    resp.try_cmd(&["CLUSTER", "INFO"]).ok().filter(|info| info.text().contains("cluster_state:ok"))?;
    let Value::Array(ranges) = resp.try_cmd(&["CLUSTER", "SLOTS"]).ok()? else { return None };
    let slot = |value: &Value| u16::try_from(value.int()).ok();
    let range = |range: &Value| {
        let [from, to, master, ..] = range.array() else { return None };
        let [host, port, ..] = master.array() else { return None };
        Some((slot(from)?, slot(to)?, format!("{}:{}", host.text(), port.text()).parse().ok()?))
    };
    ranges.iter().map(range).collect::<Option<Map>>().filter(|map| !map.is_empty())
}

impl Route for Slots {
    fn owner(&self, key: &str) -> Option<SocketAddr> {
        let slot = slot_of(key);
        lock(&self.known).iter().find(|(from, to, _)| (*from..=*to).contains(&slot)).map(|(_, _, master)| *master)
    }

    fn masters(&self) -> Vec<SocketAddr> {
        masters(&lock(&self.known)).into_iter().collect()
    }

    fn look_again(&self) {
        self.ask();
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn replicas(&self) -> usize {
        1
    }
}
