//! `cargo xtask bench`: builds the program and its benchmark as they would be installed, has all that it is compared with, and runs it.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::page::Part;
use crate::{c_peer, command, node, python, servers};

/// Where a whole run is written down.
const RECORD: Part = Part { page: "docs/benchmarks.md", name: "benchmarks" };

/// Gives way to the benchmark, so that Ctrl-C and the exit code are its own, unless its output is to be written down.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let (flags, rest): (Vec<&String>, Vec<&String>) = args.iter().partition(|arg| *arg == "--record");
    let mut bench = prepared()?;
    bench.args(&rest);
    if flags.is_empty() {
        let error = bench.exec();
        return Err(format!("can't run {}: {error}", bench.get_program().display()));
    }
    let printed = command::output(bench.arg("--whole"))?;
    print!("{printed}");
    RECORD.write(command::root(), &format!("\n{printed}"))
}

/// The benchmark, told where everything is that it needs.
fn prepared() -> Result<Command, String> {
    let server = servers::find_or_install_redis()?;
    let (peer, python, modules) = (c_peer::find_or_make()?, python::find_or_make()?, node::find_or_make()?);
    let program = command::build_release("unstale", "unstale")?;
    let mut bench = Command::new(command::build_release("unstale-bench", "bench")?);
    bench.env(servers::VARIABLE, server).env("UNSTALE_BINARY", program);
    bench.env(c_peer::VARIABLE, peer).env(python::VARIABLE, python).env(node::VARIABLE, modules);
    Ok(bench)
}
