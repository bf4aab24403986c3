//! Reading `[cache.NAME]`, `protected` and `[[republish]]`.

use std::time::Duration;

use unstale_events::CacheId;

use crate::caches::{Cache, Caches, Store, own_prefix};
use crate::compile::Input;
use crate::document::{Key, Node, Table, Text};
use crate::pack::Pack;
use crate::problem::{At, Problems, did_you_mean};

/// How existing subscribers of a channel are served after each delivery, with exact keys only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Republish {
    /// The cache whose deleted keys are published.
    pub cache: CacheId,
    /// The channel.
    pub channel: String,
    /// What a message is.
    pub format: Format,
    /// Taken off the beginning of each key.
    pub strip: String,
}

/// What a republished message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Format {
    /// One JSON object for each delivery.
    Json {
        /// The name of the field with the array of keys.
        keys: String,
        /// The name of the field with the time (ISO 8601, UTC), if there is to be one.
        time: Option<String>,
    },
    /// One message for each key: the key alone.
    Key,
    /// What the Redis bus of Bentocache (Node) expects, so that its processes drop the keys: one message for each delivery.
    Bentocache,
    /// What `FusionCache`'s (.NET) backplane expects, wire format v2: one message for each key.
    FusionCache,
}

impl Format {
    /// The names of all formats.
    pub const NAMES: [&str; 4] = ["json", "key", "bentocache", "fusioncache"];
}

/// The caches of all packs, and the prefixes that nothing may delete.
#[derive(Default)]
pub(crate) struct Declared {
    pub(crate) caches: Vec<Cache>,
    pub(crate) protected: Vec<String>,
    /// The names of caches whose declaration has mistakes: what lies in them can't be judged.
    pub(crate) broken: Vec<String>,
    /// In which source each cache is declared.
    places: Vec<String>,
}

pub(crate) fn declare(packs: &mut [Pack], input: &Input, problems: &mut Problems) -> Declared {
    let mut declared = Declared::default();
    for pack in packs {
        let protected =
            pack.table.take("protected").map(|node| node.texts("protected", "protected = [\"conduit:cache:stats:\"]", problems));
        declared.protected.extend(protected.unwrap_or_default().iter().filter_map(|text| prefix(text, "a protected prefix", problems)));
        for (key, node) in pack.table.take_table("cache", "[cache.product]", problems).entries {
            declared.cache(pack.preset, &key, node, input, problems);
        }
    }
    declared
}

const CACHE_KEYS: [&str; 4] = ["prefixes", "redis", "store", "second_delete"];

impl Declared {
    /// A cache with mistakes is declared nevertheless, so that routes to it are not reported too.
    fn cache(&mut self, preset: Option<&str>, key: &Key, node: Node, input: &Input, problems: &mut Problems) {
        let name = key.name.as_str();
        let example = format!("[cache.{name}]");
        let Some(mut table) = node.table(name, &example, problems) else { return };
        let before = problems.len();
        self.check_name(key, problems);
        let prefixes = self.prefixes(key, &mut table, input, problems);
        let cache = Cache {
            name: name.to_owned(),
            prefixes,
            redis: redis(&mut table, input, problems),
            store: store(&mut table, problems),
            second_delete: second_delete(&mut table, problems),
        };
        let place = preset.map_or(format!("`{example}`"), |preset| format!("`[preset.{preset}.cache.{name}]`"));
        table.refuse_rest(&place, &CACHE_KEYS, problems);
        if problems.len() > before || cache.prefixes.is_empty() {
            self.broken.push(cache.name.clone());
        }
        self.places.push(problems.source_name(&key.at).to_owned());
        self.caches.push(cache);
    }

    fn check_name(&self, key: &Key, problems: &mut Problems) {
        let name = key.name.as_str();
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c)) {
            problems.report(&key.at, format!("`{name}` can't be a cache's name"), "use letters, digits, `_`, `-` and `.`");
        }
        if let Some(first) = self.caches.iter().position(|cache| cache.name == name) {
            let help =
                format!("name this one otherwise; single settings of a preset's cache are changed under `[preset.NAME.cache.{name}]`");
            problems.report(&key.at, format!("cache `{name}` is declared twice, first in {}", self.places[first]), help);
        }
        if self.caches.len() >= usize::from(u16::MAX) {
            problems.report(&key.at, "too many caches", format!("at most {} can be declared", u16::MAX));
        }
    }

    fn prefixes(&self, key: &Key, table: &mut Table, input: &Input, problems: &mut Problems) -> Vec<String> {
        let name = key.name.as_str();
        let example = format!("prefixes = [\"{name}:\"]");
        let missing = format!("cache `{name}` owns no key prefix");
        let Some(node) = table.require("prefixes", &missing, &example, &key.at, problems) else { return Vec::new() };
        if node.is_empty_list() {
            problems.report(&node.at, missing, format!("write `{example}`"));
        }
        let mut prefixes = Vec::new();
        for text in node.texts("prefixes", &example, problems) {
            let Some(prefix) = prefix(&text, "a cache's prefix", problems) else { continue };
            self.check_prefix(name, &prefix, &text, input, problems);
            if !prefixes.contains(&prefix) {
                prefixes.push(prefix);
            }
        }
        prefixes
    }

    fn check_prefix(&self, name: &str, prefix: &str, text: &Text, input: &Input, problems: &mut Problems) {
        if prefix.starts_with(&own_prefix(&input.namespace)) || input.own_keys.iter().any(|own| own == prefix) {
            let help = format!("choose another `namespace` for the sidecar's own keys, or another prefix for the cache{}", text.note());
            problems.report(&text.at, format!("`{prefix}` lies among this sidecar's own keys (namespace `{}`)", input.namespace), help);
        }
        if let Some(other) = self.caches.iter().find(|cache| cache.name != name && cache.prefixes.iter().any(|taken| taken == prefix)) {
            let help = format!("a prefix has one owner; prefixes may nest, then the longest owns the key{}", text.note());
            problems.report(&text.at, format!("prefix `{prefix}` is declared by cache `{}` too", other.name), help);
        }
    }
}

/// A literal prefix. A `*` at its end says the same and is taken off; anywhere else a glob was meant, which a prefix is not.
fn prefix(text: &Text, what: &str, problems: &mut Problems) -> Option<String> {
    if text.broken {
        return None;
    }
    let prefix = text.content.strip_suffix('*').unwrap_or(&text.content);
    if prefix.is_empty() {
        problems.report(
            &text.at,
            format!("{what} is empty: every key would begin with it"),
            format!("write the beginning of the keys, such as `product:`{}", text.note()),
        );
        return None;
    }
    if prefix.contains('*') {
        let literal = prefix.split('*').next().unwrap_or_default();
        problems.report(&text.at, format!("{what} is text, not a glob"), format!("write the beginning alone: `{literal}`"));
        return None;
    }
    Some(prefix.to_owned())
}

fn redis(table: &mut Table, input: &Input, problems: &mut Problems) -> String {
    let Some(text) = table.take("redis").and_then(|node| node.text("redis", "redis = \"main\"", problems)) else {
        return "main".to_owned();
    };
    if text.content != "main" && !text.broken && !input.servers.contains(&text.content) {
        let mut known: Vec<_> = input.servers.iter().map(String::as_str).filter(|name| *name != "main").collect();
        known.insert(0, "main");
        problems.report(&text.at, format!("no server `[redis.{}]`", text.content), did_you_mean(&text.content, &known));
    }
    text.content
}

fn store(table: &mut Table, problems: &mut Problems) -> Store {
    let Some(text) = table.take("store").and_then(|node| node.text("store", "store = \"local\"", problems)) else { return Store::Redis };
    match text.content.as_str() {
        "redis" => Store::Redis,
        "local" => Store::Local,
        other => {
            problems.report(&text.at, format!("unknown store `{other}`"), did_you_mean(other, &["redis", "local"]));
            Store::Redis
        }
    }
}

fn second_delete(table: &mut Table, problems: &mut Problems) -> Duration {
    let example = "second_delete = \"500ms\"";
    let Some(text) = table.take("second_delete").and_then(|node| node.text("second_delete", example, problems)) else {
        return Duration::ZERO;
    };
    humantime::parse_duration(&text.content).unwrap_or_else(|error| {
        problems.report(
            &text.at,
            format!("`{}` is no duration: {error}", text.content),
            "write a number with its unit: `500ms`, `1s`, `0s` for off",
        );
        Duration::ZERO
    })
}

const REPUBLISH_KEYS: [&str; 5] = ["cache", "channel", "format", "fields", "strip"];

pub(crate) fn republish(packs: &mut [Pack], caches: &Caches, namespace: &str, problems: &mut Problems) -> Vec<Republish> {
    let mut all = Vec::new();
    for pack in packs {
        let Some(node) = pack.table.take("republish") else { continue };
        let list = node.list("republish", "a list of tables", "[[republish]]", problems).unwrap_or_default();
        all.extend(list.into_iter().filter_map(|node| one_republish(node, caches, namespace, problems)));
    }
    all
}

fn one_republish(node: Node, caches: &Caches, namespace: &str, problems: &mut Problems) -> Option<Republish> {
    let at = node.at.clone();
    let mut table = node.table("republish", "[[republish]]", problems)?;
    let example = "cache = \"product\"";
    let cache = table.require("cache", "`[[republish]]` names no cache", example, &at, problems);
    let cache = cache.and_then(|node| node.text("cache", example, problems)).and_then(|text| known_cache(&text, caches, problems));
    let channel = channel(&mut table, &at, namespace, problems);
    let format = format(&mut table, problems);
    let strip = table.take("strip").and_then(|node| node.text("strip", "strip = \"product:\"", problems));
    table.refuse_rest("`[[republish]]`", &REPUBLISH_KEYS, problems);
    Some(Republish { cache: cache?, channel: channel?, format, strip: strip.map(|text| text.content).unwrap_or_default() })
}

/// The cache that a text names, or a problem.
pub(crate) fn known_cache(text: &Text, caches: &Caches, problems: &mut Problems) -> Option<CacheId> {
    let found = caches.by_name(&text.content);
    if found.is_none() && !text.broken {
        let known: Vec<_> = caches.iter().map(|(_, cache)| cache.name.as_str()).collect();
        problems.report(&text.at, format!("unknown cache `{}`", text.content), did_you_mean(&text.content, &known));
    }
    found
}

fn channel(table: &mut Table, at: &At, namespace: &str, problems: &mut Problems) -> Option<String> {
    let example = "channel = \"product_invalidated\"";
    let node = table.require("channel", "`[[republish]]` names no channel", example, at, problems)?;
    let text = node.text("channel", example, problems)?;
    if text.content.is_empty() {
        problems.report(&text.at, "the channel's name is empty", "write the channel that the subscribers listen to");
    }
    if text.content.starts_with(&own_prefix(namespace)) {
        let help = "name a channel outside the namespace: what is published there are notices";
        problems.report(&text.at, format!("channel `{}` is this sidecar's own", text.content), help);
    }
    Some(text.content)
}

fn format(table: &mut Table, problems: &mut Problems) -> Format {
    let format = table.take("format").and_then(|node| node.text("format", "format = \"json\"", problems));
    let fields = table.take("fields");
    let Some(format) = format.filter(|text| text.content != "json") else { return json(fields, problems) };
    let name = format.content.as_str();
    if let Some(node) = fields.filter(|_| Format::NAMES.contains(&name)) {
        let help = "leave `fields` out, or write `format = \"json\"`";
        problems.report(&node.at, format!("`fields` with format `{name}`: only the messages of `json` have fields to name"), help);
    }
    match name {
        "key" => Format::Key,
        "bentocache" => Format::Bentocache,
        "fusioncache" => Format::FusionCache,
        other => {
            problems.report(&format.at, format!("unknown format `{other}`"), did_you_mean(other, &Format::NAMES));
            Format::Key
        }
    }
}

/// Without `fields` both fields have their plain names; with it, those that it names are written.
fn json(fields: Option<Node>, problems: &mut Problems) -> Format {
    let example = "fields = { keys = \"KeyHashes\", time = \"Timestamp\" }";
    let Some(node) = fields else { return Format::Json { keys: "keys".to_owned(), time: Some("time".to_owned()) } };
    let mut table = node.table("fields", example, problems).unwrap_or_default();
    let mut name = |field: &str, problems: &mut Problems| {
        table.take(field).and_then(|node| node.text(field, example, problems)).map(|text| text.content)
    };
    let keys = name("keys", problems).unwrap_or_else(|| "keys".to_owned());
    let time = name("time", problems);
    table.refuse_rest("`fields`", &["keys", "time"], problems);
    Format::Json { keys, time }
}
