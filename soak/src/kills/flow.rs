//! The events of the campaign: each about keys of its own, which are there before it is published.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use unstale_testkit::{Redis, Resp, Value};

/// What the sidecars' configuration has beside [`unstale_tests::THINGS`].
pub(crate) const CONFIG: &str = r#"
[cache.twice]
prefixes = ["twice:"]
second_delete = "150ms"
[[route]]
event = "Touched"
cache = "twice"
keys = ["twice:{id}"]
[[route]]
event = "Swept"
cache = "thing"
patterns = ["thing:{id}:*"]
"#;

/// How many events are added at a time.
const BURST: u64 = 100;
/// The most unread entries that are let pile up.
const PILE: i64 = 5000;
const PAUSE: Duration = Duration::from_millis(10);

/// What an event is about; told from its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A key.
    Plain,
    /// A key, on the critical stream.
    Critical,
    /// A key that is deleted twice.
    Twice,
    /// Two keys that a pattern means.
    Pattern,
    /// Nothing: it can't be carried out.
    Poison,
}

impl Kind {
    pub(crate) fn of(number: u64) -> Self {
        match number {
            number if number % 1000 == 3 => Self::Poison,
            number if number % 200 == 0 => Self::Pattern,
            number if number % 100 == 2 => Self::Twice,
            number if number % 20 == 1 => Self::Critical,
            _ => Self::Plain,
        }
    }

    fn keys(self, number: u64) -> Vec<String> {
        match self {
            Self::Plain | Self::Critical => vec![format!("thing:{number}")],
            Self::Twice => vec![format!("twice:{number}")],
            Self::Pattern => vec![format!("thing:{number}:a"), format!("thing:{number}:b")],
            Self::Poison => Vec::new(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "Changed",
            Self::Critical => "Revoked",
            Self::Twice => "Touched",
            Self::Pattern => "Swept",
            Self::Poison => "CacheInvalidationRequested",
        }
    }

    fn stream(self) -> &'static str {
        if self == Self::Critical { "unstale:events:critical" } else { "unstale:events" }
    }
}

/// How far the flow may go and has gone.
#[derive(Debug, Default)]
pub(crate) struct Level {
    pub(crate) allowed: AtomicU64,
    pub(crate) published: AtomicU64,
    pub(crate) over: AtomicBool,
}

/// Publishes as far as it may, until it is over.
pub(crate) fn run(redis: &Redis, level: &Arc<Level>) {
    let mut resp = redis.resp();
    let mut next = 0;
    while !level.over.load(Ordering::Relaxed) {
        let end = level.allowed.load(Ordering::Relaxed).min(next + BURST);
        if next == end || unread(&mut resp) > PILE {
            thread::sleep(PAUSE);
            continue;
        }
        burst(&mut resp, next..end);
        next = end;
        level.published.store(next, Ordering::Relaxed);
    }
}

fn burst(resp: &mut Resp, numbers: std::ops::Range<u64>) {
    let keys = numbers.clone().flat_map(|number| Kind::of(number).keys(number)).flat_map(|key| [key, "1".to_owned()]);
    let words: Vec<String> = std::iter::once("MSET".to_owned()).chain(keys).collect();
    resp.cmd(&words);
    for number in numbers.clone() {
        let (kind, id) = (Kind::of(number), number.to_string());
        let mut words = vec!["XADD", kind.stream(), "*", "type", kind.name(), "id", &id];
        if kind == Kind::Poison {
            words.extend(["keys", r#"["elsewhere:1"]"#]);
        }
        resp.send(&words).expect("the server is there");
    }
    for _ in numbers {
        let answer = resp.read().expect("the server is there");
        assert!(matches!(answer, Value::Bulk(_)), "XADD: {answer:?}");
    }
}

/// Entries of the ordinary stream that the group has yet to deliver.
fn unread(resp: &mut Resp) -> i64 {
    let groups = resp.try_cmd(&["XINFO", "GROUPS", "unstale:events"]).unwrap_or(Value::Nil);
    groups.array().first().and_then(|group| group.field("lag")).filter(|lag| !lag.is_nil()).map_or(0, Value::int)
}
