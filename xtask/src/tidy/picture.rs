//! The picture of the crates in docs/architecture.md: drawn from `cargo metadata`, and compared with it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use super::imports::{RANKS, rank};
use super::metadata::Workspace;
use crate::page::Part;

const PAGE: &str = "docs/architecture.md";
const PICTURE: Part = Part { page: PAGE, name: "crates" };

/// Compares the page's picture with the crates, line by line.
pub(super) fn problems(root: &Path, workspace: &Workspace) -> Result<Vec<String>, String> {
    Ok(differences(&PICTURE.read(root)?, &draw(workspace)))
}

/// Puts the picture as it should be into the page.
pub(super) fn redraw(root: &Path, workspace: &Workspace) -> Result<(), String> {
    PICTURE.write(root, &draw(workspace))
}

fn differences(shown: &str, drawn: &str) -> Vec<String> {
    let (was, is): (BTreeSet<&str>, BTreeSet<&str>) = (shown.lines().collect(), drawn.lines().collect());
    let extra = was.difference(&is).map(|line| format!("{PAGE}: the picture has `{}`, the code has not", line.trim()));
    let missing = is.difference(&was).map(|line| format!("{PAGE}: the picture lacks `{}`", line.trim()));
    let mut problems: Vec<String> = extra.chain(missing).collect();
    if !problems.is_empty() {
        problems.push(format!("{PAGE}: `cargo xtask tidy --fix` redraws the picture"));
    } else if shown != drawn {
        problems.push(format!("{PAGE}: the picture's lines are out of order: `cargo xtask tidy --fix` redraws it"));
    }
    problems
}

/// A Mermaid graph, the highest rank first. An import that is also reached through another is a dotted line, so that the layers stand out.
fn draw(workspace: &Workspace) -> String {
    let mut picture = "```mermaid\ngraph TD\n".to_owned();
    for name in RANKS.iter().rev().flat_map(|rank| rank.iter()) {
        let imports = workspace.own_imports(name);
        let mut imports: Vec<&str> = imports.into_iter().collect();
        imports.sort_by_key(|import| (std::cmp::Reverse(rank(import)), *import));
        for import in &imports {
            let indirect = imports.iter().any(|other| workspace.reached(other).contains(import));
            let arrow = if indirect { "-.->" } else { "-->" };
            writeln!(picture, "    {name} {arrow} {import}").expect("a String takes everything");
        }
    }
    picture + "```\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::Package;

    fn workspace() -> Workspace {
        let mut workspace = Workspace::default();
        for (name, imports) in [("events", &[][..]), ("router", &["events"]), ("sink", &["events", "router", "serde"])] {
            let imports: BTreeSet<String> = imports.iter().map(|name| (*name).to_owned()).collect();
            workspace.built_with.insert(name.to_owned(), imports.clone());
            workspace.packages.insert(name.to_owned(), Package { imports, ..Package::default() });
        }
        workspace
    }

    #[test]
    fn arrows_are_imports() {
        let drawn = "```mermaid\ngraph TD\n    sink --> router\n    sink -.-> events\n    router --> events\n```\n";
        assert_eq!(draw(&workspace()), drawn);
    }

    #[test]
    fn a_wrong_picture_is_told_line_by_line() {
        let shown = draw(&workspace()).replace("router --> events", "router --> batcher");
        let problems = differences(&shown, &draw(&workspace()));
        assert!(problems[0].contains("has `router --> batcher`"), "{problems:?}");
        assert!(problems[1].contains("lacks `router --> events`"), "{problems:?}");
        assert!(differences(&draw(&workspace()), &draw(&workspace())).is_empty());
    }
}
