//! `cargo xtask demo`: builds the program, finds or installs a Redis server, and shows what the one does to the other.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::{command, servers};

/// Gives way to `unstale demo`, so that Ctrl-C and the exit code are its own. Returns only if something is missing.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let server = servers::find_or_install_redis()?;
    let program = command::build_release("unstale", "unstale")?;
    let error = Command::new(&program).arg("demo").arg("--redis-server").arg(server).args(args).exec();
    Err(format!("can't run {}: {error}", program.display()))
}
