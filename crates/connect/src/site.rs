//! Where the servers of an installation are: one server, the master that sentinels name, or the nodes of a cluster.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::client::{Client, Role, plan};
use crate::cluster::Slots;
use crate::fault::{Fault, FaultKind};
use crate::link::Address;
use crate::sentinel::{Known, Sentinels};
use crate::server::{Endpoint, Host, Server};
use crate::slots;
use crate::store::Store;

/// Which of the servers of an installation a connection goes to. Where there is only one, or one master, all mean that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place<'a> {
    /// Any node of a cluster that answers.
    Any,
    /// The node that has the slot of this key, whichever that is at the time.
    Key(&'a str),
}

/// The same, resolved as far as it can be without asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Aim {
    Any,
    Slot(u16),
    Node(Host),
}

/// An installation, watched: it knows where its masters are and notices when that changes. All connections to it share one; clones are
/// the same, and with the last of them and of its connections the watching ends.
///
/// - Behind sentinels it keeps two connections to each, and hears of a new master within milliseconds.
/// - Of a cluster it keeps the map of slots, which is asked for anew whenever a node says that a slot is elsewhere, a connection ends, and
///   every five seconds.
#[derive(Debug, Clone)]
pub struct Site {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    server: Server,
    kind: Kind,
    watcher: Option<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
    }
}

#[derive(Debug)]
enum Kind {
    /// The address never changes.
    One(Address),
    Sentinel(Arc<Sentinels>),
    Cluster(Arc<Slots>),
}

impl Site {
    /// Begins to watch and returns at once, whether anything is there or not. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`FaultKind::Config`] if a file for TLS can't be used.
    pub fn open(server: &Server) -> Result<Self, Fault> {
        let (kind, watcher) = match &server.url.endpoint {
            Endpoint::Standalone(host) => (Kind::One(Address::Tcp(host.clone())), None),
            Endpoint::Unix(path) => (Kind::One(Address::Unix(path.clone())), None),
            Endpoint::Sentinel { hosts, master } => {
                let sentinels = Arc::new(Sentinels::new(hosts.clone(), master.clone()));
                let plan = plan(&server.of_sentinels(), Role::Commands, "unstale:sentinel")?;
                let watcher = tokio::spawn(Arc::clone(&sentinels).watch(Arc::new(plan)));
                (Kind::Sentinel(sentinels), Some(watcher.abort_handle()))
            }
            Endpoint::Cluster { hosts } => {
                let slots = Arc::new(Slots::new(hosts.clone()));
                let watcher = tokio::spawn(Arc::clone(&slots).watch(Arc::new(plan(server, Role::Commands, "unstale:slots")?)));
                (Kind::Cluster(slots), Some(watcher.abort_handle()))
            }
        };
        // Also reads the files of TLS.
        plan(server, Role::Commands, "")?;
        Ok(Self { inner: Arc::new(Inner { server: server.clone(), kind, watcher }) })
    }

    /// One connection to the server that is at a place, made again wherever that is then. `name` is shown by CLIENT LIST.
    ///
    /// # Errors
    /// [`FaultKind::Config`] if a file for TLS can't be used.
    pub fn client(&self, place: Place<'_>, role: Role, name: &str) -> Result<Client, Fault> {
        let aim = match place {
            Place::Any => Aim::Any,
            Place::Key(key) => Aim::Slot(slots::slot(key.as_bytes())),
        };
        Client::at(self, aim, role, name)
    }

    /// The keys of caches here, wherever they are. `name` is shown by CLIENT LIST.
    ///
    /// # Errors
    /// [`FaultKind::Config`] if a file for TLS can't be used.
    pub fn store(&self, name: &str) -> Result<Store, Fault> {
        Store::open(self, name)
    }

    /// What it was opened with.
    pub fn server(&self) -> &Server {
        &self.inner.server
    }

    pub(crate) fn slots(&self) -> Option<&Arc<Slots>> {
        if let Kind::Cluster(slots) = &self.inner.kind { Some(slots) } else { None }
    }

    /// Whether the URL says already where the server is.
    pub(crate) fn is_one(&self) -> bool {
        matches!(self.inner.kind, Kind::One(_))
    }

    /// Whether a connection there is of use only if the server is a master.
    pub(crate) fn wants_master(&self, aim: &Aim) -> bool {
        match self.inner.kind {
            Kind::One(_) => false,
            Kind::Sentinel(_) => true,
            Kind::Cluster(_) => matches!(aim, Aim::Slot(_)),
        }
    }

    /// Where a connection has to go now. Waits for the first answer of sentinels or nodes if there is none yet.
    pub(crate) async fn locate(&self, aim: &Aim, attempt: usize) -> Result<Address, Fault> {
        match &self.inner.kind {
            Kind::One(address) => Ok(address.clone()),
            Kind::Sentinel(sentinels) => locate_master(sentinels).await.map(Address::Tcp),
            Kind::Cluster(slots) => locate_node(slots, aim, attempt).await.map(Address::Tcp),
        }
    }

    /// Waits until a connection to this address is at the wrong one.
    pub(crate) async fn moved(&self, aim: &Aim, from: &Address) -> Fault {
        let Address::Tcp(from) = from else { return std::future::pending().await };
        let to = match (&self.inner.kind, aim) {
            (Kind::Sentinel(sentinels), _) => {
                let mut known = sentinels.known();
                let other = known.wait_for(|known| matches!(known, Known::Master(host) if host != from)).await;
                other.ok().and_then(|known| if let Known::Master(host) = &*known { Some(host.clone()) } else { None })
            }
            (Kind::Cluster(slots), Aim::Slot(slot)) => {
                let mut view = slots.view();
                let owner = |view: &crate::cluster::View| view.map.as_ref().and_then(|map| map.owner(*slot).cloned());
                let other = view.wait_for(|view| owner(view).is_some_and(|owner| owner != *from)).await;
                other.ok().and_then(|view| owner(&view))
            }
            _ => None,
        };
        match to {
            Some(to) => Fault::new(FaultKind::ReadOnly, format!("the master is {to} now, no longer {from}")),
            None => std::future::pending().await,
        }
    }

    /// Something shows that what is known may be old.
    pub(crate) fn doubt(&self) {
        match &self.inner.kind {
            Kind::One(_) => {}
            Kind::Sentinel(sentinels) => sentinels.doubt(),
            Kind::Cluster(slots) => {
                slots.doubt();
            }
        }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        self.inner.server.connect_timeout
    }
}

async fn locate_master(sentinels: &Sentinels) -> Result<Host, Fault> {
    let mut known = sentinels.known();
    let known = known.wait_for(|known| *known != Known::Nothing).await.map(|known| known.clone());
    match known {
        Ok(Known::Master(host)) => Ok(host),
        Ok(Known::Trouble(fault)) => Err(fault),
        Ok(Known::Nothing) | Err(_) => Err(Fault::new(FaultKind::Unreachable, "the sentinels are not watched any more")),
    }
}

async fn locate_node(slots: &Slots, aim: &Aim, attempt: usize) -> Result<Host, Fault> {
    match aim {
        Aim::Node(host) => Ok(host.clone()),
        Aim::Any => slots.hosts(attempt).into_iter().next().ok_or_else(|| Fault::new(FaultKind::Config, "no node is known")),
        Aim::Slot(slot) => {
            let map = match slots.map() {
                Some(map) => map,
                None => slots.refreshed().await?.0,
            };
            let nobody = || Fault::new(FaultKind::Cluster, format!("no node has slot {slot}"));
            map.owner(*slot).cloned().ok_or_else(nobody)
        }
    }
}
