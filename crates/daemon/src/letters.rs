//! Dead letters as operators see them: looked at, given back to their stream, dropped. Burying is the source's.

use std::sync::LazyLock;

use bytes::Bytes;
use serde::Serialize;
use unstale_connect::{Client, Fault, Reply, Script};
use unstale_events::{Code, Entry, EntryId, Fields};
use unstale_source::Names;

/// How much of a field is read for a list.
const EXCERPT: usize = 2048;

/// The first of the fields that a letter has behind the entry's own.
const FIRST: &str = "dead_reason";

static NEWEST: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("letters.lua")));

/// What was said of an entry when it was buried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Head {
    /// Its entry in the stream of dead letters.
    #[serde(serialize_with = "as_text")]
    pub id: EntryId,
    /// The event's type, if it stands in a field of its own.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The codes in the reason.
    pub codes: Vec<&'static str>,
    /// `dead_reason`.
    pub reason: String,
    /// The entry that it was.
    pub entry: String,
    /// The stream that it stood in.
    pub stream: String,
    /// How often it had been delivered.
    pub deliveries: u64,
    /// When it was buried, in milliseconds of Redis' clock.
    pub at: u64,
    /// By which instance.
    pub by: String,
    /// Whether only the beginning of each field was kept.
    pub truncated: bool,
}

/// A dead letter, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// What was said of it.
    pub head: Head,
    /// The entry's own fields.
    pub own: Fields,
}

/// What became of a letter that was to be given back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replayed {
    /// It is in its stream again.
    Added {
        /// The stream.
        stream: String,
        /// The new entry.
        id: EntryId,
    },
    /// It isn't among the dead letters: replayed or dropped already, or trimmed.
    Missing,
    /// It can't be given back; why, and what to do.
    Refused(String),
}

/// The dead letters of a namespace.
#[derive(Debug, Clone)]
pub struct Letters {
    client: Client,
    names: Names,
}

impl Letters {
    /// Those that these names name.
    pub fn new(client: Client, names: Names) -> Self {
        Self { client, names }
    }

    /// How many there are.
    pub async fn count(&self) -> Result<u64, Fault> {
        self.client.xlen(&self.names.dead).await
    }

    /// The newest first, from `from` down, at most `count`.
    pub async fn newest(&self, from: Option<EntryId>, count: usize) -> Result<Vec<Head>, Fault> {
        let from = from.map_or_else(|| "+".to_owned(), |id| id.to_string());
        let args = [from, count.to_string(), EXCERPT.to_string()].map(Bytes::from).to_vec();
        let reply = self.client.eval(&NEWEST, vec![Bytes::copy_from_slice(self.names.dead.as_bytes())], args).await?;
        reply.array()?.into_iter().map(head).collect()
    }

    /// One of them, whole.
    pub async fn get(&self, id: EntryId) -> Result<Option<Letter>, Fault> {
        let found = self.client.xrange(&self.names.dead, id, Some(id), 1).await?.pop();
        Ok(found.map(Letter::read))
    }

    /// Adds the entry to its stream again, then takes the letter away. What breaks in between, or is done by two at once, adds it twice, which
    /// does no harm; nothing is ever lost.
    pub async fn replay(&self, id: EntryId) -> Result<Replayed, Fault> {
        let Some(Letter { head, own }) = self.get(id).await? else { return Ok(Replayed::Missing) };
        if let Some(why) = self.refuse(&head, &own) {
            return Ok(Replayed::Refused(why));
        }
        let added = self.client.xadd(&head.stream, &own).await?;
        self.drop(&[id]).await?;
        Ok(Replayed::Added { stream: head.stream, id: added })
    }

    fn refuse(&self, head: &Head, own: &Fields) -> Option<String> {
        if head.truncated || own.is_empty() {
            return Some("only the beginning of its fields was kept: publish the event anew from where it came, then drop this".to_owned());
        }
        let is_read = [&self.names.events, &self.names.critical].contains(&&head.stream);
        (!is_read).then(|| format!("it came from the stream `{}`, which this configuration doesn't read: see `bus.stream`", head.stream))
    }

    /// Takes letters away for good; returns how many there were.
    pub async fn drop(&self, ids: &[EntryId]) -> Result<u64, Fault> {
        self.client.xdel(&self.names.dead, ids).await
    }
}

fn head(reply: Reply) -> Result<Head, Fault> {
    let mut parts = reply.array()?.into_iter();
    let (id, fields) = (parts.next().unwrap_or(Reply::Nil).entry_id()?, parts.next().unwrap_or(Reply::Nil).array()?);
    let texts = fields.into_iter().map(Reply::bytes).collect::<Result<Vec<_>, _>>()?;
    let fields = texts.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect();
    Ok(Letter::read(Entry { id, fields: Some(fields) }).head)
}

impl Letter {
    /// Tells what the entry had from what was added to it. An entry may have fields of the same names: the last `dead_reason` is where its own end.
    pub fn read(buried: Entry) -> Self {
        let (id, mut own) = (buried.id, buried.fields.unwrap_or_default());
        let added = own.iter().rposition(|(name, _)| name == FIRST).map_or_else(Vec::new, |at| own.split_off(at));
        let get = |name: &str| added.iter().find(|(known, _)| known == name).map_or_else(String::new, |(_, value)| lossy(value));
        let kind = own.iter().find(|(name, _)| name.eq_ignore_ascii_case(b"type")).map(|(_, value)| lossy(value));
        let reason = get(FIRST);
        let head = Head {
            id,
            kind,
            codes: codes(&reason),
            reason,
            entry: get("dead_entry"),
            stream: get("dead_stream"),
            deliveries: get("dead_deliveries").parse().unwrap_or(0),
            at: get("dead_at").parse().unwrap_or(id.ms),
            by: get("dead_by"),
            truncated: get("dead_truncated") == "1",
        };
        Self { head, own }
    }
}

fn lossy(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The codes of a text that is `code: text`, several joined by `; `.
fn codes(reason: &str) -> Vec<&'static str> {
    let code =
        |part: &str| Code::ALL.into_iter().map(Code::name).find(|code| part.strip_prefix(code).is_some_and(|rest| rest.starts_with(": ")));
    let mut codes: Vec<_> = reason.split("; ").filter_map(code).collect();
    codes.dedup();
    codes
}

fn as_text<S: serde::Serializer>(id: &EntryId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        pairs.iter().map(|(name, value)| (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))).collect()
    }

    fn read(id: EntryId, pairs: &[(&str, &str)]) -> Letter {
        Letter::read(Entry { id, fields: Some(fields(pairs)) })
    }

    #[test]
    fn what_was_added_is_told_from_fields_of_the_same_names() {
        let own = [("type", "A"), ("dead_reason", "mine"), ("dead_line", "x"), ("dead_stream", "elsewhere")];
        let added = [("dead_reason", "refused_target: no"), ("dead_entry", "1-1"), ("dead_stream", "unstale:events"), ("dead_at", "7")];
        let letter = read(EntryId::ZERO, &[&own[..], &added].concat());
        assert_eq!(letter.own, fields(&own));
        assert_eq!((letter.head.stream.as_str(), letter.head.reason.as_str()), ("unstale:events", "refused_target: no"));
        assert_eq!((letter.head.at, letter.head.truncated, letter.head.kind.as_deref()), (7, false, Some("A")));
    }

    #[test]
    fn reasons_name_their_codes() {
        assert_eq!(codes("missing_attribute: `a` is absent; it is needed; refused_target: b"), ["missing_attribute", "refused_target"]);
        assert_eq!(codes("deliveries"), Vec::<&str>::new());
        assert_eq!(codes("unrouted: a; unrouted: b"), ["unrouted"]);
    }

    #[test]
    fn what_nobody_buried_is_shown_as_it_is() {
        let letter = read(EntryId { ms: 5, seq: 0 }, &[("x", "y")]);
        assert_eq!((letter.head.at, letter.head.reason.as_str(), letter.own.len()), (5, "", 1));
    }
}
