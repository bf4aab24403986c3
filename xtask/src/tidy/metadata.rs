//! What `cargo metadata` says of the workspace: its crates, and who depends on whom.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::command;

/// The crates of the workspace, each named as its directory, and all that they are built with.
#[derive(Debug, Default)]
pub(crate) struct Workspace {
    pub(crate) packages: BTreeMap<String, Package>,
    /// For every package there is, also of others, the names of those that it is built with.
    pub(crate) built_with: BTreeMap<String, BTreeSet<String>>,
    /// Every package that is not ours.
    pub(crate) foreign: Vec<Foreign>,
}

/// A package of others: its licence and its origin, as it and cargo write them.
#[derive(Debug)]
pub(crate) struct Foreign {
    pub(crate) name: String,
    pub(crate) licence: String,
    pub(crate) source: String,
}

/// What a crate names in its manifest.
#[derive(Debug, Default)]
pub(crate) struct Package {
    /// What it is built with.
    pub(crate) imports: BTreeSet<String>,
    /// What its tests are built with besides.
    pub(crate) test_imports: BTreeSet<String>,
}

impl Workspace {
    pub(crate) fn load() -> Result<Self, String> {
        let printed = command::output(&mut command::cargo(&["metadata", "--format-version", "1", "--locked", "--quiet"]))?;
        let metadata: Value = serde_json::from_str(&printed).map_err(|error| format!("`cargo metadata` printed no JSON: {error}"))?;
        let names = Names::read(&metadata);
        Ok(Self { packages: packages(&metadata, &names), built_with: built_with(&metadata, &names), foreign: foreign(&metadata) })
    }

    /// The crates of the workspace that this one is built with.
    pub(crate) fn own_imports(&self, name: &str) -> BTreeSet<&str> {
        let imports = self.packages.get(name).into_iter().flat_map(|package| &package.imports);
        imports.filter(|import| self.packages.contains_key(*import)).map(String::as_str).collect()
    }

    /// Everything that a package is built with, however far away.
    pub(crate) fn reached<'a>(&'a self, name: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut open = vec![name];
        while let Some(next) = open.pop() {
            let new = self.built_with.get(next).into_iter().flatten().map(String::as_str);
            open.extend(new.filter(|name| reached.insert(*name)));
        }
        reached
    }
}

fn foreign(metadata: &Value) -> Vec<Foreign> {
    let foreign = array(&metadata["packages"]).filter(|package| !package["source"].is_null());
    let text = |value: &Value| text(value).to_owned();
    foreign
        .map(|package| Foreign { name: text(&package["name"]), licence: text(&package["license"]), source: text(&package["source"]) })
        .collect()
}

fn packages(metadata: &Value, names: &Names<'_>) -> BTreeMap<String, Package> {
    let members: BTreeSet<&str> = array(&metadata["workspace_members"]).filter_map(Value::as_str).collect();
    let own = array(&metadata["packages"]).filter(|package| members.contains(text(&package["id"])));
    own.map(|package| (names.of(text(&package["name"])), manifest(package, names))).collect()
}

fn manifest(package: &Value, names: &Names<'_>) -> Package {
    let (tests, builds): (Vec<&Value>, Vec<&Value>) = array(&package["dependencies"]).partition(|dependency| dependency["kind"] == "dev");
    let all = |dependencies: Vec<&Value>| dependencies.into_iter().map(|dependency| names.of(text(&dependency["name"]))).collect();
    Package { imports: all(builds), test_imports: all(tests) }
}

fn built_with(metadata: &Value, names: &Names<'_>) -> BTreeMap<String, BTreeSet<String>> {
    let by_id: BTreeMap<&str, String> =
        array(&metadata["packages"]).map(|package| (text(&package["id"]), names.of(text(&package["name"])))).collect();
    let mut built_with: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in array(&metadata["resolve"]["nodes"]) {
        let deps = array(&node["deps"]).filter(|dep| array(&dep["dep_kinds"]).any(|kind| kind["kind"].is_null()));
        let deps = deps.filter_map(|dep| by_id.get(text(&dep["pkg"]))).cloned();
        built_with.entry(by_id[text(&node["id"])].clone()).or_default().extend(deps);
    }
    built_with
}

/// The directories of our own packages, by the packages' names.
struct Names<'a>(BTreeMap<&'a str, &'a str>);

impl<'a> Names<'a> {
    fn read(metadata: &'a Value) -> Self {
        let own = array(&metadata["packages"]).filter(|package| package["source"].is_null());
        let directory = |package: &'a Value| text(&package["manifest_path"]).rsplit('/').nth(1).unwrap_or_default();
        Self(own.map(|package| (text(&package["name"]), directory(package))).collect())
    }

    fn of(&self, package: &str) -> String {
        (*self.0.get(package).unwrap_or(&package)).to_owned()
    }
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
