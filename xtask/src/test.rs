//! `cargo xtask test`: everything that must hold before a change is pushed, in one command that needs nothing prepared.

use std::env;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{c_peer, command, counts, helm, node, python, servers, tidy, versions};

/// One thing that must hold.
struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Path) -> Result<(), String>,
}

/// What is quick to tell comes first. `test` builds what `build` has left to build: nothing, so that its time is the tests' own.
const STEPS: [Step; 7] = [
    Step { name: "fmt", what: "the code is formatted", run: |_| cargo(&["fmt", "--all", "--", "--check"]) },
    Step { name: "tidy", what: "the layout of the code keeps its rules", run: |_| tidy::run(&[]) },
    Step { name: "clippy", what: "no warnings", run: |_| cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]) },
    Step { name: "counts", what: "no step of an event takes more instructions than it did", run: |_| counts::run(&[]) },
    Step { name: "build", what: "the tests compile", run: |server| tests(server, &["--workspace", "--no-run"]) },
    Step { name: "test", what: "the tests pass", run: |server| tests(server, &["--workspace", "--no-fail-fast"]) },
    Step { name: "doc", what: "the documentation has no broken links", run: |_| doc() },
];

/// What became of a step.
struct Outcome {
    name: &'static str,
    took: Duration,
    result: Result<(), String>,
}

/// Runs the named steps, or all; or, with `--servers LIST`, the tests that talk to Redis on several versions of it.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["--servers", list] => versions::run(list, false),
        ["--servers", list, "--record"] => versions::run(list, true),
        _ => steps(args),
    }
}

/// A step that fails doesn't keep the others from being run: one run tells all.
fn steps(names: &[String]) -> Result<(), String> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        return Err(format!("`{unknown}` is no step; there are {}", STEPS.map(|step| step.name).join(", ")));
    }
    complete_toolchain()?;
    let server = servers::find_or_install_redis()?;
    servers::find_or_install_programs();
    println!("Tests run on {}.", server.display());
    let chosen = STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name));
    let outcomes: Vec<Outcome> = chosen.map(|step| step.run(&server)).collect();
    summarize(&outcomes)
}

/// A toolchain installed by rustup's minimal profile lacks two components.
fn complete_toolchain() -> Result<(), String> {
    for (subcommand, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !command::succeeds(&mut command::cargo(&[subcommand, "--version"])) {
            println!("cargo {subcommand} is missing: installing it (rustup component add {component}).");
            let install = command::run(Command::new("rustup").args(["component", "add", component]).current_dir(command::root()));
            install.map_err(|why| format!("{why}\nInstall {component} beside cargo by the means that cargo came by."))?;
        }
    }
    Ok(())
}

impl Step {
    fn run(&self, server: &Path) -> Outcome {
        println!("\n── {}: {} ──", self.name, self.what);
        let started = Instant::now();
        let result = (self.run)(server);
        Outcome { name: self.name, took: started.elapsed(), result }
    }
}

fn summarize(outcomes: &[Outcome]) -> Result<(), String> {
    println!("\n── summary ──");
    for Outcome { name, took, result } in outcomes {
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("{name:8} {word:8} {:7.1} s", took.as_secs_f64());
    }
    println!("{:8} {:8} {:7.1} s", "all", "", outcomes.iter().map(|outcome| outcome.took).sum::<Duration>().as_secs_f64());
    let failed: Vec<String> =
        outcomes.iter().filter_map(|outcome| outcome.result.as_ref().err().map(|why| format!("{}: {why}", outcome.name))).collect();
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\n")) }
}

fn cargo(args: &[&str]) -> Result<(), String> {
    command::run(&mut command::cargo(args))
}

fn tests(server: &Path, args: &[&str]) -> Result<(), String> {
    command::run(on(server)?.args(args))
}

/// `cargo test` against a server. The program and the examples lie beside this one: cargo builds them together with the tests of their own packages. Told so,
/// the end-to-end tests don't build them again.
pub(crate) fn on(server: &Path) -> Result<Command, String> {
    let this = env::current_exe().map_err(|error| format!("this program's path: {error}"))?;
    let (program, examples) = (this.with_file_name("unstale"), this.with_file_name("examples"));
    let mut tests = command::cargo(&["test"]);
    tests.env(servers::VARIABLE, server).env("UNSTALE_BINARY", program).env("UNSTALE_EXAMPLES", examples);
    tests.env(python::VARIABLE, python::find_or_make()?).env(node::VARIABLE, node::find_or_make()?);
    tests.env(c_peer::VARIABLE, c_peer::find_or_make()?).env(helm::VARIABLE, helm::find_or_make()?);
    Ok(tests)
}

fn doc() -> Result<(), String> {
    command::run(command::cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}
