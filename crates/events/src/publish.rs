//! Publishing: from an event to the fields of a stream entry, in any of the wire forms that [`Event::decode`] reads. Sending is `connect`'s.

use std::borrow::Cow;

use bytes::Bytes;
use serde::Serialize;

use crate::value::Value;
use crate::{Event, Fields, json};

/// A typed event: its serialized fields are the attributes.
pub trait EventType: Serialize {
    /// What stands in `type`.
    const TYPE: &'static str;
}

/// How attributes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// One field for each attribute; easy to read and to write by hand. Arrays and objects are JSON, null is left out.
    Flat,
    /// One field `data` with a JSON object: keeps every kind of value.
    #[default]
    Json,
    /// One field `data` with a `MessagePack` map: the smallest.
    MessagePack,
}

/// Why an event can't be written.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The type doesn't serialize to a map of attributes.
    #[error("event {kind} can't be written: {why}")]
    Unwritable {
        /// The event's type.
        kind: String,
        /// What the serializer says.
        why: String,
    },
    /// A flat field can't say this.
    #[error("attribute `{name}` can't be a flat field: {why}; use the JSON or MessagePack encoding")]
    NotFlat {
        /// The attribute.
        name: String,
        /// What stands against it.
        why: &'static str,
    },
}

/// The fields of the entry that publishes a typed event. `id`, `time` and `correlation_id` may be pushed as further fields.
///
/// # Errors
/// If the event doesn't serialize to a map, or its attributes can't be said in this encoding.
pub fn to_fields<E: EventType>(event: &E, encoding: Encoding) -> Result<Fields, PublishError> {
    let unwritable = |why: String| PublishError::Unwritable { kind: E::TYPE.to_owned(), why };
    match encoding {
        Encoding::MessagePack => {
            let data = rmp_serde::to_vec_named(event).map_err(|error| unwritable(error.to_string()))?;
            Ok(with_data(E::TYPE, data))
        }
        Encoding::Json => Ok(with_data(E::TYPE, serde_json::to_vec(event).map_err(|error| unwritable(error.to_string()))?)),
        Encoding::Flat => {
            let text = serde_json::to_string(event).map_err(|error| unwritable(error.to_string()))?;
            let mut entries = Vec::new();
            json::object(&text, |name, text| (name, json::value(text)), &mut entries).map_err(unwritable)?;
            flat(E::TYPE, entries)
        }
    }
}

impl Event<'_> {
    /// The fields of the entry that publishes this event again: what [`Event::decode`] makes of them is the same event.
    ///
    /// # Errors
    /// If the flat encoding can't say an attribute.
    pub fn to_fields(&self, encoding: Encoding) -> Result<Fields, PublishError> {
        let attributes = || self.attributes().map(|(name, value)| (Cow::Borrowed(name), value)).collect::<Vec<_>>();
        let mut fields = match encoding {
            Encoding::Flat => flat(self.kind(), attributes())?,
            Encoding::Json => {
                let mut data = String::new();
                Value::Object(attributes()).push_json(&mut data);
                with_data(self.kind(), data.into_bytes())
            }
            Encoding::MessagePack => {
                let data = rmp_serde::to_vec_named(&Value::Object(attributes()))
                    .map_err(|error| PublishError::Unwritable { kind: self.kind().to_owned(), why: error.to_string() })?;
                with_data(self.kind(), data)
            }
        };
        self.push_labels(&mut fields);
        Ok(fields)
    }

    /// Adds what the event says about itself beside its attributes, as an envelope does.
    fn push_labels(&self, fields: &mut Fields) {
        for (name, label) in [("id", self.id()), ("time", self.time()), ("correlation_id", self.correlation_id())] {
            if let Some(label) = label
                && self.attribute(&[name]).is_none()
            {
                fields.push(field(name, label.to_owned()));
            }
        }
    }
}

fn field(name: &str, value: impl Into<Bytes>) -> (Bytes, Bytes) {
    (Bytes::copy_from_slice(name.as_bytes()), value.into())
}

fn with_data(kind: &str, data: Vec<u8>) -> Fields {
    vec![field("type", kind.to_owned()), field("data", data)]
}

fn flat(kind: &str, attributes: Vec<(Cow<'_, str>, Value<'_>)>) -> Result<Fields, PublishError> {
    let mut fields = vec![field("type", kind.to_owned())];
    for (name, value) in attributes {
        let not_flat = |why| PublishError::NotFlat { name: name.clone().into_owned(), why };
        if ["type", "data"].iter().any(|taken| crate::names::same_name(taken, &name)) {
            return Err(not_flat("its name means something else there"));
        }
        match &value {
            Value::Null => {}
            Value::Text(text) if json::compound(text).is_some() => return Err(not_flat("its text would be taken for JSON")),
            Value::Binary(bytes) => fields.push(field(&name, bytes.to_vec())),
            Value::Array(_) | Value::Object(_) => {
                let mut text = String::new();
                value.push_json(&mut text);
                fields.push(field(&name, text));
            }
            Value::Bool(_) | Value::Number(_) | Value::Text(_) => fields.push(field(&name, value.as_text().unwrap_or_default().to_owned())),
        }
    }
    Ok(fields)
}

/// A number becomes a binary number if that reads as it was written, a text otherwise.
impl Serialize for Value<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(text) => serialize_number(text, serializer),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Array(elements) => serializer.collect_seq(elements),
            Self::Object(entries) => serializer.collect_map(entries.iter().map(|(name, value)| (name, value))),
            Self::Binary(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

fn serialize_number<S: serde::Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
    fn exact<N: std::str::FromStr + ToString>(text: &str) -> Option<N> {
        text.parse().ok().filter(|number: &N| number.to_string() == text)
    }
    if let Some(number) = exact::<i64>(text) {
        serializer.serialize_i64(number)
    } else if let Some(number) = exact::<u64>(text) {
        serializer.serialize_u64(number)
    } else if let Some(number) = exact::<f64>(text) {
        serializer.serialize_f64(number)
    } else {
        serializer.serialize_str(text)
    }
}
