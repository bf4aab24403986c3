//! What a receiver is told: a notice of the log, made ready to be passed on, or that he has to drop everything.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde_json::{Map, Value};
use unstale_events::notice::VERSION;
use unstale_events::{Cause, Entry, EntryId, Position, Priority};

/// The cache that means all of them.
const ALL: &str = "*";

/// What kind of notice it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Keys and patterns to drop.
    Drop,
    /// Caches to drop whole.
    Flush,
}

/// One notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Its place in the log.
    pub at: Position,
    /// The entry before it, if it says so.
    pub prev: Option<EntryId>,
    /// What it asks for.
    pub kind: Kind,
    /// The caches that it concerns.
    pub caches: Vec<String>,
    /// Whether somebody waits until every instance has passed it on.
    pub confirm: bool,
    /// Whether it asks to drop whole caches because somebody wished so.
    pub is_request: bool,
    /// Whether it isn't in the log, but made by the reader: something before was missed.
    pub is_gap: bool,
    /// The notice with `id` and `seq`, on one line.
    pub json: Bytes,
}

impl Told {
    /// Drop everything: nobody can say what was missed.
    pub fn gap(at: Position) -> Self {
        Self { is_gap: true, ..Self::flush_all(at) }
    }

    fn flush_all(at: Position) -> Self {
        let json = format!(r#"{{"v":1,"id":"{}","seq":{},"flush":["{ALL}"]}}"#, at.id, at.seq);
        Self {
            at,
            prev: None,
            kind: Kind::Flush,
            caches: vec![ALL.to_owned()],
            confirm: false,
            is_request: false,
            is_gap: false,
            json: json.into(),
        }
    }

    /// A notice of the log. One in a form that isn't known may mean anything, so it asks to drop everything.
    pub(crate) fn read(at: Position, entry: &Entry) -> Self {
        let Some(text) = field(entry, b"notice").and_then(|text| std::str::from_utf8(text).ok()) else { return Self::flush_all(at) };
        match serde_json::from_str::<Head>(text) {
            // An array of a notice's members in their order would do for the parser, too.
            Ok(notice) if notice.v == VERSION && text.trim_ascii_start().starts_with('{') => Self::known(at, notice, text.as_bytes()),
            _ => Self::flush_all(at),
        }
    }

    fn known(at: Position, notice: Head, text: &[u8]) -> Self {
        let kind = if notice.flush.is_empty() { Kind::Drop } else { Kind::Flush };
        let is_request = notice.cause.as_deref() == Some(Cause::Request.name());
        let (prev, json) = (notice.prev, complete(at, &notice, text));
        let mut caches = notice.flush;
        caches.extend(notice.drop.into_iter().map(|drop| drop.cache));
        Self { at, prev, kind, caches, confirm: notice.confirm, is_request, is_gap: false, json }
    }

    /// What it has for these caches.
    pub fn only(&self, filter: &Filter) -> Option<Bytes> {
        let Some(wanted) = &filter.0 else { return Some(self.json.clone()) };
        let is_wanted = |cache: &str| cache == ALL || wanted.contains(cache);
        match self.caches.iter().filter(|cache| is_wanted(cache)).count() {
            0 => None,
            all if all == self.caches.len() => Some(self.json.clone()),
            _ => Some(self.part(is_wanted)),
        }
    }

    fn part(&self, is_wanted: impl Fn(&str) -> bool) -> Bytes {
        let Ok(mut notice) = serde_json::from_slice::<Map<String, Value>>(&self.json) else { return self.json.clone() };
        let mut keep = |list: &str, name: fn(&Value) -> Option<&str>| {
            if let Some(Value::Array(parts)) = notice.get_mut(list) {
                parts.retain(|part| name(part).is_some_and(&is_wanted));
            }
        };
        keep("drop", |part| part.get("cache")?.as_str());
        keep("flush", Value::as_str);
        Value::Object(notice).to_string().into()
    }
}

/// A [`unstale_events::Notice`] as far as it is of interest here: of its keys and names only that they are texts, so that none takes memory.
#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Head {
    v: u32,
    id: Option<EntryId>,
    seq: Option<u64>,
    prev: Option<EntryId>,
    origin: Text,
    at: u64,
    priority: Option<Priority>,
    drop: Vec<Drop>,
    flush: Vec<String>,
    cause: Option<String>,
    events: Vec<EntryId>,
    events_total: u64,
    correlation_ids: Vec<Text>,
    operations: Vec<Text>,
    confirm: bool,
}

#[derive(serde::Deserialize)]
#[expect(dead_code, reason = "of these only the form is looked at")]
struct Drop {
    cache: String,
    #[serde(default)]
    keys: Vec<Text>,
    #[serde(default)]
    patterns: Vec<Text>,
}

/// Any text, forgotten.
#[derive(Default)]
struct Text;

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Self)
    }
}

impl Visitor<'_> for Text {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self, E> {
        Ok(Self)
    }
}

/// The notice as the log has it, and its id, on one line.
fn complete(at: Position, notice: &Head, text: &[u8]) -> Bytes {
    if notice.id.is_none() && notice.seq == Some(at.seq) {
        return with_id(at, text);
    }
    let mut members: Map<String, Value> = serde_json::from_slice(text).unwrap_or_default();
    members.insert("id".to_owned(), at.id.to_string().into());
    members.insert("seq".to_owned(), at.seq.into());
    Value::Object(members).to_string().into()
}

/// Puts the id in without reading the rest. Line breaks can only stand between the parts of a JSON text, where a space means the same.
fn with_id(at: Position, text: &[u8]) -> Bytes {
    const VERSION: &[u8] = br#""v":1,"#;
    let rest = text.trim_ascii_start().strip_prefix(b"{").unwrap_or_default();
    let (version, rest) = rest.strip_prefix(VERSION).map_or((&b""[..], rest), |rest| (VERSION, rest));
    let id = format!(r#""id":"{}","#, at.id);
    let mut json = [b"{", version, id.as_bytes(), rest].concat();
    json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    json.into()
}

/// The place of an entry of the log. One without a number follows none, and so does its successor but for number 1, as who writes it counts.
pub(crate) fn position(entry: &Entry) -> Position {
    let seq = field(entry, b"seq").and_then(|seq| std::str::from_utf8(seq).ok()?.parse().ok());
    Position { id: entry.id, seq: seq.unwrap_or(0) }
}

fn field<'a>(entry: &'a Entry, name: &[u8]) -> Option<&'a [u8]> {
    entry.fields.as_ref()?.iter().find(|(own, _)| own == name).map(|(_, value)| &value[..])
}

/// The caches that a receiver wants to hear of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter(Option<BTreeSet<String>>);

impl Filter {
    /// All of them.
    pub fn all() -> Self {
        Self(None)
    }

    /// These.
    pub fn only(caches: impl IntoIterator<Item = String>) -> Self {
        Self(Some(caches.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use unstale_events::{EntryId, Notice};

    use super::*;

    const AT: Position = Position { id: EntryId { ms: 5, seq: 1 }, seq: 7 };

    fn told(notice: &str) -> Told {
        Told::read(AT, &entry(&[("seq", "7"), ("notice", notice)]))
    }

    fn entry(fields: &[(&str, &str)]) -> Entry {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Entry { id: AT.id, fields: Some(fields.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()) }
    }

    fn text(json: &Bytes) -> &str {
        std::str::from_utf8(json).unwrap()
    }

    const TWO: &str = r#"{"v":1,"seq":7,"drop":[{"cache":"a","keys":["a:1"]},{"cache":"b","keys":["b:1"]}],"new":1}"#;

    #[test]
    fn a_notice_is_passed_on_with_its_id() {
        let told = told(TWO);
        assert_eq!((told.at, told.kind, told.confirm, told.is_gap), (AT, Kind::Drop, false, false));
        assert_eq!(told.caches, ["a", "b"]);
        assert_eq!(text(&told.json), TWO.replacen(r#""v":1,"#, r#""v":1,"id":"5-1","#, 1));
    }

    #[test]
    fn a_notice_that_somebody_else_wrote_fits_on_one_line() {
        for notice in ["\n{ \"drop\": [],\r\n \"v\": 1, \"seq\": 7 }", "{\"v\":1,\n\"flush\":[]}", r#"{"v":1,"id":"1-1","seq":2}"#] {
            let told = told(notice);
            assert!(!told.json.contains(&b'\n') && !told.json.contains(&b'\r'));
            assert_eq!(Notice::from_json(&told.json).unwrap().position(), Some(AT), "{notice}");
        }
    }

    #[test]
    fn what_is_not_understood_asks_to_drop_everything() {
        for notice in ["", "{}", "[1]", "{", r#"{"v":2,"drop":[]}"#, r#"{"v":1,"drop":7}"#] {
            let told = told(notice);
            assert_eq!((told.kind, told.is_gap), (Kind::Flush, false), "{notice}");
            assert_eq!(text(&told.json), r#"{"v":1,"id":"5-1","seq":7,"flush":["*"]}"#);
        }
        assert_eq!(Told::read(AT, &entry(&[("seq", "7")])).kind, Kind::Flush);
    }

    #[test]
    fn a_filter_keeps_what_it_names() {
        let only = |notice: &str, caches: &[&str]| {
            told(notice).only(&Filter::only(caches.iter().map(|cache| (*cache).to_owned()))).map(|json| Notice::from_json(&json).unwrap())
        };
        assert_eq!(only(TWO, &["c"]), None);
        let part = only(TWO, &["b", "c"]).unwrap();
        assert_eq!((part.drop.len(), part.drop[0].cache.as_str(), part.position()), (1, "b", Some(AT)));
        assert_eq!(only(TWO, &["a", "b"]).unwrap().drop.len(), 2);
        let flush = r#"{"v":1,"seq":7,"flush":["a","b"]}"#;
        assert_eq!(only(flush, &["a"]).unwrap().flush, ["a"]);
        assert_eq!(only(flush, &["c"]), None);
        assert_eq!(only(r#"{"v":1,"seq":7,"flush":["*"]}"#, &["c"]).unwrap().flush, ["*"]);
        assert!(told(TWO).only(&Filter::all()).is_some());
    }

    #[test]
    fn a_number_that_is_none_is_zero() {
        assert_eq!(position(&entry(&[("seq", "7")])), AT);
        for fields in [&[][..], &[("seq", "")], &[("seq", "-1")], &[("seq", "x")]] {
            assert_eq!(position(&entry(fields)).seq, 0);
        }
    }
}
