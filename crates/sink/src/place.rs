//! Where the caches are, as seen from the notice log.

use std::sync::Arc;
use std::time::Duration;

use unstale_connect::Store;
use unstale_events::{CacheId, Priority};
use unstale_router::Caches;

use crate::config::{Clients, Elsewhere, Lanes};
use crate::scan::Queue;

/// Where a cache's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the database of the log: deleted by the script that announces it.
    Together,
    /// Nowhere in Redis: announced only.
    Nowhere,
    /// On this site, which is another server or database: deleted there first, then announced.
    Apart(usize),
}

/// The place of each cache, and what leads to it.
#[derive(Debug)]
pub(crate) struct Places {
    of: Vec<Place>,
    scans_here: Option<Lanes<Queue>>,
    sites: Vec<Site>,
}

/// A database apart from the log that holds caches.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) server: String,
    pub(crate) failover_replay: Duration,
    deletes: Lanes<Store>,
    scans: Lanes<Queue>,
}

impl Places {
    pub(crate) fn new(caches: &Arc<Caches>, here: &Clients, elsewhere: Vec<Elsewhere>) -> Self {
        let queues = |scans: Lanes<Store>| scans.map(|store| Queue::new(store, Arc::clone(caches)));
        let Self { mut of, mut sites, .. } = Self::together(caches);
        for Elsewhere { server, caches: theirs, deletes, scans, failover_replay } in elsewhere {
            for cache in theirs {
                of[cache.index()] = Place::Apart(sites.len());
            }
            sites.push(Site { server, failover_replay, deletes, scans: queues(scans) });
        }
        for (id, _) in caches.iter().filter(|(_, cache)| cache.store == unstale_router::Store::Local) {
            of[id.index()] = Place::Nowhere;
        }
        Self { of, scans_here: here.scans.clone().map(queues), sites }
    }

    /// All caches with the log, and nothing that leads to them.
    pub(crate) fn together(caches: &Caches) -> Self {
        Self { of: vec![Place::Together; caches.all().len()], scans_here: None, sites: Vec::new() }
    }

    pub(crate) fn of(&self, cache: CacheId) -> Place {
        self.of[cache.index()]
    }

    /// The site that the work for a cache begins on; `None` is that of the log.
    pub(crate) fn site_of(&self, cache: CacheId) -> Option<usize> {
        match self.of(cache) {
            Place::Apart(site) => Some(site),
            Place::Together | Place::Nowhere => None,
        }
    }

    /// The sites apart from the log.
    pub(crate) fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The passes of this lane over a site's keys.
    pub(crate) fn scans(&self, site: Option<usize>, priority: Priority) -> Option<&Queue> {
        let scans = site.map_or(self.scans_here.as_ref(), |site| Some(&self.sites[site].scans));
        scans.map(|scans| scans.of(priority))
    }
}

impl Site {
    /// Where keys of this lane are deleted.
    pub(crate) fn deletes(&self, priority: Priority) -> &Store {
        self.deletes.of(priority)
    }

    /// Every store that deletes here.
    pub(crate) fn stores(&self) -> impl Iterator<Item = &Store> {
        let scans = [&self.scans.ordinary, &self.scans.critical].into_iter().map(Queue::store);
        [&self.deletes.ordinary, &self.deletes.critical].into_iter().chain(scans)
    }
}
