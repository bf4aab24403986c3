//! The table of `docs/conformance.md` has a row for each scenario of the suite and for each test elsewhere that is named for it, and no other.

use std::collections::BTreeSet;
use std::path::Path;

use super::sources::Source;
use crate::conformance::{ELSEWHERE, SUITE, Scenario, TABLE, scenario, shown};

const HOW: &str = "`cargo xtask conformance --record` makes the table anew";

pub(super) fn problems(root: &Path, sources: &[Source]) -> Result<Vec<String>, String> {
    let shown = shown(&TABLE.read(root)?);
    let mut problems = compared(&scenarios(sources), &shown);
    let lost = ELSEWHERE.iter().filter(|test| {
        let there = |source: &&Source| source.path == test.file && source.text.contains(&format!("fn {}()", test.name()));
        !sources.iter().any(|source| there(&source))
    });
    problems.extend(lost.map(|test| format!("xtask/src/conformance.rs: there is no test {} in {}", test.name(), test.file)));
    Ok(problems)
}

fn scenarios(sources: &[Source]) -> BTreeSet<Scenario> {
    let suite = sources.iter().filter_map(|source| Some((source.path.strip_prefix(SUITE)?.strip_suffix(".rs")?, &source.text)));
    let tests = suite.flat_map(|(module, text)| tests(text).map(move |name| format!("{module}::{name}")));
    tests.filter_map(|name| scenario(&name)).chain(ELSEWHERE.iter().map(crate::conformance::Elsewhere::scenario)).collect()
}

/// The names of the tests in a source file.
fn tests(text: &str) -> impl Iterator<Item = &str> {
    text.split("#[test]\nfn ").skip(1).filter_map(|rest| rest.split('(').next())
}

fn compared(scenarios: &BTreeSet<Scenario>, shown: &BTreeSet<Scenario>) -> Vec<String> {
    let missing = scenarios.difference(shown).map(|scenario| format!("{}: lacks `{scenario}`: {HOW}", TABLE.page));
    let extra = shown.difference(scenarios).map(|scenario| format!("{}: has `{scenario}`, which no test shows: {HOW}", TABLE.page));
    missing.chain(extra).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_page_lacks_and_what_it_has_too_much_is_told() {
        let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
        let sources = [
            source("tests/tests/conformance/llm_gateway.rs", "#[test]\nfn one_key() {}\nfn helper() {}\n"),
            source("tests/tests/e2e/a.rs", "#[test]\nfn other() {}\n"),
        ];
        let mut known = scenarios(&sources);
        assert_eq!(known.len(), 1 + ELSEWHERE.len());
        let mut page = known.clone();
        assert!(compared(&known, &page).is_empty());
        page.remove(&scenario("llm_gateway::one_key").unwrap());
        assert_eq!(compared(&known, &page), [format!("docs/conformance.md: lacks `llm-gateway: One key`: {HOW}")]);
        known.clear();
        assert_eq!(compared(&known, &page).len(), ELSEWHERE.len());
    }
}
