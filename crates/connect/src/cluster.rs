//! Knowing who has which slot of a cluster: asks its nodes when somebody doubts what is known, and now and then.
//!
//! A node may be behind, or cut off from the others. So several are asked at once, and the one that has seen the newest epoch is believed.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::fault::{Fault, FaultKind};
use crate::link::{Address, Connection, Plan};
use crate::server::Host;
use crate::slots::Map;
use crate::wire::Command;

/// How often the nodes are asked if nobody doubts.
const PERIOD: Duration = Duration::from_secs(5);
/// They are not asked more often than this, whoever doubts.
const SHORTEST: Duration = Duration::from_millis(100);
/// How many are asked at once, and how much later the next.
const AT_ONCE: usize = 3;
const STAGGER: Duration = Duration::from_millis(500);
/// How long the others have once one has answered.
const GRACE: Duration = Duration::from_millis(200);

/// What is known, and how many doubts it has answered.
#[derive(Debug, Clone)]
pub(crate) struct View {
    /// The newest map, if there was ever one.
    pub(crate) map: Option<Arc<Map>>,
    /// Grows whenever the map changes.
    pub(crate) version: u64,
    /// Why the newest question had no answer, if it had none.
    pub(crate) trouble: Option<Fault>,
    answered: u64,
}

/// The slots of one cluster.
#[derive(Debug)]
pub(crate) struct Slots {
    view: watch::Sender<View>,
    doubts: watch::Sender<u64>,
    seeds: Vec<Host>,
}

impl Slots {
    pub(crate) fn new(seeds: Vec<Host>) -> Self {
        let view = View { map: None, version: 0, trouble: None, answered: 0 };
        Self { view: watch::Sender::new(view), doubts: watch::Sender::new(0), seeds }
    }

    /// What is known, as it changes.
    pub(crate) fn view(&self) -> watch::Receiver<View> {
        self.view.subscribe()
    }

    /// The map as far as it is known.
    pub(crate) fn map(&self) -> Option<Arc<Map>> {
        self.view.borrow().map.clone()
    }

    /// The map as far as it is known, and its version.
    pub(crate) fn known(&self) -> (Option<Arc<Map>>, u64) {
        let view = self.view.borrow();
        (view.map.clone(), view.version)
    }

    /// Has the nodes asked soon.
    pub(crate) fn doubt(&self) -> u64 {
        let mut number = 0;
        self.doubts.send_modify(|doubts| {
            *doubts += 1;
            number = *doubts;
        });
        number
    }

    /// What the nodes say when they are asked now, and the map's version.
    pub(crate) async fn refreshed(&self) -> Result<(Arc<Map>, u64), Fault> {
        let number = self.doubt();
        let mut view = self.view();
        let lost = || Fault::new(FaultKind::Unreachable, "this cluster is not watched any more");
        let view = view.wait_for(|view| view.answered >= number).await.map_err(|_| lost())?;
        match (&view.trouble, &view.map) {
            (None, Some(map)) => Ok((Arc::clone(map), view.version)),
            (trouble, _) => Err(trouble.clone().unwrap_or_else(lost)),
        }
    }

    /// A node said that another has this slot: it knows, and the rest is asked for.
    pub(crate) fn moved(&self, slot: u16, owner: &Host) {
        if let Some(map) = self.map().filter(|map| map.owner(slot) != Some(owner)) {
            // One node too many for a map can't be kept, and will be asked for in vain.
            if let Ok(map) = map.with(slot, owner.clone()) {
                self.learn(map);
            }
        }
        self.doubt();
    }

    fn learn(&self, map: Map) {
        self.view.send_if_modified(|view| {
            let is_new = view.map.as_deref() != Some(&map);
            if is_new {
                view.version += 1;
                view.map = Some(Arc::new(map));
            }
            is_new
        });
    }

    /// The nodes to ask: those that have slots, and those that the URL names, beginning with another one each time.
    pub(crate) fn hosts(&self, turn: usize) -> Vec<Host> {
        let mut hosts = self.map().map(|map| map.masters().to_vec()).unwrap_or_default();
        for seed in &self.seeds {
            if !hosts.contains(seed) {
                hosts.push(seed.clone());
            }
        }
        let first = turn % hosts.len().max(1);
        hosts.rotate_left(first);
        hosts
    }

    /// Keeps it up to date for ever.
    pub(crate) async fn watch(self: Arc<Self>, plan: Arc<Plan>) {
        let mut doubts = self.doubts.subscribe();
        for turn in 0.. {
            let number = *doubts.borrow_and_update();
            let answer = newest(&plan, &self.hosts(turn)).await;
            let trouble = answer.map(|map| self.learn(map)).err();
            if let Some(fault) = &trouble {
                tracing::debug!(kind = fault.kind.name(), text = fault.text, "no node of the cluster tells who has which slots");
            }
            self.view.send_modify(|view| {
                view.answered = number;
                view.trouble = trouble;
            });
            sleep(SHORTEST).await;
            // It can't be closed: this has the sender.
            let _ = timeout(PERIOD, doubts.changed()).await;
        }
    }
}

/// What the node says that has seen the newest epoch, of those that answer.
async fn newest(plan: &Arc<Plan>, hosts: &[Host]) -> Result<Map, Fault> {
    let questions = hosts.iter().enumerate().map(|(index, host)| async move {
        sleep(STAGGER * u32::try_from(index / AT_ONCE).unwrap_or(u32::MAX)).await;
        ask(plan, host).await.map_err(|fault| Fault::new(fault.kind, format!("{host}: {}", fault.text)))
    });
    let mut questions: FuturesUnordered<_> = questions.collect();
    let (mut best, mut trouble) = (None::<(u64, Map)>, Fault::new(FaultKind::Cluster, "no node is known"));
    let mut end = None;
    loop {
        let answer = tokio::select! {
            answer = questions.next() => answer,
            () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => None,
        };
        match answer {
            Some(Ok((epoch, map))) => {
                end = end.or(Some(Instant::now() + GRACE));
                if best.as_ref().is_none_or(|(newest, _)| epoch > *newest) {
                    best = Some((epoch, map));
                }
            }
            Some(Err(fault)) => trouble = fault,
            None => return best.map(|(_, map)| map).ok_or(trouble),
        }
    }
}

async fn ask(plan: &Arc<Plan>, host: &Host) -> Result<(u64, Map), Fault> {
    let connection = Connection::open_in_time(plan, &Address::Tcp(host.clone())).await?;
    let info = connection.ask(plan, Command::new("CLUSTER").text("INFO")).await?;
    let slots = connection.ask(plan, Command::new("CLUSTER").text("SLOTS")).await?;
    let epoch = info.text()?.lines().find_map(|line| line.strip_prefix("cluster_current_epoch:")?.trim().parse().ok());
    Ok((epoch.unwrap_or_default(), Map::of(slots, host)?))
}
