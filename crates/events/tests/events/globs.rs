//! Globs against the real thing: a redis-server that is asked which keys a pattern matches.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use unstale_events::Glob;
use unstale_events::glob::{escape, literal_prefix};
use unstale_testkit::{Redis, Resp, Value};

proptest! {
    #[test]
    fn an_escaped_text_matches_only_itself(text in r"[a-c*?\[\]\\^-]{1,6}", other in r"[a-c*?\[\]\\^-]{1,6}") {
        let mut pattern = String::new();
        escape(&text, &mut pattern);
        prop_assert!(Glob::new(&pattern).matches(text.as_bytes()));
        prop_assert_eq!(Glob::new(&pattern).matches(other.as_bytes()), text == other);
        prop_assert_eq!(literal_prefix(&pattern), text);
    }

    #[test]
    fn every_match_begins_with_the_literal_prefix(pattern in r"[ab*?\[\]\\^-]{0,6}", key in r"[ab*?\[\]\\^-]{1,6}") {
        if Glob::new(&pattern).matches(key.as_bytes()) {
            prop_assert!(key.starts_with(&*literal_prefix(&pattern)));
        }
    }
}

/// Texts over an alphabet, the same in every run.
fn words<'a>(alphabet: &'a [&'a str], count: usize, seed: u64) -> impl Iterator<Item = String> + 'a {
    let mut state = seed;
    let mut below = move |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap_or(0) % limit
    };
    (0..count).map(move |_| (0..=below(7)).map(|_| alphabet[below(alphabet.len())]).collect())
}

/// Every text of up to three letters of an alphabet.
fn short_words(alphabet: &[&str]) -> Vec<String> {
    let longer = |words: &[String]| words.iter().flat_map(|word| alphabet.iter().map(move |letter| format!("{word}{letter}"))).collect();
    let one: Vec<String> = longer(&[String::new()]);
    let two: Vec<String> = longer(&one);
    let three: Vec<String> = longer(&two);
    [vec![String::new()], one, two, three].concat()
}

/// What patterns can go wrong with: wildcards, classes that are negated, ranges, cut off or left open, escapes, and bytes that are negative as
/// C's `char`.
const SIGNS: [&str; 11] = ["a", "b", "c", "*", "?", "[", "]", "^", "-", "\\", "é"];
const LETTERS: [&str; 9] = ["a", "b", "-", "[", "]", "^", "\\", "*", "ÿ"];

/// Compares with the server's own answer for each pattern and all keys together.
#[track_caller]
fn compare(patterns: impl IntoIterator<Item = String>, keys: &BTreeSet<Vec<u8>>) {
    let server = Redis::start_sync();
    let mut redis: Resp = server.resp();
    for key in keys {
        redis.cmd(&[b"SET", &key[..], b""]);
    }
    for pattern in patterns {
        let mut theirs: BTreeSet<Vec<u8>> = redis.cmd(&[b"KEYS", pattern.as_bytes()]).array().iter().map(bytes).collect();
        if pattern == "*" {
            // It lists all keys without matching any.
            theirs.remove(&b""[..]);
        }
        let glob = Glob::new(&pattern);
        let ours: BTreeSet<Vec<u8>> = keys.iter().filter(|key| glob.matches(key)).cloned().collect();
        let differ: Vec<_> = ours.symmetric_difference(&theirs).map(|key| key.escape_ascii().to_string()).collect();
        assert!(differ.is_empty(), "{pattern:?}: {differ:?}");
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let Value::Bulk(bytes) = value else { panic!("{value:?} is no key") };
    bytes.clone()
}

fn every_byte() -> impl Iterator<Item = Vec<u8>> {
    (0..=u8::MAX).map(|byte| vec![byte])
}

#[test]
fn globs_match_what_a_redis_server_matches() {
    let keys = words(&SIGNS, 300, 1).map(String::into_bytes).chain(every_byte());
    compare(words(&SIGNS, 5000, 2), &keys.collect());
}

#[test]
fn every_short_pattern_matches_what_a_redis_server_matches() {
    let keys = short_words(&LETTERS[..5]).into_iter().map(String::into_bytes).chain(every_byte());
    compare(short_words(&LETTERS), &keys.collect());
}

#[test]
fn ranges_and_classes_of_any_bytes_match_what_a_redis_server_matches() {
    let ends = ["\0", "\t", " ", "-", "0", "A", "Z", "[", "\\", "]", "^", "a", "z", "~", "\u{7f}", "\u{80}", "é", "ÿ", "€", "😀"];
    let ranges = ends.iter().flat_map(|low| ends.iter().map(move |high| (low, high)));
    let classes = ranges.flat_map(|(low, high)| {
        ["[LOW-HIGH]", "[^LOW-HIGH]", "[LOW-HIGH", "[^LOWHIGH]", "[LOW\\HIGH]", "[\\LOW-HIGH]*", "?[LOW-HIGH-]"]
            .map(|class| class.replace("LOW", low).replace("HIGH", high))
    });
    let pairs = ends.iter().flat_map(|a| ends.iter().map(move |b| format!("{a}{b}").into_bytes()));
    compare(classes, &pairs.chain(every_byte()).collect());
}

/// A matcher that tries every way takes longer than the universe for the first of them.
#[test]
fn hostile_patterns_take_no_time() {
    let key = "a".repeat(10_000);
    let begun = Instant::now();
    for pattern in ["a*".repeat(2_000) + "b", "*a".repeat(2_000) + "b", "*?".repeat(5_001) + "b", "*[^b]".repeat(2_000) + "b"] {
        assert!(!Glob::new(&pattern).matches(key.as_bytes()));
    }
    assert!(Glob::new(&"*".repeat(100_000)).matches(key.as_bytes()));
    assert!(!Glob::new(&"[".repeat(100_000)).matches(key.as_bytes()));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
