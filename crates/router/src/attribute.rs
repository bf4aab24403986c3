//! An event's attributes as routes use them: by a path of names, as text.

use std::fmt;

use unstale_events::{Event, Value};

/// Names joined by dots: the way to an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    /// Reads `name.name`, or says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<_> = text.split('.').map(str::to_owned).collect();
        match names.iter().find(|name| !is_name(name)) {
            None => Ok(Self(names)),
            Some(bad) if bad.is_empty() => Err("an attribute's name is missing".to_owned()),
            Some(bad) => Err(format!("`{bad}` is no attribute's name")),
        }
    }

    /// The attribute's value, or `None` if the event has no such attribute.
    pub(crate) fn of<'e>(&self, event: &Event<'e>) -> Option<Value<'e>> {
        event.attribute(&self.0)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Anything but what templates use as signs, and no blanks around.
fn is_name(name: &str) -> bool {
    !name.is_empty() && name.trim() == name && !name.contains(['[', ']', '?', '|', '{', '}', '$'])
}

/// The text of a single value (null is empty), or why it has none.
pub(crate) fn scalar<'v>(value: &'v Value<'_>) -> Result<&'v str, String> {
    value.as_text().ok_or_else(|| format!("is {}", value.kind()))
}
