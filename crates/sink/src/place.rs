//! Where the caches are, as seen from the notice log.

use unstale_connect::Client;
use unstale_events::{CacheId, Priority};
use unstale_router::{Caches, Store};

use crate::config::{Clients, Elsewhere};
use crate::scan::Scans;

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
    /// That of the log is the first.
    sites: Vec<Site>,
}

/// A database that holds caches.
#[derive(Debug)]
pub(crate) struct Site {
    clients: Clients,
    pub(crate) scans: Scans,
}

impl Places {
    pub(crate) fn new(caches: &std::sync::Arc<Caches>, here: &Clients, elsewhere: Vec<Elsewhere>) -> Self {
        let mut of = vec![Place::Together; caches.len()];
        let mut sites = vec![Site { scans: Scans::new(here, caches), clients: here.clone() }];
        for Elsewhere { caches: theirs, clients } in elsewhere {
            for cache in theirs {
                of[cache.index()] = Place::Apart(sites.len());
            }
            sites.push(Site { scans: Scans::new(&clients, caches), clients });
        }
        for (id, _) in caches.iter().filter(|(_, cache)| cache.store == Store::Local) {
            of[id.index()] = Place::Nowhere;
        }
        Self { of, sites }
    }

    pub(crate) fn of(&self, cache: CacheId) -> Place {
        self.of[cache.index()]
    }

    /// The site that the work for a cache begins on; what is nowhere is announced with what lies together.
    pub(crate) fn site_of(&self, cache: CacheId) -> usize {
        match self.of(cache) {
            Place::Apart(site) => site,
            Place::Together | Place::Nowhere => HERE,
        }
    }

    pub(crate) fn site(&self, site: usize) -> &Site {
        &self.sites[site]
    }
}

/// The site of the log.
pub(crate) const HERE: usize = 0;

impl Site {
    /// The connection that keys of this lane are deleted over.
    pub(crate) fn deletes(&self, priority: Priority) -> &Client {
        self.clients.scripts(priority)
    }
}
