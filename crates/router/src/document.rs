//! A parsed configuration text whose every value knows where it stands: TOML read into a tree, single settings
//! replaced from elsewhere, `${name}` constants put in.
//!
//! Knows the shape of values but not what they mean.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::problem::{At, Problems, Source, did_you_mean};

/// A value and its place.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) value: Value,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Text),
    /// A number, a boolean or a date, as it is written, and what it is.
    Scalar(String, &'static str),
    List(Vec<Node>),
    Table(Table),
}

/// A string, which may hold constants.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub(crate) content: String,
    pub(crate) at: At,
    /// Where constants were put in, in order.
    pub(crate) constants: Vec<Constant>,
    /// Where the text begins in its source, if it stands there letter for letter.
    verbatim: Option<usize>,
    /// Whether a constant is unknown, which has been reported: what the text says can't be judged.
    pub(crate) broken: bool,
}

/// The place of a constant: in the text, and as it was before (`${name}`).
#[derive(Debug, Clone)]
pub(crate) struct Constant {
    pub(crate) range: Range<usize>,
    name: String,
    before: Range<usize>,
}

/// Named values in the order in which they are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) entries: Vec<(Key, Node)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: At,
    /// Whether it comes from where names can't be written exactly (an environment variable).
    loose: bool,
}

/// Constants by name.
pub(crate) type Vars = Vec<(String, String)>;

/// A single setting given elsewhere than in the file; it replaces the file's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The names of the tables down to the setting: `["cache", "product", "second_delete"]`. Case doesn't count, and `_` may stand for `-`.
    pub path: Vec<String>,
    /// Text; for a list comma-separated or a TOML array.
    pub value: String,
    /// Where it was given, for messages: `UNSTALE__CACHE__PRODUCT__SECOND_DELETE`.
    pub origin: String,
}

/// Settings that are lists of texts, which an override may give comma-separated.
const LISTS: [&str; 4] = ["presets", "protected", "prefixes", "without"];

/// Reads a TOML text. `None` with one problem if it is none: what follows a mistake in the syntax can't be judged, for an open
/// bracket swallows the rest of the file.
pub(crate) fn load(source: Source, problems: &mut Problems) -> Option<Table> {
    let text = source.text.clone();
    let source = problems.source(source);
    match DeTable::parse(&text) {
        Ok(root) => Some(table(root.get_ref(), source, &text)),
        Err(error) => {
            invalid(&error, source, problems);
            None
        }
    }
}

fn invalid(error: &toml::de::Error, source: usize, problems: &mut Problems) {
    let at = At { source, span: error.span().unwrap_or_default() };
    problems.report(&at, format!("not valid TOML: {}", error.message()), "correct this first: what follows can't be judged before");
}

fn table(table: &DeTable<'_>, source: usize, text: &str) -> Table {
    let mut entries: Vec<_> = table
        .iter()
        .map(|(name, value)| {
            let key = Key { name: name.get_ref().to_string(), at: At { source, span: name.span() }, loose: false };
            (key, node(value, source, text))
        })
        .collect();
    entries.sort_by_key(|(key, _)| key.at.span.start);
    Table { entries }
}

fn node(value: &Spanned<DeValue<'_>>, source: usize, text: &str) -> Node {
    let at = At { source, span: value.span() };
    let value = match value.get_ref() {
        DeValue::String(string) => Value::Text(Text::new(string, at.clone(), text)),
        DeValue::Integer(number) => Value::Scalar(number.to_string(), "an integer"),
        DeValue::Float(number) => Value::Scalar(number.to_string(), "a number"),
        DeValue::Boolean(truth) => Value::Scalar(truth.to_string(), "a boolean"),
        DeValue::Datetime(date) => Value::Scalar(date.to_string(), "a date"),
        DeValue::Array(array) => Value::List(array.iter().map(|element| node(element, source, text)).collect()),
        DeValue::Table(inner) => Value::Table(table(inner, source, text)),
    };
    Node { at, value }
}

impl Text {
    fn new(string: &str, at: At, source: &str) -> Self {
        let raw = source.get(at.span.clone()).unwrap_or_default();
        let quotes = raw.len() - raw.trim_start_matches(['"', '\'']).len();
        let start = if string.is_empty() { None } else { raw.get(quotes..).filter(|rest| rest.starts_with(string)) };
        let verbatim = start.map(|_| at.span.start + quotes);
        Self { content: string.to_owned(), at, constants: Vec::new(), verbatim, broken: false }
    }

    /// Where a part of the text stands in its source; the whole string if that can't be said more precisely.
    pub(crate) fn part(&self, range: Range<usize>) -> At {
        let Some(start) = self.verbatim else { return self.at.clone() };
        let span = start + self.before(range.start, false)..start + self.before(range.end, true);
        At { source: self.at.source, span }
    }

    /// What its constants are, as the end of a sentence; they may be set far from the text.
    pub(crate) fn note(&self) -> String {
        let show = |constant: &Constant| format!(" (`{}` is `{}`)", constant.name, &self.content[constant.range.clone()]);
        self.constants.iter().map(show).collect()
    }

    /// The position before constants were put in.
    fn before(&self, position: usize, end: bool) -> usize {
        let mut grown = 0_usize;
        let mut shrunk = 0_usize;
        for Constant { range, before, .. } in &self.constants {
            if position < range.start || (position == range.start && !end) {
                break;
            }
            if position < range.end {
                return if end { before.end } else { before.start };
            }
            grown += range.len();
            shrunk += before.len();
        }
        position + shrunk - grown
    }

    /// Puts the constants in.
    fn expand(&mut self, vars: &Vars, problems: &mut Problems) {
        let before = std::mem::take(&mut self.content);
        let mut rest = 0;
        while let Some(found) = next_constant(&before, rest) {
            self.content.push_str(&before[rest..found.start]);
            match constant(&before[found.clone()], vars) {
                Ok(value) => {
                    let start = self.content.len();
                    self.content.push_str(value);
                    let name = before[found.clone()].to_owned();
                    self.constants.push(Constant { range: start..self.content.len(), name, before: found.clone() });
                }
                Err((message, help)) => {
                    let place = self.verbatim.map_or(self.at.span.clone(), |start| start + found.start..start + found.end);
                    problems.report(&At { source: self.at.source, span: place }, message, help);
                    self.broken = true;
                }
            }
            rest = found.end;
        }
        self.content.push_str(&before[rest..]);
    }
}

/// The next `${…}` from a position on. `${{` is none: it is a dollar before a literal brace.
fn next_constant(text: &str, from: usize) -> Option<Range<usize>> {
    let mut from = from;
    loop {
        let start = from + text[from..].find("${")?;
        if !text[start + 2..].starts_with('{') {
            let end = text[start..].find('}').map_or(text.len(), |length| start + length + 1);
            return Some(start..end);
        }
        from = start + 3;
    }
}

/// The value of `${name}`, or what is wrong with it and what would be right.
fn constant<'v>(text: &str, vars: &'v Vars) -> Result<&'v str, (String, String)> {
    let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
        return Err(("`${` is never closed".to_owned(), "write `${name}`, a constant from `[vars]`".to_owned()));
    };
    let known: Vec<_> = vars.iter().map(|(name, _)| name.as_str()).collect();
    let value = vars.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
    value.ok_or_else(|| (format!("no variable `{name}` in `[vars]`"), did_you_mean(name, &known)))
}

impl Node {
    /// Puts the constants into every string below.
    pub(crate) fn expand(&mut self, vars: &Vars, problems: &mut Problems) {
        match &mut self.value {
            Value::Text(text) => text.expand(vars, problems),
            Value::Scalar(..) => {}
            Value::List(list) => list.iter_mut().for_each(|node| node.expand(vars, problems)),
            Value::Table(table) => table.expand(vars, problems),
        }
    }

    /// What it is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Text(_) => "a string",
            Value::Scalar(_, kind) => kind,
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }

    /// A string, or a problem. `name` is the setting, `example` shows a right value.
    pub(crate) fn text(self, name: &str, example: &str, problems: &mut Problems) -> Option<Text> {
        match self.value {
            Value::Text(text) => Some(text),
            _ => self.wrong(name, "a string", example, problems),
        }
    }

    /// A list of strings, or problems.
    pub(crate) fn texts(self, name: &str, example: &str, problems: &mut Problems) -> Vec<Text> {
        let list = self.list(name, "a list of strings", example, problems).unwrap_or_default();
        list.into_iter().filter_map(|node| node.text(&format!("an element of {name}"), example, problems)).collect()
    }

    /// Whether it is a list of nothing.
    pub(crate) fn is_empty_list(&self) -> bool {
        matches!(&self.value, Value::List(list) if list.is_empty())
    }

    /// A list, or a problem.
    pub(crate) fn list(self, name: &str, what: &str, example: &str, problems: &mut Problems) -> Option<Vec<Self>> {
        match self.value {
            Value::List(list) => Some(list),
            _ => self.wrong(name, what, example, problems),
        }
    }

    /// A table, or a problem.
    pub(crate) fn table(self, name: &str, example: &str, problems: &mut Problems) -> Option<Table> {
        match self.value {
            Value::Table(table) => Some(table),
            _ => self.wrong(name, "a table", example, problems),
        }
    }

    fn wrong<T>(&self, name: &str, wanted: &str, example: &str, problems: &mut Problems) -> Option<T> {
        let name = if name.contains(' ') { name.to_owned() } else { format!("`{name}`") };
        problems.report(&self.at, format!("{name} must be {wanted}, but is {}", self.kind()), format!("write `{example}`"));
        None
    }
}

impl Key {
    /// Whether this key means `name`: exactly, or loosely if it could not be written exactly.
    pub(crate) fn means(&self, name: &str) -> bool {
        self.name == name || (self.loose && alike(&self.name, name))
    }
}

/// Equal without case, `-` as `_`.
fn alike(a: &str, b: &str) -> bool {
    let plain = |byte: u8| if byte == b'-' { b'_' } else { byte.to_ascii_lowercase() };
    a.bytes().map(plain).eq(b.bytes().map(plain))
}

impl Table {
    pub(crate) fn expand(&mut self, vars: &Vars, problems: &mut Problems) {
        self.entries.iter_mut().for_each(|(_, node)| node.expand(vars, problems));
    }

    /// Takes a setting out.
    pub(crate) fn take(&mut self, name: &str) -> Option<Node> {
        let found = self.entries.iter().position(|(key, _)| key.means(name))?;
        Some(self.entries.remove(found).1)
    }

    /// Takes a setting out that must be there. `at` is the place of the table.
    pub(crate) fn require(&mut self, name: &str, missing: &str, example: &str, at: &At, problems: &mut Problems) -> Option<Node> {
        let found = self.take(name);
        if found.is_none() {
            problems.report(at, missing, format!("write `{example}`"));
        }
        found
    }

    /// Takes a table out of the table; an empty one if it isn't there or is none.
    pub(crate) fn take_table(&mut self, name: &str, example: &str, problems: &mut Problems) -> Self {
        self.take(name).and_then(|node| node.table(name, example, problems)).unwrap_or_default()
    }

    /// Reports what nobody took. `known` are the names that would be right.
    pub(crate) fn refuse_rest(&self, place: &str, known: &[&str], problems: &mut Problems) {
        for (key, _) in &self.entries {
            problems.report(&key.at, format!("unknown setting `{}` in {place}", key.name), did_you_mean(&key.name, known));
        }
    }

    /// Puts the settings of `other` in the place of this table's.
    pub(crate) fn replace(&mut self, other: Self) {
        for (key, node) in other.entries {
            self.entries.retain(|(mine, _)| !key.means(&mine.name));
            self.entries.push((key, node));
        }
    }

    /// Applies an override.
    pub(crate) fn set(&mut self, setting: &Override, problems: &mut Problems) {
        let source = problems.source(Source { name: setting.origin.clone(), text: setting.value.clone() });
        let at = At { source, span: 0..setting.value.len() };
        let Some((last, tables)) = setting.path.split_last() else { return };
        let mut table = self;
        for name in tables {
            let Value::Table(inner) = &mut table.slot(name, &at).value else {
                let message = format!("`{name}` is not a table: `{}` can't be set in it", setting.path.join("."));
                return problems.report(&at, message, format!("set `{name}` as a whole"));
            };
            table = inner;
        }
        let value = given(setting, last, &at, problems);
        *table.slot(last, &at) = Node { at: at.clone(), value };
    }

    /// The value of a key that is like `name`, made as an empty table if there is none.
    fn slot(&mut self, name: &str, at: &At) -> &mut Node {
        let found = self.entries.iter().position(|(key, _)| alike(&key.name, name)).unwrap_or_else(|| {
            let key = Key { name: name.to_lowercase(), at: at.clone(), loose: true };
            self.entries.push((key, Node { at: at.clone(), value: Value::Table(Self::default()) }));
            self.entries.len() - 1
        });
        &mut self.entries[found].1
    }
}

/// The value of an override: TOML if it is a list or a table, comma-separated for lists of texts, else text.
fn given(setting: &Override, last: &str, at: &At, problems: &mut Problems) -> Value {
    let text = &setting.value;
    let is_constant = setting.path.iter().rev().nth(1).is_some_and(|parent| alike(parent, "vars"));
    if !is_constant && text.trim_start().starts_with(['[', '{']) {
        return parsed(text, at, problems);
    }
    if LISTS.iter().any(|name| alike(name, last)) {
        return Value::List(comma_separated(text, at));
    }
    Value::Text(Text { content: text.clone(), at: at.clone(), constants: Vec::new(), verbatim: Some(0), broken: false })
}

fn parsed(text: &str, at: &At, problems: &mut Problems) -> Value {
    match DeValue::parse(text) {
        Ok(value) => node(&value, at.source, text).value,
        Err(error) => {
            invalid(&error, at.source, problems);
            Value::List(Vec::new())
        }
    }
}

fn comma_separated(text: &str, at: &At) -> Vec<Node> {
    let mut start = 0;
    let mut list = Vec::new();
    for piece in text.split(',') {
        let trimmed = piece.trim();
        let from = start + (piece.len() - piece.trim_start().len());
        let at = At { source: at.source, span: from..from + trimmed.len() };
        start += piece.len() + 1;
        if !trimmed.is_empty() {
            let text = Text { content: trimmed.to_owned(), at: at.clone(), constants: Vec::new(), verbatim: Some(from), broken: false };
            list.push(Node { at, value: Value::Text(text) });
        }
    }
    list
}
