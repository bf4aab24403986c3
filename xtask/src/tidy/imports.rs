//! Who may depend on whom, and on what.

use super::metadata::Workspace;

/// The ranks of the crates, the lowest first: a crate imports from lower ranks only.
pub(super) const RANKS: [&[&str]; 5] =
    [&["events"], &["router", "batcher", "connect"], &["source", "sink", "notices"], &["pipeline", "client"], &["daemon"]];

/// Crates beside the ranks: no crate of the program is built with them, and they are built with none of it.
const TOOLS: [&str; 6] = ["bench", "soak", "steps", "testkit", "tests", "xtask"];

/// The tools that may be built with all of it: the benchmark, the end-to-end tests and the soak look at the whole program from outside, the steps at its
/// parts.
const ABOVE_ALL: [&str; 4] = ["bench", "soak", "steps", "tests"];

/// What only one crate may name, so that it can be replaced.
const KEPT_TO: [(&str, &str); 2] = [("fred", "connect"), ("figment", "daemon")];

/// Crates that are pure, and what they may not even reach through others.
const PURE: [&str; 3] = ["events", "router", "batcher"];
const IMPURE: &str = "tokio";

pub(super) fn problems(workspace: &Workspace) -> Vec<String> {
    let mut problems = Vec::new();
    for name in workspace.packages.keys() {
        problems.extend(unranked(name));
        problems.extend(upward(workspace, name));
        problems.extend(kept(workspace, name));
    }
    problems.extend(PURE.into_iter().filter(|name| workspace.reached(name).contains(IMPURE)).map(|name| {
        format!("crates/{name}/Cargo.toml: builds with {IMPURE}, but {name} is pure: `cargo tree -p unstale-{name} -i {IMPURE} -e normal` shows why")
    }));
    problems
}

pub(super) fn rank(name: &str) -> Option<usize> {
    RANKS.iter().position(|rank| rank.contains(&name))
}

fn unranked(name: &str) -> Option<String> {
    let known = rank(name).is_some() || TOOLS.contains(&name);
    (!known).then(|| format!("crates/{name}: has no rank: give it one in xtask/src/tidy/imports.rs and in docs/architecture.md"))
}

fn upward(workspace: &Workspace, name: &str) -> Vec<String> {
    let allowed = |import: &str| ABOVE_ALL.contains(&name) || rank(import).is_some_and(|below| rank(name).is_some_and(|own| below < own));
    let wrong = workspace.own_imports(name).into_iter().filter(|import| !allowed(import));
    wrong.map(|import| format!("{name} imports {import}, which is not of a lower rank (ranks: {})", shown_ranks())).collect()
}

fn kept(workspace: &Workspace, name: &str) -> Vec<String> {
    let package = &workspace.packages[name];
    let names = |dependency: &str| package.imports.contains(dependency) || package.test_imports.contains(dependency);
    let wrong = KEPT_TO.into_iter().filter(|(dependency, owner)| names(dependency) && *owner != name);
    wrong.map(|(dependency, owner)| format!("{name} depends on {dependency}: only {owner} may, use what it offers")).collect()
}

fn shown_ranks() -> String {
    RANKS.map(|rank| rank.join(", ")).join(" · ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tidy::metadata::Package;

    fn workspace(crates: &[(&str, &[&str])]) -> Workspace {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let package = |imports: &[&str]| Package { imports: set(imports), ..Package::default() };
        Workspace {
            packages: crates.iter().map(|(name, imports)| ((*name).to_owned(), package(imports))).collect(),
            built_with: crates.iter().map(|(name, imports)| ((*name).to_owned(), set(imports))).collect(),
            ..Workspace::default()
        }
    }

    #[track_caller]
    fn broken(crates: &[(&str, &[&str])]) -> String {
        let problems = problems(&workspace(crates));
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems[0].clone()
    }

    #[test]
    fn imports_go_strictly_down() {
        assert!(problems(&workspace(&[("events", &[]), ("router", &["events"]), ("sink", &["router", "events"])])).is_empty());
        assert!(broken(&[("events", &["router"]), ("router", &[])]).contains("events imports router"));
        assert!(broken(&[("batcher", &["router"]), ("router", &[])]).contains("batcher imports router"));
    }

    #[test]
    fn nothing_of_the_program_is_built_with_the_tools() {
        assert!(broken(&[("source", &["testkit"]), ("testkit", &[])]).contains("source imports testkit"));
        assert!(broken(&[("testkit", &["connect"]), ("connect", &[])]).contains("testkit imports connect"));
        assert!(broken(&[("daemon", &["tests"]), ("tests", &["daemon"])]).contains("daemon imports tests"));
    }

    #[test]
    fn a_new_crate_needs_a_rank() {
        assert!(broken(&[("novel", &[])]).contains("novel"));
    }

    #[test]
    fn some_dependencies_are_kept_to_one_crate() {
        assert!(problems(&workspace(&[("connect", &["fred"]), ("daemon", &["figment"])])).is_empty());
        assert!(broken(&[("sink", &["fred"])]).contains("only connect"));
    }

    #[test]
    fn pure_crates_do_not_reach_tokio_through_others() {
        let mut workspace = workspace(&[("events", &["serde"])]);
        assert!(problems(&workspace).is_empty());
        workspace.built_with.insert("serde".to_owned(), ["tokio".to_owned()].into());
        assert!(problems(&workspace)[0].contains("events is pure"));
    }
}
