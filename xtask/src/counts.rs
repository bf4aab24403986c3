//! `cargo xtask counts`: how many instructions each step of an event takes, held against what was recorded, so that none gets slower unnoticed.
//!
//! Instructions, for how long something takes is no measure where other work is done as well. callgrind counts them: the same program takes the same
//! ones wherever it runs, but for what another compiler makes of it and another libc brings. The bounds leave room for that.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::page::Part;
use crate::{command, servers};

/// Where they are recorded.
const TABLE: Part = Part { page: "docs/benchmarks.md", name: "counts" };
const RECORD: &str = "`cargo xtask counts --record` records anew";

/// How many of a hundred instructions a step may take; with fewer than the least it got so much quicker that it should stay so.
const MOST: u64 = 110;
const LEAST: u64 = 80;

/// What a step takes for an event.
struct Count {
    step: String,
    what: String,
    instructions: u64,
}

/// Counts, and compares; with `--record` writes down instead.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let record = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => false,
        ["--record"] => true,
        _ => return Err("`counts` takes nothing but `--record`".to_owned()),
    };
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        println!("Instructions are recorded for Linux on x86-64; here none are counted.");
        return Ok(());
    }
    let table = table(&counted()?, &compiler()?);
    println!("\n{table}");
    if record {
        return TABLE.write(command::root(), &table);
    }
    let problems = compared(&instructions(&TABLE.read(command::root())?), &instructions(&table));
    if problems.is_empty() { Ok(()) } else { Err(format!("{}\n{RECORD}: {}", problems.join("\n"), TABLE.page)) }
}

/// Builds the steps, and has each of them counted in a process of its own, so that none finds what another left behind.
fn counted() -> Result<Vec<Count>, String> {
    let valgrind = find_or_install_valgrind()?;
    let mut build = command::cargo(&["build", "--profile", "counts", "--locked", "--package", "unstale-steps", "--bin", "steps"]);
    let program = command::build(&mut build, &[], "steps")?;
    let listed = command::output(&mut Command::new(&program))?;
    let strange = || format!("{} lists no steps: {listed}", program.display());
    let (events, steps) = listed.split_once('\n').ok_or_else(strange)?;
    let events: u64 = events.parse().map_err(|_| strange())?;
    let count = |line: &str| {
        let (step, what) = line.split_once(' ').ok_or_else(strange)?;
        let all = callgrind(&valgrind, &program, step)?;
        Ok(Count { step: step.to_owned(), what: what.to_owned(), instructions: all.div_ceil(events) })
    };
    steps.lines().map(count).collect()
}

fn find_or_install_valgrind() -> Result<PathBuf, String> {
    if command::in_path(&["valgrind"]).is_none() {
        println!("There is no valgrind here: installing Debian's package (apt-get install valgrind).");
        servers::install_packages(&["valgrind"]).map_err(|problem| format!("{problem}\nInstall valgrind by hand."))?;
    }
    command::in_path(&["valgrind"]).ok_or_else(|| "apt-get installed valgrind, but it isn't in PATH.".to_owned())
}

/// How many instructions there are within the one function of the program that is counted. What was counted stays beside the program, to be looked at
/// with `callgrind_annotate`.
fn callgrind(valgrind: &Path, program: &Path, step: &str) -> Result<u64, String> {
    let written = program.with_file_name(format!("callgrind.{step}"));
    let out = format!("--callgrind-out-file={}", written.display());
    command::run(Command::new(valgrind).args(["--quiet", "--tool=callgrind", "--toggle-collect=*counted*", &out]).arg(program).arg(step))?;
    let text = fs::read_to_string(&written).map_err(|error| format!("{}: {error}", written.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok()).filter(|total| *total > 0);
    total.ok_or_else(|| format!("{}: nothing was counted", written.display()))
}

fn compiler() -> Result<String, String> {
    command::output(Command::new("rustc").arg("--version").current_dir(command::root()))
}

fn table(counts: &[Count], compiler: &str) -> String {
    let mut table = format!(
        "Made by {}, and counted on x86-64:\n\n| step | what happens in it | instructions an event |\n|---|---|---|\n",
        compiler.trim()
    );
    for Count { step, what, instructions } in counts {
        writeln!(table, "| {step} | {what} | {instructions} |").expect("a String takes everything");
    }
    table
}

/// The numbers in a table, by their steps.
fn instructions(table: &str) -> BTreeMap<&str, u64> {
    table.lines().filter_map(row).collect()
}

fn row(line: &str) -> Option<(&str, u64)> {
    match line.split('|').map(str::trim).collect::<Vec<_>>()[..] {
        ["", step, _, instructions, ""] => Some((step, instructions.parse().ok()?)),
        _ => None,
    }
}

/// Every step that isn't as recorded.
fn compared(recorded: &BTreeMap<&str, u64>, counted: &BTreeMap<&str, u64>) -> Vec<String> {
    let gone =
        recorded.keys().filter(|step| !counted.contains_key(*step)).map(|step| format!("{step}: is recorded, but there is no such step"));
    let judged = counted.iter().filter_map(|(step, now)| match recorded.get(step) {
        None => Some(format!("{step}: is not recorded")),
        Some(was) if now * 100 > was * MOST => {
            Some(format!("{step}: takes {now} instructions, {was} are recorded, and no more than {MOST} % of them are allowed"))
        }
        Some(was) if now * 100 < was * LEAST => {
            Some(format!("{step}: takes {now} instructions, {was} are recorded: so much is gained that it should be kept"))
        }
        Some(_) => None,
    });
    gone.chain(judged).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_read_back() {
        let count = |step: &str, instructions| Count { step: step.to_owned(), what: "it is done".to_owned(), instructions };
        let table = table(&[count("a", 1200), count("b-c", 7)], "rustc 1.90.0 (abc)\n");
        assert_eq!(instructions(&table), BTreeMap::from([("a", 1200), ("b-c", 7)]));
    }

    #[test]
    fn more_is_a_problem_and_so_is_much_less() {
        let problem = |now| compared(&BTreeMap::from([("a", 1000)]), &BTreeMap::from([("a", now)]));
        assert!([800, 1000, 1100].into_iter().all(|now| problem(now).is_empty()));
        assert!(problem(1101)[0].contains("takes 1101") && problem(799)[0].contains("gained"));
        let strangers = compared(&BTreeMap::from([("a", 1)]), &BTreeMap::from([("b", 1)]));
        assert!(strangers[0].starts_with("a: ") && strangers[1].starts_with("b: "), "{strangers:?}");
    }
}
