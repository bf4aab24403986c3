//! The short runs of every change: two minutes of faults, fifty kills, and bugs planted to see that they would be found.
//!
//! `UNSTALE_TEST_SEED` repeats a run. The longest comes first in the alphabet, so that the others run beside it.

use clap::Parser;
use tokio::runtime::Runtime;
use unstale_soak::kills::Kills;
use unstale_soak::oracle::Wrong;
use unstale_soak::report::Report;
use unstale_soak::soak::Soak;

/// As on the command line.
#[derive(Debug, Parser)]
enum Command {
    Soak(Soak),
    Kills(Kills),
}

fn command(line: &str) -> Command {
    let seed = std::env::var("UNSTALE_TEST_SEED").unwrap_or_else(|_| "1".to_owned());
    Command::parse_from(format!("test {line} --seed {seed}").split(' '))
}

fn soak(line: &str) -> Report {
    let Command::Soak(soak) = command(&format!("soak {line}")) else { panic!("no soak: {line}") };
    // Debug builds on a machine that does other things meanwhile.
    let report = Soak { patience: 3000, ..soak }.run(Runtime::new().expect("a runtime can be made").handle());
    println!("{report}");
    report
}

#[test]
fn a_load_under_two_minutes_of_faults_loses_nothing() {
    assert!(soak("--minutes 2").is_good(), "see the report above");
}

#[test]
fn fifty_kills_lose_nothing() {
    let Command::Kills(kills) = command("kills --kills 50 --events 20000") else { panic!("no kills") };
    let verdict = kills.run(Runtime::new().expect("a runtime can be made").handle());
    println!("{verdict}");
    assert!(verdict.wrong.is_empty(), "see the verdict above");
}

#[test]
fn an_ack_before_the_delete_is_found() {
    let report = soak("--minutes 5 --plant ack-before-delete");
    assert!(report.count(Wrong::Lost) + report.count(Wrong::Late) > 0, "what was acknowledged unread is stale for ever");
}

#[test]
fn a_skipped_notice_is_found() {
    let report = soak("--minutes 5 --plant skipped-notice");
    assert!(report.count(Wrong::NotAnnounced) > 0, "what was deleted and not announced");
}

#[test]
fn a_pattern_that_joins_a_running_scan_is_found() {
    let report = soak("--minutes 5 --plant joined-scan");
    assert!(report.count(Wrong::Lost) + report.count(Wrong::Late) > 0, "keys that the scan had passed by are left");
}
