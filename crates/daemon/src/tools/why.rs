//! `unstale why KEY`: the last times that a key was dropped, by the log of notices: by name, by a pattern, or with its whole cache.

use serde_json::json;
use unstale_connect::Fault;
use unstale_events::{EntryId, Glob, Notice};

use super::dead_letters::below;
use super::shown::{self, Reveal, origin};
use super::{Bus, said};
use crate::cli::{Exit, Why};
use crate::commands::{complain, fail, print};
use crate::config::Loaded;
use crate::terminal::{self, Paint, Progress, ago, clean, thousands};

/// How many notices are read in one step.
const PAGE: usize = 200;

/// What dropped the key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum How {
    Key,
    Pattern(String),
    Flush,
}

/// The command.
pub async fn run(loaded: &Loaded, args: &Why) -> Exit {
    let bus = match Bus::open(loaded).await {
        Ok(bus) => bus,
        Err(error) => return fail(error),
    };
    let caches = loaded.router.caches();
    let owner = caches.owner(args.key.as_bytes()).map(|id| caches.get(id).name.clone());
    let search = Search { key: &args.key, owner: owner.as_deref(), last: args.last };
    match search.run(&bus).await {
        Ok(found) => report(args, owner.as_deref(), &found),
        Err(fault) => return fail(said(&fault)),
    }
    Exit::Done
}

/// What is looked for.
struct Search<'a> {
    key: &'a str,
    owner: Option<&'a str>,
    last: usize,
}

/// What was found, the newest first.
#[derive(Default)]
struct Found {
    drops: Vec<(Notice, String, How)>,
    looked_at: u64,
    oldest: Option<EntryId>,
}

impl Search<'_> {
    async fn run(&self, bus: &Bus) -> Result<Found, Fault> {
        let (all, mut found, mut progress) = (bus.client.xlen(&bus.names.notices).await?, Found::default(), Progress::new());
        let mut from = None;
        while found.drops.len() < self.last {
            let page = bus.client.xrevrange(&bus.names.notices, from, EntryId::ZERO, PAGE).await?;
            for entry in &page {
                found.looked_at += 1;
                found.oldest = Some(entry.id);
                self.look(shown::notice(entry), &mut found.drops);
            }
            progress.at(&format!("looked at {} of {} notices", thousands(found.looked_at), thousands(all)));
            from = page.last().and_then(|entry| below(entry.id));
            if page.len() < PAGE || from.is_none() {
                break;
            }
        }
        found.drops.truncate(self.last);
        Ok(found)
    }

    fn look(&self, notice: Result<Notice, String>, drops: &mut Vec<(Notice, String, How)>) {
        match notice {
            Ok(notice) => drops.extend(self.meaning(&notice).map(|(cache, how)| (notice, cache, how))),
            Err(why) => complain(why),
        }
    }

    /// The cache from which a notice drops the key, and how.
    fn meaning(&self, notice: &Notice) -> Option<(String, How)> {
        let flushed = notice.flush.iter().find(|cache| *cache == "*" || self.owner == Some(cache.as_str()));
        let by_key =
            || notice.drop.iter().find(|drop| drop.keys.iter().any(|key| key == self.key)).map(|drop| (drop.cache.clone(), How::Key));
        flushed.map(|cache| (cache.clone(), How::Flush)).or_else(by_key).or_else(|| self.by_pattern(notice))
    }

    /// A pattern means only keys that the cache of its notice owns.
    fn by_pattern(&self, notice: &Notice) -> Option<(String, How)> {
        let own = notice.drop.iter().filter(|drop| self.owner.is_none_or(|owner| owner == drop.cache));
        own.flat_map(|drop| drop.patterns.iter().map(move |pattern| (drop, pattern)))
            .find(|(_, pattern)| Glob::new(pattern).matches(self.key.as_bytes()))
            .map(|(drop, pattern)| (drop.cache.clone(), How::Pattern(pattern.clone())))
    }
}

fn report(args: &Why, owner: Option<&str>, found: &Found) {
    if args.json {
        return found.drops.iter().for_each(|drop| print(as_json(drop, Reveal(args.reveal))));
    }
    let paint = Paint::stdout();
    match owner {
        Some(cache) => print(format_args!("cache {} owns this key", paint.bold(cache))),
        None => print(paint.yellow("no cache of this configuration owns this key: nothing deletes it now")),
    }
    found.drops.iter().for_each(|drop| print(line(drop, Reveal(args.reveal), paint)));
    print(paint.faint(&summary(found)));
}

fn line((notice, cache, how): &(Notice, String, How), reveal: Reveal, paint: Paint) -> String {
    let id = notice.id.unwrap_or_default();
    let how = match how {
        How::Key => "by its name".to_owned(),
        How::Pattern(pattern) => format!("by the pattern {}", clean(&reveal.text(pattern))),
        How::Flush => "with everything in".to_owned(),
    };
    let priority = notice.priority.map_or("", |priority| priority.name());
    let age = format!("{} ago", ago(id.ms));
    let what = format!("{how} {}", paint.bold(&clean(cache)));
    format!("{}  {age:>8}  #{}  {what}  {priority}  {}", terminal::time(id.ms), notice.seq.unwrap_or_default(), origin(notice, paint))
}

fn as_json((notice, cache, how): &(Notice, String, How), reveal: Reveal) -> serde_json::Value {
    let (how, pattern) = match how {
        How::Key => ("key", None),
        How::Pattern(pattern) => ("pattern", Some(reveal.text(pattern))),
        How::Flush => ("flush", None),
    };
    json!({
        "id": notice.id, "seq": notice.seq, "at": notice.at, "how": how, "pattern": pattern, "cache": cache, "priority": notice.priority,
        "origin": notice.origin, "events": notice.events, "events_total": notice.events_total,
        "correlation_ids": notice.correlation_ids, "operations": notice.operations,
    })
}

fn summary(found: &Found) -> String {
    let reach = found.oldest.map_or_else(|| "the log is empty".to_owned(), |id| format!("looked back to {}", terminal::time(id.ms)));
    match found.drops.len() {
        0 => format!("not dropped: none of {} notices means it; {reach}", thousands(found.looked_at)),
        drops => format!("dropped by {drops} of {} notices; {reach}", thousands(found.looked_at)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use unstale_events::notice::Drop;

    fn meaning(owner: Option<&str>, notice: &Notice) -> Option<(String, How)> {
        Search { key: "vkey:7", owner, last: 1 }.meaning(notice)
    }

    fn drop(cache: &str, keys: &[&str], patterns: &[&str]) -> Notice {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect();
        Notice { drop: vec![Drop { cache: cache.into(), keys: texts(keys), patterns: texts(patterns) }], ..Notice::default() }
    }

    #[test]
    fn a_key_is_meant_by_name_by_pattern_and_by_flush() {
        let found = |how| Some(("vkey".to_owned(), how));
        assert_eq!(meaning(Some("vkey"), &drop("vkey", &["vkey:7"], &["vkey:*"])), found(How::Key));
        assert_eq!(meaning(Some("vkey"), &drop("vkey", &["vkey:8"], &["vkey:*"])), found(How::Pattern("vkey:*".into())));
        assert_eq!(meaning(Some("vkey"), &drop("vkey", &["vkey:8"], &["vkey:8*"])), None);
        let flush = |cache: &str| Notice { flush: vec![cache.to_owned()], ..Notice::default() };
        assert_eq!(meaning(Some("vkey"), &flush("vkey")), found(How::Flush));
        assert_eq!(meaning(Some("vkey"), &flush("other")), None);
        assert_eq!(meaning(None, &flush("*")), Some(("*".to_owned(), How::Flush)));
    }

    #[test]
    fn a_pattern_of_another_cache_passes_over_the_key() {
        assert_eq!(meaning(Some("vkey"), &drop("other", &[], &["v*"])), None);
    }
}
