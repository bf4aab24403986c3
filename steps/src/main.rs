//! Takes one step by itself, for `cargo xtask counts` to count its instructions; without an argument, says which steps there are.

use std::hint::black_box;
use std::process::ExitCode;

use unstale_steps::{EVENTS, STEPS};

fn main() -> ExitCode {
    let Some(wanted) = std::env::args().nth(1) else {
        println!("{EVENTS}");
        for step in &STEPS {
            println!("{} {}", step.name, step.what);
        }
        return ExitCode::SUCCESS;
    };
    let Some(step) = STEPS.iter().find(|step| step.name == wanted) else {
        eprintln!("`{wanted}` is no step");
        return ExitCode::FAILURE;
    };
    let mut run = step.prepare();
    // What happens only once, such as growing, isn't the step's.
    run();
    counted(&mut *run);
    ExitCode::SUCCESS
}

/// What is counted: everything between its beginning and its end, which is why it has one of each.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    run();
    black_box(());
}
