//! The packages of Node that tests of receivers and the benchmark import, in a directory below `target`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{command, servers};

/// Names a directory with these packages in its `node_modules`; tests look at it, too.
pub(crate) const VARIABLE: &str = "UNSTALE_NODE_MODULES";

/// What they import.
const PACKAGES: [&str; 5] = ["@msgpack/msgpack@3.1.3", "express@5.3.0", "ioredis@6.0.0", "lru-cache@11.5.3", "redis@6.3.1"];

/// What is in a directory of its own below that, `bentocache`: it wants an older ioredis.
const BENTOCACHE: [&str; 2] = ["bentocache@1.6.1", "ioredis@5.11.1"];

/// `cargo xtask node`: says where it is.
pub(crate) fn run() -> Result<(), String> {
    println!("{}", find_or_make()?.display());
    Ok(())
}

/// The directory: `$UNSTALE_NODE_MODULES`, or one that is filled now unless it was before.
pub(crate) fn find_or_make() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(named.into());
    }
    let place = command::root().join("target/node");
    let (stamp, wanted) = (place.join("packages"), [&PACKAGES[..], &BENTOCACHE].concat().join("\n"));
    if fs::read_to_string(&stamp).is_ok_and(|has| has == wanted) {
        return Ok(place);
    }
    install_npm()?;
    // What was asked for before would have a say in what fits together.
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    install(&place, &PACKAGES)?;
    install(&place.join("bentocache"), &BENTOCACHE)?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(place)
}

fn install(place: &Path, packages: &[&str]) -> Result<(), String> {
    eprintln!("Fetching {} to {}.", packages.join(", "), place.display());
    fs::create_dir_all(place).map_err(|error| format!("{}: {error}", place.display()))?;
    let install = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
    command::run(Command::new("npm").args(install).arg(place).args(packages))
}

/// Has npm here.
pub(crate) fn install_npm() -> Result<(), String> {
    if command::in_path(&["npm"]).is_some() {
        return Ok(());
    }
    servers::install_packages(&["npm"]).map_err(|problem| format!("{problem}\nInstall Node 20 or newer with npm."))
}
