//! `config show`: every value that is in force, where it came from, and no secret.

use std::fmt;

use figment::Provider;
use figment::providers::Serialized;
use figment::value::{Dict, Value};
use serde::Serialize;

use super::{Loaded, human, secret};

/// One value in force.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// The key, as in the file.
    pub key: String,
    /// The value; null if there is none.
    pub value: serde_json::Value,
    /// Where it came from.
    pub origin: String,
}

/// A configuration made presentable.
#[derive(Debug, Clone, Serialize)]
pub struct Shown {
    /// Settings and caches.
    pub settings: Vec<Line>,
    /// How many rules the routes come to.
    pub rules: usize,
    /// What identifies the routes; the same as in the metric `unstale_build_info`.
    pub routes: String,
}

impl Shown {
    /// The values of a configuration.
    pub fn of(loaded: &Loaded) -> Self {
        let mut settings = Vec::new();
        flatten(&tree(loaded), "", &mut |key, value| {
            let origin = loaded.settings.iter().rev().find(|setting| setting.key() == key);
            let origin = origin.map_or_else(|| "default".to_owned(), |setting| setting.origin.to_string());
            settings.push(Line { value: json(&key, value), key, origin });
        });
        settings.extend(presets(loaded));
        settings.extend(caches(loaded));
        Self { settings, rules: loaded.router.rules(), routes: loaded.router.fingerprint().to_owned() }
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Line { key, value, origin } in &self.settings {
            let text = if value.is_null() { format!("# {key} is not set") } else { format!("{key} = {value}") };
            writeln!(f, "{text:<60} # {origin}")?;
        }
        writeln!(f, "# {} rules, fingerprint {}", self.rules, self.routes)
    }
}

fn tree(loaded: &Loaded) -> Dict {
    let profiles = Serialized::defaults(&loaded.config).data().unwrap_or_default();
    profiles.into_values().next().unwrap_or_default()
}

fn flatten(table: &Dict, above: &str, show: &mut impl FnMut(String, &Value)) {
    for (name, value) in table {
        let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        match value {
            Value::Dict(_, inner) => flatten(inner, &key, show),
            leaf => show(key, leaf),
        }
    }
}

fn json(key: &str, value: &Value) -> serde_json::Value {
    let name = key.rsplit('.').next().unwrap_or(key);
    match value {
        Value::String(_, _) if secret::is_secret(name) => "***".into(),
        Value::String(_, text) => secret::hide_userinfo(text).into(),
        Value::Empty(..) => serde_json::Value::Null,
        other => serde_json::to_value(other).unwrap_or_default(),
    }
}

/// Where presets are named: in the file or instead of that in the environment, and by flags beside.
fn presets(loaded: &Loaded) -> Vec<Line> {
    let line = |value: &str, origin: String| Line { key: "presets".to_owned(), value: value.into(), origin };
    let over = loaded.overrides.iter().rev().find(|over| over.path == ["presets"]);
    let in_file = || loaded.file.as_ref().and_then(|file| file.text_at("presets")).map(|(text, origin)| line(text, origin.to_string()));
    let named = over.map(|over| line(&over.value, over.origin.clone())).or_else(in_file);
    let flags = loaded.presets.iter().map(|(name, origin)| line(name, origin.clone()));
    named.into_iter().chain(flags).collect()
}

/// The caches as the routes have them, whoever declared them.
fn caches(loaded: &Loaded) -> Vec<Line> {
    let mut lines = Vec::new();
    for (_, cache) in loaded.router.caches().iter() {
        let store = if cache.store == unstale_router::Store::Local { "local" } else { "redis" };
        let values: [(&str, serde_json::Value); 4] = [
            ("prefixes", cache.prefixes.clone().into()),
            ("redis", cache.redis.as_str().into()),
            ("store", store.into()),
            ("second_delete", human::format_duration(cache.second_delete).into()),
        ];
        for (name, value) in values {
            let key = format!("cache.{}.{name}", cache.name);
            let origin = origin_of_route_setting(loaded, &key);
            lines.push(Line { key, value, origin });
        }
    }
    lines
}

fn origin_of_route_setting(loaded: &Loaded, key: &str) -> String {
    let same = |path: &[String]| unstale_events::names::same_name(&path.join("."), key);
    if let Some(over) = loaded.overrides.iter().rev().find(|over| same(&over.path)) {
        return over.origin.clone();
    }
    let place = loaded.file.as_ref().and_then(|file| file.place_ending_with(key));
    place.map_or_else(|| "preset or default".to_owned(), |origin| origin.to_string())
}
