//! The command line: `cargo xtask soak` and `cargo xtask kills` give way to this.

use std::process::ExitCode;

use clap::Parser;
use unstale_soak::soak::Soak;

/// Looks for lost and late invalidations.
#[derive(Debug, Parser)]
enum Command {
    /// Faults at random for some minutes, while values are read and compared
    Soak(Soak),
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made");
    runtime.spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            unstale_soak::interrupt();
        }
    });
    let Command::Soak(soak) = Command::parse();
    let report = soak.run(runtime.handle());
    if soak.json {
        println!("{:#}", report.json());
    } else {
        println!("{report}");
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
