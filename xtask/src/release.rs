//! The program as it is shipped: static, so that it needs no system beneath it, and knowing its commit.
//!
//! Static by glibc, which the toolchain brings no second target for. What glibc can load only at run time it has built in since 2.34: `files` and `dns`, by
//! which names are looked up. `cargo xtask image --check` shows that this is so.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::command;

/// What was built.
pub(crate) struct Release {
    pub(crate) program: PathBuf,
    /// As the workspace says.
    pub(crate) version: String,
    pub(crate) commit: Commit,
    /// As rustc names it.
    pub(crate) triple: String,
}

/// What was built from.
pub(crate) struct Commit {
    /// Short, and with `-dirty` if not all of it is committed.
    pub(crate) name: String,
    /// When it was made, in seconds since 1970: what is packed is the same whenever it is packed.
    pub(crate) seconds: u64,
}

/// Builds it.
pub(crate) fn build() -> Result<Release, String> {
    let triple = host()?;
    if !triple.ends_with("-linux-gnu") {
        return Err(format!("this builds for Linux with glibc, on such a machine; here it is {triple}"));
    }
    let commit = commit()?;
    let mut cargo = command::cargo(&["rustc", "--release", "--locked", "--package", "unstale", "--bin", "unstale"]);
    cargo.env("UNSTALE_COMMIT", &commit.name);
    // The crates are those of every build; only how they are put together differs.
    let program = command::build(&mut cargo, &["-C", "target-feature=+crt-static"], "unstale")?;
    let linked = command::output(Command::new("ldd").arg(&program))?;
    if !linked.contains("statically linked") {
        return Err(format!("{} needs libraries:\n{linked}", program.display()));
    }
    let printed = command::output(Command::new(&program).arg("--version"))?;
    let version = printed.split_whitespace().nth(1).ok_or_else(|| format!("`--version` printed `{printed}`"))?.to_owned();
    Ok(Release { program, version, commit, triple })
}

fn host() -> Result<String, String> {
    let printed = command::output(Command::new("rustc").arg("-vV").current_dir(command::root()))?;
    let host = printed.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| format!("`rustc -vV` names no host: {printed}"))
}

fn commit() -> Result<Commit, String> {
    let git = |args: &[&str]| command::output(Command::new("git").args(args).current_dir(command::root()).stdin(Stdio::null()));
    let name = git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])?.trim().to_owned();
    let seconds = git(&["log", "-1", "--format=%ct"])?;
    let seconds = seconds.trim().parse().map_err(|_| format!("`git log` printed no time: {seconds}"))?;
    Ok(Commit { name, seconds })
}
