//! `when`: which events of a type a route is for.
//!
//! Everything is compared as text, numbers as they are written, true and false without case; absent, null, empty text and an
//! empty array all equal `""`.

use unstale_events::{Code, Event, Glob, Reason, Value};

use crate::attribute::{self, Path};

/// One entry of `when`.
#[derive(Debug, Clone)]
pub(crate) struct Condition {
    pub(crate) path: Path,
    pub(crate) test: Test,
}

/// What an attribute is held against.
#[derive(Debug, Clone)]
pub(crate) enum Test {
    /// Some element equals one of these.
    OneOf(Vec<Wanted>),
    /// No element equals any of these.
    NoneOf(Vec<Wanted>),
    /// Some element matches one of these globs, case ignored.
    Like(Vec<Glob>),
}

/// A value to compare with.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    text: String,
    /// Whether it is true or false, which are compared without case.
    truth: bool,
}

impl Wanted {
    pub(crate) fn new(text: &str) -> Self {
        let truth = text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
        Self { text: text.to_owned(), truth }
    }

    fn equals(&self, text: &str) -> bool {
        if self.truth { self.text.eq_ignore_ascii_case(text) } else { self.text == text }
    }
}

impl Condition {
    /// Whether the event meets it.
    ///
    /// # Errors
    /// The attribute can't be compared: it is no text.
    pub(crate) fn holds(&self, event: &Event<'_>) -> Result<bool, Reason> {
        match self.path.of(event) {
            None => Ok(self.test.holds(&[])),
            Some(Value::Array(elements)) => self.compare(&elements),
            Some(value) => self.compare(std::slice::from_ref(&value)),
        }
    }

    fn compare(&self, elements: &[Value<'_>]) -> Result<bool, Reason> {
        if elements.iter().any(|element| matches!(element, Value::Binary(_))) {
            let text = format!("attribute `{}` is not UTF-8; a route's `when` needs it", self.path);
            return Err(Reason::new(Code::MissingAttribute, text));
        }
        Ok(self.test.holds(elements))
    }
}

impl Test {
    /// No elements at all are one empty text.
    fn holds(&self, elements: &[Value<'_>]) -> bool {
        let any = |meets: &dyn Fn(&str) -> bool| match elements {
            [] => meets(""),
            elements => elements.iter().any(|element| attribute::scalar(element).is_ok_and(meets)),
        };
        match self {
            Self::OneOf(wanted) => any(&|text| wanted.iter().any(|wanted| wanted.equals(text))),
            Self::NoneOf(unwanted) => !any(&|text| unwanted.iter().any(|unwanted| unwanted.equals(text))),
            Self::Like(globs) => any(&|text| globs.iter().any(|glob| glob.matches(text.as_bytes()))),
        }
    }
}
