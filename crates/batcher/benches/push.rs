//! What a push of one key costs, with everything that follows it in the batcher: `cargo bench -p unstale-batcher`.

use std::hint::black_box;
use std::time::Instant;

use unstale_batcher::{Batcher, Item, Settings, Source, TargetState};
use unstale_events::{CacheId, EntryId, Priority, StreamKind, Target, TargetKind, Targets};

const EVENTS: u32 = 2_000_000;

fn main() {
    for (name, distinct) in [("distinct keys", EVENTS), ("500 keys", 500)] {
        let lists: Vec<Targets> = (0..u64::from(distinct.min(100_000))).map(one_key).collect();
        let best = (0..5).map(|_| run(&lists)).fold(f64::INFINITY, f64::min);
        println!("{name}: {best:.1} ns an event, from push to settlement");
    }
}

fn one_key(number: u64) -> Targets {
    let mut targets = Targets::default();
    targets.push(Target { cache: CacheId(0), kind: TargetKind::Key, text: &format!("virtual_key:{number:032x}") });
    targets
}

fn run(lists: &[Targets]) -> f64 {
    let mut batcher = Batcher::new(Settings::default());
    let started = Instant::now();
    for (seq, targets) in (0..u64::from(EVENTS)).zip(lists.iter().cycle()) {
        let source = Source::Entry(StreamKind::Ordinary, EntryId { ms: 0, seq });
        batcher.push(Item { source, priority: Priority::Normal, targets, dead: None, correlation_id: None, operation: None }, started);
        while let Some(batch) = batcher.pop(|_| true, started) {
            let states = vec![TargetState::Done; batch.targets.len()];
            black_box(batch.settle(&states));
        }
    }
    started.elapsed().as_secs_f64() * 1e9 / f64::from(EVENTS)
}
