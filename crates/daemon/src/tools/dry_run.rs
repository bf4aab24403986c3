//! `unstale run --dry-run`: what a sidecar would do with the events as they come, beside whatever invalidates the caches today. Nothing is deleted,
//! announced or acknowledged, and there is no consumer group: the streams are read as anybody may read them.
//!
//! A second after a sidecar would have deleted a key it is looked for. One that is still there was missed by today's invalidation, or was filled anew in
//! the meantime: that can't be told apart from outside. Patterns aren't looked for; scanning is not free.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Instant, sleep};
use unstale_batcher::Settings as Batching;
use unstale_connect::{Site, Store};
use unstale_events::{Entry, Event, Priority};
use unstale_router::Store as Place;

use super::Bus;
use super::follow::{End, follow, show_line};
use super::shown::{Reveal, few};
use crate::cli::{DryRun, Exit};
use crate::commands::{complain, fail};
use crate::config::Loaded;
use crate::explain::{self, Explanation, Outcome};
use crate::run::batching;
use crate::signals::Signals;
use crate::terminal::{self, Paint, clean, thousands};

/// How long after the sidecar would have deleted a key it is looked for.
const LATER: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(200);
/// How many keys wait to be looked for at most, and how many types are told apart: both come from outside.
const WATCHED: usize = 100_000;
const TYPES: usize = 1000;
const OTHER: &str = "(other types)";
const NO_EVENT: &str = "(no event)";

/// The command. Ends when it is told to, after `--for`, with an error, or when nobody reads what it prints.
pub async fn run(loaded: &Loaded, how: &DryRun) -> Exit {
    let (bus, mut signals) = match (Bus::open(loaded).await, Signals::listen()) {
        (Ok(bus), Ok(signals)) => (bus, signals),
        (Err(error), _) => return fail(error),
        (_, Err(error)) => return fail(error),
    };
    let rehearsal = match Rehearsal::new(loaded, how) {
        Ok(rehearsal) => rehearsal,
        Err(why) => return fail(why),
    };
    let streams = [&bus.names.critical, &bus.names.events];
    let (bus, rehearsed) = (&bus, &rehearsal);
    let read = streams.map(|stream| follow(loaded, bus, stream, how.last, move |entry| rehearsed.entry(bus, stream, entry)));
    let ended = tokio::select! {
        ended = try_join_all(read) => ended.map(drop),
        ended = rehearsal.look() => ended,
        _ = signals.next() => Ok(()),
        () = sleep(how.length.unwrap_or(Duration::MAX)) => Ok(()),
    };
    match ended.and_then(|()| rehearsal.summary()) {
        Ok(()) | Err(End::Closed) => Exit::Done,
        Err(End::Failed(why)) => fail(why),
    }
}

/// What would have been done, and who watches over it.
struct Rehearsal<'a> {
    loaded: &'a Loaded,
    how: &'a DryRun,
    batching: Batching,
    /// The servers of caches.
    stores: BTreeMap<&'a str, Store>,
    begun: Instant,
    seen: RefCell<Seen>,
}

#[derive(Default)]
struct Seen {
    types: BTreeMap<String, OfType>,
    caches: BTreeMap<String, OfCache>,
    /// Keys to look for, in the order of when, and how often one was added.
    due: BTreeMap<(Instant, u64), Due>,
    added: u64,
}

#[derive(Debug, Default, Serialize)]
struct OfType {
    routed: u64,
    unrouted: u64,
    dead_letters: u64,
}

#[derive(Debug, Default, Serialize)]
struct OfCache {
    keys: u64,
    gone: u64,
    still_there: u64,
    not_looked_for: u64,
    patterns: u64,
    bumps: u64,
}

/// A key that a sidecar would have deleted.
struct Due {
    cache: String,
    key: String,
    /// The event that made it stale.
    event: String,
}

impl<'a> Rehearsal<'a> {
    fn new(loaded: &'a Loaded, how: &'a DryRun) -> Result<Self, String> {
        let mut stores = BTreeMap::new();
        for (_, cache) in loaded.router.caches().iter().filter(|(_, cache)| cache.store == Place::Redis) {
            let redis = loaded.config.redis.get(&cache.redis).ok_or_else(|| format!("no server is named `{}`", cache.redis))?;
            let server = redis.server().map_err(|error| format!("redis.{}: {error}", cache.redis))?;
            let open = || Site::open(&server)?.store("unstale-dry-run");
            let store = open().map_err(|fault| format!("redis.{}: {fault}", cache.redis))?;
            stores.entry(cache.redis.as_str()).or_insert(store);
        }
        let batching = batching(&loaded.config.batching, &loaded.router);
        Ok(Self { loaded, how, batching, stores, begun: Instant::now(), seen: RefCell::default() })
    }

    /// Shows what would become of an entry, and remembers its keys.
    fn entry(&self, bus: &Bus, stream: &str, entry: &Entry) -> Result<(), End> {
        let fields = entry.fields.clone().unwrap_or_default();
        let (kind, explained) = match Event::decode(&fields) {
            Ok(event) => (event.kind().to_owned(), explain::explain_event(&self.loaded.router, &bus.names, &event)),
            Err(reason) => (NO_EVENT.to_owned(), explain::undecodable(&reason)),
        };
        let window = explained.priority.and_then(Priority::from_name).map(|priority| self.batching.window_of(priority));
        self.count(&kind, &explained);
        self.watch(&explained, window.unwrap_or_default(), &format!("{kind} {}", entry.id));
        if self.how.json {
            return show_line(&self.as_json(stream, entry, &kind, explained, window).to_string());
        }
        show_line(&self.as_line(stream, entry, &kind, &explained, window))
    }

    fn count(&self, kind: &str, explained: &Explanation) {
        let mut seen = self.seen.borrow_mut();
        let name = if seen.types.len() < TYPES || seen.types.contains_key(kind) { kind } else { OTHER };
        let of = seen.types.entry(name.to_owned()).or_default();
        match explained.outcome {
            Outcome::Routed => of.routed += 1,
            Outcome::Unrouted => of.unrouted += 1,
            Outcome::DeadLetter => of.dead_letters += 1,
        }
    }

    fn watch(&self, explained: &Explanation, window: Duration, event: &str) {
        let mut seen = self.seen.borrow_mut();
        for target in &explained.targets {
            let full = seen.due.len() >= WATCHED || self.store(&target.cache).is_none();
            let of = seen.caches.entry(target.cache.clone()).or_default();
            of.patterns += u64::from(target.pattern.is_some());
            of.bumps += u64::from(target.bump.is_some());
            let Some(key) = &target.key else { continue };
            of.keys += 1;
            if full {
                of.not_looked_for += 1;
                continue;
            }
            let at = (Instant::now() + window + LATER, seen.added);
            seen.added += 1;
            seen.due.insert(at, Due { cache: target.cache.clone(), key: key.clone(), event: event.to_owned() });
        }
    }

    /// Where a cache's keys are; `None` if they are in the instances alone.
    fn store(&self, cache: &str) -> Option<&Store> {
        let (_, cache) = self.loaded.router.caches().iter().find(|(_, known)| known.name == cache && known.store == Place::Redis)?;
        self.stores.get(cache.redis.as_str())
    }

    /// Looks for keys whose time has come, again and again.
    async fn look(&self) -> Result<(), End> {
        loop {
            sleep(LOOK).await;
            let due = {
                let mut seen = self.seen.borrow_mut();
                let later = seen.due.split_off(&(Instant::now(), 0));
                std::mem::replace(&mut seen.due, later)
            };
            let mut by_cache: BTreeMap<String, Vec<Due>> = BTreeMap::new();
            for due in due.into_values() {
                by_cache.entry(due.cache.clone()).or_default().push(due);
            }
            for (cache, due) in by_cache {
                self.look_for(&cache, due).await?;
            }
        }
    }

    async fn look_for(&self, cache: &str, due: Vec<Due>) -> Result<(), End> {
        let Some(store) = self.store(cache) else { return Ok(()) };
        let keys: Vec<Bytes> = due.iter().map(|due| Bytes::from(due.key.clone())).collect();
        let answers = store.exists(&keys).await;
        if let Some(fault) = answers.iter().find_map(|answer| answer.as_ref().err()) {
            complain(format_args!("keys of {cache} could not be looked for: {fault}"));
        }
        for (due, answer) in due.iter().zip(answers) {
            self.looked_for(due, answer.ok())?;
        }
        Ok(())
    }

    fn looked_for(&self, due: &Due, there: Option<bool>) -> Result<(), End> {
        let mut seen = self.seen.borrow_mut();
        let of = seen.caches.entry(due.cache.clone()).or_default();
        match there {
            None => of.not_looked_for += 1,
            Some(false) => of.gone += 1,
            Some(true) => of.still_there += 1,
        }
        if there != Some(true) {
            return Ok(());
        }
        let key = Reveal(self.how.reveal).text(&due.key);
        if self.how.json {
            return show_line(&json!({ "still_there": { "cache": due.cache, "key": key, "event": due.event } }).to_string());
        }
        let paint = Paint::stdout();
        let words = [paint.yellow("still there"), paint.bold(&due.cache), clean(&key), paint.faint(&clean(&due.event))];
        show_line(&words.join("  "))
    }

    fn as_json(&self, stream: &str, entry: &Entry, kind: &str, mut explained: Explanation, window: Option<Duration>) -> serde_json::Value {
        let reveal = Reveal(self.how.reveal);
        for target in &mut explained.targets {
            [&mut target.key, &mut target.pattern].into_iter().flatten().for_each(|text| *text = reveal.text(text));
        }
        let within = window.map(|window| u64::try_from(window.as_millis()).unwrap_or(u64::MAX));
        json!({ "stream": stream, "id": entry.id.to_string(), "type": kind, "within_ms": within, "would": explained })
    }

    fn as_line(&self, stream: &str, entry: &Entry, kind: &str, explained: &Explanation, window: Option<Duration>) -> String {
        let (reveal, paint) = (Reveal(self.how.reveal), Paint::stdout());
        let mut words = vec![paint.faint(&terminal::time(entry.id.ms)), paint.bold(&clean(kind)), paint.faint(&entry.id.to_string())];
        match (explained.outcome, window) {
            (Outcome::Unrouted, _) => words.push(paint.yellow("no route names it")),
            (_, None) => {}
            (_, Some(Duration::ZERO)) => words.push("at once".to_owned()),
            (_, Some(window)) => words.push(format!("within {}", humantime::format_duration(window))),
        }
        let mut caches: Vec<&str> = explained.targets.iter().map(|target| target.cache.as_str()).collect();
        caches.dedup();
        for cache in caches {
            let of = || explained.targets.iter().filter(|target| target.cache == cache);
            words.push(paint.bold(&clean(cache)));
            words.push(few(&of().filter_map(|target| target.key.clone()).collect::<Vec<_>>(), "key", reveal));
            words.push(few(&of().filter_map(|target| target.pattern.clone()).collect::<Vec<_>>(), "pattern", reveal));
            words.push(few(&of().filter_map(|target| target.bump.clone()).collect::<Vec<_>>(), "counter", Reveal(true)));
        }
        words.extend(explained.reasons.iter().map(|reason| paint.yellow(&format!("dead letter: {}", clean(reason)))));
        let better = explained.stream.as_deref().filter(|better| *better != stream && explained.outcome == Outcome::Routed);
        words.extend(better.map(|better| paint.yellow(&format!("belongs on {better}"))));
        words.retain(|word| !word.is_empty());
        words.join("  ")
    }

    /// What it comes to. Keys whose time has not come were not looked for.
    fn summary(&self) -> Result<(), End> {
        let mut seen = self.seen.take();
        for due in seen.due.into_values() {
            seen.caches.entry(due.cache).or_default().not_looked_for += 1;
        }
        if self.how.json {
            let seconds = self.begun.elapsed().as_secs_f64();
            return show_line(&json!({ "summary": { "seconds": seconds, "types": seen.types, "caches": seen.caches } }).to_string());
        }
        show_line(&format!("\n{:<32}{:>12}{:>12}{:>14}", "events", "routed", "unrouted", "dead letters"))?;
        for (kind, of) in &seen.types {
            let counts = [of.routed, of.unrouted, of.dead_letters].map(thousands);
            show_line(&format!("{:<32}{:>12}{:>12}{:>14}", clean(kind), counts[0], counts[1], counts[2]))?;
        }
        show_line(&format!(
            "\n{:<32}{:>12}{:>12}{:>14}{:>16}{:>12}",
            "keys", "to delete", "gone", "still there", "not looked for", "patterns"
        ))?;
        for (cache, of) in &seen.caches {
            let counts = [of.keys, of.gone, of.still_there, of.not_looked_for, of.patterns].map(thousands);
            let [keys, gone, there, not, patterns] = counts;
            show_line(&format!("{:<32}{keys:>12}{gone:>12}{there:>14}{not:>16}{patterns:>12}", clean(cache)))?;
        }
        Ok(())
    }
}
