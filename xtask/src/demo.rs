//! `cargo xtask demo`: builds the program, finds or installs a Redis server, and shows what the one does to the other.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{command, servers};

/// Gives way to `unstale demo`, so that Ctrl-C and the exit code are its own. Returns only if something is missing.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let server = servers::find_or_install_redis()?;
    let program = build()?;
    let error = Command::new(&program).arg("demo").arg("--redis-server").arg(server).args(args).exec();
    Err(format!("can't run {}: {error}", program.display()))
}

/// Builds as it would be installed, and returns where cargo says the binary is.
fn build() -> Result<PathBuf, String> {
    println!("Building unstale (cargo build --release; the first time takes some minutes).");
    let mut cargo = command::cargo(&["build", "--release", "--package", "unstale", "--message-format=json-render-diagnostics"]);
    let messages = command::output(cargo.stdin(Stdio::null()))?;
    executable(&messages).ok_or_else(|| "cargo built no program named unstale".to_owned())
}

/// The path in cargo's message on the binary.
fn executable(messages: &str) -> Option<PathBuf> {
    let parsed = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let built = parsed.filter(|message| message["target"]["name"] == "unstale");
    built.filter_map(|message| message["executable"].as_str().map(PathBuf::from)).next_back()
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
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/unstale")));
    }
}
