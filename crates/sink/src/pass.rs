//! One pass over the keys, for the patterns of all batches that share it.
//!
//! A pass looks at every key that was there from its beginning to its end, on every master at the same time. It fails as a whole if a
//! connection or a master changed: a cursor means something only to the server that gave it. If slots of a cluster moved meanwhile, it
//! is followed by a second one, for a key may have gone from where the first hadn't been yet to where it had. A key that may not be deleted
//! blocks the patterns that mean it, and no others.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use tokio::task::yield_now;
use tokio::time::Instant;
use unstale_connect::{Client, Fault, FaultKind, Since, Store, Unlinked};
use unstale_events::glob::{Glob, escape, literal_prefix};
use unstale_events::{CacheId, Target};
use unstale_router::Caches;

use crate::attempt::concerns_keys;

/// How many keys the server looks at for one page: less than a millisecond of its time, in which it does nothing else.
const PAGE: u32 = 500;
/// The same where it is far away, so that the way there isn't gone too often: less than two milliseconds.
const FAR_PAGE: u32 = 1000;
/// A page that takes so long comes from far away.
const FAR: Duration = Duration::from_millis(5);

/// Whose a deleted key is: of the member that wanted it first, and of this cache.
type Whose = (usize, CacheId);

/// The patterns of one pass, each once, whoever wants it.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    wanted: Vec<Wanted>,
    places: HashMap<(CacheId, String), usize>,
    /// What all patterns begin with.
    stem: Option<String>,
}

/// One pattern that keys are matched against.
#[derive(Debug)]
struct Wanted {
    whose: Whose,
    glob: Glob,
}

/// What a pass has done so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// How many keys of this cache were deleted for this member.
    pub(crate) deleted: BTreeMap<Whose, u64>,
    /// Patterns that mean a key that may not be deleted, by their place.
    pub(crate) blocked: Vec<bool>,
    pub(crate) round_trips: u64,
}

/// What became of the keys of one page.
#[derive(Debug, Default)]
struct Removed {
    deleted: Vec<(Whose, u64)>,
    forbidden: Vec<Bytes>,
    fault: Option<Fault>,
}

/// What a pass looks for, and where.
#[derive(Debug)]
pub(crate) struct Pass<'a> {
    pub(crate) store: &'a Store,
    pub(crate) caches: &'a Caches,
    pub(crate) wishes: &'a Wishes,
}

impl Wishes {
    /// Adds a pattern of this member. Returns its place, which may be that of another's.
    pub(crate) fn add(&mut self, member: usize, pattern: Target<'_>) -> usize {
        let place = (pattern.cache, pattern.text.to_owned());
        *self.places.entry(place).or_insert_with(|| {
            let begins = literal_prefix(pattern.text);
            self.stem = Some(self.stem.as_deref().map_or_else(|| begins.to_string(), |stem| common(stem, &begins).to_owned()));
            self.wanted.push(Wanted { whose: (member, pattern.cache), glob: Glob::new(pattern.text) });
            self.wanted.len() - 1
        })
    }

    /// What the server filters by: everything that begins as all patterns do.
    fn filter(&self) -> String {
        let mut filter = String::new();
        escape(self.stem.as_deref().unwrap_or_default(), &mut filter);
        filter.push('*');
        filter
    }
}

impl Tally {
    fn add(&mut self, part: Self) {
        for (whose, keys) in part.deleted {
            *self.deleted.entry(whose).or_default() += keys;
        }
        self.blocked.iter_mut().zip(part.blocked).for_each(|(all, part)| *all |= part);
        self.round_trips += part.round_trips;
    }
}

impl Pass<'_> {
    /// One pass, or two if slots moved. The tally counts what was done before a fault, too.
    pub(crate) async fn run(&self, tally: &mut Tally) -> Result<(), Fault> {
        tally.blocked = vec![false; self.wishes.wanted.len()];
        if self.over_masters(tally).await? == Since::Moved {
            // A key that moves during one is found by the other.
            self.over_masters(tally).await?;
        }
        Ok(())
    }

    /// Looks at all that the masters have, and says what happened to the keys meanwhile.
    async fn over_masters(&self, tally: &mut Tally) -> Result<Since, Fault> {
        let masters = self.store.masters().await?;
        let scans = join_all(masters.clients.iter().map(|client| self.over(client))).await;
        let mut fault = None;
        for (part, ended) in scans {
            tally.add(part);
            fault = fault.or(ended.err());
        }
        match (fault, self.store.since(&masters).await) {
            (Some(fault), _) => Err(fault),
            (None, Since::Lost) => Err(Fault::new(FaultKind::Unreachable, "the connection changed in the middle of a scan")),
            (None, since) => Ok(since),
        }
    }

    /// Looks at all that one master has. Each page is fetched while the finds of the one before are deleted.
    async fn over(&self, client: &Client) -> (Tally, Result<(), Fault>) {
        let mut tally = Tally { blocked: vec![false; self.wishes.wanted.len()], ..Tally::default() };
        let ended = self.pages(client, &mut tally).await;
        (tally, ended)
    }

    async fn pages(&self, client: &Client, tally: &mut Tally) -> Result<(), Fault> {
        let filter = self.wishes.filter();
        let (mut cursor, mut count, mut keys) = (0, PAGE, Vec::new());
        loop {
            let asked = Instant::now();
            let next = client.scan(cursor, Some(filter.as_bytes()), count).map(|page| (page, asked.elapsed()));
            let ((page, took), removed) = join(next, self.sift(std::mem::take(&mut keys))).await;
            tally.round_trips += 1;
            self.note(removed, tally)?;
            let page = page?;
            (cursor, keys) = (page.cursor, page.keys);
            count = if took < FAR { PAGE } else { FAR_PAGE };
            if cursor == 0 {
                break;
            }
        }
        let found = self.finds(keys);
        if found.is_empty() {
            return Ok(());
        }
        tally.round_trips += 1;
        self.note(self.remove(found).await, tally)
    }

    /// Deletes what is found among the keys of a page, once the next one is asked for: the server looks for that meanwhile.
    async fn sift(&self, keys: Vec<Bytes>) -> Removed {
        yield_now().await;
        self.remove(self.finds(keys)).await
    }

    /// The keys that a pattern means, with whose they are: the first's that means them.
    fn finds(&self, keys: Vec<Bytes>) -> Vec<(Whose, Bytes)> {
        let whose = |key: &[u8]| self.wishes.wanted.iter().find(|wanted| wanted.means(key, self.caches)).map(|wanted| wanted.whose);
        keys.into_iter().filter_map(|key| Some((whose(&key)?, key))).collect()
    }

    async fn remove(&self, mut found: Vec<(Whose, Bytes)>) -> Removed {
        found.sort_by_key(|(whose, _)| *whose);
        let groups = found.chunk_by(|one, next| one.0 == next.0);
        let groups = groups.map(|group| self.remove_for(group[0].0, group.iter().map(|(_, key)| key.clone()).collect()));
        let mut all = Removed::default();
        for removed in join_all(groups).await {
            all.deleted.extend(removed.deleted);
            all.forbidden.extend(removed.forbidden);
            all.fault = all.fault.or(removed.fault);
        }
        all
    }

    /// Deletes keys; halves them until those that may not be deleted are alone.
    async fn remove_for(&self, whose: Whose, keys: Vec<Bytes>) -> Removed {
        let mut removed = Removed::default();
        let mut todo = vec![keys];
        while let Some(keys) = todo.pop() {
            for Unlinked { keys: group, outcome } in self.store.unlink(keys.clone()).await {
                let mut group: Vec<Bytes> = group.into_iter().map(|position| keys[position].clone()).collect();
                match outcome {
                    Ok(count) => removed.deleted.push((whose, count)),
                    Err(fault) if concerns_keys(&fault) && group.len() > 1 => {
                        let half = group.split_off(group.len() / 2);
                        todo.extend([half, group]);
                    }
                    Err(fault) if concerns_keys(&fault) => removed.forbidden.append(&mut group),
                    Err(fault) => removed.fault = Some(fault),
                }
            }
        }
        removed
    }

    /// Counts what was deleted, and blocks the patterns of what may not be.
    fn note(&self, removed: Removed, tally: &mut Tally) -> Result<(), Fault> {
        for (whose, keys) in removed.deleted {
            *tally.deleted.entry(whose).or_default() += keys;
        }
        for key in &removed.forbidden {
            let patterns = tally.blocked.iter_mut().zip(&self.wishes.wanted);
            patterns.for_each(|(blocked, wanted)| *blocked |= wanted.means(key, self.caches));
        }
        removed.fault.map_or(Ok(()), Err)
    }
}

impl Wanted {
    /// Whether a key is this pattern's to delete: it matches, and it belongs to this cache and nobody protects it.
    fn means(&self, key: &[u8], caches: &Caches) -> bool {
        self.glob.matches(key) && caches.deletable(self.whose.1, key)
    }
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
    use unstale_events::TargetKind;

    use super::*;

    fn wishes(patterns: &[&str]) -> Wishes {
        let mut wishes = Wishes::default();
        for (member, text) in patterns.iter().enumerate() {
            wishes.add(member, Target { cache: CacheId(0), kind: TargetKind::Pattern, text });
        }
        wishes
    }

    #[test]
    fn the_filter_is_the_longest_common_beginning() {
        let of = |patterns: &[&str]| wishes(patterns).filter();
        assert_eq!(of(&["vkey:a*", "vkey:ab?"]), "vkey:a*");
        assert_eq!(of(&["vkey:a*", "model:*"]), "*");
        assert_eq!(of(&["one:only:*:x"]), "one:only:*");
        assert_eq!(of(&["straße:ä*", "straße:ö*"]), "straße:*");
    }

    #[test]
    fn the_filter_takes_no_letter_of_a_key_for_a_wildcard() {
        assert_eq!(wishes(&["a\\*b\\[c:*"]).filter(), "a\\*b\\[c:*");
    }

    #[test]
    fn a_pattern_that_many_want_is_matched_once_and_counted_for_the_first() {
        let mut wishes = wishes(&["a:*", "b:*", "a:*"]);
        assert_eq!(wishes.wanted.iter().map(|wanted| wanted.whose.0).collect::<Vec<_>>(), [0, 1]);
        let elsewhere = Target { cache: CacheId(1), kind: TargetKind::Pattern, text: "a:*" };
        assert_eq!((wishes.add(3, elsewhere), wishes.add(4, elsewhere)), (2, 2));
    }
}
