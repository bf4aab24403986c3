//! How long each step takes: `cargo bench -p unstale-steps`.

use divan::Bencher;
use divan::counter::ItemsCount;
use unstale_steps::{EVENTS, STEPS, Step};

fn main() {
    divan::main();
}

#[divan::bench(args = STEPS)]
fn steps(bencher: Bencher<'_, '_>, step: &Step) {
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(step.prepare());
}
