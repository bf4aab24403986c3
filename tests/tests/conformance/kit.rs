//! Playing a system's table: each event goes in, exactly its keys are gone, the notices name them, and Redis' MONITOR saw nothing else.

use std::collections::BTreeSet;

use unstale_tests::monitor::touched;
use unstale_tests::{Line, Notice, World};

/// A row of a system's table: an event, its lane, the keys, patterns and counters that it names, and what the patterns find.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    kind: &'static str,
    attributes: &'static [(&'static str, &'static str)],
    lane: &'static str,
    keys: &'static [&'static str],
    patterns: &'static [&'static str],
    found: &'static [&'static str],
    counters: &'static [&'static str],
}

/// A row without patterns and counters. What it names stands in the order in which Redis sorts it.
pub(crate) const fn row(
    kind: &'static str,
    attributes: &'static [(&'static str, &'static str)],
    lane: &'static str,
    keys: &'static [&'static str],
) -> Row {
    Row { kind, attributes, lane, keys, patterns: &[], found: &[], counters: &[] }
}

impl Row {
    pub(crate) const fn and(self, patterns: &'static [&'static str], found: &'static [&'static str]) -> Self {
        Self { patterns, found, ..self }
    }

    pub(crate) const fn counting(self, counters: &'static [&'static str]) -> Self {
        Self { counters, ..self }
    }
}

/// Where the caches of a table are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    Redis,
    /// In each process alone: what has the same name in Redis stays.
    Local,
}

/// The figure of a scenario, for the table of docs/conformance.md.
pub(crate) fn figure(text: impl std::fmt::Display) {
    println!("figure: {text}");
}

/// Plays rows one after another, all of the universe being there anew for each: every row's keys, and keys that differ from them by as little as
/// possible.
#[track_caller]
pub(crate) fn play(preset: &str, store: Store, universe: &[&str], rows: &[Row]) {
    let mut world = World::preset(preset);
    let (mut gone, mut announced) = (0, 0);
    for row in rows {
        let (deleted, told) = play_one(&mut world, store, universe, row);
        gone += deleted;
        announced += told;
    }
    let events = if rows.len() == 1 { "event" } else { "events" };
    figure(format_args!(
        "{} {events} among {} keys: {gone} deleted, {announced} announced, none beside them touched",
        rows.len(),
        universe.len()
    ));
}

/// Returns how many keys are gone, and how many keys and patterns were announced.
#[track_caller]
fn play_one(world: &mut World, store: Store, universe: &[&str], row: &Row) -> (usize, usize) {
    let what = format!("{} {:?}", row.kind, row.attributes);
    let before = world.notices().len();
    world.seed(universe);
    for counter in row.counters {
        world.cmd(&["SET", counter, "41"]);
    }
    let lines = world.watched(|world| {
        world.publish(row.kind, row.attributes);
        world.wait_done();
    });
    let left = world.keys();
    let gone: Vec<&str> = universe.iter().copied().filter(|key| !left.contains(*key)).collect();
    let is_meant = |key: &&str| store == Store::Redis && (row.keys.contains(key) || row.found.contains(key));
    let meant: Vec<&str> = universe.iter().copied().filter(is_meant).collect();
    assert_eq!(gone, meant, "{what}");
    for counter in row.counters {
        assert_eq!(world.cmd(&["GET", counter]).text(), "42", "{what}: {counter}");
    }
    if store == Store::Redis {
        named(row, &what, &lines);
    } else {
        assert_eq!(touched(&lines), [].into(), "{what}");
    }
    let notices = world.notices();
    told(row, &what, &notices[before..]);
    assert_eq!(world.dead_letters(), [], "{what}");
    (gone.len(), notices[before..].iter().map(|notice| notice.keys().len() + notice.patterns().len()).sum())
}

/// Redis was asked to unlink what the row names or its patterns find, to count its counters, and nothing else.
#[track_caller]
fn named(row: &Row, what: &str, lines: &[Line]) {
    let unlinked = row.keys.iter().chain(row.found).map(|key| ("UNLINK".to_owned(), (*key).to_owned()));
    let counted = row.counters.iter().map(|key| ("INCR".to_owned(), (*key).to_owned()));
    let stated: BTreeSet<_> = unlinked.chain(counted).collect();
    let beside: Vec<_> = touched(lines).difference(&stated).cloned().collect();
    assert!(beside.is_empty(), "{what}: {beside:?}");
    let scans = lines.iter().any(|line| line.name() == "SCAN");
    assert_eq!(scans, !row.patterns.is_empty(), "{what}: scans for patterns alone");
}

/// The notices name what the row names, but for keys that a pattern of theirs says already; all are of its lane.
#[track_caller]
fn told(row: &Row, what: &str, notices: &[Notice]) {
    assert!(notices.iter().all(|notice| notice.priority() == row.lane), "{what}: {notices:#?}");
    let mut patterns: Vec<String> = notices.iter().flat_map(Notice::patterns).collect();
    patterns.sort();
    assert_eq!(patterns, row.patterns, "{what}");
    let keys: Vec<String> = notices.iter().flat_map(Notice::keys).collect();
    assert!(keys.iter().all(|key| row.keys.contains(&key.as_str())), "{what}: {keys:?}");
    let is_told = |key: &str| keys.iter().any(|told| told == key) || row.patterns.iter().any(|pattern| begins_as(key, pattern));
    assert!(row.keys.iter().all(|key| is_told(key)), "{what}: {notices:#?}");
    assert_eq!(notices.is_empty(), row.keys.is_empty() && row.patterns.is_empty(), "{what}");
}

fn begins_as(key: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|prefix| !prefix.contains('*') && key.starts_with(prefix))
}
