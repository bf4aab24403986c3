//! What the imagined application caches, and what happens to it: its routes, its rows, its events.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;

/// The sidecars' configuration. Each family of keys tries another part of it.
pub const CONFIG: &str = r#"
[cache.item]
prefixes = ["item:", "generation:"]
[cache.key]
prefixes = ["key:"]
[cache.slow]
prefixes = ["slow:"]
second_delete = "300ms"
[cache.page]
prefixes = ["page:"]
[cache.local]
prefixes = ["local:"]
store = "local"

[[route]]
event = "ItemChanged"
cache = "item"
keys = ["item:{id}"]
[[route]]
event = "ItemsChanged"
cache = "item"
keys = ["item:{ids[]}"]
bump = ["generation:items"]
[[route]]
event = "ItemPriced"
cache = "item"
priority = "high"
keys = ["item:{id}"]
[[route]]
event = "KeyRevoked"
cache = "key"
priority = "critical"
keys = ["key:{id}"]
[[route]]
event = "SlowChanged"
cache = "slow"
priority = "low"
keys = ["slow:{id}"]
[[route]]
event = "PageChanged"
cache = "page"
keys = ["page:{section}:{id}"]
[[route]]
event = "SectionChanged"
cache = "page"
patterns = ["page:{section}:*"]
[[route]]
event = "SectionClosed"
cache = "page"
priority = "critical"
patterns = ["page:{section}:*"]
[[route]]
event = "LocalChanged"
cache = "local"
keys = ["local:{id}"]
"#;

/// The counter that [`CONFIG`] names.
pub const COUNTER: &str = "generation:items";

const ITEMS: usize = 2000;
const KEYS: usize = 500;
const SLOW: usize = 300;
const SECTIONS: usize = 40;
const PAGES: usize = 50;
const LOCAL: usize = 300;

const ITEM: Range<usize> = 0..ITEMS;
const KEY: Range<usize> = ITEM.end..ITEM.end + KEYS;
const SLOWS: Range<usize> = KEY.end..KEY.end + SLOW;
const PAGE: Range<usize> = SLOWS.end..SLOWS.end + SECTIONS * PAGES;
const LOCALS: Range<usize> = PAGE.end..PAGE.end + LOCAL;

/// How urgent an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// At once.
    Critical,
    /// After a quarter of the window.
    High,
    /// After the window.
    Normal,
    /// After ten windows.
    Low,
}

impl Priority {
    /// What the default configuration lets it wait for others.
    pub fn window(self) -> Duration {
        Duration::from_millis(match self {
            Self::Critical => 0,
            Self::High => 25,
            Self::Normal => 100,
            Self::Low => 1000,
        })
    }
}

/// What happened in the imagined application.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its fields, `type` included.
    pub fields: Vec<(&'static str, String)>,
    /// The rows that it changes.
    pub rows: Vec<usize>,
    /// The lane that its route gives it.
    pub priority: Priority,
    /// Whether it goes to the critical stream.
    pub on_critical_stream: bool,
}

/// The rows of the imagined database, each with the one key that caches it.
#[derive(Debug)]
pub struct Model {
    keys: Vec<String>,
    by_key: HashMap<String, usize>,
}

impl Default for Model {
    fn default() -> Self {
        let numbered = |prefix: &'static str, count: usize| (0..count).map(move |id| format!("{prefix}:{id}"));
        let pages = (0..SECTIONS).flat_map(|section| (0..PAGES).map(move |id| format!("page:{section}:{id}")));
        let keys: Vec<String> = numbered("item", ITEMS)
            .chain(numbered("key", KEYS))
            .chain(numbered("slow", SLOW))
            .chain(pages)
            .chain(numbered("local", LOCAL))
            .collect();
        let by_key = keys.iter().cloned().zip(0..).collect();
        Self { keys, by_key }
    }
}

impl Model {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.keys.len()
    }

    /// The key of a row.
    pub fn key(&self, row: usize) -> &str {
        &self.keys[row]
    }

    /// The row of a key.
    pub fn row(&self, key: &str) -> Option<usize> {
        self.by_key.get(key).copied()
    }

    /// The rows that a pattern of the routes means.
    pub fn matched(&self, pattern: &str) -> Range<usize> {
        let section =
            pattern.strip_prefix("page:").and_then(|rest| rest.strip_suffix(":*")).and_then(|section| section.parse::<usize>().ok());
        section.filter(|section| *section < SECTIONS).map_or(0..0, pages)
    }

    /// Whether a row is cached in Redis, too.
    pub fn is_shared(row: usize) -> bool {
        !LOCALS.contains(&row)
    }

    /// A row that somebody reads.
    pub fn any(&self, random: &mut StdRng) -> usize {
        random.random_range(0..self.rows())
    }

    /// Something that happens.
    pub fn happen(&self, random: &mut StdRng) -> Event {
        match random.random_range(0..100) {
            0..42 => self.one("ItemChanged", ITEM, Priority::Normal, random),
            42..50 => Self::several(random),
            50..62 => self.one("ItemPriced", ITEM, Priority::High, random),
            62..77 => {
                let event = self.one("KeyRevoked", KEY, Priority::Critical, random);
                Event { on_critical_stream: random.random_bool(0.8), ..event }
            }
            77..82 => self.one("SlowChanged", SLOWS, Priority::Low, random),
            82..90 => self.page(random),
            90..93 => Self::section("SectionChanged", Priority::Normal, random),
            93 => Event { on_critical_stream: true, ..Self::section("SectionClosed", Priority::Critical, random) },
            94..97 => self.one("LocalChanged", LOCALS, Priority::Normal, random),
            _ => self.asked_for(random),
        }
    }

    fn one(&self, kind: &str, range: Range<usize>, priority: Priority, random: &mut StdRng) -> Event {
        let row = random.random_range(range);
        let id = self.key(row).rsplit(':').next().unwrap_or_default().to_owned();
        event(kind, vec![("id", id)], vec![row], priority)
    }

    fn several(random: &mut StdRng) -> Event {
        let mut rows: Vec<usize> = (0..random.random_range(2..20)).map(|_| random.random_range(ITEM)).collect();
        rows.sort_unstable();
        rows.dedup();
        event("ItemsChanged", vec![("ids", json!(rows).to_string())], rows, Priority::Normal)
    }

    fn page(&self, random: &mut StdRng) -> Event {
        let row = random.random_range(PAGE);
        let mut parts = self.key(row).split(':').skip(1).map(str::to_owned);
        let (section, id) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        event("PageChanged", vec![("section", section), ("id", id)], vec![row], Priority::Normal)
    }

    fn section(kind: &str, priority: Priority, random: &mut StdRng) -> Event {
        let section = random.random_range(0..SECTIONS);
        event(kind, vec![("section", section.to_string())], pages(section).collect(), priority)
    }

    fn asked_for(&self, random: &mut StdRng) -> Event {
        let rows = vec![random.random_range(ITEM), random.random_range(KEY)];
        let keys: Vec<&str> = rows.iter().map(|row| self.key(*row)).collect();
        let data = json!({"keys": keys, "priority": "high"}).to_string();
        event("CacheInvalidationRequested", vec![("data", data)], rows, Priority::High)
    }
}

fn pages(section: usize) -> Range<usize> {
    PAGE.start + section * PAGES..PAGE.start + (section + 1) * PAGES
}

fn event(kind: &str, attributes: Vec<(&'static str, String)>, rows: Vec<usize>, priority: Priority) -> Event {
    let fields = std::iter::once(("type", kind.to_owned())).chain(attributes).collect();
    Event { fields, rows, priority, on_critical_stream: false }
}

/// An entry that can't be carried out, marked so that its dead letter can be told.
pub fn poison(mark: &str, random: &mut StdRng) -> Vec<(&'static str, String)> {
    let mark = ("mark", mark.to_owned());
    match random.random_range(0..4) {
        0 => vec![mark],
        1 => vec![("type", "ItemChanged".to_owned()), ("data", "{broken".to_owned()), mark],
        2 => vec![("type", "ItemChanged".to_owned()), mark],
        _ => vec![("type", "CacheInvalidationRequested".to_owned()), ("data", json!({"keys": ["elsewhere:1"]}).to_string()), mark],
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn events_name_the_keys_of_the_rows_that_they_change() {
        let (model, mut random) = (Model::default(), StdRng::seed_from_u64(1));
        for _ in 0..1000 {
            let Event { fields, rows, .. } = model.happen(&mut random);
            assert!(!rows.is_empty() && rows.iter().all(|row| *row < model.rows()), "{fields:?}");
            if let [("type", kind), ("id", id)] = &fields[..] {
                assert!(model.key(rows[0]).ends_with(&format!(":{id}")), "{kind} {id} {}", model.key(rows[0]));
            }
        }
    }

    #[test]
    fn a_pattern_means_the_pages_of_its_section() {
        let model = Model::default();
        assert_eq!(model.matched("page:3:*").map(|row| model.key(row)).filter(|key| key.starts_with("page:3:")).count(), PAGES);
        assert_eq!(model.matched("other:*"), 0..0);
    }
}
