//! The command line: `cargo xtask soak` and `cargo xtask kills` give way to this.

use std::process::ExitCode;

use clap::Parser;
use unstale_soak::kills::Kills;
use unstale_soak::soak::Soak;

/// Looks for lost and late invalidations.
#[derive(Debug, Parser)]
enum Command {
    /// Faults at random for some minutes, while values are read and compared
    Soak(Soak),
    /// kill -9 at random and at each named point, and whether anything is lost
    Kills(Kills),
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime can be made");
    runtime.spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            unstale_soak::interrupt();
        }
    });
    let is_good = match Command::parse() {
        Command::Soak(soak) => {
            let report = soak.run(runtime.handle());
            print(soak.json, &report.json(), &report);
            report.is_good()
        }
        Command::Kills(kills) => {
            let verdict = kills.run(runtime.handle());
            print(kills.json, &verdict.json(), &verdict);
            verdict.wrong.is_empty()
        }
    };
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn print(as_json: bool, json: &serde_json::Value, text: &impl std::fmt::Display) {
    if as_json {
        println!("{json:#}");
    } else {
        println!("{text}");
    }
}
