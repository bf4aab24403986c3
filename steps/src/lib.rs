//! The steps of an event on its way from one answer of Redis to the next call of it, each by itself and without a Redis.
//!
//! `cargo bench -p unstale-steps` says how long they take, `cargo xtask counts` how many instructions, and whether those are more than they were. What is
//! worked on is that of the benchmark's backlogs: the event `SpendUpdated` of the preset `llm-gateway`, each on a key of its own.

use std::fmt;
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::Instant;

use bytes::Bytes;
use unstale_batcher::{Batch, Batcher, Item, Settings, Source, TargetState};
use unstale_connect::trial as connect;
use unstale_events::catalogue::llm_gateway::SpendUpdated;
use unstale_events::publish::to_fields;
use unstale_events::{Encoding, EntryId, Event, Fields, Invalidation, StreamKind};
use unstale_router::{Input, Router, compile};
use unstale_sink::trial as sink;

/// How many events a step is taken for at once: as many as a read brings.
pub const EVENTS: usize = 256;

/// What is timed and counted.
pub type Run = Box<dyn FnMut()>;

/// One step.
pub struct Step {
    /// What it is called.
    pub name: &'static str,
    /// What happens in it.
    pub what: &'static str,
    prepare: fn() -> Run,
}

/// All of them, in the order in which an event meets them.
pub const STEPS: [Step; 9] = [
    Step { name: "answer", what: "an answer of XREADGROUP is taken apart into entries", prepare: answer },
    Step { name: "decode-json", what: "an entry is read as an event, `data` being JSON", prepare: || decode(Encoding::Json) },
    Step { name: "decode-msgpack", what: "the same with MessagePack", prepare: || decode(Encoding::MessagePack) },
    Step { name: "decode-flat", what: "the same with a field for each attribute", prepare: || decode(Encoding::Flat) },
    Step { name: "route", what: "the routes of `llm-gateway` make targets of an event", prepare: route },
    Step { name: "push", what: "events and their targets are gathered into batches", prepare: push },
    Step { name: "notice", what: "the notice of a batch is written", prepare: notice },
    Step { name: "call", what: "the script's call for a batch is written", prepare: call },
    Step { name: "settle", what: "what became of the targets becomes what becomes of the entries", prepare: settle },
];

impl Step {
    /// Has ready what the step needs. Each run of what is returned takes it for [`EVENTS`] events.
    pub fn prepare(&self) -> Run {
        (self.prepare)()
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let input = Input { presets: vec![("llm-gateway".to_owned(), "here".to_owned())], ..Input::default() };
    compile(&input).unwrap_or_else(|problems| panic!("{}", problems.render(false)))
});

/// The fields of the entries.
fn entries(encoding: Encoding) -> Vec<Fields> {
    let event = |number: i64| SpendUpdated {
        key_id: 10_000 + number,
        key_hash: format!("{number:032x}"),
        amount: 0.0421,
        new_total_spend: 17.4321,
        request_id: format!("req-{number:026x}"),
    };
    (0..).take(EVENTS).map(|number| to_fields(&event(number), encoding).expect("plain attributes can be said in each form")).collect()
}

/// Ids as entries have them that came at once.
fn ids() -> impl Iterator<Item = EntryId> {
    (0..).map(|seq| EntryId { ms: 1_790_000_000_000, seq })
}

fn read(entry: &Fields) -> Event<'_> {
    Event::decode(entry).expect("what was published can be read")
}

/// What the events ask for.
fn asked() -> Vec<Invalidation> {
    let asked = |entry: &Fields| {
        let mut asked = Invalidation::default();
        ROUTER.route(&read(entry), &mut asked);
        assert_eq!(asked.targets.len(), 1, "a key for each event");
        asked
    };
    entries(Encoding::Json).iter().map(asked).collect()
}

/// The batches that these become when nothing else comes.
fn gather(batcher: &mut Batcher, asked: &[Invalidation], now: Instant) -> Vec<Batch> {
    for (id, asked) in ids().zip(asked) {
        let source = Source::Entry(StreamKind::Ordinary, id);
        let item = Item { source, priority: asked.priority, targets: &asked.targets, dead: None, correlation_id: None, operation: None };
        batcher.push(item, now);
    }
    std::iter::from_fn(|| batcher.pop(|_| true, now + Settings::MAX_WINDOW)).collect()
}

fn batches() -> Vec<Batch> {
    let batches = gather(&mut Batcher::new(Settings::default()), &asked(), Instant::now());
    assert_eq!(batches.iter().map(|batch| batch.entries.len()).sum::<usize>(), EVENTS);
    batches
}

fn answer() -> Run {
    let bytes = Bytes::from(answered(&entries(Encoding::Json)));
    Box::new(move || assert_eq!(connect::read(black_box(&bytes)).expect("it is RESP").len(), EVENTS))
}

/// What XREADGROUP answers when there are these entries.
fn answered(entries: &[Fields]) -> Vec<u8> {
    let text = |text: &[u8]| [format!("${}\r\n", text.len()).as_bytes(), text, b"\r\n"].concat();
    let list = |items: Vec<Vec<u8>>| [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat();
    let entry = |(id, fields): (EntryId, &Fields)| {
        let words = fields.iter().flat_map(|(name, value)| [text(name), text(value)]).collect();
        list(vec![text(id.to_string().as_bytes()), list(words)])
    };
    list(vec![list(vec![text(b"unstale:events"), list(ids().zip(entries).map(entry).collect())])])
}

fn decode(encoding: Encoding) -> Run {
    let entries = entries(encoding);
    Box::new(move || black_box(&entries).iter().for_each(|entry| drop(black_box(read(entry)))))
}

fn route() -> Run {
    // The events borrow from these, for as long as the process lasts.
    let events: Vec<Event<'_>> = entries(Encoding::Json).leak().iter().map(read).collect();
    let mut asked = Invalidation::default();
    Box::new(move || {
        for event in black_box(&events) {
            asked.clear();
            ROUTER.route(event, &mut asked);
            black_box(&asked);
        }
    })
}

fn push() -> Run {
    let (asked, mut batcher, now) = (asked(), Batcher::new(Settings::default()), Instant::now());
    Box::new(move || drop(black_box(gather(&mut batcher, black_box(&asked), now))))
}

fn notice() -> Run {
    for_each_batch(|batch| drop(black_box(sink::notice(batch, ROUTER.caches()))))
}

fn call() -> Run {
    for_each_batch(|batch| drop(black_box(sink::call(batch, ROUTER.caches()))))
}

fn settle() -> Run {
    for_each_batch(|batch| drop(black_box(batch.settle(&vec![TargetState::Done; batch.targets.len()]))))
}

fn for_each_batch(step: fn(&Batch)) -> Run {
    let batches = batches();
    Box::new(move || black_box(&batches).iter().for_each(step))
}
