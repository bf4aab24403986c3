//! The declared caches, and who owns a key: what may be deleted at all.
//!
//! The longest declared prefix owns a key. Beside that there is what nothing may delete: protected prefixes, counters, and the
//! sidecar's own keys.

use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use unstale_events::{CacheId, Code, Reason, glob};

use crate::canary;
use crate::prefixes::{Exact, Found, Guard, Prefixes};

/// A declared cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cache {
    /// Its name in routes, notices and metric labels.
    pub name: String,
    /// The beginnings of the keys that it owns; at least one, none empty.
    pub prefixes: Vec<String>,
    /// The server that holds it: the name of a `[redis.NAME]` table.
    pub redis: String,
    /// Whether there is anything to delete in Redis.
    pub store: Store,
    /// After how long its keys are deleted again; zero: not at all.
    pub second_delete: Duration,
}

/// Where a cache's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Store {
    /// In Redis.
    #[default]
    Redis,
    /// In the processes alone: nothing to delete, only to announce.
    Local,
}

/// The table of caches.
#[derive(Debug, Default)]
pub struct Caches {
    /// The declared ones, then that of the canaries.
    list: Vec<Cache>,
    declared: usize,
    names: HashMap<String, CacheId, RandomState>,
    prefixes: Prefixes,
}

/// Why a key or a pattern must not be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    NoOwner,
    OtherCache(CacheId),
    Protected,
    Own,
    Counter,
}

impl Caches {
    pub(crate) fn new(mut list: Vec<Cache>, protected: &[String], namespace: &str, own: &[String]) -> Self {
        let declared = list.len();
        list.push(Cache {
            name: canary::CACHE.to_owned(),
            prefixes: vec![canary::prefix(namespace)],
            redis: String::new(), // Where the bus is, whatever that is called.
            store: Store::Redis,
            second_delete: Duration::ZERO,
        });
        let mut caches = Self { list, declared, ..Self::default() };
        let mut prefixes = Prefixes::default();
        for (id, cache) in caches.iter() {
            for prefix in &cache.prefixes {
                prefixes.owned(prefix, id);
            }
        }
        for prefix in protected {
            prefixes.guarded(prefix, Guard::Protected);
        }
        for key in own {
            prefixes.exact(key, Exact::Own);
        }
        prefixes.guarded(&own_prefix(namespace), Guard::Own);
        caches.names = caches.iter().map(|(id, cache)| (cache.name.clone(), id)).collect();
        caches.prefixes = prefixes;
        caches
    }

    pub(crate) fn add_counter(&mut self, key: &str) {
        self.prefixes.exact(key, Exact::Counter);
    }

    /// How many caches are declared.
    pub fn len(&self) -> usize {
        self.declared
    }

    /// Whether none is declared.
    pub fn is_empty(&self) -> bool {
        self.declared == 0
    }

    /// The cache of an id that this table gave out.
    ///
    /// # Panics
    /// If the id is from another table.
    pub fn get(&self, id: CacheId) -> &Cache {
        &self.list[id.index()]
    }

    /// The declared caches with their ids, in the order of the ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (CacheId, &Cache)> {
        self.all().take(self.declared)
    }

    /// The same, and that of the canaries: every cache that a target can have.
    pub fn all(&self) -> impl ExactSizeIterator<Item = (CacheId, &Cache)> {
        self.list.iter().enumerate().map(|(index, cache)| (id(index), cache))
    }

    /// The cache of the canaries. It lies where the bus is, and owns no key: only their own event deletes them.
    pub fn canary(&self) -> CacheId {
        id(self.declared)
    }

    /// The cache of this exact name.
    pub fn by_name(&self, name: &str) -> Option<CacheId> {
        self.names.get(name).copied()
    }

    /// The cache that owns a key: the one with the longest prefix of it.
    pub fn owner(&self, key: &[u8]) -> Option<CacheId> {
        self.prefixes.find(key).owner
    }

    /// Whether a scan for this cache may delete a key that it found: the cache owns it, and it is neither protected, nor a counter,
    /// nor the sidecar's own.
    pub fn deletable(&self, cache: CacheId, key: &[u8]) -> bool {
        self.judge(cache, key).is_ok()
    }

    /// Whether a key may be deleted as a target of this cache.
    ///
    /// # Errors
    /// The reason for the dead letters. It does not show the key.
    pub fn check_key(&self, cache: CacheId, key: &str) -> Result<(), Reason> {
        self.judge(cache, key.as_bytes()).map_err(|refusal| self.reason(cache, "the key", refusal))
    }

    /// Whether a pattern may be scanned for as a target of this cache: the text before its first wildcard must lie in the cache.
    ///
    /// # Errors
    /// The reason for the dead letters. It does not show the pattern.
    pub fn check_pattern(&self, cache: CacheId, pattern: &str) -> Result<(), Reason> {
        self.judge_pattern(cache, pattern).map_err(|refusal| self.reason(cache, "the pattern", refusal))
    }

    pub(crate) fn judge(&self, cache: CacheId, key: &[u8]) -> Result<(), Refusal> {
        let found = self.prefixes.find(key);
        judge(cache, found)?;
        if found.exact == Some(Exact::Counter) { Err(Refusal::Counter) } else { Ok(()) }
    }

    /// Judges what all the targets have in common that begin with `stem`.
    pub(crate) fn judge_stem(&self, cache: CacheId, stem: &[u8]) -> Result<(), Refusal> {
        judge(cache, self.prefixes.find(stem))
    }

    pub(crate) fn judge_pattern(&self, cache: CacheId, pattern: &str) -> Result<(), Refusal> {
        self.judge_stem(cache, glob::literal_prefix(pattern).as_bytes())
    }

    /// Whether a counter may be incremented for this cache: counters may lie under protected prefixes.
    pub(crate) fn judge_counter(&self, cache: CacheId, key: &[u8]) -> Result<(), Refusal> {
        match self.judge_stem(cache, key) {
            Err(Refusal::Protected) if self.owner(key) == Some(cache) => Ok(()),
            judged => judged,
        }
    }

    pub(crate) fn reason(&self, cache: CacheId, what: &str, refusal: Refusal) -> Reason {
        Reason::new(Code::RefusedTarget, format!("{what} {}", self.explain(cache, refusal)))
    }

    /// The end of a sentence that begins with what was refused.
    pub(crate) fn explain(&self, cache: CacheId, refusal: Refusal) -> String {
        let Cache { name, prefixes, .. } = self.get(cache);
        match refusal {
            Refusal::NoOwner => format!("lies outside cache `{name}`, which owns {}", quoted(prefixes)),
            Refusal::OtherCache(owner) => format!("belongs to cache `{}`, not to `{name}`: the longest prefix owns", self.get(owner).name),
            Refusal::Protected => "is protected".to_owned(),
            Refusal::Own => "is one of this sidecar's own".to_owned(),
            Refusal::Counter => "is a counter: it is incremented, never deleted".to_owned(),
        }
    }
}

fn id(index: usize) -> CacheId {
    CacheId(u16::try_from(index).unwrap_or(u16::MAX))
}

fn judge(cache: CacheId, found: Found) -> Result<(), Refusal> {
    match found {
        Found { exact: Some(Exact::Own), .. } | Found { guard: Some(Guard::Own), .. } => Err(Refusal::Own),
        Found { guard: Some(Guard::Protected), .. } => Err(Refusal::Protected),
        Found { owner: Some(owner), .. } if owner == cache => Ok(()),
        Found { owner: Some(owner), .. } => Err(Refusal::OtherCache(owner)),
        Found { owner: None, .. } => Err(Refusal::NoOwner),
    }
}

/// What all of the sidecar's own keys begin with.
pub(crate) fn own_prefix(namespace: &str) -> String {
    format!("{namespace}:")
}

fn quoted(prefixes: &[String]) -> String {
    prefixes.iter().map(|prefix| format!("`{prefix}`")).collect::<Vec<_>>().join(", ")
}
