//! The consumer in C that the benchmark runs beside the program: built from `bench/peers/drain.c` to a directory below `target`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::{command, servers};

/// Names the consumer's binary; the benchmark looks at it, too.
pub(crate) const VARIABLE: &str = "UNSTALE_C_PEER";

/// `cargo xtask c-peer`: says where it is.
pub(crate) fn run() -> Result<(), String> {
    println!("{}", find_or_make()?.display());
    Ok(())
}

/// The binary: `$UNSTALE_C_PEER`, or one that is built now unless it is newer than its source.
pub(crate) fn find_or_make() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(named.into());
    }
    let (source, dir) = (command::root().join("bench/peers/drain.c"), command::root().join("target/bench"));
    let binary = dir.join("drain");
    if changed(&binary).is_some_and(|built| changed(&source).is_some_and(|written| written < built)) {
        return Ok(binary);
    }
    fs::create_dir_all(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if !Path::new("/usr/include/hiredis/hiredis.h").is_file() || command::in_path(&["cc"]).is_none() {
        let by_hand = |problem| {
            format!("{problem}\nInstall a C compiler and the library hiredis, or let {VARIABLE} name bench/peers/drain.c, built.")
        };
        servers::install_packages(&["gcc", "libc6-dev", "libhiredis-dev"]).map_err(by_hand)?;
    }
    command::run(Command::new("cc").args(["-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&binary).arg(&source).arg("-lhiredis"))?;
    Ok(binary)
}

fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}
