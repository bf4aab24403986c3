//! The template language: text with `{path}` placeholders that an event's attributes fill.
//!
//! `{path}` needs a value, `{path?}` may do without, `{path[]}` and `{path[]?}` take each element of an array; `|lower` and `|upper`
//! before the brace closes change case; `{{` and `}}` are braces. In patterns, values and constants are glob-escaped: only what
//! the route itself writes is a wildcard.

use std::borrow::Cow;
use std::ops::Range;

use unstale_events::{Code, Event, Reason, Value, glob};

use crate::attribute::{self, Path};
use crate::document::Text;

/// A compiled template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    parts: Vec<Part>,
    /// The position of the `[]` placeholder, if there is one.
    list: Option<usize>,
    /// As the route writes it, for messages.
    written: String,
    /// Whether values are glob-escaped.
    pattern: bool,
}

#[derive(Debug, Clone)]
enum Part {
    Text(String),
    Value(Placeholder),
}

#[derive(Debug, Clone)]
struct Placeholder {
    path: Path,
    optional: bool,
    list: bool,
    case: Option<Case>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Case {
    Lower,
    Upper,
}

/// A mistake in a template: where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mistake {
    pub(crate) range: Range<usize>,
    pub(crate) message: String,
    pub(crate) help: String,
}

/// Why a template yields no target.
#[derive(Debug)]
pub(crate) enum Lack {
    /// An optional value is absent.
    Skip,
    /// A needed value is absent or unfit.
    Missing(Reason),
}

impl Template {
    /// Compiles a template; all its mistakes if it has any.
    pub(crate) fn parse(text: &Text, pattern: bool) -> Result<Self, Vec<Mistake>> {
        let mut parser = Parser { text, pattern, parts: Vec::new(), literal: String::new(), mistakes: Vec::new() };
        parser.run();
        let list = parser.parts.iter().position(|part| matches!(part, Part::Value(value) if value.list));
        let template = Self { parts: parser.parts, list, written: text.content.clone(), pattern };
        if parser.mistakes.is_empty() { Ok(template) } else { Err(parser.mistakes) }
    }

    /// The text before the first placeholder; globs are still escaped in it.
    pub(crate) fn stem(&self) -> &str {
        match self.parts.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// Whether the template has no placeholder.
    pub(crate) fn is_literal(&self) -> bool {
        matches!(self.parts.as_slice(), [] | [Part::Text(_)])
    }

    /// As the route writes it.
    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Gives `emit` each target, and each reason why there is none.
    pub(crate) fn expand(&self, event: &Event<'_>, emit: &mut dyn Emit) {
        let expanded = match self.list {
            None => emit.emit(&mut |out| self.write(&self.parts, event, out)),
            Some(list) => self.expand_list(list, event, emit),
        };
        settle(expanded, emit);
    }

    /// One target for each element; what stands before and after the element is written only once.
    fn expand_list(&self, list: usize, event: &Event<'_>, emit: &mut dyn Emit) -> Result<(), Lack> {
        let Part::Value(placeholder) = &self.parts[list] else { return Ok(()) };
        let elements = self.elements(placeholder, event)?;
        if elements.is_empty() {
            return Ok(());
        }
        let (mut before, mut after) = (String::new(), String::new());
        self.write(&self.parts[..list], event, &mut before)?;
        self.write(&self.parts[list + 1..], event, &mut after)?;
        for element in elements {
            let emitted = emit.emit(&mut |out| {
                out.push_str(&before);
                self.write_value(placeholder, Some(&element), out)?;
                out.push_str(&after);
                Ok(())
            });
            settle(emitted, emit);
            if emit.is_full() {
                break;
            }
        }
        Ok(())
    }

    /// The elements of an array; a scalar is an array of one.
    fn elements<'a>(&self, placeholder: &Placeholder, event: &Event<'a>) -> Result<Vec<Value<'a>>, Lack> {
        match placeholder.path.of(event) {
            Some(Value::Array(elements)) => Ok(elements),
            Some(Value::Null) | None => Err(self.lack(placeholder)),
            Some(single) => Ok(vec![single]),
        }
    }

    fn write(&self, parts: &[Part], event: &Event<'_>, out: &mut String) -> Result<(), Lack> {
        for part in parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Value(placeholder) => self.write_value(placeholder, placeholder.path.of(event).as_ref(), out)?,
            }
        }
        Ok(())
    }

    fn write_value(&self, placeholder: &Placeholder, value: Option<&Value<'_>>, out: &mut String) -> Result<(), Lack> {
        let text = match value {
            None | Some(Value::Null) => return Err(self.lack(placeholder)),
            Some(Value::Array(elements)) if elements.is_empty() => return Err(self.lack(placeholder)),
            Some(value) => attribute::scalar(value).map_err(|unfit| self.missing(placeholder, &unfit))?,
        };
        if text.is_empty() {
            return Err(self.lack(placeholder));
        }
        let text = change_case(text, placeholder.case);
        if self.pattern {
            glob::escape(&text, out);
        } else {
            out.push_str(&text);
        }
        Ok(())
    }

    fn lack(&self, placeholder: &Placeholder) -> Lack {
        if placeholder.optional { Lack::Skip } else { self.missing(placeholder, "is absent, null or empty") }
    }

    fn missing(&self, placeholder: &Placeholder, how: &str) -> Lack {
        let element = if placeholder.list { ", or an element of it," } else { "" };
        let text = format!("attribute `{}`{element} {how}; the route's `{}` needs it", placeholder.path, self.written);
        Lack::Missing(Reason::new(Code::MissingAttribute, text))
    }
}

/// Takes the targets that a template yields.
pub(crate) trait Emit {
    /// Takes one target, whose text `write` appends.
    fn emit(&mut self, write: &mut dyn FnMut(&mut String) -> Result<(), Lack>) -> Result<(), Lack>;

    /// Takes the reason why there is no target.
    fn refuse(&mut self, reason: Reason);

    /// Whether no more is wanted.
    fn is_full(&self) -> bool;
}

fn settle(emitted: Result<(), Lack>, emit: &mut dyn Emit) {
    if let Err(Lack::Missing(reason)) = emitted {
        emit.refuse(reason);
    }
}

fn change_case(text: &str, case: Option<Case>) -> Cow<'_, str> {
    match case {
        Some(Case::Lower) if text.chars().any(|c| !c.is_ascii() || c.is_ascii_uppercase()) => text.to_lowercase().into(),
        Some(Case::Upper) if text.chars().any(|c| !c.is_ascii() || c.is_ascii_lowercase()) => text.to_uppercase().into(),
        _ => text.into(),
    }
}

struct Parser<'t> {
    text: &'t Text,
    pattern: bool,
    parts: Vec<Part>,
    literal: String,
    mistakes: Vec<Mistake>,
}

impl Parser<'_> {
    fn run(&mut self) {
        let text = &self.text.content;
        let mut at = 0;
        while at < text.len() {
            at = self.step(at);
        }
        self.flush(text.len()..text.len());
        self.check_lists();
    }

    /// Reads what stands at a position and says where the next thing begins.
    fn step(&mut self, at: usize) -> usize {
        if let Some(constant) = self.text.constants.iter().find(|constant| constant.range.start == at && !constant.range.is_empty()) {
            return self.constant(constant.range.clone());
        }
        let rest = &self.text.content[at..];
        if rest.starts_with("{{") || rest.starts_with("}}") {
            self.literal.push_str(&rest[..1]);
            return at + 2;
        }
        if rest.starts_with('{') {
            return self.placeholder(at);
        }
        if rest.starts_with('}') {
            self.mistake(at..at + 1, "a `}` that closes nothing", "write `}}` for a brace in the text");
            return at + 1;
        }
        let length = rest.chars().next().map_or(1, char::len_utf8);
        self.literal.push_str(&rest[..length]);
        at + length
    }

    fn constant(&mut self, range: Range<usize>) -> usize {
        let value = &self.text.content[range.clone()];
        if self.pattern {
            self.check_open_glob(range.clone());
            glob::escape(value, &mut self.literal);
        } else {
            self.literal.push_str(value);
        }
        range.end
    }

    fn placeholder(&mut self, start: usize) -> usize {
        let rest = &self.text.content[start + 1..];
        let Some(length) = rest.find(['}', '{']).filter(|found| rest[*found..].starts_with('}')) else {
            self.mistake(
                start..start + 1,
                "a `{` that is never closed",
                "close the placeholder with `}`, or write `{{` for a brace in the text",
            );
            return start + 1;
        };
        let range = start..start + length + 2;
        if self.pattern {
            self.check_open_glob(range.clone());
        }
        self.flush(range.clone());
        match placeholder(&rest[..length]) {
            Ok(value) => self.parts.push(Part::Value(value)),
            Err((message, help)) => self.mistakes.push(Mistake { range: range.clone(), message, help }),
        }
        range.end
    }

    /// Ends the literal text before a placeholder.
    fn flush(&mut self, before: Range<usize>) {
        if self.pattern && before.is_empty() && open_glob(&self.literal) == Some(Open::Class) {
            self.mistake(0..before.end, "a `[` that is never closed", "close the class with `]`, or write `\\[` for a bracket in the text");
        }
        if !self.literal.is_empty() {
            self.parts.push(Part::Text(std::mem::take(&mut self.literal)));
        }
    }

    /// A value must not become part of a class or of an escape, or it could widen the pattern.
    fn check_open_glob(&mut self, range: Range<usize>) {
        match open_glob(&self.literal) {
            Some(Open::Class) => self.mistake(range, "a value inside `[…]`", "write the class out, or `\\[` for a bracket in the text"),
            Some(Open::Escape) => self.mistake(range, "a `\\` right before a value", "write `\\\\` for a backslash in the text"),
            None => {}
        }
    }

    fn check_lists(&mut self) {
        let lists = self.parts.iter().filter(|part| matches!(part, Part::Value(value) if value.list)).count();
        if lists > 1 {
            let help = "keep one `[]`, and put the other array into a route of its own";
            self.mistake(0..self.text.content.len(), "more than one `[]` in a template", help);
        }
    }

    fn mistake(&mut self, range: Range<usize>, message: &str, help: &str) {
        self.mistakes.push(Mistake { range, message: message.to_owned(), help: help.to_owned() });
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Class,
    Escape,
}

/// What a glob's text leaves open at its end.
fn open_glob(text: &str) -> Option<Open> {
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return None,
            [b'\\'] => return Some(Open::Escape),
            [b'[', class @ ..] => match behind_class(class) {
                Some(behind) => behind,
                None => return Some(Open::Class),
            },
            [b'\\', _, behind @ ..] | [_, behind @ ..] => behind,
        };
    }
}

/// What follows a class; `None` if it isn't closed. As in Redis, a `]` may be the end of a range: `[a-]` is open.
fn behind_class(class: &[u8]) -> Option<&[u8]> {
    let mut rest = class.strip_prefix(b"^").unwrap_or(class);
    loop {
        rest = match rest {
            [] => return None,
            [b']', behind @ ..] => return Some(behind),
            [b'\\', _, behind @ ..] | [_, b'-', _, behind @ ..] | [_, behind @ ..] => behind,
        };
    }
}

/// Reads what stands between the braces.
fn placeholder(text: &str) -> Result<Placeholder, (String, String)> {
    let (value, case) = match text.split_once('|') {
        None => (text, None),
        Some((value, "lower")) => (value, Some(Case::Lower)),
        Some((value, "upper")) => (value, Some(Case::Upper)),
        Some((_, other)) => {
            return Err((format!("unknown filter `|{other}`"), "known are `|lower` and `|upper`, one at a time".to_owned()));
        }
    };
    let (value, optional) = value.strip_suffix('?').map_or((value, false), |value| (value, true));
    let (value, list) = value.strip_suffix("[]").map_or((value, false), |value| (value, true));
    let path = Path::parse(value)
        .map_err(|message| (message, "write `{name}`, `{name?}`, `{name[]}` or `{name[]?}`, names joined by dots".to_owned()))?;
    Ok(Placeholder { path, optional, list, case })
}
