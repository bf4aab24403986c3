//! What every source file has, and what none has.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The one file that names metrics.
const METRICS: &str = "crates/pipeline/src/metrics.rs";

/// Half-done work and switched-off tests, and why they may not stay. In pieces, or this file would break its own rule.
const UNWANTED: [(&str, &str); 6] = [
    (concat!("#[", "ignore"), "a test that doesn't run shows nothing"),
    (concat!("to", "do!("), "finish it, or leave it out"),
    (concat!("unimple", "mented!("), "finish it, or leave it out"),
    (concat!("TO", "DO"), "finish it, or open an issue"),
    (concat!("FIX", "ME"), "finish it, or open an issue"),
    (concat!("dbg", "!("), "left over from debugging"),
];

/// A source file, by its path in the workspace.
pub(super) struct Source {
    pub(super) path: String,
    pub(super) text: String,
}

/// All source files, by their paths.
pub(super) fn load(root: &Path) -> Result<Vec<Source>, String> {
    let mut sources = Vec::new();
    for dir in ["bench", "crates", "fuzz", "soak", "steps", "tests", "xtask"] {
        collect(root, &root.join(dir), &mut sources)?;
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(sources)
}

pub(super) fn problems(sources: &[Source]) -> Vec<String> {
    let mut problems: Vec<String> = sources.iter().flat_map(|source| unopened(source).into_iter().chain(unwanted(source))).collect();
    problems.extend(metric_names(sources));
    problems
}

fn collect(root: &Path, dir: &Path, sources: &mut Vec<Source>) -> Result<(), String> {
    let failed = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    for entry in fs::read_dir(dir).map_err(|error| failed(dir, error))? {
        let path: PathBuf = entry.map_err(|error| failed(dir, error))?.path();
        if path.is_dir() && !path.ends_with("target") {
            collect(root, &path, sources)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).map_err(|error| failed(&path, error))?;
            let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            sources.push(Source { path, text });
        }
    }
    Ok(())
}

fn unopened(source: &Source) -> Option<String> {
    let opened = source.text.starts_with("//! ");
    (!opened).then(|| format!("{}:1: begin the module with `//!` and what it is", source.path))
}

fn unwanted(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in (1..).zip(source.text.lines()) {
        let here = UNWANTED.iter().filter(|(text, _)| line.contains(text));
        found.extend(here.map(|(text, why)| format!("{}:{number}: `{text}`: {why}", source.path)));
    }
    found
}

/// Metric names outside their one file, tests and benchmark aside: they read the page as its users do.
fn metric_names(sources: &[Source]) -> Vec<String> {
    let names: BTreeSet<&str> =
        sources.iter().filter(|source| source.path == METRICS).flat_map(|source| quoted_names(program(source))).collect();
    let is_reader = |path: &str| path.contains("/tests") || path.starts_with("bench/");
    let others = sources.iter().filter(|source| source.path != METRICS && source.path.contains("/src/") && !is_reader(&source.path));
    let found = others
        .flat_map(|source| quoted_names(program(source)).into_iter().filter(|name| names.contains(name)).map(move |name| (source, name)));
    let mut problems: Vec<String> =
        found.map(|(source, name)| format!("{}: names the metric {name}: only {METRICS} does", source.path)).collect();
    if names.is_empty() {
        problems.push(format!("{METRICS}: names no metrics: tell xtask/src/tidy/sources.rs where they are now"));
    }
    problems
}

/// A file without the tests at its end.
fn program(source: &Source) -> &str {
    source.text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default()
}

/// The texts `unstale_…` that stand in quotes.
fn quoted_names(text: &str) -> Vec<&str> {
    let candidates = text.split('"').filter(|quoted| quoted.starts_with("unstale_"));
    candidates.filter(|quoted| quoted.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn every_module_opens_with_what_it_is() {
        assert!(unopened(&source("a.rs", "//! A module.\n")).is_none());
        assert!(unopened(&source("a.rs", "use std::fs;\n")).is_some());
    }

    #[test]
    fn half_done_work_is_found_with_its_line() {
        let text = format!("fn f() {{\n    {}\n}}\n", concat!("to", "do!()"));
        assert!(unwanted(&source("a.rs", &text))[0].starts_with("a.rs:2: "));
    }

    #[test]
    fn metric_names_stand_in_one_file() {
        let metrics = || source(METRICS, r#"counter("unstale_reader")"#);
        assert!(metric_names(&[metrics(), source("crates/x/src/a.rs", r#"use unstale_reader; f("unstale_events")"#)]).is_empty());
        assert!(metric_names(&[metrics(), source("crates/x/src/a.rs", "#[cfg(test)]\nmod tests { \"unstale_reader\" }")]).is_empty());
        assert_eq!(metric_names(&[metrics(), source("crates/x/src/a.rs", r#"f("unstale_reader")"#)]).len(), 1);
        assert_eq!(metric_names(&[source(METRICS, "")]).len(), 1, "a rule that looks at nothing is none");
    }
}
