//! Where other people's crates come from, and on what terms: from crates.io alone, and so that the program may be handed on without conditions but naming them.

use spdx::{Expression, LicenseReq, ParseMode};

use super::metadata::Foreign;

/// The licences that ask for no more than to be named.
const LICENCES: [&str; 8] = ["Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "ISC", "MIT", "Unicode-3.0", "Zlib"];
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn problems(foreign: &[Foreign]) -> Vec<String> {
    foreign.iter().flat_map(|package| strange(package).into_iter().chain(unwanted(package))).collect()
}

fn strange(package: &Foreign) -> Option<String> {
    let Foreign { name, source, .. } = package;
    (source != REGISTRY).then(|| format!("Cargo.lock: {name} comes from {source}: only crates.io keeps what it once had"))
}

fn unwanted(package: &Foreign) -> Option<String> {
    let Foreign { name, licence, .. } = package;
    let is_wanted = |wanted: &LicenseReq| wanted.license.id().is_some_and(|id| LICENCES.contains(&id.name));
    // Older crates write `/` for OR.
    match Expression::parse_mode(licence, ParseMode::LAX) {
        Ok(expression) if expression.evaluate(is_wanted) => None,
        Ok(_) => {
            Some(format!("Cargo.lock: {name} may be used by {licence}: do without it, or add that licence to xtask/src/tidy/origins.rs"))
        }
        Err(_) => Some(format!("Cargo.lock: {name} has no licence that is understood, but `{licence}`: do without it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(licence: &str, source: &str) -> Vec<Foreign> {
        vec![Foreign { name: "x".to_owned(), licence: licence.to_owned(), source: source.to_owned() }]
    }

    #[test]
    fn one_of_several_licences_must_be_wanted_and_all_that_are_joined() {
        for licence in
            ["MIT", "MIT/Apache-2.0", "GPL-3.0 OR MIT", "(MIT OR Apache-2.0) AND Unicode-3.0", "Apache-2.0 WITH LLVM-exception OR MIT"]
        {
            assert_eq!(problems(&package(licence, REGISTRY)), [""; 0], "{licence}");
        }
        for licence in ["GPL-3.0", "MIT AND GPL-3.0", "", "my own"] {
            assert_eq!(problems(&package(licence, REGISTRY)).len(), 1, "{licence}");
        }
    }

    #[test]
    fn a_crate_comes_from_the_registry() {
        assert_eq!(problems(&package("MIT", "git+https://github.com/x/y")).len(), 1);
    }
}
