//! Which keys there are: a walk over the default configuration, so that no second list can fall behind.
//!
//! Knows names, not values.

use figment::value::{Dict, Value};
use figment::{Provider, providers::Serialized};
use unstale_events::names::same_name;
use unstale_router::{KEYS as ROUTER_KEYS, suggest};

use super::settings::Config;

/// The keys, each with its default.
pub(super) struct Keys(Dict);

/// What a path names.
pub(super) enum Found<'a> {
    /// A setting: its path as it is written in the file, and its default, which tells its type.
    Setting(Vec<String>, &'a Value),
    /// A table of settings.
    Section(Vec<String>),
    /// Something that the router reads.
    Router(Vec<String>),
    /// Nothing. The number is how many segments were right.
    Unknown(usize),
}

impl Keys {
    /// All keys.
    pub(super) fn new() -> Self {
        let defaults = Serialized::defaults(Config::default()).data().unwrap_or_default();
        Self(defaults.into_values().next().unwrap_or_default())
    }

    /// What a path names, its segments compared by `same`.
    pub(super) fn find(&self, path: &[String], same: fn(&str, &str) -> bool) -> Found<'_> {
        if let Some(key) = path.first().and_then(|first| ROUTER_KEYS.into_iter().find(|key| same(key, first))) {
            return Found::Router([&[key.to_owned()], &path[1..]].concat());
        }
        let mut names = Vec::new();
        let mut table = &self.0;
        for (depth, segment) in path.iter().enumerate() {
            let Some((name, value)) = child(table, &names, segment, same) else { return Found::Unknown(depth) };
            names.push(name);
            match value {
                Value::Dict(_, inner) => table = inner,
                leaf if depth + 1 == path.len() => return Found::Setting(names, leaf),
                _ => return Found::Unknown(depth + 1),
            }
        }
        Found::Section(names)
    }

    /// The key that was probably meant by one that isn't known after `right` segments.
    pub(super) fn nearest(&self, path: &[String], right: usize) -> Option<Vec<String>> {
        let table = self.table(&path[..right])?;
        let typed = path.get(right)?;
        let siblings = table.keys().map(String::as_str).chain(ROUTER_KEYS.into_iter().filter(|_| right == 0));
        let sibling = suggest(typed, siblings).map(|name| [&path[..right], &[name.to_owned()], &path[right + 1..]].concat());
        let sibling = sibling.filter(|path| !matches!(self.find(path, same_name), Found::Unknown(_)));
        sibling.or_else(|| self.settings().into_iter().find(|known| known.last().zip(path.last()).is_some_and(|(a, b)| same_name(a, b))))
    }

    /// The keys of a section.
    pub(super) fn children(&self, section: &[String]) -> Vec<String> {
        self.table(section).map(|table| table.keys().cloned().collect()).unwrap_or_default()
    }

    fn table(&self, path: &[String]) -> Option<&Dict> {
        let mut table = &self.0;
        for depth in 0..path.len() {
            let (_, value) = child(table, &path[..depth], &path[depth], |a, b| a == b)?;
            table = value.as_dict()?;
        }
        Some(table)
    }

    /// The paths of all settings.
    fn settings(&self) -> Vec<Vec<String>> {
        let mut paths = Vec::new();
        leaves(&self.0, &mut Vec::new(), &mut paths);
        paths
    }
}

/// The entry of a table by its name. Servers have names of the user's own: any name has what `main` has.
fn child<'a>(table: &'a Dict, above: &[String], name: &str, same: fn(&str, &str) -> bool) -> Option<(String, &'a Value)> {
    let known = table.iter().find(|(key, _)| same(key, name)).map(|(key, value)| (key.clone(), value));
    let is_server = above.len() == 1 && above[0] == "redis";
    known.or_else(|| if is_server { table.get("main").map(|main| (name.to_owned(), main)) } else { None })
}

fn leaves(table: &Dict, above: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
    for (name, value) in table {
        above.push(name.clone());
        match value {
            Value::Dict(_, inner) => leaves(inner, above, paths),
            _ => paths.push(above.clone()),
        }
        above.pop();
    }
}
