//! Receivers written in Python and for Node, and programs that look at `deploy/`: run with what `cargo xtask python`, `node` and `helm` fetch.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The interpreter: `$UNSTALE_PYTHON`, or what `cargo xtask python` says.
///
/// # Panics
/// If it can't be had, with what xtask said.
pub fn python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| fetched("UNSTALE_PYTHON", "python"))
}

/// A program that came with one of its packages.
///
/// # Panics
/// If there is no such Python, with what xtask said.
pub fn python_tool(name: &str) -> PathBuf {
    python().with_file_name(name)
}

/// Helm: `$UNSTALE_HELM`, or what `cargo xtask helm` says.
///
/// # Panics
/// If there is none, with what xtask said.
pub fn helm() -> &'static Path {
    static HELM: OnceLock<PathBuf> = OnceLock::new();
    HELM.get_or_init(|| fetched("UNSTALE_HELM", "helm"))
}

/// The directory with Node's packages: `$UNSTALE_NODE_MODULES`, or what `cargo xtask node` says.
///
/// # Panics
/// If it can't be had, with what xtask said.
pub fn node_modules() -> &'static Path {
    static MODULES: OnceLock<PathBuf> = OnceLock::new();
    MODULES.get_or_init(|| fetched("UNSTALE_NODE_MODULES", "node"))
}

/// What an environment variable names, or else what xtask fetches or makes when it is given this task.
///
/// # Panics
/// If it can't be had, with what xtask said.
pub fn fetched(variable: &str, task: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable).filter(|path| !path.is_empty()) {
        return path.into();
    }
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new(cargo).args(["run", "--quiet", "--package", "xtask", "--", task]).current_dir(root).output();
    let output = output.unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// What a script in Python prints, run to its end; modules are also found in this directory.
///
/// # Panics
/// If it fails, with what it said.
pub fn run_python(text: &str, modules: &Path) -> String {
    let output = interpreter(text, modules).output().unwrap_or_else(|error| panic!("python: {error}"));
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn interpreter(text: &str, modules: &Path) -> Command {
    let mut command = Command::new(python());
    command.env("PYTHONPATH", modules).env("PYTHONDONTWRITEBYTECODE", "1").args(["-c", text]);
    command
}

/// A script that answers each line of its input with a line.
#[derive(Debug)]
pub struct Script(Child);

impl Script {
    /// Starts one in Python; modules are also found in these directories.
    ///
    /// # Panics
    /// If it can't be, with what xtask said.
    pub fn python(text: &str, args: &[&str], modules: &Path) -> Self {
        Self::start(interpreter(text, modules).args(args))
    }

    /// Starts one in Node, as a module. Packages are imported by their names.
    ///
    /// # Panics
    /// If it can't be, with what xtask said.
    pub fn node(text: &str, args: &[&str]) -> Self {
        Self::node_in(node_modules(), text, args)
    }

    /// Starts one in Node that imports Bentocache.
    ///
    /// # Panics
    /// As [`Script::node`].
    pub fn bentocache(text: &str, args: &[&str]) -> Self {
        Self::node_in(&node_modules().join("bentocache"), text, args)
    }

    fn node_in(dir: &Path, text: &str, args: &[&str]) -> Self {
        // Where a module finds packages depends on where it runs.
        Self::start(Command::new("node").current_dir(dir).args(["--input-type=module", "--eval", text, "--"]).args(args))
    }

    fn start(command: &mut Command) -> Self {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        Self(started.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Its answer.
    ///
    /// # Panics
    /// If it has ended.
    pub fn ask(&mut self, line: &str) -> String {
        let input = self.0.stdin.as_mut().expect("it was given one");
        writeln!(input, "{line}").expect("the script reads");
        let output = self.0.stdout.as_mut().expect("it was given one");
        let mut answer = String::new();
        // A line at a time, and nothing behind it is waiting: it answers what it is asked.
        BufReader::new(output).read_line(&mut answer).expect("the script answers");
        assert!(!answer.is_empty(), "the script has ended");
        answer.trim_end().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
