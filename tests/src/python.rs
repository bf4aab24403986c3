//! Receivers written in Python, run by the one that `cargo xtask python` makes.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// The interpreter: `$UNSTALE_PYTHON`, or what `cargo xtask python` says.
///
/// # Panics
/// If there is none, with what xtask said.
pub fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| match env::var_os("UNSTALE_PYTHON").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => make(),
    })
}

fn make() -> PathBuf {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Command::new(cargo).args(["run", "--quiet", "--package", "xtask", "--", "python"]).current_dir(root).output();
    let output = output.unwrap_or_else(|error| panic!("cargo: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// A script that answers each line of its input with a line.
#[derive(Debug)]
pub struct Script(Child);

impl Script {
    /// Starts it.
    ///
    /// # Panics
    /// If it can't be.
    pub fn start(text: &str, args: &[&str]) -> Self {
        let mut command = Command::new(python());
        command.args(["-c", text]).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        Self(command.spawn().unwrap_or_else(|error| panic!("{}: {error}", python().display())))
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
