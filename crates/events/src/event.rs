//! Events: what happened, as one publisher or another wrote it down, in any of the wire forms.
//!
//! An event borrows from the entry's bytes. Decoding finds names and values and proves that no two equal names have different values; a value is
//! parsed only when someone asks for it. What an event means for a cache is the router's affair.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;

use crate::names::{canonical, same_name};
use crate::value::Value;
use crate::{Code, Reason, json, msgpack};

/// Up to so many attributes are compared pair by pair; more are put into a table of names.
const FEW: usize = 32;

/// One event.
#[derive(Debug, Clone)]
pub struct Event<'a> {
    kind: Cow<'a, str>,
    labels: Labels<'a>,
    attributes: Vec<Attribute<'a>>,
}

#[derive(Debug, Clone)]
struct Attribute<'a> {
    name: Cow<'a, str>,
    raw: Raw<'a>,
}

/// A value that nobody has looked into yet.
#[derive(Debug, Clone)]
enum Raw<'a> {
    /// A field of the entry.
    Flat(&'a [u8]),
    /// A field that the entry has several times.
    Repeated(Vec<&'a [u8]>),
    /// Known to be JSON.
    Json(&'a str),
    /// Known to be `MessagePack`.
    MessagePack(&'a [u8]),
}

/// What an event may say about itself. Whoever speaks first holds.
#[derive(Debug, Clone, Default)]
struct Labels<'a> {
    id: Option<Cow<'a, str>>,
    time: Option<Cow<'a, str>>,
    correlation_id: Option<Cow<'a, str>>,
}

impl<'a> Event<'a> {
    /// Reads the event of a stream entry.
    ///
    /// # Errors
    /// `undecodable` without a type or with `data` that is neither JSON nor `MessagePack`; `conflicting_attribute` if equal names have different
    /// values.
    pub fn decode(fields: &'a [(Bytes, Bytes)]) -> Result<Self, Reason> {
        let mut draft = Draft::default();
        for (name, value) in fields {
            draft.field(name, value)?;
        }
        if let Some(data) = draft.data {
            draft.data(entries_of_data(data)?)?;
        }
        draft.finish()
    }

    /// Reads an event from one JSON object: `type`, and attributes beside it or in `data`; or a `CloudEvents` envelope.
    ///
    /// # Errors
    /// As [`Event::decode`].
    pub fn from_json(text: &'a [u8]) -> Result<Self, Reason> {
        let text = std::str::from_utf8(text).map_err(|_| undecodable("an event in JSON must be UTF-8"))?;
        let mut entries = Vec::with_capacity(8);
        json::object(text, json_attribute, &mut entries).map_err(|why| undecodable(format!("an event must be a JSON object: {why}")))?;
        let mut draft = Draft::default();
        if is_envelope(&entries) {
            draft.envelope(entries)?;
        } else {
            draft.members(entries)?;
        }
        draft.finish()
    }

    /// The name of the event: its `type`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// The id that the publisher gave to the event.
    pub fn id(&self) -> Option<&str> {
        self.labels.id.as_deref()
    }

    /// When it happened, as the publisher wrote it.
    pub fn time(&self) -> Option<&str> {
        self.labels.time.as_deref()
    }

    /// The request or transaction that the event belongs to.
    pub fn correlation_id(&self) -> Option<&str> {
        self.labels.correlation_id.as_deref()
    }

    /// The attribute at a path of names, in any spelling; all but the last must be objects.
    pub fn attribute<N: AsRef<str>>(&self, path: &[N]) -> Option<Value<'a>> {
        let (first, inner) = path.split_first()?;
        let found = find(&self.attributes, first.as_ref())?;
        if inner.is_empty() {
            return found.value();
        }
        let mut raw = found.clone();
        for name in inner {
            raw = find(&raw.entries()?, name.as_ref())?.clone();
        }
        raw.value()
    }

    /// All attributes with their names as they were written, in the order in which they were written.
    pub fn attributes(&self) -> impl Iterator<Item = (&str, Value<'a>)> {
        self.attributes.iter().filter_map(|attribute| Some((attribute.name.as_ref(), attribute.raw.value()?)))
    }
}

fn find<'l, 'a>(attributes: &'l [Attribute<'a>], name: &str) -> Option<&'l Raw<'a>> {
    // Those of equal names have equal values, so any will do: most are spelled as they are asked for.
    let found = attributes.iter().find(|attribute| attribute.name == name);
    found.or_else(|| attributes.iter().find(|attribute| same_name(&attribute.name, name))).map(|attribute| &attribute.raw)
}

fn json_attribute<'a>(name: Cow<'a, str>, text: &'a str) -> Attribute<'a> {
    Attribute { name, raw: Raw::Json(text) }
}

fn msgpack_attribute<'a>(name: Cow<'a, str>, bytes: &'a [u8]) -> Attribute<'a> {
    Attribute { name, raw: Raw::MessagePack(bytes) }
}

fn undecodable(text: impl Into<String>) -> Reason {
    Reason::new(Code::Undecodable, text)
}

impl<'a> Raw<'a> {
    /// What is left of a field whose value was moved to the first of its name.
    const MERGED: Self = Self::Repeated(Vec::new());

    fn is_merged(&self) -> bool {
        matches!(self, Self::Repeated(values) if values.is_empty())
    }

    fn value(&self) -> Option<Value<'a>> {
        match self {
            Self::Flat(bytes) => Some(flat_value(bytes)),
            Self::Repeated(values) => Some(Value::Array(values.iter().map(|bytes| flat_value(bytes)).collect())),
            Self::Json(text) => Some(json::value(text)),
            Self::MessagePack(bytes) => msgpack::value(bytes),
        }
    }

    /// Whether it may be an object, told by its first byte.
    fn looks_like_object(&self) -> bool {
        match self {
            Self::Flat(bytes) => bytes.first() == Some(&b'{'),
            Self::Repeated(_) => false,
            Self::Json(text) => text.starts_with('{'),
            Self::MessagePack(bytes) => msgpack::is_map(bytes),
        }
    }

    /// What an object holds; `None` if it is none.
    fn entries(&self) -> Option<Vec<Attribute<'a>>> {
        let mut entries = Vec::new();
        match self {
            Self::Flat(bytes) if self.looks_like_object() => {
                json::object(std::str::from_utf8(bytes).ok()?, json_attribute, &mut entries).ok()?;
            }
            Self::Json(text) if self.looks_like_object() => json::object(text, json_attribute, &mut entries).ok()?,
            Self::MessagePack(bytes) if self.looks_like_object() => msgpack::map(bytes, msgpack_attribute, &mut entries).ok()?,
            _ => return None,
        }
        Some(entries)
    }
}

fn flat_value(bytes: &[u8]) -> Value<'_> {
    match Value::from_bytes(bytes) {
        Value::Text(Cow::Borrowed(text)) => json::compound(text).map_or(Value::Text(Cow::Borrowed(text)), json::value),
        other => other,
    }
}

/// Takes a field `data` apart: JSON or `MessagePack`, told by its first byte.
fn entries_of_data(data: &[u8]) -> Result<Vec<Attribute<'_>>, Reason> {
    let mut entries = Vec::with_capacity(8);
    if msgpack::is_map(data) {
        msgpack::map(data, msgpack_attribute, &mut entries).map_err(|why| undecodable(format!("`data` is no MessagePack map: {why}")))?;
    } else if data.trim_ascii_start().first() == Some(&b'{') {
        let text = std::str::from_utf8(data).map_err(|_| undecodable("`data` is no JSON: it isn't UTF-8"))?;
        json::object(text, json_attribute, &mut entries).map_err(|why| undecodable(format!("`data` is no JSON object: {why}")))?;
    } else {
        return Err(undecodable("`data` is neither a JSON object nor a MessagePack map"));
    }
    Ok(entries)
}

/// A `CloudEvents` envelope, told by the one name that every one has.
fn is_envelope(entries: &[Attribute<'_>]) -> bool {
    entries.iter().any(|entry| entry.name == "specversion")
}

/// The names with a meaning of their own.
#[derive(Clone, Copy)]
enum Role {
    Type,
    Data,
    Id,
    Time,
    CorrelationId,
}

impl Role {
    fn of(name: &str) -> Option<Self> {
        let first = name.bytes().find(|byte| !matches!(byte, b'_' | b'-'))?;
        let (role, own) = match first.to_ascii_lowercase() {
            b'c' => (Self::CorrelationId, "correlationid"),
            b'd' => (Self::Data, "data"),
            b'i' => (Self::Id, "id"),
            b't' if same_name(name, "type") => return Some(Self::Type),
            b't' => (Self::Time, "time"),
            _ => return None,
        };
        same_name(name, own).then_some(role)
    }
}

impl<'a> Labels<'a> {
    /// Takes note of an attribute if it says something about the event itself.
    fn note(&mut self, attribute: &Attribute<'a>) {
        let label = match Role::of(&attribute.name) {
            Some(Role::Id) => &mut self.id,
            Some(Role::Time) => &mut self.time,
            Some(Role::CorrelationId) => &mut self.correlation_id,
            _ => return,
        };
        if label.is_none()
            && let Some(Value::Text(text) | Value::Number(text)) = attribute.raw.value()
            && !text.is_empty()
        {
            *label = Some(text);
        }
    }
}

/// An event in the making.
#[derive(Default)]
struct Draft<'a> {
    kind: Option<Cow<'a, str>>,
    data: Option<&'a [u8]>,
    labels: Labels<'a>,
    attributes: Vec<Attribute<'a>>,
}

impl<'a> Draft<'a> {
    /// A field of the entry. One whose name is no UTF-8 is passed over: no route can name it.
    fn field(&mut self, name: &'a [u8], value: &'a [u8]) -> Result<(), Reason> {
        let Ok(name) = std::str::from_utf8(name) else { return Ok(()) };
        match Role::of(name) {
            Some(Role::Type) => self.kind(Raw::Flat(value).kind_text()?),
            Some(Role::Data) if self.data.is_some_and(|data| data != value) => Err(conflict("data")),
            Some(Role::Data) => {
                self.data = Some(value);
                Ok(())
            }
            _ => {
                self.add(Attribute { name: Cow::Borrowed(name), raw: Raw::Flat(value) });
                Ok(())
            }
        }
    }

    /// The members of an event that is one JSON object.
    fn members(&mut self, entries: Vec<Attribute<'a>>) -> Result<(), Reason> {
        let mut data = None;
        for entry in entries {
            match Role::of(&entry.name) {
                Some(Role::Type) => self.kind(entry.raw.kind_text()?)?,
                Some(Role::Data) if data.is_some() => return Err(conflict("data")),
                Some(Role::Data) => data = Some(entry.raw),
                _ => self.add(entry),
            }
        }
        data.map_or(Ok(()), |data| self.data(inner_data(&data)?))
    }

    /// What `data` holds: attributes, or a whole envelope.
    fn data(&mut self, entries: Vec<Attribute<'a>>) -> Result<(), Reason> {
        if is_envelope(&entries) {
            return self.envelope(entries);
        }
        for entry in &entries {
            self.labels.note(entry);
        }
        if self.attributes.is_empty() {
            self.attributes = entries;
        } else {
            self.attributes.extend(entries);
        }
        Ok(())
    }

    /// A `CloudEvents` envelope: it names the event if the entry doesn't, and its `data` holds the attributes.
    fn envelope(&mut self, entries: Vec<Attribute<'a>>) -> Result<(), Reason> {
        let own_kind = self.kind.take();
        let mut data = None;
        for entry in entries {
            match Role::of(&entry.name) {
                Some(Role::Type) => self.kind(entry.raw.kind_text()?)?,
                Some(Role::Data) => data = Some(entry.raw),
                _ if entry.name == "data_base64" => {
                    return Err(undecodable("`data_base64` of a CloudEvent isn't supported: send `data` as an object"));
                }
                _ => self.labels.note(&entry),
            }
        }
        self.kind = own_kind.or(self.kind.take());
        for entry in data.map_or(Ok(Vec::new()), |data| inner_data(&data))? {
            self.add(entry);
        }
        Ok(())
    }

    fn add(&mut self, attribute: Attribute<'a>) {
        self.labels.note(&attribute);
        self.attributes.push(attribute);
    }

    fn kind(&mut self, kind: Cow<'a, str>) -> Result<(), Reason> {
        if self.kind.as_ref().is_some_and(|known| *known != kind) {
            return Err(conflict("type"));
        }
        self.kind = Some(kind);
        Ok(())
    }

    fn finish(mut self) -> Result<Event<'a>, Reason> {
        let kind = self
            .kind
            .ok_or_else(|| undecodable("no `type`: an event needs a field `type` with its name, or `data` that is a CloudEvent"))?;
        settle_equal_names(&mut self.attributes)?;
        Ok(Event { kind, labels: self.labels, attributes: self.attributes })
    }
}

impl<'a> Raw<'a> {
    /// The value of `type`.
    fn kind_text(&self) -> Result<Cow<'a, str>, Reason> {
        let value = match self {
            Self::Flat(bytes) => Some(Value::from_bytes(bytes)),
            other => other.value(),
        };
        match value {
            Some(Value::Text(text)) if !text.is_empty() => Ok(text),
            Some(Value::Text(_)) => Err(undecodable("`type` is empty")),
            other => Err(undecodable(format!("`type` must be a text, not {}", other.as_ref().map_or("unreadable", Value::kind)))),
        }
    }
}

/// What `data` inside an object holds; absent and null hold nothing.
fn inner_data<'a>(data: &Raw<'a>) -> Result<Vec<Attribute<'a>>, Reason> {
    match data.entries() {
        Some(entries) => Ok(entries),
        None if matches!(data.value(), Some(Value::Null)) => Ok(Vec::new()),
        None => Err(undecodable("`data` of an event must be an object")),
    }
}

fn conflict(name: &str) -> Reason {
    let shown: String = name.chars().take(80).collect();
    Reason::new(Code::ConflictingAttribute, format!("`{shown}` has two different values (names are equal without case, `_` and `-`)"))
}

/// Makes one array of a field given several times, then demands that attributes of equal names have the same value, in nested objects too.
fn settle_equal_names(attributes: &mut Vec<Attribute<'_>>) -> Result<(), Reason> {
    let twins = twins(attributes);
    if !twins.is_empty() {
        merge_repeated(attributes, &twins);
        demand_same(attributes, &twins)?;
        attributes.retain(|attribute| !attribute.raw.is_merged());
    }
    demand_same_inside(attributes)
}

/// The positions of attributes whose name is equal to an earlier one's, as pairs: the first of that name, and a later one.
fn twins(attributes: &[Attribute<'_>]) -> Vec<(usize, usize)> {
    let mut twins = Vec::new();
    if attributes.len() <= FEW {
        for (later, attribute) in attributes.iter().enumerate() {
            let first = attributes[..later].iter().position(|earlier| same_name(&earlier.name, &attribute.name));
            twins.extend(first.map(|first| (first, later)));
        }
        return twins;
    }
    let mut seen = HashMap::with_capacity(attributes.len());
    for (later, attribute) in attributes.iter().enumerate() {
        let first = *seen.entry(canonical(&attribute.name)).or_insert(later);
        twins.extend((first < later).then_some((first, later)));
    }
    twins
}

/// Moves the values of fields that are spelled alike into the first of them.
fn merge_repeated(attributes: &mut [Attribute<'_>], twins: &[(usize, usize)]) {
    for &(first, later) in twins {
        let (before, behind) = attributes.split_at_mut(later);
        let (first, later) = (&mut before[first], &mut behind[0]);
        let Raw::Flat(more) = later.raw else { continue };
        if first.name != later.name {
            continue;
        }
        match &mut first.raw {
            Raw::Repeated(values) => values.push(more),
            Raw::Flat(one) => first.raw = Raw::Repeated(vec![*one, more]),
            Raw::Json(_) | Raw::MessagePack(_) => continue,
        }
        later.raw = Raw::MERGED;
    }
}

fn demand_same(attributes: &[Attribute<'_>], twins: &[(usize, usize)]) -> Result<(), Reason> {
    for (first, later) in twins.iter().map(|&(first, later)| (&attributes[first], &attributes[later])) {
        let same = later.raw.is_merged() || matches!((first.raw.value(), later.raw.value()), (Some(a), Some(b)) if a.same(&b));
        if !same {
            return Err(conflict(&later.name));
        }
    }
    Ok(())
}

/// Looks into nested objects, for paths lead there; not into arrays, for none leads through them.
fn demand_same_inside(attributes: &[Attribute<'_>]) -> Result<(), Reason> {
    for object in attributes.iter().filter(|attribute| attribute.raw.looks_like_object()) {
        let entries = object.raw.entries().unwrap_or_default();
        demand_same(&entries, &twins(&entries))?;
        demand_same_inside(&entries)?;
    }
    Ok(())
}
