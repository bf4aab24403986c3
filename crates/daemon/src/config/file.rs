//! The configuration file: TOML in, settings with their places out.
//!
//! The router's sections are passed over here; the router reads the same text.

use std::collections::BTreeMap;
use std::ops::Range;

use figment::value::{Dict, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use unstale_router::Problem;

use super::known::{Found, Keys};
use super::layers::{Layers, Origin, bad_value, names_a_section, unknown_key};
use super::secret;

/// A file, read and ready for messages.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// The name as it was given.
    pub(super) name: String,
    /// The text with every secret masked. Positions are those of the file; the router's sections are untouched.
    pub(super) text: String,
    /// Whether it is TOML at all.
    pub(super) intact: bool,
    /// Where the values of the router's sections stand, by their dotted path.
    places: BTreeMap<String, Range<usize>>,
}

impl File {
    /// Reads a text and adds its settings and its mistakes to the layers.
    pub(super) fn read(name: &str, text: &str, keys: &Keys, layers: &mut Layers) -> Self {
        let (table, errors) = DeTable::parse_recoverable(text);
        let mut file = Self { name: name.to_owned(), text: text.to_owned(), intact: errors.is_empty(), places: BTreeMap::new() };
        if !file.intact {
            file.text = secret::mask_lines(text);
            layers.problems.extend(errors.iter().map(|error| syntax_error(name, error)));
            return file;
        }
        let mut walk = Walk { source: text, keys, layers, file: &mut file, path: Vec::new() };
        walk.table(table.get_ref());
        file
    }

    /// Where the value of a dotted path stands, as an origin for messages.
    pub(super) fn place(&self, path: &str) -> Option<Origin> {
        self.places.get(path).map(|span| self.origin(span.clone()))
    }

    /// The text of a value, with its place.
    pub(super) fn text_at(&self, path: &str) -> Option<(&str, Origin)> {
        self.places.get(path).map(|span| (&self.text[span.clone()], self.origin(span.clone())))
    }

    /// Where a setting of a cache stands: under `cache` or under a preset's `cache`.
    pub(super) fn place_ending_with(&self, path: &str) -> Option<Origin> {
        let of_preset = || self.places.iter().find(|(known, _)| known.starts_with("preset.") && known.ends_with(&format!(".{path}")));
        self.place(path).or_else(|| of_preset().map(|(_, span)| self.origin(span.clone())))
    }

    fn origin(&self, span: Range<usize>) -> Origin {
        let line = 1 + self.text[..span.start].matches('\n').count();
        Origin::File { name: self.name.clone(), span, line }
    }
}

fn syntax_error(name: &str, error: &toml::de::Error) -> Problem {
    Problem { source: name.to_owned(), span: error.span(), message: format!("not TOML: {}", error.message()), help: None }
}

/// The way through the file.
struct Walk<'a> {
    source: &'a str,
    keys: &'a Keys,
    layers: &'a mut Layers,
    file: &'a mut File,
    path: Vec<String>,
}

impl Walk<'_> {
    fn table(&mut self, table: &DeTable<'_>) {
        let mut entries = table.iter().collect::<Vec<_>>();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            self.path.push(key.get_ref().to_string());
            self.entry(key.span(), value);
            self.path.pop();
        }
    }

    fn entry(&mut self, key: Range<usize>, value: &Spanned<DeValue<'_>>) {
        let origin = self.file.origin(value.span());
        match (self.keys.find(&self.path, |a, b| a == b), value.get_ref()) {
            (Found::Router(_), _) => self.remember(value),
            (Found::Section(_), DeValue::Table(inner)) => self.table(inner),
            (Found::Section(section), _) => {
                self.hide(value);
                let meant = self.keys.nearest(&self.path, self.path.len().saturating_sub(1)).filter(|meant| *meant != section);
                let mut problem = names_a_section(self.keys, &section, &self.file.origin(key));
                problem.help = meant.map(|meant| format!("did you mean `{}`?", meant.join("."))).or(problem.help);
                self.layers.problems.push(problem);
            }
            (Found::Setting(path, _), DeValue::Table(_)) => {
                self.hide(value);
                self.layers.problems.push(bad_value(&origin, &path, "a table", "a single value"));
            }
            (Found::Setting(path, _), leaf) => {
                self.hide_secrets(value);
                self.layers.settings.push(super::layers::Setting { path, value: plain(leaf), origin });
            }
            (Found::Unknown(right), _) => {
                self.hide(value);
                self.layers.problems.push(unknown_key(self.keys, &self.path, right, &self.file.origin(key)));
            }
        }
    }

    /// Notes where values of the router's sections stand; what they mean is the router's matter.
    fn remember(&mut self, value: &Spanned<DeValue<'_>>) {
        self.file.places.insert(self.path.join("."), value.span());
        if let DeValue::Table(inner) = value.get_ref() {
            for (key, value) in inner {
                self.path.push(key.get_ref().to_string());
                self.remember(value);
                self.path.pop();
            }
        }
    }

    /// Masks the secret parts of a setting that exists.
    fn hide_secrets(&mut self, value: &Spanned<DeValue<'_>>) {
        let name = self.path.last().map(String::as_str).unwrap_or_default();
        if secret::is_secret(name) {
            return self.hide(value);
        }
        let text = &self.source[value.span()];
        if let Some(inside) = secret::userinfo(text) {
            let start = value.span().start;
            secret::mask(&mut self.file.text, start + inside.start..start + inside.end);
        }
    }

    /// Masks the whole value: of a key that doesn't exist nobody knows how secret it is.
    fn hide(&mut self, value: &Spanned<DeValue<'_>>) {
        match value.get_ref() {
            DeValue::Table(inner) => inner.values().for_each(|value| self.hide(value)),
            DeValue::Array(items) => items.iter().for_each(|value| self.hide(value)),
            DeValue::Boolean(_) => {}
            _ => secret::mask_value(&mut self.file.text, value.span()),
        }
    }
}

/// The value as figment has it.
fn plain(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => integer(number),
        DeValue::Float(number) => {
            number.as_str().replace('_', "").parse::<f64>().map_or_else(|_| Value::from(number.as_str()), Value::from)
        }
        DeValue::Boolean(value) => Value::from(*value),
        DeValue::Datetime(time) => Value::from(time.to_string()),
        DeValue::Array(items) => Value::from(items.iter().map(|item| plain(item.get_ref())).collect::<Vec<_>>()),
        DeValue::Table(table) => {
            Value::from(table.iter().map(|(key, value)| (key.get_ref().to_string(), plain(value.get_ref()))).collect::<Dict>())
        }
    }
}

fn integer(number: &toml::de::DeInteger<'_>) -> Value {
    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).map_or_else(|_| Value::from(number.as_str()), Value::from)
}
