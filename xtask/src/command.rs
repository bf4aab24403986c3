//! Running other programs.

use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The directory of the workspace.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace's directory")
}

/// A call of the cargo that runs this, in the workspace. What cargo told this program of its own package is kept from it: builds of dependencies ask for
/// that, and would be made anew at each change from one caller to another, with all that needs them.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    for (name, _) in env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CARGO_PKG_") || name == "CARGO_MANIFEST_DIR") {
        command.env_remove(name);
    }
    command
}

/// Runs to the end with what it prints in view.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("{}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{}: {status}", shown(command))) }
}

/// Runs to the end and returns what it printed.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stderr(Stdio::inherit()).output().map_err(|error| format!("{}: {error}", shown(command)))?;
    if !output.status.success() {
        return Err(format!("{}: {}", shown(command), output.status));
    }
    String::from_utf8(output.stdout).map_err(|_| format!("{}: printed what is no UTF-8", shown(command)))
}

/// Runs to the end with what it prints in view, and hands over each line of its output; returns whether it succeeded.
pub(crate) fn lines(command: &mut Command, mut each: impl FnMut(&str)) -> Result<bool, String> {
    let failed = |command: &Command, error: std::io::Error| format!("{}: {error}", shown(command));
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| failed(command, error))?;
    for line in child.stdout.take().into_iter().flat_map(|stdout| BufReader::new(stdout).lines()) {
        let line = line.map_err(|error| failed(command, error))?;
        each(&line);
        println!("{line}");
    }
    child.wait().map(|status| status.success()).map_err(|error| failed(command, error))
}

/// Whether this runs and succeeds, in silence.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    silent.is_ok_and(|status| status.success())
}

/// The first program of one of these names in the directories of `PATH`.
pub(crate) fn in_path(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).flat_map(|dir| names.iter().map(move |name| dir.join(name))).find(|file| file.is_file())
}

/// Builds a package as it would be installed, and returns where cargo says this binary of it is. Says so on standard error: the output may be a
/// program's to read.
pub(crate) fn build_release(package: &str, binary: &str) -> Result<PathBuf, String> {
    build(&mut cargo(&["build", "--release", "--package", package]), &[], binary)
}

/// The same by a call of cargo that says more, also to the compiler.
pub(crate) fn build(cargo: &mut Command, flags: &[&str], binary: &str) -> Result<PathBuf, String> {
    eprintln!("Building {binary}; the first time takes some minutes.");
    cargo.arg("--message-format=json-render-diagnostics");
    if !flags.is_empty() {
        cargo.arg("--").args(flags);
    }
    let messages = output(cargo.stdin(Stdio::null()))?;
    executable(&messages, binary).ok_or_else(|| format!("cargo built no program named {binary}"))
}

/// The path in cargo's message on the binary.
fn executable(messages: &str, binary: &str) -> Option<PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let built = parsed.filter(|message| message["target"]["name"] == binary);
    built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    format!("`{}`", words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"unstale"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"unstale"},"executable":"/t/release/unstale"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#
        );
        assert_eq!(executable(messages, "unstale"), Some(PathBuf::from("/t/release/unstale")));
    }
}
