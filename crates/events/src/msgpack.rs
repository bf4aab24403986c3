//! `MessagePack` as this crate needs it: maps taken apart without keeping their values, and values parsed one at a time.

use std::borrow::Cow;
use std::fmt;
use std::io::Cursor;

use rmp_serde::Deserializer;
use serde::de::{self, Deserialize, DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::json::MAX_DEPTH;
use crate::value::Value;

/// Whether the bytes begin as a map.
pub(crate) fn is_map(bytes: &[u8]) -> bool {
    matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf))
}

/// The names and unparsed values of a map that fills `bytes`, added to `entries` with `wrap`; an error's text names no value.
pub(crate) fn map<'a, T>(bytes: &'a [u8], wrap: fn(Cow<'a, str>, &'a [u8]) -> T, entries: &mut Vec<T>) -> Result<(), String> {
    let (count, body) = header(bytes).ok_or("its map is cut off")?;
    let mut parser = Deserializer::new(Cursor::new(body));
    parser.set_max_depth(MAX_DEPTH);
    for _ in 0..count {
        let name = name(skip(&mut parser, body)?)?;
        entries.push(wrap(name, skip(&mut parser, body)?));
    }
    let end = position(&parser);
    if end < body.len() { Err(format!("{} bytes follow its map", body.len() - end)) } else { Ok(()) }
}

/// The value of bytes that are known to hold one.
pub(crate) fn value(bytes: &[u8]) -> Option<Value<'_>> {
    let mut parser = Deserializer::from_read_ref(bytes);
    parser.set_max_depth(MAX_DEPTH);
    AnyValue.deserialize(&mut parser).ok()
}

/// The number of entries of a map, and what follows its header.
fn header(bytes: &[u8]) -> Option<(u32, &[u8])> {
    match *bytes {
        [short @ 0x80..=0x8f, ref body @ ..] => Some((u32::from(short & 0x0f), body)),
        [0xde, a, b, ref body @ ..] => Some((u32::from(u16::from_be_bytes([a, b])), body)),
        [0xdf, a, b, c, d, ref body @ ..] => Some((u32::from_be_bytes([a, b, c, d]), body)),
        _ => None,
    }
}

type Parser<'a> = Deserializer<rmp_serde::decode::ReadReader<Cursor<&'a [u8]>>>;

/// Steps over one value and gives its bytes.
fn skip<'a>(parser: &mut Parser<'a>, body: &'a [u8]) -> Result<&'a [u8], String> {
    let start = position(parser);
    IgnoredAny::deserialize(&mut *parser).map_err(|error| error.to_string())?;
    Ok(&body[start..position(parser)])
}

fn position(parser: &Parser<'_>) -> usize {
    usize::try_from(parser.position()).unwrap_or(usize::MAX)
}

fn name(bytes: &[u8]) -> Result<Cow<'_, str>, String> {
    match value(bytes) {
        Some(Value::Text(name) | Value::Number(name)) => Ok(name),
        _ => Err("a name in its map is no text".to_owned()),
    }
}

/// Reads whatever comes. Not `Deserialize` for [`Value`], for other formats would lose how a number was written.
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value<'de>;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(Cow::Owned(number.to_string())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Number(Cow::Owned(number.to_string())))
    }

    fn visit_f32<E>(self, number: f32) -> Result<Self::Value, E> {
        Ok(Value::Number(Cow::Owned(number.to_string())))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Value::Number(Cow::Owned(number.to_string())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
        Ok(Value::from_bytes(bytes))
    }

    /// An extension type: a tag, and bytes that only its maker can read.
    fn visit_newtype_struct<D: de::Deserializer<'de>>(self, extension: D) -> Result<Self::Value, D::Error> {
        let (_tag, bytes) = <(i8, &'de [u8])>::deserialize(extension)?;
        Ok(Value::Binary(bytes))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element_seed(AnyValue)? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(name) = map.next_key_seed(AnyValue)? {
            let (Value::Text(name) | Value::Number(name)) = name else {
                return Err(de::Error::custom("a name is no text"));
            };
            entries.push((name, map.next_value_seed(AnyValue)?));
        }
        Ok(Value::Object(entries))
    }
}
