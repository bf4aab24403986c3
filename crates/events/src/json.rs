//! JSON as this crate needs it: objects taken apart without parsing their values, values parsed one at a time with numbers as written, and texts
//! written as JSON strings.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::plain;
use crate::value::Value;

/// How deep arrays and objects may nest, in JSON and in `MessagePack`. Far more than events need, far less than a stack holds.
pub(crate) const MAX_DEPTH: usize = 64;

/// The names and unparsed values of a JSON object, added to `entries` with `wrap`; an error's text names a position, never a value.
pub(crate) fn object<'a, T>(text: &'a str, wrap: impl Fn(Cow<'a, str>, &'a str) -> T, entries: &mut Vec<T>) -> Result<(), String> {
    let before = entries.len();
    if plain::members(text, MAX_DEPTH - 1, |name, text| entries.push(wrap(Cow::Borrowed(name), text))).is_some() {
        return Ok(());
    }
    entries.truncate(before);
    if too_deep(text) {
        return Err(format!("nested deeper than {MAX_DEPTH}"));
    }
    let mut parser = serde_json::Deserializer::from_str(text);
    Entries { wrap, entries }.deserialize(&mut parser).and_then(|()| parser.end()).map_err(|error| error.to_string())
}

/// The value of a JSON text that is known to be one.
pub(crate) fn value(text: &str) -> Value<'_> {
    match text.as_bytes().first() {
        Some(b'"') => string(text),
        Some(b'[') => Value::Array(elements(text).into_iter().map(value).collect()),
        Some(b'{') => {
            let mut entries = Vec::new();
            // A known object can fail only by a name that is no Unicode; it then counts as empty, for nobody can name what it holds.
            let _ = object(text, |name, text| (name, value(text)), &mut entries);
            Value::Object(entries)
        }
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'-' | b'0'..=b'9') => Value::Number(Cow::Borrowed(text)),
        _ => Value::Null,
    }
}

/// The value of a flat text that begins as an array or object, if it parses as one.
pub(crate) fn compound(text: &str) -> Option<&str> {
    let parses = text.starts_with(['[', '{']) && !too_deep(text) && serde_json::from_str::<&RawValue>(text).is_ok();
    parses.then(|| text.trim_ascii_end())
}

fn elements(text: &str) -> Vec<&str> {
    let raw: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
    raw.into_iter().map(RawValue::get).collect()
}

fn string(text: &str) -> Value<'_> {
    match &text[1..text.len() - 1] {
        plain if !plain.contains('\\') => Value::Text(Cow::Borrowed(plain)),
        // Half a surrogate pair, which JSON can write and UTF-8 can't.
        _ => serde_json::from_str(text).map_or(Value::Binary(text.as_bytes()), |text| Value::Text(Cow::Owned(text))),
    }
}

/// Looks closely only at texts with more brackets than an honest event has.
fn too_deep(text: &str) -> bool {
    text.bytes().filter(|byte| matches!(byte, b'[' | b'{')).count() > MAX_DEPTH && depth(text) > MAX_DEPTH
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut quoted, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

struct Entries<'e, T, W> {
    wrap: W,
    entries: &'e mut Vec<T>,
}

impl<'a, T, W: Fn(Cow<'a, str>, &'a str) -> T> DeserializeSeed<'a> for Entries<'_, T, W> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a, T, W: Fn(Cow<'a, str>, &'a str) -> T> Visitor<'a> for Entries<'_, T, W> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            let raw: &'a RawValue = map.next_value()?;
            self.entries.push((self.wrap)(name, raw.get()));
        }
        Ok(())
    }
}

struct Name;

impl<'a> DeserializeSeed<'a> for Name {
    type Value = Cow<'a, str>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'a> for Name {
    type Value = Cow<'a, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'a str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// Appends a text as a JSON string, quotes included; never a line break.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    // Looks at all bytes, whatever it finds, so that it can look at many at once. Hardly any text has something to escape.
    if text.bytes().fold(false, |found, byte| found | is_escaped(byte)) {
        push_escaped(out, text);
    } else {
        out.push_str(text);
    }
    out.push('"');
}

fn is_escaped(byte: u8) -> bool {
    byte < b' ' || byte == b'"' || byte == b'\\'
}

fn push_escaped(out: &mut String, text: &str) {
    let mut done = 0;
    for (at, byte) in text.bytes().enumerate().filter(|(_, byte)| is_escaped(*byte)) {
        out.push_str(&text[done..at]);
        done = at + 1;
        push_escape(out, byte);
    }
    out.push_str(&text[done..]);
}

fn push_escape(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' => out.push_str("\\\""),
        b'\\' => out.push_str("\\\\"),
        b'\n' => out.push_str("\\n"),
        b'\r' => out.push_str("\\r"),
        b'\t' => out.push_str("\\t"),
        _ => {
            out.push_str("\\u00");
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// Appends texts as a JSON array of strings.
pub fn push_strings<'t>(out: &mut String, texts: impl IntoIterator<Item = &'t str>) {
    out.push('[');
    for (at, text) in texts.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push_string(out, text);
    }
    out.push(']');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_written_as_serde_json_writes_them() {
        for text in ["", "plain", "é\u{2028}\u{7f}", "a\"b\\c\nd\re\tf\u{0}g\u{1f}", "\"", "end\\"] {
            let mut own = String::new();
            push_string(&mut own, text);
            let back: String = serde_json::from_str(&own).unwrap();
            assert_eq!(back, text);
            assert!(!own.contains('\n'));
        }
    }

    #[test]
    fn arrays_of_strings_are_json() {
        let mut out = String::new();
        push_strings(&mut out, ["a", "b\""]);
        push_strings(&mut out, []);
        assert_eq!(out, r#"["a","b\""][]"#);
    }

    #[test]
    fn depth_is_counted_outside_strings() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(!too_deep(&nested(MAX_DEPTH)));
        assert!(too_deep(&nested(MAX_DEPTH + 1)));
        assert!(!too_deep(&format!("\"\\\"{}\"", "[".repeat(1000))));
        assert!(!too_deep(&format!("[{}]", "[],".repeat(1000))));
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        assert_eq!(value(r#""\ud800""#), Value::Binary(br#""\ud800""#));
        assert_eq!(value(r#""\ud83d\ude00""#), Value::Text("😀".into()));
    }
}
