//! `cargo xtask fuzz`: feeds the fuzz targets, led by coverage, and tells what was tried.
//!
//! cargo-fuzz builds them, on the stable toolchain: without a sanitizer, for the code is safe throughout, it needs nothing unstable. What is found on
//! the way stays in fuzz/target; `--merge` adds to the committed corpora what they lack.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::command;

const TARGETS: [&str; 8] = ["decoder", "routes", "template", "glob", "config", "bodies", "notice", "answers"];
const USAGE: &str = "cargo xtask fuzz [TARGET…] [--seconds N] [--merge]";

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
struct Wish {
    targets: Vec<&'static str>,
    seconds: u32,
    merge: bool,
}

/// What the fuzzer says of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Report {
    executions: u64,
    /// Places in the code that were reached, of those that there are, libraries included.
    reached: u64,
    places: u64,
}

/// Feeds each target for its time; one that breaks doesn't keep the others from being fed.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let wish = parse(args)?;
    install()?;
    let outcomes: Vec<_> = wish.targets.iter().map(|target| (*target, wish.feed(target))).collect();
    println!("\n| target | executions | reached | of |\n|---|---|---|---|");
    for (target, outcome) in &outcomes {
        let Report { executions, reached, places } =
            outcome.as_ref().map_or(&Report { executions: 0, reached: 0, places: 0 }, |report| report);
        println!("| {target} | {executions} | {reached} | {places} |");
    }
    let broken: Vec<_> = outcomes.into_iter().filter_map(|(target, outcome)| Some(format!("{target}: {}", outcome.err()?))).collect();
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n")) }
}

fn parse(args: &[String]) -> Result<Wish, String> {
    let mut wish = Wish { targets: Vec::new(), seconds: 60, merge: false };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--merge" => wish.merge = true,
            "--seconds" => {
                let number = args.next().and_then(|number| number.parse().ok());
                wish.seconds = number.ok_or_else(|| format!("`--seconds` needs a number: {USAGE}"))?;
            }
            name => {
                let known = TARGETS.into_iter().find(|target| *target == name);
                wish.targets.push(known.ok_or_else(|| format!("`{name}` is no target; there are {}: {USAGE}", TARGETS.join(", ")))?);
            }
        }
    }
    if wish.targets.is_empty() {
        wish.targets = TARGETS.to_vec();
    }
    Ok(wish)
}

fn install() -> Result<(), String> {
    if command::succeeds(&mut command::cargo(&["fuzz", "--version"])) {
        return Ok(());
    }
    println!("cargo fuzz is missing: installing it (cargo install cargo-fuzz --locked). It needs a C++ compiler, too.");
    command::run(&mut command::cargo(&["install", "cargo-fuzz", "--locked"]))
}

impl Wish {
    fn feed(&self, target: &str) -> Result<Report, String> {
        println!("\n── {target}, {} s ──", self.seconds);
        let (found, seeds) = (format!("fuzz/target/corpus/{target}"), format!("fuzz/corpus/{target}"));
        std::fs::create_dir_all(command::root().join(&found)).map_err(|error| format!("{found}: {error}"))?;
        let time = format!("-max_total_time={}", self.seconds);
        let report = watch(fuzzer(target, &[&found, &seeds]).args([&time, "-print_final_stats=1"]))?;
        if self.merge {
            command::run(fuzzer(target, &[&seeds, &found]).arg("-merge=1"))?;
        }
        Ok(report)
    }
}

/// The fuzzer on these corpora; what it finds goes to the first. An input that takes ten seconds counts as one that breaks.
fn fuzzer(target: &str, corpora: &[&str]) -> Command {
    let mut fuzzer = command::cargo(&["fuzz", "run", "--fuzz-dir", "fuzz", "--sanitizer", "none", target]);
    fuzzer.args(corpora).args(["--", "-max_len=4096", "-timeout=10", "-rss_limit_mb=2048"]).stdin(Stdio::null());
    fuzzer
}

/// Runs it with what it prints in view, and gathers its figures.
fn watch(fuzzer: &mut Command) -> Result<Report, String> {
    let mut child = fuzzer.stderr(Stdio::piped()).spawn().map_err(|error| format!("cargo: {error}"))?;
    let mut report = Report::default();
    for line in child.stderr.take().into_iter().flat_map(|stderr| BufReader::new(stderr).split(b'\n')) {
        let line = line.map_err(|error| format!("what the fuzzer printed: {error}"))?;
        let line = String::from_utf8_lossy(&line);
        report.add(&line);
        eprintln!("{line}");
    }
    let status = child.wait().map_err(|error| format!("cargo: {error}"))?;
    if status.success() {
        Ok(report)
    } else {
        Err(format!("{status}: the input that breaks it is named above, and stays in fuzz/artifacts"))
    }
}

impl Report {
    /// Reads a line as libFuzzer prints it.
    fn add(&mut self, line: &str) {
        let number = |text: &str| text.trim().split([' ', ')']).next().and_then(|number| number.parse().ok());
        let mut take = |mark: &str, place: fn(&mut Self) -> &mut u64| {
            if let Some(number) = line.split_once(mark).and_then(|(_, rest)| number(rest)) {
                *place(self) = number;
            }
        };
        take("stat::number_of_executed_units:", |report| &mut report.executions);
        take(" cov: ", |report| &mut report.reached);
        take("INFO: Loaded 1 modules   (", |report| &mut report.places);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_is_read_word_by_word() {
        let parsed = |words: &[&str]| parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(parsed(&["glob", "--seconds", "5"]), Ok(Wish { targets: vec!["glob"], seconds: 5, merge: false }));
        assert_eq!(parsed(&[]).map(|wish| wish.targets.len()), Ok(TARGETS.len()));
        assert!(parsed(&["golb"]).is_err_and(|problem| problem.contains("decoder")));
        assert!(parsed(&["--seconds"]).is_err());
    }

    #[test]
    fn figures_are_read_as_the_fuzzer_prints_them() {
        let mut report = Report::default();
        for line in [
            "INFO: Loaded 1 modules   (201234 inline 8-bit counters): 201234 [0x1, 0x2), ",
            "#1024\tpulse  cov: 5 ft: 9 corp: 3/12b lim: 4096 exec/s: 512 rss: 44Mb",
            "#2048\tDONE   cov: 2345 ft: 9 corp: 3/12b lim: 4096 exec/s: 512 rss: 44Mb",
            "stat::number_of_executed_units: 2048",
        ] {
            report.add(line);
        }
        assert_eq!(report, Report { executions: 2048, reached: 2345, places: 201_234 });
    }
}
