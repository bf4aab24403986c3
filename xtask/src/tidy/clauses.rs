//! Every clause of `docs/semantics.md` has a test of its number, and every such test its clause.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::sources::Source;

const PAGE: &str = "docs/semantics.md";
const TESTS: &str = "tests/";

/// A promise and a clause of it: P1.2 is (1, 2).
type Number = (u32, u32);

pub(super) fn problems(root: &Path, sources: &[Source]) -> Result<Vec<String>, String> {
    let page = fs::read_to_string(root.join(PAGE)).map_err(|error| format!("{PAGE}: {error}"))?;
    let tests: Vec<&Source> = sources.iter().filter(|source| source.path.starts_with(TESTS)).collect();
    Ok(compared(&clauses(&page), &numbered(&tests)))
}

/// The numbers of the page, and how often each stands there as the beginning of a clause.
fn clauses(page: &str) -> BTreeMap<Number, usize> {
    let beginnings = page.lines().filter_map(|line| number(line.strip_prefix("- **P")?, ".", "**"));
    let mut clauses = BTreeMap::new();
    beginnings.for_each(|number| *clauses.entry(number).or_default() += 1);
    clauses
}

/// The tests that bear a number, as `file: name`.
fn numbered(tests: &[&Source]) -> BTreeMap<Number, Vec<String>> {
    let mut numbered: BTreeMap<Number, Vec<String>> = BTreeMap::new();
    for source in tests {
        let names = source.text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next());
        for name in names {
            if let Some(number) = name.strip_prefix('p').and_then(|rest| number(rest, "_", "_")) {
                numbered.entry(number).or_default().push(format!("{}: {name}", source.path));
            }
        }
    }
    numbered
}

/// `1.2**…` or `1_2_…`, by what stands between and behind.
fn number(text: &str, between: &str, behind: &str) -> Option<Number> {
    let (promise, rest) = text.split_once(between)?;
    let (clause, _) = rest.split_once(behind)?;
    Some((promise.parse().ok()?, clause.parse().ok()?))
}

fn compared(clauses: &BTreeMap<Number, usize>, tests: &BTreeMap<Number, Vec<String>>) -> Vec<String> {
    if clauses.is_empty() {
        return vec![format!("{PAGE}: has no clause (`- **P1.1** …`): a rule that looks at nothing is none")];
    }
    let untested = clauses.keys().filter(|number| !tests.contains_key(number));
    let mut problems: Vec<String> = untested
        .map(|(promise, clause)| format!("{PAGE}: P{promise}.{clause} has no test: name the test that shows it `p{promise}_{clause}_…`"))
        .collect();
    problems.extend(
        clauses
            .iter()
            .filter(|(_, times)| **times > 1)
            .map(|((promise, clause), _)| format!("{PAGE}: P{promise}.{clause} stands there twice")),
    );
    let unwritten = tests.iter().filter(|(number, _)| !clauses.contains_key(number));
    problems.extend(unwritten.flat_map(|(_, names)| names.iter().map(|name| format!("{name}: {PAGE} has no such clause"))));
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(page: &str, tests: &str) -> Vec<String> {
        let source = Source { path: "tests/a.rs".to_owned(), text: tests.to_owned() };
        compared(&clauses(page), &numbered(&[&source]))
    }

    #[test]
    fn a_clause_without_a_test_and_a_test_without_a_clause_are_found() {
        let page = "- **P1.1** One.\n- **P1.12** Twelve, and P1.3 is named here.\n";
        assert!(found(page, "fn p1_1_one() {}\n    fn p1_12_twelve() {}\nfn pages() {}\nfn p1_x() {}\n").is_empty());
        assert_eq!(found(page, "fn p1_1_one() {}").len(), 1);
        assert_eq!(
            found(page, "fn p1_1_one() {}\nfn p1_12_twelve() {}\nfn p2_1_two() {}"),
            ["tests/a.rs: p2_1_two: docs/semantics.md has no such clause"]
        );
        assert_eq!(found(&format!("{page}{page}"), "fn p1_1_one() {}\nfn p1_12_twelve() {}").len(), 2);
        assert_eq!(found("", "").len(), 1);
    }
}
