//! `cargo xtask soak` and `cargo xtask kills`: build the program and the tool that torments it, as they would be installed, and give way to the tool.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::{command, servers};

/// Gives way to the tool, so that Ctrl-C and the exit code are its own. Returns only if something is missing.
pub(crate) fn run(name: &str, args: &[String]) -> Result<(), String> {
    let server = servers::find_or_install_redis()?;
    let program = command::build_release("unstale", "unstale")?;
    let tool = command::build_release("unstale-soak", "soak")?;
    let error = Command::new(&tool).arg(name).args(args).env(servers::VARIABLE, server).env("UNSTALE_BINARY", program).exec();
    Err(format!("can't run {}: {error}", tool.display()))
}
