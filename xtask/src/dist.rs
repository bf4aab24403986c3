//! `cargo xtask dist`: what a release is handed out as: the static program with its manual pages, completions, documentation and `deploy/`, in an archive; beside it
//! the bill of materials and the checksums. The same commit makes the same archive, by the same toolchain at the same place:
//! this was tried by compiling and linking the program anew, its dependencies left as they were.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::release::{self, Release};
use crate::{command, sbom};

/// What is taken along as it is.
const ALONG: [&str; 3] = ["README.md", "docs", "deploy"];
/// The completions, each with the name by which its shell finds it.
const SHELLS: [(&str, &str); 3] = [("bash", "unstale"), ("zsh", "_unstale"), ("fish", "unstale.fish")];

/// Makes it, below `target/dist`.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err("`dist` takes nothing".to_owned());
    }
    let release = release::build()?;
    let architecture = release.triple.split('-').next().unwrap_or_default();
    let name = format!("unstale-{}-linux-{architecture}", release.version);
    let place = command::root().join("target/dist");
    if place.exists() {
        fs::remove_dir_all(&place).map_err(|error| format!("{}: {error}", place.display()))?;
    }
    let content = place.join(&name);
    lay_out(&release, &content)?;
    let bill = format!("{name}.cdx.json");
    let text = serde_json::to_string_pretty(&sbom::of(&release)?).map_err(|error| error.to_string())?;
    fs::write(place.join(&bill), text).map_err(|error| format!("{}: {error}", place.display()))?;
    let archive = format!("{name}.tar.gz");
    pack(&release, &place, &name, &archive)?;
    let sums = command::output(Command::new("sha256sum").args([&archive, &bill]).current_dir(&place))?;
    fs::write(place.join("SHA256SUMS"), &sums).map_err(|error| format!("{}: {error}", place.display()))?;
    println!("{sums}are in {}, of {}.", place.display(), release.commit.name);
    Ok(())
}

/// The content of the archive.
fn lay_out(release: &Release, content: &Path) -> Result<(), String> {
    let completions = content.join("completions");
    fs::create_dir_all(&completions).map_err(|error| format!("{}: {error}", completions.display()))?;
    let program = content.join("unstale");
    fs::copy(&release.program, &program).map_err(|error| format!("{}: {error}", program.display()))?;
    command::run(Command::new("cp").arg("--recursive").args(ALONG).arg(content).current_dir(command::root()))?;
    command::run(Command::new(&program).args(["man", "--dir"]).arg(content.join("man/man1")))?;
    for (shell, file) in SHELLS {
        let script = command::output(Command::new(&program).args(["completions", shell]))?;
        fs::write(completions.join(file), script).map_err(|error| format!("{}: {error}", completions.display()))?;
    }
    Ok(())
}

/// In an order, with times and owners that depend on nothing but the commit.
fn pack(release: &Release, place: &Path, name: &str, archive: &str) -> Result<(), String> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--use-compress-program=gzip --no-name -9", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"]);
    tar.args(["--mode=u=rwX,go=rX", &format!("--mtime=@{}", release.commit.seconds), "--file", archive, name]);
    command::run(tar.current_dir(place))
}
