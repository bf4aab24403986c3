//! Notices as a receiver reads them.

use serde_json::Value as Json;
use unstale_testkit::Value;

use crate::model::Model;

/// The channel, and the log.
pub const NOTICES: &str = "{unstale}:notices";
/// How many entries of the log are read at a time.
pub const PAGE: usize = 1000;

/// Where a receiver stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// The entry in the log; empty before the first.
    pub id: String,
    /// Its number.
    pub seq: u64,
}

/// One notice.
#[derive(Debug, Clone)]
pub struct Notice {
    /// Its place in the log.
    pub position: Position,
    /// The entry of the notice before, if it says so.
    prev: Option<String>,
    /// Who wrote it.
    pub origin: String,
    /// The entries that it names.
    pub events: Vec<String>,
    /// What is to be dropped.
    pub drop: Dropped,
}

/// What a notice asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dropped {
    /// These rows.
    Rows(Vec<usize>),
    /// Everything: it asks for that, or isn't understood.
    Everything,
}

impl Position {
    /// Its id, to be compared.
    pub fn key(&self) -> (u64, u64) {
        let (ms, count) = self.id.split_once('-').unwrap_or((&self.id, "0"));
        (ms.parse().unwrap_or_default(), count.parse().unwrap_or_default())
    }
}

impl Notice {
    /// A message of the channel.
    pub fn of_message(text: &str, model: &Model) -> Option<Self> {
        let json: Json = serde_json::from_str(text).ok()?;
        let position = Position { id: json["id"].as_str()?.to_owned(), seq: json["seq"].as_u64()? };
        Some(Self::new(position, &json, model))
    }

    /// An entry of the log.
    pub fn of_entry(entry: &Value, model: &Model) -> Option<Self> {
        let [id, fields] = entry.array() else { return None };
        let position = Position { id: id.text(), seq: fields.field("seq")?.text().parse().ok()? };
        let json: Json = serde_json::from_str(&fields.field("notice")?.text()).ok()?;
        Some(Self::new(position, &json, model))
    }

    /// Whether nothing is between a position and it.
    pub fn follows(&self, at: &Position) -> bool {
        let before = if at.id.is_empty() { "0-0" } else { &at.id };
        self.position.seq == at.seq + 1 && self.prev.as_deref().is_none_or(|prev| prev == before)
    }

    fn new(position: Position, json: &Json, model: &Model) -> Self {
        let drop = match &json["drop"] {
            Json::Array(drops) if json["v"] == 1 && json.get("flush").is_none() => {
                Dropped::Rows(drops.iter().flat_map(|drop| rows(drop, model)).collect())
            }
            _ => Dropped::Everything,
        };
        let prev = json["prev"].as_str().map(str::to_owned);
        Self { position, prev, origin: json["origin"].as_str().unwrap_or_default().to_owned(), events: texts(&json["events"]), drop }
    }
}

/// Keys that are none of ours are no rows.
fn rows(drop: &Json, model: &Model) -> Vec<usize> {
    let keys = texts(&drop["keys"]).into_iter().filter_map(|key| model.row(&key));
    let patterns = texts(&drop["patterns"]).into_iter().flat_map(|pattern| model.matched(&pattern));
    keys.chain(patterns).collect()
}

fn texts(json: &Json) -> Vec<String> {
    json.as_array().into_iter().flatten().filter_map(|text| text.as_str().map(str::to_owned)).collect()
}
