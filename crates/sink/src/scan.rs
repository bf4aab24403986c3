//! Patterns: one pass over the keys for all of a batch, on a connection of its own.
//!
//! A pass looks at every key that was there from its beginning to its end, so it begins after the batch was closed, serves nothing that came
//! later, and begins again if its connection changed: a cursor means something only to the server that gave it.

use bytes::Bytes;
use futures_util::future::{join, join_all};
use unstale_connect::{Client, Fault, FaultKind, Link};
use unstale_events::glob::{Glob, escape, literal_prefix};
use unstale_events::{CacheId, Targets};
use unstale_router::Caches;

use crate::attempt::{Job, concerns_keys};
use crate::delivery::{Delivery, Stage};
use crate::plan::{Part, Plan, parts};
use crate::request::Placement;
use crate::retry::Patience;
use crate::sink::Sink;

/// How many keys the server looks at for one page: less than 2 ms of its time.
const PAGE: u32 = 1000;

impl Sink {
    /// Deletes what the batch's patterns mean, then counts and announces.
    pub(crate) async fn patterns(&self, job: &Job<'_>, plan: &Plan, delivery: &mut Delivery) {
        if plan.patterns.is_empty() {
            return;
        }
        let is_here = |position: &usize| {
            let target = job.batch.targets.get(*position);
            target.is_some_and(|target| Placement::of(target.cache, &self.caches) == Placement::Together)
        };
        let (here, apart): (Part, Part) = plan.patterns.iter().partition(|position| is_here(position));
        let gone = self.scan(job, &here, delivery).await;
        let announced: Part =
            plan.patterns.iter().copied().filter(|position| apart.contains(position) || gone.contains(position)).collect();
        self.carry_out(job, parts(&announced, &plan.counters, self.config.max_keys), delivery).await;
    }

    /// Passes over the keys until one pass came to its end. Returns the patterns of which nothing is left.
    async fn scan(&self, job: &Job<'_>, patterns: &[usize], delivery: &mut Delivery) -> Part {
        if patterns.is_empty() {
            return Part::new();
        }
        let pass = Pass::new(self.clients.scans(job.batch.priority), &self.caches, &job.batch.targets, patterns);
        let mut patience = Patience::until(job.deadline);
        loop {
            match pass.run(delivery).await {
                Ok(forbidden) => return pass.positions_without(&forbidden),
                Err(fault) => delivery.trouble(Stage::Scan, fault),
            }
            if !patience.wait().await {
                return Part::new();
            }
            delivery.retries += 1;
        }
    }
}

/// One pattern that keys are matched against.
struct Wanted {
    position: usize,
    cache: CacheId,
    glob: Glob,
}

/// What a pass looks for, and where.
struct Pass<'a> {
    client: &'a Client,
    caches: &'a Caches,
    wanted: Vec<Wanted>,
    /// What the server filters by.
    filter: String,
}

/// What became of the keys of one page.
#[derive(Default)]
struct Removed {
    deleted: Vec<(CacheId, u64)>,
    forbidden: Vec<Bytes>,
    fault: Option<Fault>,
}

impl<'a> Pass<'a> {
    fn new(client: &'a Client, caches: &'a Caches, targets: &Targets, patterns: &[usize]) -> Self {
        let found = patterns.iter().filter_map(|position| targets.get(*position).map(|target| (*position, target)));
        let filter = filter(found.clone().map(|(_, target)| target.text));
        let wanted = found.map(|(position, target)| Wanted { position, cache: target.cache, glob: Glob::new(target.text) });
        Self { client, caches, wanted: wanted.collect(), filter }
    }

    /// One pass. Each page is fetched while the finds of the one before are deleted. Returns the keys that may not be deleted.
    async fn run(&self, delivery: &mut Delivery) -> Result<Vec<Bytes>, Fault> {
        let began = generation(self.client);
        let (mut cursor, mut found, mut forbidden) = (0, Vec::new(), Vec::new());
        loop {
            let next = self.client.scan(cursor, Some(self.filter.as_bytes()), PAGE);
            let (page, removed) = join(next, self.remove(std::mem::take(&mut found))).await;
            delivery.round_trips += 1;
            note(removed, &mut forbidden, delivery)?;
            let page = page?;
            if began.is_none() || generation(self.client) != began {
                return Err(Fault::new(FaultKind::Unreachable, "the connection changed in the middle of a scan"));
            }
            found = self.finds(page.keys);
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
        if !found.is_empty() {
            delivery.round_trips += 1;
            note(self.remove(found).await, &mut forbidden, delivery)?;
        }
        Ok(forbidden)
    }

    /// The keys that a pattern means, with its cache.
    fn finds(&self, keys: Vec<Bytes>) -> Vec<(CacheId, Bytes)> {
        keys.into_iter().filter_map(|key| Some((self.cache_of(&key)?, key))).collect()
    }

    fn cache_of(&self, key: &[u8]) -> Option<CacheId> {
        self.wanted.iter().find(|wanted| wanted.means(key, self.caches)).map(|wanted| wanted.cache)
    }

    fn positions_without(&self, forbidden: &[Bytes]) -> Part {
        let is_clear = |wanted: &&Wanted| !forbidden.iter().any(|key| wanted.means(key, self.caches));
        self.wanted.iter().filter(is_clear).map(|wanted| wanted.position).collect()
    }

    async fn remove(&self, mut found: Vec<(CacheId, Bytes)>) -> Removed {
        found.sort_by_key(|(cache, _)| *cache);
        let groups = found.chunk_by(|one, next| one.0 == next.0);
        let groups = groups.map(|group| self.remove_from(group[0].0, group.iter().map(|(_, key)| key.clone()).collect()));
        let mut all = Removed::default();
        for removed in join_all(groups).await {
            all.deleted.extend(removed.deleted);
            all.forbidden.extend(removed.forbidden);
            all.fault = all.fault.or(removed.fault);
        }
        all
    }

    /// Deletes keys of one cache; halves them until those that may not be deleted are alone.
    async fn remove_from(&self, cache: CacheId, keys: Vec<Bytes>) -> Removed {
        let mut removed = Removed::default();
        let mut todo = vec![keys];
        while let Some(mut keys) = todo.pop() {
            match self.client.unlink(keys.clone()).await {
                Ok(count) => removed.deleted.push((cache, count)),
                Err(fault) if concerns_keys(&fault) && keys.len() > 1 => {
                    let half = keys.split_off(keys.len() / 2);
                    todo.extend([half, keys]);
                }
                Err(fault) if concerns_keys(&fault) => removed.forbidden.append(&mut keys),
                Err(fault) => removed.fault = Some(fault),
            }
        }
        removed
    }
}

impl Wanted {
    /// Whether a key is this pattern's to delete: it matches, and it belongs to this cache and nobody protects it.
    fn means(&self, key: &[u8], caches: &Caches) -> bool {
        self.glob.matches(key) && caches.deletable(self.cache, key)
    }
}

/// Counts what was deleted, and keeps in mind what may not be.
fn note(removed: Removed, forbidden: &mut Vec<Bytes>, delivery: &mut Delivery) -> Result<(), Fault> {
    removed.deleted.into_iter().for_each(|(cache, keys)| delivery.count_deleted(cache, keys));
    if !removed.forbidden.is_empty() {
        delivery.trouble(Stage::Scan, Fault::new(FaultKind::Denied, "no permission to delete some of the keys that a pattern means"));
    }
    forbidden.extend(removed.forbidden);
    removed.fault.map_or(Ok(()), Err)
}

/// The number of the connection that is up.
fn generation(client: &Client) -> Option<u64> {
    match *client.link().borrow() {
        Link::Up { generation } => Some(generation),
        Link::Down { .. } => None,
    }
}

/// The pattern of everything that begins as all of these patterns do.
fn filter<'a>(patterns: impl Iterator<Item = &'a str>) -> String {
    let stem = patterns.map(|pattern| literal_prefix(pattern).into_owned()).reduce(|one, other| common(&one, &other).to_owned());
    let mut filter = String::new();
    escape(&stem.unwrap_or_default(), &mut filter);
    filter.push('*');
    filter
}

fn common<'a>(one: &'a str, other: &str) -> &'a str {
    let same = one.char_indices().zip(other.chars()).find(|((_, one), other)| one != other);
    match same {
        Some(((at, _), _)) => &one[..at],
        None => &one[..one.len().min(other.len())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_is_the_longest_common_beginning() {
        let of = |patterns: &[&str]| filter(patterns.iter().copied());
        assert_eq!(of(&["vkey:a*", "vkey:ab?"]), "vkey:a*");
        assert_eq!(of(&["vkey:a*", "model:*"]), "*");
        assert_eq!(of(&["one:only:*:x"]), "one:only:*");
        assert_eq!(of(&["straße:ä*", "straße:ö*"]), "straße:*");
    }

    #[test]
    fn the_filter_takes_no_letter_of_a_key_for_a_wildcard() {
        assert_eq!(filter(["a\\*b\\[c:*"].into_iter()), "a\\*b\\[c:*");
    }
}
