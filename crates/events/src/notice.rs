//! Notices: what was dropped from the shared caches, told to whoever holds copies.
//!
//! These types are for readers. The sink writes the same JSON in fragments, with [`crate::json`].

use std::fmt;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{EntryId, Priority};

/// The version of the form, `v`. A receiver that reads another one flushes.
pub const VERSION: u32 = 1;

/// How many `events`, `correlation_ids` and `operations` a notice names at most.
pub const MAX_NAMED: usize = 100;

/// One notice: `drop` tells of single keys and patterns, `flush` of whole caches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Notice {
    /// The version of the form.
    pub v: u32,
    /// Its entry in the log; not part of the JSON that the log holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<EntryId>,
    /// Its number, one more than that of the notice before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// The entry of the notice before, [`EntryId::ZERO`] if there was none. Releases before this one don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<EntryId>,
    /// The instance that wrote it.
    #[serde(default)]
    pub origin: String,
    /// When the deletes were confirmed, in milliseconds of Redis' clock.
    #[serde(default)]
    pub at: u64,
    /// The lane that its events came by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// What was deleted, cache by cache.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<Drop>,
    /// Caches to be dropped whole; `*` means all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flush: Vec<String>,
    /// Why they are, by [`Cause::name`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The ids of the entries that asked for it, at most [`MAX_NAMED`].
    #[serde(default)]
    pub events: Vec<EntryId>,
    /// How many entries asked for it.
    #[serde(default)]
    pub events_total: u64,
    /// Their correlation ids, at most [`MAX_NAMED`].
    #[serde(default)]
    pub correlation_ids: Vec<String>,
    /// The operations that they named, at most [`MAX_NAMED`].
    #[serde(default)]
    pub operations: Vec<String>,
    /// Whether someone waits for every instance to have passed it on: positions are renewed at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirm: bool,
}

/// Why whole caches are to be dropped; a closed set, for metric labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Somebody asked for it: `unstale flush`.
    Request,
    /// Events were lost before they were read.
    Loss,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 2] = [Self::Request, Self::Loss];

    /// As notices and metrics name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Loss => "loss",
        }
    }
}

/// What was deleted from one cache.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drop {
    /// The name of the cache.
    pub cache: String,
    /// The keys, whether or not they existed.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Redis globs.
    #[serde(default)]
    pub patterns: Vec<String>,
}

impl Notice {
    /// Reads a notice.
    ///
    /// # Errors
    /// If it isn't JSON of this form.
    pub fn from_json(text: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(text)
    }

    /// Reads a notice of the log, where id and number stand beside the JSON.
    ///
    /// # Errors
    /// As [`Notice::from_json`].
    pub fn from_log(position: Position, text: &[u8]) -> Result<Self, serde_json::Error> {
        Ok(Self { id: Some(position.id), seq: Some(position.seq), ..Self::from_json(text)? })
    }

    /// Whether this program knows what its version means.
    pub fn is_known(&self) -> bool {
        self.v == VERSION
    }

    /// Where it stands in the log, if it says so.
    pub fn position(&self) -> Option<Position> {
        Some(Position { id: self.id?, seq: self.seq? })
    }
}

/// A receiver's place in the log, written `<log id>/<seq>`: the last notice that he has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// The entry of the log.
    pub id: EntryId,
    /// Its number.
    pub seq: u64,
}

impl Position {
    /// `0-0/0`: before the first notice.
    pub const START: Self = Self { id: EntryId::ZERO, seq: 0 };
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.id, self.seq)
    }
}

/// A text that is no position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a position in the notice log: expected `<milliseconds>-<sequence>/<number>`")]
pub struct BadPosition(pub String);

impl FromStr for Position {
    type Err = BadPosition;

    fn from_str(text: &str) -> Result<Self, BadPosition> {
        let parse = || {
            let (id, seq) = text.split_once('/')?;
            Some(Self { id: id.parse().ok()?, seq: seq.parse().ok()? })
        };
        parse().ok_or_else(|| BadPosition(text.to_owned()))
    }
}

impl Serialize for EntryId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EntryId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(IdText)
    }
}

struct IdText;

impl Visitor<'_> for IdText {
    type Value = EntryId;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry id")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<EntryId, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DROP: &str = concat!(
        r#"{"v":1,"id":"1789000000123-0","seq":4711,"prev":"1789000000100-0","origin":"api-3-x7f2","at":1789000000123,"priority":"critical","#,
        r#""drop":[{"cache":"virtual_key","keys":["vkey:abc"],"patterns":[]}],"events":["1789000000100-0"],"events_total":1,"#,
        r#""correlation_ids":[],"operations":[]}"#
    );

    #[test]
    fn a_notice_is_written_as_it_was_read() {
        let notice = Notice::from_json(DROP.as_bytes()).unwrap();
        assert_eq!(serde_json::to_string(&notice).unwrap(), DROP);
        assert_eq!(notice.position().unwrap().to_string(), "1789000000123-0/4711");
        assert_eq!(notice.priority, Some(Priority::Critical));
    }

    #[test]
    fn unknown_fields_are_ignored() {
        let text = br#"{"v":1,"flush":["*"],"new":{"a":[1]}}"#;
        assert_eq!(Notice::from_json(text).unwrap().flush, ["*"]);
    }

    #[test]
    fn the_log_keeps_id_and_number_beside_the_notice() {
        let position: Position = "5-1/7".parse().unwrap();
        let notice = Notice::from_log(position, br#"{"v":2}"#).unwrap();
        assert_eq!(notice.position(), Some(position));
        assert!(!notice.is_known());
    }

    #[test]
    fn only_positions_are_positions() {
        assert_eq!("0-0/0".parse(), Ok(Position::START));
        for text in ["", "1-1", "1-1/", "/1", "a/1", "1-1/-1"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
