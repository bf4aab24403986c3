//! The value of an attribute, whatever wire form it came in.

use std::borrow::Cow;

use crate::json;
use crate::names::canonical;

/// One value, borrowed from the event's bytes where it stands there as it is.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// JSON's `null`, `MessagePack`'s nil.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number as it was written; from `MessagePack`, in the shortest decimal form without exponent.
    Number(Cow<'a, str>),
    /// A text.
    Text(Cow<'a, str>),
    /// Several values.
    Array(Vec<Value<'a>>),
    /// Named values in the order in which they were written.
    Object(Vec<(Cow<'a, str>, Value<'a>)>),
    /// Bytes that are no UTF-8.
    Binary(&'a [u8]),
}

impl<'a> Value<'a> {
    /// The text of a scalar as `when` and templates use it: `true` and `false` for truth values, nothing for null; `None` for arrays, objects
    /// and bytes.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Null => Some(""),
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::Number(text) | Self::Text(text) => Some(text),
            Self::Array(_) | Self::Object(_) | Self::Binary(_) => None,
        }
    }

    /// Whether it is null, the empty text or the empty array.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Null => true,
            Self::Text(text) => text.is_empty(),
            Self::Array(elements) => elements.is_empty(),
            _ => false,
        }
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a truth value",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
            Self::Binary(_) => "bytes that are no UTF-8",
        }
    }

    /// Whether two values are the same, though their wire forms may differ: scalars by their text, truth values without case, objects by
    /// names in any spelling and order.
    pub fn same(&self, other: &Value<'_>) -> bool {
        match (self, other) {
            (Self::Array(own), Value::Array(others)) => own.len() == others.len() && own.iter().zip(others).all(|(a, b)| a.same(b)),
            (Self::Object(own), Value::Object(others)) => same_entries(own, others),
            (Self::Binary(own), Value::Binary(others)) => own == others,
            (Self::Bool(_), _) | (_, Value::Bool(_)) => {
                matches!((self.as_text(), other.as_text()), (Some(a), Some(b)) if a.eq_ignore_ascii_case(b))
            }
            _ => self.as_text().is_some() && self.as_text() == other.as_text(),
        }
    }

    /// Appends the value as JSON. Bytes that are no UTF-8 become a text with replacement characters.
    pub fn push_json(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(_) => out.push_str(self.as_text().unwrap_or_default()),
            Self::Number(text) if is_json_number(text) => out.push_str(text),
            Self::Number(text) | Self::Text(text) => json::push_string(out, text),
            Self::Array(elements) => push_list(out, '[', ']', elements, |out, element| element.push_json(out)),
            Self::Object(entries) => push_list(out, '{', '}', entries, |out, (name, value)| {
                json::push_string(out, name);
                out.push(':');
                value.push_json(out);
            }),
            Self::Binary(bytes) => json::push_string(out, &String::from_utf8_lossy(bytes)),
        }
    }

    /// The value of bytes: a text if they are UTF-8.
    pub(crate) fn from_bytes(bytes: &'a [u8]) -> Self {
        std::str::from_utf8(bytes).map_or(Self::Binary(bytes), |text| Self::Text(Cow::Borrowed(text)))
    }
}

fn same_entries(own: &[(Cow<'_, str>, Value<'_>)], others: &[(Cow<'_, str>, Value<'_>)]) -> bool {
    let (own, others) = (sorted(own), sorted(others));
    own.len() == others.len() && own.iter().zip(&others).all(|((name, a), (other, b))| name == other && a.same(b))
}

fn sorted<'v, 'a>(entries: &'v [(Cow<'a, str>, Value<'a>)]) -> Vec<(String, &'v Value<'a>)> {
    let mut entries: Vec<_> = entries.iter().map(|(name, value)| (canonical(name), value)).collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries
}

/// `MessagePack` knows NaN and infinities, JSON doesn't.
fn is_json_number(text: &str) -> bool {
    text.ends_with(|last: char| last.is_ascii_digit())
}

fn push_list<T>(out: &mut String, open: char, close: char, items: &[T], push: impl Fn(&mut String, &T)) {
    out.push(open);
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        push(out, item);
    }
    out.push(close);
}
