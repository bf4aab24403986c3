//! A master with a replica, and three sentinels. A failover may lose what the replica had not received.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tokio::runtime::Handle;
use unstale_testkit::{Redis, Resp, Sentinels, Value, wait_until_sync};

use crate::client::Route;
use crate::oracle::lock;
use crate::stage::{Deed, PERSISTENT, SYNC, Stage, Strike};

const SWITCH: Duration = Duration::from_secs(5);
const WIRE: Duration = Duration::from_secs(5);
/// How often the sentinels are asked who the master is.
const ASK: Duration = Duration::from_millis(100);

const DEEDS: [Deed; 8] = [
    Deed { kind: "failover by command", weight: 8, grace: SWITCH, loses: true },
    Deed { kind: "master killed", weight: 8, grace: SWITCH, loses: true },
    Deed { kind: "master stopped", weight: 6, grace: SWITCH, loses: true },
    Deed { kind: "master stopped shortly", weight: 4, grace: SWITCH, loses: false },
    Deed { kind: "replica killed", weight: 4, grace: WIRE, loses: false },
    Deed { kind: "sentinel killed", weight: 4, grace: WIRE, loses: false },
    Deed { kind: "clients killed", weight: 5, grace: WIRE, loses: false },
    Deed { kind: "scripts flushed", weight: 4, grace: Duration::from_secs(1), loses: false },
];

/// The servers and their sentinels.
pub struct SentinelStage {
    sentinels: Sentinels,
    route: Arc<Master>,
    runtime: Handle,
}

impl SentinelStage {
    /// Starts them.
    pub fn start(runtime: &Handle) -> Self {
        let sentinels = runtime.block_on(Sentinels::builder(1).args(PERSISTENT).start());
        let name = sentinels.url().rsplit('=').next().unwrap_or_default().to_owned();
        let route = Master::follow(sentinels.sentinels().iter().map(Redis::address).collect(), name);
        Self { sentinels, route, runtime: runtime.clone() }
    }

    /// Waits until every other server is a replica that has all that the master has: else the next failover can't be.
    fn in_sync(&self) {
        wait_until_sync("the replica to be in sync", SYNC, || {
            let master = self.sentinels.try_master()?;
            let others = self.sentinels.servers().iter().enumerate().filter(|(index, _)| *index != master);
            others.map(|(_, server)| server).try_for_each(|replica| {
                // A server that is just being demoted ends its connections.
                let info = replica.resp().try_cmd(&["INFO", "replication"]).map_err(|error| error.to_string())?.text();
                if info.contains("role:slave") && info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
            })
        });
    }

    fn replace_master(&mut self, strike: &mut Strike<'_>, deed: &Deed) {
        let master = self.sentinels.master();
        let fault = strike.begin(deed, format!("server {master}"));
        match deed.kind {
            "failover by command" => drop(self.runtime.block_on(self.sentinels.fail_over())),
            "master killed" => {
                self.sentinels.server_mut(master).kill();
                self.runtime.block_on(self.sentinels.replaced(master));
            }
            _ => {
                self.sentinels.server(master).pause();
                self.runtime.block_on(self.sentinels.replaced(master));
            }
        }
        strike.end(fault);
        strike.pass(0..2000);
        match deed.kind {
            "master killed" => {
                self.sentinels.server_mut(master).launch();
                self.sentinels.server_mut(master).ready_sync();
            }
            "master stopped" => self.sentinels.server(master).resume(),
            _ => {}
        }
    }

    fn restart(server: &mut Redis, strike: &mut Strike<'_>) {
        server.kill();
        strike.pass(0..3000);
        server.launch();
        server.ready_sync();
    }
}

impl Stage for SentinelStage {
    fn route(&self) -> Arc<dyn Route> {
        Arc::clone(&self.route) as Arc<dyn Route>
    }

    fn urls(&self, sidecars: usize) -> Vec<String> {
        vec![self.sentinels.url(); sidecars]
    }

    fn deeds(&self) -> &'static [Deed] {
        &DEEDS
    }

    fn act(&mut self, deed: &Deed, strike: &mut Strike<'_>) {
        if ["failover by command", "master killed", "master stopped"].contains(&deed.kind) {
            self.replace_master(strike, deed);
        } else {
            let master = self.sentinels.master();
            let fault = strike.begin(deed, format!("the master is server {master}"));
            match deed.kind {
                "master stopped shortly" => {
                    self.sentinels.server(master).pause();
                    strike.pass(100..900);
                    self.sentinels.server(master).resume();
                }
                "replica killed" => Self::restart(self.sentinels.server_mut(1 - master), strike),
                "sentinel killed" => Self::restart(self.sentinels.sentinel_mut(strike.one_of(3)), strike),
                "clients killed" => {
                    self.sentinels.server(master).cmd(&["CLIENT", "KILL", "TYPE", "normal"]);
                    self.sentinels.server(master).cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]);
                }
                _ => drop(self.sentinels.server(master).cmd(&["SCRIPT", "FLUSH"])),
            }
            strike.end(fault);
        }
        self.in_sync();
    }
}

/// Who the master is, asked again and again.
#[derive(Debug)]
struct Master {
    sentinels: Vec<SocketAddr>,
    name: String,
    known: Mutex<Option<SocketAddr>>,
    epoch: AtomicU64,
}

impl Master {
    fn follow(sentinels: Vec<SocketAddr>, name: String) -> Arc<Self> {
        let master = Arc::new(Self { sentinels, name, known: Mutex::default(), epoch: AtomicU64::new(0) });
        master.ask();
        let asking = Arc::downgrade(&master);
        thread::spawn(move || {
            while let Some(master) = asking.upgrade() {
                master.ask();
                drop(master);
                thread::sleep(ASK);
            }
        });
        master
    }

    fn ask(&self) {
        let named = self.sentinels.iter().find_map(|sentinel| named(*sentinel, &self.name));
        let mut known = lock(&self.known);
        if named.is_some() && named != *known {
            *known = named;
            self.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// The master that this sentinel names.
fn named(sentinel: SocketAddr, name: &str) -> Option<SocketAddr> {
    let mut resp = Resp::tcp(sentinel).ok()?;
    resp.set_timeout(Some(Duration::from_millis(500)));
    let answer = resp.try_cmd(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name]).ok()?;
    let Value::Array(parts) = answer else { return None };
    format!("{}:{}", parts.first()?.text(), parts.get(1)?.text()).parse().ok()
}

impl Route for Master {
    fn owner(&self, _key: &str) -> Option<SocketAddr> {
        *lock(&self.known)
    }

    fn masters(&self) -> Vec<SocketAddr> {
        lock(&self.known).into_iter().collect()
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn replicas(&self) -> usize {
        1
    }
}
