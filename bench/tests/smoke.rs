//! Every workload once, a hundred times smaller, so that none rots. What it says of speed is nothing, and nothing is asserted of it.

use clap::ValueEnum;
use unstale_bench::Bench;
use unstale_bench::workloads::Workload;

#[test]
fn every_workload_runs_and_fills_its_tables() {
    let bench = Bench { rounds: 1, smaller: 100 };
    for workload in Workload::value_variants() {
        let section = workload.run(&bench);
        println!("{section}");
        assert!(!section.tables.is_empty(), "{workload:?} shows nothing: {section:?}");
    }
}
