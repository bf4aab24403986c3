//! What the program is made of, as `CycloneDX` tells it: every crate that it is built with, by the lock file.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::command;
use crate::release::Release;

/// The bill of materials of a release.
pub(crate) fn of(release: &Release) -> Result<Value, String> {
    let printed = command::output(&mut command::cargo(&[
        "metadata",
        "--format-version=1",
        "--locked",
        "--quiet",
        "--filter-platform",
        &release.triple,
    ]))?;
    let metadata: Value = serde_json::from_str(&printed).map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))?;
    let lock = fs::read_to_string(command::root().join("Cargo.lock")).map_err(|error| format!("Cargo.lock: {error}"))?;
    Ok(bill(&metadata, &checksums(&lock), release))
}

fn bill(metadata: &Value, checksums: &BTreeMap<(String, String), String>, release: &Release) -> Value {
    let packages: BTreeMap<&str, &Value> = array(&metadata["packages"]).map(|package| (text(&package["id"]), package)).collect();
    let imports: BTreeMap<&str, Vec<&str>> =
        array(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), built_with(node))).collect();
    let root = packages.iter().find(|(_, package)| package["name"] == "unstale").map_or("", |(id, _)| *id);
    let mut parts = reached(root, &imports);
    parts.remove(root);
    let depends = |id: &&str| {
        let on: BTreeSet<String> = imports[id].iter().map(|import| reference(packages[import])).collect();
        json!({ "ref": reference(packages[id]), "dependsOn": on })
    };
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": reference(packages[root]),
                "name": "unstale",
                "version": release.version,
                "properties": [
                    { "name": "commit", "value": release.commit.name },
                    { "name": "target", "value": release.triple },
                ],
            },
        },
        "components": parts.iter().map(|id| component(packages[id], checksums)).collect::<Vec<_>>(),
        "dependencies": std::iter::once(&root).chain(&parts).map(depends).collect::<Vec<_>>(),
    })
}

/// What a package is built with; what only its tests or its build script need is not in the program.
fn built_with(node: &Value) -> Vec<&str> {
    let deps = array(&node["deps"]).filter(|dep| array(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null()));
    deps.map(|dep| text(&dep["pkg"])).collect()
}

fn reached<'m>(root: &'m str, imports: &BTreeMap<&'m str, Vec<&'m str>>) -> BTreeSet<&'m str> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(next) = open.pop() {
        if reached.insert(next) {
            open.extend(imports.get(next).into_iter().flatten());
        }
    }
    reached
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let (name, version) = (text(&package["name"]), text(&package["version"]));
    let mut component = json!({ "type": "library", "bom-ref": reference(package), "name": name, "version": version });
    if !package["source"].is_null() {
        component["purl"] = reference(package).into();
    }
    if let Some(licence) = package["license"].as_str() {
        // Older crates write `/` for OR.
        component["licenses"] = json!([{ "expression": licence.replace('/', " OR ") }]);
    }
    if let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// Also the package's URL, where it comes from crates.io.
fn reference(package: &Value) -> String {
    format!("pkg:cargo/{}@{}", text(&package["name"]), text(&package["version"]))
}

/// The checksums in a lock file, by name and version.
fn checksums(lock: &str) -> BTreeMap<(String, String), String> {
    let field = |package: &str, name: &str| {
        let line = package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
        line.map(|value| value.trim_end_matches('"').to_owned())
    };
    let packages = lock.split("[[package]]").skip(1);
    packages.filter_map(|package| Some(((field(package, "name")?, field(package, "version")?), field(package, "checksum")?))).collect()
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Commit;

    #[test]
    fn all_that_is_built_in_is_listed_and_nothing_else() {
        let package = |name: &str, source: Value| json!({ "id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0", "source": source });
        let dep = |name: &str, kind: Value| json!({ "pkg": name, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                package("unstale", Value::Null),
                package("ours", Value::Null),
                package("theirs", "registry".into()),
                package("of-tests", "registry".into()),
            ],
            "resolve": { "nodes": [
                { "id": "unstale", "deps": [dep("ours", Value::Null), dep("of-tests", "dev".into())] },
                { "id": "ours", "deps": [dep("theirs", Value::Null)] },
                { "id": "theirs", "deps": [] },
                { "id": "of-tests", "deps": [] },
            ] },
        });
        let lock =
            "[[package]]\nname = \"theirs\"\nversion = \"1.0.0\"\nsource = \"r\"\nchecksum = \"abc\"\n\n[[package]]\nname = \"ours\"\n";
        let commit = Commit { name: "f00".to_owned(), seconds: 0 };
        let release =
            Release { program: "unstale".into(), version: "1.0.0".to_owned(), commit, triple: "x86_64-unknown-linux-gnu".to_owned() };
        let bill = bill(&metadata, &checksums(lock), &release);
        let names: Vec<&str> = array(&bill["components"]).map(|part| text(&part["name"])).collect();
        assert_eq!(names, ["ours", "theirs"]);
        assert_eq!(
            bill["components"][1],
            json!({
                "type": "library", "bom-ref": "pkg:cargo/theirs@1.0.0", "name": "theirs", "version": "1.0.0", "purl": "pkg:cargo/theirs@1.0.0",
                "licenses": [{ "expression": "MIT OR Apache-2.0" }], "hashes": [{ "alg": "SHA-256", "content": "abc" }],
            })
        );
        assert!(bill["components"][0]["purl"].is_null(), "ours is not at crates.io");
        let on: Vec<&Value> = array(&bill["dependencies"]).map(|dependency| &dependency["dependsOn"]).collect();
        assert_eq!(on, [&json!(["pkg:cargo/ours@1.0.0"]), &json!(["pkg:cargo/theirs@1.0.0"]), &json!([])]);
    }
}
