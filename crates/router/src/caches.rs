//! The declared caches, and who owns a key: what may be deleted at all.
//!
//! The longest declared prefix owns a key. Beside that there is what nothing may delete: protected prefixes, counters, and the
//! sidecar's own keys.

use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use unstale_events::{CacheId, Code, Reason, glob};

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
    list: Vec<Cache>,
    names: HashMap<String, CacheId, RandomState>,
    owners: Prefixes<CacheId>,
    guarded: Prefixes<Guard>,
    counters: HashSet<Vec<u8>, RandomState>,
    own: HashSet<Vec<u8>, RandomState>,
}

/// Why everything under a prefix is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Guard {
    Protected,
    Own,
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
    pub(crate) fn new(list: Vec<Cache>, protected: &[String], namespace: &str, own: &[String]) -> Self {
        let ids = || (0..).map(CacheId);
        let owners = ids().zip(&list).flat_map(|(id, cache)| cache.prefixes.iter().map(move |prefix| (prefix.as_bytes().to_vec(), id)));
        let mut guarded: Vec<_> = protected.iter().map(|prefix| (prefix.as_bytes().to_vec(), Guard::Protected)).collect();
        guarded.push((own_prefix(namespace).into_bytes(), Guard::Own));
        Self {
            owners: Prefixes::new(owners.collect()),
            guarded: Prefixes::new(guarded),
            names: list.iter().map(|cache| cache.name.clone()).zip(ids()).collect(),
            own: own.iter().map(|name| name.as_bytes().to_vec()).collect(),
            counters: HashSet::default(),
            list,
        }
    }

    pub(crate) fn add_counter(&mut self, key: &str) {
        self.counters.insert(key.as_bytes().to_vec());
    }

    /// How many caches there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether none is declared.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The cache of an id that this table gave out.
    ///
    /// # Panics
    /// If the id is from another table.
    pub fn get(&self, id: CacheId) -> &Cache {
        &self.list[id.index()]
    }

    /// All caches with their ids, in the order of the ids.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (CacheId, &Cache)> {
        self.list.iter().enumerate().map(|(index, cache)| (CacheId(u16::try_from(index).unwrap_or(u16::MAX)), cache))
    }

    /// The cache of this exact name.
    pub fn by_name(&self, name: &str) -> Option<CacheId> {
        self.names.get(name).copied()
    }

    /// The cache that owns a key: the one with the longest prefix of it.
    pub fn owner(&self, key: &[u8]) -> Option<CacheId> {
        self.owners.longest(key)
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
        self.judge_stem(cache, key)?;
        if self.counters.contains(key) {
            return Err(Refusal::Counter);
        }
        Ok(())
    }

    /// Judges what all the targets have in common that begin with `stem`.
    pub(crate) fn judge_stem(&self, cache: CacheId, stem: &[u8]) -> Result<(), Refusal> {
        if self.own.contains(stem) {
            return Err(Refusal::Own);
        }
        match self.guarded.longest(stem) {
            Some(Guard::Own) => return Err(Refusal::Own),
            Some(Guard::Protected) => return Err(Refusal::Protected),
            None => {}
        }
        match self.owner(stem) {
            Some(owner) if owner == cache => Ok(()),
            Some(owner) => Err(Refusal::OtherCache(owner)),
            None => Err(Refusal::NoOwner),
        }
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

/// What all of the sidecar's own keys begin with.
pub(crate) fn own_prefix(namespace: &str) -> String {
    format!("{namespace}:")
}

fn quoted(prefixes: &[String]) -> String {
    prefixes.iter().map(|prefix| format!("`{prefix}`")).collect::<Vec<_>>().join(", ")
}

/// Values by prefix, to be found by the longest prefix of a text with one binary search.
#[derive(Debug)]
struct Prefixes<T> {
    sorted: Vec<Prefix<T>>,
}

#[derive(Debug)]
struct Prefix<T> {
    text: Vec<u8>,
    value: T,
    /// The position of the longest other prefix that is a prefix of this one.
    outer: Option<usize>,
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self { sorted: Vec::new() }
    }
}

impl<T: Copy> Prefixes<T> {
    fn new(mut list: Vec<(Vec<u8>, T)>) -> Self {
        list.sort_by(|(a, _), (b, _)| a.cmp(b));
        list.dedup_by(|(a, _), (b, _)| a == b);
        let mut prefixes = Self::default();
        for (text, value) in list {
            let outer = prefixes.position(&text);
            prefixes.sorted.push(Prefix { text, value, outer });
        }
        prefixes
    }

    fn longest(&self, text: &[u8]) -> Option<T> {
        self.position(text).map(|found| self.sorted[found].value)
    }

    /// Every prefix of `text` is also a prefix of all that sorts between it and `text`: so the last entry that doesn't sort behind
    /// `text` is the one looked for, or lies within it.
    fn position(&self, text: &[u8]) -> Option<usize> {
        let behind = self.sorted.partition_point(|prefix| prefix.text.as_slice() <= text);
        let mut candidate = behind.checked_sub(1);
        while let Some(found) = candidate {
            if text.starts_with(&self.sorted[found].text) {
                return Some(found);
            }
            candidate = self.sorted[found].outer;
        }
        None
    }
}
