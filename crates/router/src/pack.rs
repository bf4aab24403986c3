//! Packs: the file and the presets that it names, each with its constants put in and its settings applied; not yet understood.

use crate::document::{Key, Node, Override, Table, Text, Value, Vars, load};
use crate::presets;
use crate::problem::{At, Problems, Source, did_you_mean};

/// The top-level names of a configuration file that are the router's; all others are somebody else's.
pub const KEYS: [&str; 7] = ["presets", "preset", "vars", "protected", "cache", "route", "republish"];

/// One text that declares caches and routes.
pub(crate) struct Pack {
    /// Whether it is a preset, by name, or the file.
    pub(crate) preset: Option<&'static str>,
    pub(crate) table: Table,
    /// Events taken out of its routes.
    pub(crate) without: Vec<Text>,
}

/// A preset that is asked for, and where.
struct Wanted {
    preset: presets::Preset,
    at: At,
}

/// The presets that are asked for, then the file.
///
/// `None` if the file can't be read.
pub(crate) fn packs(
    file: Option<&Source>,
    extra: &[(String, String)],
    overrides: &[Override],
    problems: &mut Problems,
) -> Option<Vec<Pack>> {
    let mut own = match file {
        Some(source) => load(source.clone(), problems)?,
        None => Table::default(),
    };
    own.entries.retain(|(key, _)| KEYS.contains(&key.name.as_str()));
    for setting in overrides {
        own.set(setting, problems);
    }
    let vars = take_vars(&mut own, problems);
    own.expand(&vars, problems);
    let wanted = wanted(&mut own, extra, problems);
    let mut settings = own.take_table("preset", "[preset.llm-gateway]", problems);
    let mut packs: Vec<_> = wanted.iter().map(|wanted| preset_pack(wanted.preset, &mut settings, problems)).collect();
    refuse_unused(&settings, &wanted, problems);
    packs.push(Pack { preset: None, table: own, without: Vec::new() });
    Some(packs)
}

fn take_vars(table: &mut Table, problems: &mut Problems) -> Vars {
    let vars = table.take_table("vars", "vars = { name = \"text\" }", problems);
    vars.entries.into_iter().filter_map(|(key, node)| variable(&key, node, problems)).collect()
}

fn variable(key: &Key, node: Node, problems: &mut Problems) -> Option<(String, String)> {
    let text = node.text(&key.name, &format!("{} = \"text\"", key.name), problems)?;
    if text.content.contains("${") {
        problems.report(&text.at, format!("variable `{}` uses another variable", key.name), "write the text out: variables are constants");
    }
    Some((key.name.clone(), text.content))
}

/// The presets of the file, then those asked for elsewhere, each once.
fn wanted(own: &mut Table, extra: &[(String, String)], problems: &mut Problems) -> Vec<Wanted> {
    let listed = own.take("presets").map(|node| node.texts("presets", "presets = [\"llm-gateway\"]", problems)).unwrap_or_default();
    let mut asked: Vec<_> = listed.into_iter().filter(|text| !text.broken).map(|text| (text.content, text.at)).collect();
    for (name, origin) in extra {
        let source = problems.source(Source { name: origin.clone(), text: name.clone() });
        asked.push((name.clone(), At { source, span: 0..name.len() }));
    }
    let mut wanted: Vec<Wanted> = Vec::new();
    for (name, at) in asked {
        match presets::ALL.into_iter().find(|preset| preset.name == name) {
            Some(preset) if wanted.iter().any(|other| other.preset.name == preset.name) => {}
            Some(preset) => wanted.push(Wanted { preset, at }),
            None => unknown_preset(&name, &at, problems),
        }
    }
    wanted
}

fn unknown_preset(name: &str, at: &At, problems: &mut Problems) {
    let known: Vec<_> = presets::presets_available().collect();
    problems.report(at, format!("unknown preset `{name}`"), did_you_mean(name, &known));
}

/// Settings of presets that are not in use would silently do nothing.
fn refuse_unused(settings: &Table, wanted: &[Wanted], problems: &mut Problems) {
    for (key, _) in &settings.entries {
        let known = presets::presets_available().find(|name| key.means(name));
        match known {
            None => unknown_preset(&key.name, &key.at, problems),
            Some(name) => {
                let used: Vec<_> =
                    wanted.iter().map(|wanted| format!("`{}` ({})", wanted.preset.name, problems.source_name(&wanted.at))).collect();
                let used = if used.is_empty() { "none is".to_owned() } else { format!("in use: {}", used.join(", ")) };
                let help = format!("add it: presets = [\"{name}\"]; {used}");
                problems.report(&key.at, format!("settings for preset `{name}`, which is not in use"), help);
            }
        }
    }
}

fn preset_pack(preset: presets::Preset, settings: &mut Table, problems: &mut Problems) -> Pack {
    let source = Source { name: format!("preset {}", preset.name), text: preset.text.to_owned() };
    let mut table = load(source, problems).unwrap_or_default();
    let mut settings = settings.take_table(preset.name, &format!("[preset.{}]", preset.name), problems);
    let vars = set_vars(take_vars(&mut table, problems), &mut settings, preset.name, problems);
    table.expand(&vars, problems);
    set_caches(&mut table, &mut settings, preset.name, problems);
    let without =
        settings.take("without").map(|node| node.texts("without", "without = [\"AsyncTaskUpdated\"]", problems)).unwrap_or_default();
    settings.refuse_rest(&format!("`[preset.{}]`", preset.name), &["vars", "without", "cache"], problems);
    Pack { preset: Some(preset.name), table, without }
}

fn set_vars(mut vars: Vars, settings: &mut Table, preset: &str, problems: &mut Problems) -> Vars {
    for (key, node) in settings.take_table("vars", "vars = { name = \"text\" }", problems).entries {
        let Some(slot) = vars.iter().position(|(name, _)| key.means(name)) else {
            let known: Vec<_> = vars.iter().map(|(name, _)| name.as_str()).collect();
            problems.report(&key.at, format!("preset `{preset}` has no variable `{}`", key.name), did_you_mean(&key.name, &known));
            continue;
        };
        if let Some((_, value)) = variable(&key, node, problems) {
            vars[slot].1 = value;
        }
    }
    vars
}

/// Puts single settings of `[preset.NAME.cache.CACHE]` over those of the preset's caches.
fn set_caches(table: &mut Table, settings: &mut Table, preset: &str, problems: &mut Problems) {
    let overriding = settings.take_table("cache", &format!("[preset.{preset}.cache.NAME]"), problems);
    let Some((_, Node { value: Value::Table(caches), .. })) = table.entries.iter_mut().find(|(key, _)| key.means("cache")) else { return };
    for (key, node) in overriding.entries {
        let Some(found) = caches.entries.iter().position(|(name, _)| key.means(&name.name)) else {
            let known: Vec<_> = caches.entries.iter().map(|(name, _)| name.name.as_str()).collect();
            problems.report(&key.at, format!("preset `{preset}` has no cache `{}`", key.name), did_you_mean(&key.name, &known));
            continue;
        };
        let set = node.table(&key.name, &format!("[preset.{preset}.cache.{}]", key.name), problems).unwrap_or_default();
        if let Value::Table(cache) = &mut caches.entries[found].1.value {
            cache.replace(set);
        }
    }
}
