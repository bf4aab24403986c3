//! The command line: `cargo xtask bench` gives way to this.

use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use unstale_bench::figures::Table;
use unstale_bench::section::Section;
use unstale_bench::workloads::Workload;
use unstale_bench::{Bench, machine};

/// How fast unstale is, beside consumers written by hand.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Args {
    /// What to measure; everything unless something is named
    workloads: Vec<Workload>,
    /// How often each is measured
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Everything a hundred times smaller: to see whether it works, not how fast it is
    #[arg(long)]
    tiny: bool,
    /// Refuse to measure less than everything: what is printed is to be written down
    #[arg(long, hide = true, conflicts_with_all = ["workloads", "tiny"])]
    whole: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let bench = Bench { rounds: args.rounds, smaller: if args.tiny { 100 } else { 1 } };
    let workloads = if args.workloads.is_empty() { Workload::value_variants() } else { &args.workloads };
    let before = machine::describe();
    let sections: Vec<Section> = workloads.iter().map(|workload| timed(*workload, &bench)).collect();
    println!("{before}\nThe load afterwards was {}.\n", machine::load());
    if args.tiny {
        println!("**Everything was a hundred times smaller than it should be: no figure says how fast anything is.**\n");
    }
    print!("{}", bars(&sections));
    for section in &sections {
        println!("{section}");
    }
    ExitCode::SUCCESS
}

/// Says on standard error how long it took.
fn timed(workload: Workload, bench: &Bench) -> Section {
    let begun = Instant::now();
    let section = workload.run(bench);
    eprintln!("{workload:?} took {:.0} s", begun.elapsed().as_secs_f64());
    section
}

fn bars(sections: &[Section]) -> String {
    let mut table = Table::new(&["what", "bar", "median (from – to)", ""]);
    for bar in sections.iter().flat_map(|section| &section.bars) {
        table.row(bar.cells());
    }
    let is_empty = sections.iter().all(|section| section.bars.is_empty());
    if is_empty { String::new() } else { format!("### All bars\n\n{}\n", table.markdown()) }
}
