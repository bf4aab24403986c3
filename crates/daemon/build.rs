//! Tells the compiler which commit it builds: what `UNSTALE_COMMIT` says, or git of this directory.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn main() {
    println!("cargo::rerun-if-env-changed=UNSTALE_COMMIT");
    let commit = std::env::var("UNSTALE_COMMIT").ok().or_else(commit);
    println!("cargo::rustc-env=BUILT_COMMIT={}", commit.as_deref().unwrap_or("unknown"));
}

/// Short, and with `-dirty` if not all of it is committed.
fn commit() -> Option<String> {
    watch()?;
    // What was unpacked somewhere in another repository isn't of its commit.
    git(&["ls-files", "--error-unmatch", "Cargo.toml"])?;
    git(&["describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])
}

/// Has cargo ask again after whatever changes the answer: another commit, wherever git notes it, and other sources.
fn watch() -> Option<()> {
    for note in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", note])?;
        // Of what isn't there cargo would think that it changes all the time.
        if Path::new(&path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for package in fs::read_dir("..").ok()? {
        println!("cargo::rerun-if-changed={}", package.ok()?.path().join("src").display());
    }
    Some(())
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).stdin(Stdio::null()).output().ok()?;
    let printed = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| printed.trim().to_owned())
}
