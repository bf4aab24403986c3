//! What an event asks for: targets (keys, patterns, counters), each of one cache, and how urgent they are.

use serde::{Deserialize, Serialize};

/// How urgent an event is; the order of the variants is the order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Never waits.
    Critical,
    /// Waits a quarter of the window.
    High,
    /// Waits the window.
    #[default]
    Normal,
    /// Waits ten windows.
    Low,
}

impl Priority {
    /// All priorities, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Normal, Self::Low];

    /// The name used in routes, notices and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }

    /// The priority of this exact name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|priority| priority.name() == name)
    }

    /// The position in [`Priority::ALL`], to index a table by priority.
    pub fn index(self) -> usize {
        self as usize
    }
}

/// A cache's position in the table of declared caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheId(pub u16);

impl CacheId {
    /// The position, to index a table by cache.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// What is done to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TargetKind {
    /// A key: deleted.
    Key,
    /// A Redis glob: every key of its cache that matches is deleted.
    Pattern,
    /// A counter: incremented, so that readers of it drop what they hold.
    Bump,
}

/// One target, borrowed from a list of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target<'a> {
    /// The cache that it belongs to.
    pub cache: CacheId,
    /// What is to be done.
    pub kind: TargetKind,
    /// The key, the glob or the counter's key.
    pub text: &'a str,
}

/// A list of targets whose texts share one buffer: no allocation for each of them, and cleared without giving memory back.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    text: String,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    cache: CacheId,
    kind: TargetKind,
    start: usize,
    end: usize,
}

impl Targets {
    /// Adds a target.
    pub fn push(&mut self, target: Target<'_>) {
        let start = self.text.len();
        self.text.push_str(target.text);
        self.items.push(Item { cache: target.cache, kind: target.kind, start, end: self.text.len() });
    }

    /// Lets `write` append a target's text in place. If it fails, the list is as it was before.
    ///
    /// # Errors
    /// What `write` returned.
    pub fn push_with<E>(
        &mut self,
        cache: CacheId,
        kind: TargetKind,
        write: impl FnOnce(&mut String) -> Result<(), E>,
    ) -> Result<Target<'_>, E> {
        let start = self.text.len();
        if let Err(error) = write(&mut self.text) {
            self.text.truncate(start);
            return Err(error);
        }
        self.items.push(Item { cache, kind, start, end: self.text.len() });
        Ok(Target { cache, kind, text: &self.text[start..] })
    }

    /// Takes the newest target off again.
    pub fn pop(&mut self) {
        if let Some(item) = self.items.pop() {
            self.text.truncate(item.start);
        }
    }

    /// The target at a position below [`Targets::len`].
    pub fn get(&self, index: usize) -> Option<Target<'_>> {
        self.items.get(index).map(|item| self.view(*item))
    }

    /// All targets in the order in which they were added.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Target<'_>> + DoubleEndedIterator + Clone {
        self.items.iter().map(|item| self.view(*item))
    }

    /// How many targets there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The length of all texts together, in bytes.
    pub fn text_bytes(&self) -> usize {
        self.text.len()
    }

    /// Forgets all targets but keeps the memory.
    pub fn clear(&mut self) {
        self.text.clear();
        self.items.clear();
    }

    fn view(&self, item: Item) -> Target<'_> {
        Target { cache: item.cache, kind: item.kind, text: &self.text[item.start..item.end] }
    }
}

/// What the routes make of one event. Reused from event to event.
#[derive(Debug, Clone, Default)]
pub struct Invalidation {
    /// The highest priority among the routes that matched.
    pub priority: Priority,
    /// Whether any route names the event's type.
    pub routed: bool,
    /// The position of the event's type in the router's closed list of type names, for metric labels; `None` if no route names it.
    pub label: Option<u32>,
    /// What is to be done.
    pub targets: Targets,
    /// Why the event must also go to the dead letters; empty in the ordinary case.
    pub reasons: Vec<crate::Reason>,
    /// The name of the operation that asked for it, if it named one; carried to logs and notices.
    pub operation: Option<String>,
}

impl Invalidation {
    /// Makes it as new, keeping its memory.
    pub fn clear(&mut self) {
        self.priority = Priority::default();
        self.routed = false;
        self.label = None;
        self.targets.clear();
        self.reasons.clear();
        self.operation = None;
    }
}
