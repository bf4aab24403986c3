//! `cargo xtask tidy`: what the layout of the code promises, above all what is *not* there, held against the code itself.
//!
//! Also a test, so that no change gets past it.

mod clauses;
mod conformance;
mod imports;
mod metadata;
mod origins;
pub(crate) mod pages;
mod picture;
mod sources;

use std::path::Path;

use crate::command;
use metadata::Workspace;

/// Prints every broken rule. With `--fix` it redraws the picture of the crates first.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let workspace = Workspace::load()?;
    match args {
        [] => {}
        [fix] if fix == "--fix" => picture::redraw(command::root(), &workspace)?,
        _ => return Err("`tidy` takes nothing but `--fix`".to_owned()),
    }
    let problems = problems(command::root(), &workspace)?;
    if problems.is_empty() {
        println!("tidy: {} crates keep the rules", workspace.packages.len());
        return Ok(());
    }
    Err(format!("the layout breaks its rules:\n{}", problems.join("\n")))
}

/// Every broken rule, as `where: what, and what would be right`.
fn problems(root: &Path, workspace: &Workspace) -> Result<Vec<String>, String> {
    let mut problems = imports::problems(workspace);
    problems.extend(origins::problems(&workspace.foreign));
    problems.extend(picture::problems(root, workspace)?);
    let sources = sources::load(root)?;
    problems.extend(sources::problems(&sources));
    problems.extend(clauses::problems(root, &sources)?);
    problems.extend(conformance::problems(root, &sources)?);
    problems.extend(pages::problems(root)?);
    Ok(problems)
}

#[test]
fn the_code_is_tidy() {
    let workspace = Workspace::load().expect("cargo tells what the workspace holds");
    let problems = problems(command::root(), &workspace).expect("the sources can be read");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}
