//! From configuration texts to a [`Router`], or to all the mistakes in them.

use std::sync::Arc;

use unstale_events::{CacheId, Glob, Priority, TargetKind, glob};

use crate::attribute::Path;
use crate::caches::{Caches, Refusal, Store};
use crate::canary;
use crate::declare::{self, known_cache};
use crate::document::{Key, Node, Override, Table, Text, Value};
use crate::pack::{Pack, packs};
use crate::problem::{At, Problems, Source, did_you_mean, listed};
use crate::router::{Bounds, Router, Rule, Target};
use crate::template::Template;
use crate::when::{Condition, Test, Wanted};

/// What a router is made of.
#[derive(Debug, Clone)]
pub struct Input {
    /// The configuration file; only the top-level names in [`crate::KEYS`] are looked at.
    pub file: Option<Source>,
    /// Presets beside those that the file names, each with where it was asked for (`--preset`).
    pub presets: Vec<(String, String)>,
    /// Single settings that replace the file's.
    pub overrides: Vec<Override>,
    /// What the sidecar's own names begin with, without the colon.
    pub namespace: String,
    /// The sidecar's own keys, as far as they don't lie under the namespace.
    pub own_keys: Vec<String>,
    /// The servers that are configured; `main` always is.
    pub servers: Vec<String>,
    /// How many keys and patterns an event may have.
    pub max_targets: usize,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            file: None,
            presets: Vec::new(),
            overrides: Vec::new(),
            namespace: "unstale".to_owned(),
            own_keys: Vec::new(),
            servers: Vec::new(),
            max_targets: 10_000,
        }
    }
}

/// Compiles routes.
///
/// # Errors
/// All the mistakes, at once.
pub fn compile(input: &Input) -> Result<Router, Problems> {
    let mut problems = Problems::new();
    let Some(mut packs) = packs(input.file.as_ref(), &input.presets, &input.overrides, &mut problems) else { return Err(problems) };
    let declared = declare::declare(&mut packs, input, &mut problems);
    let mut caches = Caches::new(declared.caches, &declared.protected, &input.namespace, &input.own_keys);
    let drafts = drafts(&mut packs, &caches, &mut problems);
    let republish = declare::republish(&mut packs, &caches, &input.namespace, &mut problems);
    for pack in &packs {
        pack.table.refuse_rest("a preset", &["vars", "protected", "cache", "route", "republish"], &mut problems);
    }
    drafts.iter().flat_map(|draft| &draft.rule.bumps).for_each(|(_, key)| caches.add_counter(key));
    for draft in &drafts {
        draft.check(&caches, &declared.broken, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let rules = drafts.into_iter().map(|draft| draft.rule).collect();
    Ok(Router::new(Arc::new(caches), rules, republish, &declared.protected, Bounds::new(input.max_targets)))
}

/// A rule, and where its targets stand.
struct Draft {
    rule: Rule,
    targets: Vec<Text>,
    bumps: Vec<Text>,
}

fn drafts(packs: &mut [Pack], caches: &Caches, problems: &mut Problems) -> Vec<Draft> {
    let mut all = Vec::new();
    for pack in packs {
        let Some(node) = pack.table.take("route") else { continue };
        let routes = node.list("route", "a list of tables", "[[route]]", problems).unwrap_or_default();
        let mut without = Without::new(pack);
        all.extend(routes.into_iter().filter_map(|route| draft(route, &mut without, caches, problems)));
        without.refuse_unmatched(problems);
    }
    all
}

/// The events that are taken out of a pack's routes.
struct Without<'p> {
    events: Vec<(&'p Text, bool)>,
    preset: &'p str,
    seen: Vec<String>,
}

impl<'p> Without<'p> {
    fn new(pack: &'p Pack) -> Self {
        let events = pack.without.iter().map(|text| (text, false)).collect();
        Self { events, preset: pack.preset.unwrap_or_default(), seen: Vec::new() }
    }

    fn keeps(&mut self, event: &str) -> bool {
        if !self.seen.iter().any(|seen| seen == event) {
            self.seen.push(event.to_owned());
        }
        let mut keeps = true;
        for (_, matched) in self.events.iter_mut().filter(|(text, _)| text.content == event) {
            *matched = true;
            keeps = false;
        }
        keeps
    }

    fn refuse_unmatched(self, problems: &mut Problems) {
        let known: Vec<_> = self.seen.iter().map(String::as_str).collect();
        for (text, _) in self.events.iter().filter(|(text, matched)| !matched && !text.broken) {
            let message = format!("preset `{}` has no route for event `{}`", self.preset, text.content);
            problems.report(&text.at, message, did_you_mean(&text.content, &known));
        }
    }
}

const ROUTE_KEYS: [&str; 7] = ["event", "cache", "priority", "when", "keys", "patterns", "bump"];

/// Reads a route; `None` if it has no events left or is no table.
fn draft(node: Node, without: &mut Without<'_>, caches: &Caches, problems: &mut Problems) -> Option<Draft> {
    let at = node.at.clone();
    let mut table = node.table("route", "[[route]]", problems)?;
    let events = events(&mut table, &at, problems);
    let had_events = !events.is_empty();
    let events: Vec<_> = events.into_iter().filter(|event| without.keeps(event)).collect();
    let cache = table.take("cache").and_then(|node| node.text("cache", "cache = \"product\"", problems));
    let id = cache.as_ref().and_then(|text| known_cache(text, caches, problems));
    let mut draft = Draft {
        rule: Rule {
            events,
            priority: priority(&mut table, problems),
            when: when(&mut table, problems),
            targets: Vec::new(),
            bumps: Vec::new(),
        },
        targets: Vec::new(),
        bumps: Vec::new(),
    };
    let mut asked = 0;
    for (name, kind) in [("keys", TargetKind::Key), ("patterns", TargetKind::Pattern), ("bump", TargetKind::Bump)] {
        let example = format!("{name} = [\"product:…\"]");
        let texts = table.take(name).map(|node| node.texts(name, &example, problems)).unwrap_or_default();
        asked += texts.len();
        for text in texts {
            draft.target(kind, id, text, problems);
        }
    }
    if asked > 0 && cache.is_none() {
        let names: Vec<_> = caches.iter().map(|(_, cache)| cache.name.as_str()).collect();
        problems.report(&at, "a route with targets names no cache", format!("write `cache = \"NAME\"`; declared are {}", listed(&names)));
    }
    table.refuse_rest("`[[route]]`", &ROUTE_KEYS, problems);
    (!had_events || !draft.rule.events.is_empty()).then_some(draft)
}

impl Draft {
    fn target(&mut self, kind: TargetKind, cache: Option<CacheId>, text: Text, problems: &mut Problems) {
        let template = match Template::parse(&text, kind == TargetKind::Pattern) {
            Ok(template) => template,
            Err(mistakes) => {
                for mistake in mistakes {
                    problems.report(&text.part(mistake.range), mistake.message, mistake.help);
                }
                return;
            }
        };
        if kind == TargetKind::Bump && !template.is_literal() {
            return problems.report(&text.at, "a counter with a placeholder", "counters are literal: write the counter's key");
        }
        let Some(cache) = cache.filter(|_| !text.broken) else { return };
        if kind == TargetKind::Bump {
            self.rule.bumps.push((cache, template.stem().to_owned()));
            self.bumps.push(text);
        } else {
            self.rule.targets.push(Target { cache, kind, template });
            self.targets.push(text);
        }
    }

    /// Checks what can be known of the targets before any event: that they lie in their caches.
    fn check(&self, caches: &Caches, broken: &[String], problems: &mut Problems) {
        let sound = |cache: CacheId| !broken.contains(&caches.get(cache).name);
        for (target, text) in self.rule.targets.iter().zip(&self.targets).filter(|(target, _)| sound(target.cache)) {
            if let Err(refusal) = judge(target, caches) {
                let help = refusal_help(target.cache, refusal, caches) + &text.note();
                problems.report(&text.at, format!("`{}` {}", text.content, caches.explain(target.cache, refusal)), help);
            }
        }
        for ((cache, key), text) in self.rule.bumps.iter().zip(&self.bumps).filter(|((cache, _), _)| sound(*cache)) {
            if caches.get(*cache).store == Store::Local {
                let message = format!("a counter in cache `{}`, which has nothing in Redis", caches.get(*cache).name);
                problems.report(&text.at, message, "leave the counter out: the cache's store is `local`");
            } else if let Err(refusal) = caches.judge_counter(*cache, key.as_bytes()) {
                let help = refusal_help(*cache, refusal, caches) + &text.note();
                problems.report(&text.at, format!("`{}` {}", text.content, caches.explain(*cache, refusal)), help);
            }
        }
    }
}

/// A literal key is judged whole, anything else by the text before its first placeholder or wildcard.
fn judge(target: &Target, caches: &Caches) -> Result<(), Refusal> {
    let Target { cache, kind, template } = target;
    match kind {
        TargetKind::Pattern => caches.judge_pattern(*cache, template.stem()),
        _ if template.is_literal() => caches.judge(*cache, template.stem().as_bytes()),
        _ => caches.judge_stem(*cache, template.stem().as_bytes()),
    }
}

fn refusal_help(cache: CacheId, refusal: Refusal, caches: &Caches) -> String {
    let cache = caches.get(cache);
    let prefixes: Vec<_> = cache.prefixes.iter().map(String::as_str).collect();
    match refusal {
        Refusal::NoOwner => format!("begin it with {}, or declare its prefix in `[cache.{}]`", one_of(&prefixes), cache.name),
        Refusal::OtherCache(owner) => format!("write `cache = \"{}\"`", caches.get(owner).name),
        Refusal::Protected => "leave the target out, or narrow `protected`".to_owned(),
        Refusal::Own => "leave the target out, or choose another `namespace`".to_owned(),
        Refusal::Counter => "leave the target out, or take the counter out of `bump`".to_owned(),
    }
}

fn one_of(prefixes: &[&str]) -> String {
    prefixes.iter().map(|prefix| format!("`{prefix}`")).collect::<Vec<_>>().join(" or ")
}

fn events(table: &mut Table, at: &At, problems: &mut Problems) -> Vec<String> {
    let example = "event = \"ProductUpdated\"";
    let missing = "a route names no event";
    let Some(node) = table.require("event", missing, example, at, problems) else { return Vec::new() };
    if node.is_empty_list() {
        problems.report(&node.at, missing, format!("write `{example}`"));
    }
    let texts = match node.value {
        Value::Text(text) => vec![text],
        _ => node.texts("event", example, problems),
    };
    for text in texts.iter().filter(|text| text.content.is_empty()) {
        problems.report(&text.at, "an event's name is empty", format!("write `{example}`"));
    }
    for text in texts.iter().filter(|text| text.content == canary::TYPE) {
        problems.report(&text.at, format!("`{}` is built in, and no route's", canary::TYPE), "leave it out");
    }
    texts.into_iter().map(|text| text.content).collect()
}

fn priority(table: &mut Table, problems: &mut Problems) -> Priority {
    let text = table.take("priority").and_then(|node| node.text("priority", "priority = \"high\"", problems));
    let Some(text) = text.filter(|text| !text.broken) else { return Priority::Normal };
    Priority::from_name(&text.content).unwrap_or_else(|| {
        let known = Priority::ALL.map(Priority::name);
        problems.report(&text.at, format!("unknown priority `{}`", text.content), did_you_mean(&text.content, &known));
        Priority::Normal
    })
}

fn when(table: &mut Table, problems: &mut Problems) -> Vec<Condition> {
    let entries = table.take_table("when", "when = { change_type = \"Deleted\" }", problems).entries;
    entries.into_iter().flat_map(|(key, node)| conditions(&key, node, problems)).collect()
}

/// One entry of `when`: a table may hold both a `not` and a `like`.
fn conditions(key: &Key, node: Node, problems: &mut Problems) -> Vec<Condition> {
    let path = match Path::parse(&key.name) {
        Ok(path) => path,
        Err(message) => {
            problems.report(&key.at, message, "write an attribute's name, or names joined by dots in quotes");
            return Vec::new();
        }
    };
    let tests = match node.value {
        Value::Table(table) => table_tests(&key.name, table, problems),
        _ => one_of_test(&key.name, node, problems).into_iter().collect(),
    };
    tests.into_iter().map(|test| Condition { path: path.clone(), test }).collect()
}

fn table_tests(name: &str, mut table: Table, problems: &mut Problems) -> Vec<Test> {
    let mut tests = Vec::new();
    if let Some(node) = table.take("not") {
        let unwanted = scalars(&format!("{name}.not"), node, problems);
        tests.push(Test::NoneOf(unwanted.iter().map(|text| Wanted::new(text)).collect()));
    }
    if let Some(node) = table.take("like") {
        let globs = scalars(&format!("{name}.like"), node, problems);
        tests.push(Test::Like(globs.iter().map(|text| Glob::ignoring_case(text)).collect()));
    }
    for (key, _) in &table.entries {
        let help = format!("known are `not` and `like`; for an attribute within another write `\"{name}.{}\" = …`", key.name);
        problems.report(&key.at, format!("unknown test `{}` for `{name}`", key.name), help);
    }
    tests
}

fn one_of_test(name: &str, node: Node, problems: &mut Problems) -> Option<Test> {
    let wanted = scalars(name, node, problems);
    (!wanted.is_empty()).then(|| Test::OneOf(wanted.iter().map(|text| Wanted::new(text)).collect()))
}

/// The texts of a value or of a list of values.
fn scalars(name: &str, node: Node, problems: &mut Problems) -> Vec<String> {
    let nodes = match node.value {
        Value::List(list) if list.is_empty() => {
            problems.report(
                &node.at,
                format!("an empty list for `{name}` in `when`"),
                "list the values; `\"\"` stands for absent, null or empty",
            );
            return Vec::new();
        }
        Value::List(list) => list,
        _ => vec![node],
    };
    let mut texts = Vec::new();
    for node in nodes {
        match node.value {
            Value::Text(text) => texts.push(text.content),
            Value::Scalar(text, _) => texts.push(text),
            _ => problems.report(
                &node.at,
                format!("`{name}` in `when` can't be {}", node.kind()),
                "write text, a number, true or false, or a list of these",
            ),
        }
    }
    texts
}

/// Whether an event's name in a route is a glob.
pub(crate) fn is_glob(event: &str) -> bool {
    glob::literal_prefix(event).len() != event.len()
}
