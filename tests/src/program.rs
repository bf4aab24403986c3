//! The program under test: where it is, and running it to its end.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The `unstale` that tests run: `$UNSTALE_BINARY`, or the one of this workspace, built (once a process) as these tests were.
///
/// # Panics
/// If it can't be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match env::var_os("UNSTALE_BINARY").filter(|path| !path.is_empty()) {
        Some(path) => PathBuf::from(path),
        None => build(&["--package", "unstale"], "unstale"),
    })
}

/// An example of the client, built as these tests were, unless it lies in `$UNSTALE_EXAMPLES`.
///
/// # Panics
/// If it can't be built.
pub fn example(name: &str) -> PathBuf {
    let built = env::var_os("UNSTALE_EXAMPLES").map(|directory| Path::new(&directory).join(name)).filter(|path| path.is_file());
    built.unwrap_or_else(|| build(&["--package", "unstale-client", "--example", name], &format!("examples/{name}")))
}

/// A test is `<target>/<profile>/deps/e2e-…`, the program `<target>/<profile>/unstale`.
fn build(what: &[&str], file: &str) -> PathBuf {
    let test = env::current_exe().expect("a process knows its program");
    let [Some(profile_dir), Some(target_dir)] = [test.ancestors().nth(2), test.ancestors().nth(3)] else {
        panic!("{} is in no target directory", test.display());
    };
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--profile", profile, "--manifest-path", manifest]).args(what);
    command.arg("--target-dir").arg(target_dir).stdin(Stdio::null());
    // Builds of dependencies ask for what cargo told this test of its package, and would be made anew, with all that needs them.
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CARGO_PKG_") || name == "CARGO_MANIFEST_DIR") {
        command.env_remove(name);
    }
    let output = command.output().unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(output.status.success(), "{file} can't be built:\n{}", String::from_utf8_lossy(&output.stderr));
    profile_dir.join(file)
}

/// How a run of the program ended, and what it said.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs the program to its end, with these arguments and no environment but this one.
///
/// # Panics
/// If it can't be run.
pub fn run(args: &[&str], environment: &[(&str, &str)]) -> Outcome {
    Outcome::of(command(Path::new(".")).args(args).envs(environment.iter().copied()))
}

impl Outcome {
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{}: {error}", program().display()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

/// The program in a directory, without what the environment of the tests may say to it.
pub(crate) fn command(dir: &Path) -> Command {
    without_environment(Command::new(program()), dir)
}

/// The same in a network namespace, by `ip netns`.
pub(crate) fn command_within(network: &str, dir: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", network]).arg(program());
    without_environment(command, dir)
}

fn without_environment(mut command: Command, dir: &Path) -> Command {
    command.current_dir(dir).env_clear();
    for name in ["PATH", "HOME", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
        if let Some(value) = env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}
