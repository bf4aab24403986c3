//! What README and docs show must work: every configuration in them is accepted, every command line is one, every setting is named. That links lead
//! somewhere `cargo xtask tidy` holds; the end-to-end tests run every command, and the programs that are whole.

use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use clap::Parser;
use clap::error::ErrorKind;
use serde_json::{Value, json};
use unstale::cli::Cli;
use unstale_events::catalogue::{Described, endpoint_catalog, entity_repository, llm_gateway, model_catalog, subscription_plans};

fn unstale(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_unstale"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .output()
        .expect("the program that cargo has built starts")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn pages() -> Vec<PathBuf> {
    let root = root();
    let dirs = ["docs", "docs/systems"].map(|dir| fs::read_dir(root.join(dir)).expect("the repository has docs/"));
    dirs.into_iter()
        .flat_map(Iterator::flatten)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "md"))
        .chain([root.join("README.md")])
        .collect()
}

/// The fenced blocks, each with its language.
fn fenced(page: &str) -> Vec<(&str, &str)> {
    page.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n')).collect()
}

fn blocks<'a>(page: &'a str, language: &str) -> Vec<&'a str> {
    fenced(page).into_iter().filter(|(found, _)| *found == language).map(|(_, text)| text).collect()
}

/// With a file in place of each secret that a block names.
fn with_secrets(block: &str, dir: &Path) -> String {
    const SECRETS: &str = "\"/run/secrets/";
    for name in block.split(SECRETS).skip(1).filter_map(|rest| rest.split('"').next()) {
        fs::write(dir.join(name), "secret").expect("a temporary file can be written");
    }
    block.replace(SECRETS, &format!("\"{}/", dir.display()))
}

#[test]
fn every_configuration_shown_is_accepted() {
    let mut seen = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        let blocks = blocks(&page, "toml");
        // A manifest of cargo's is no configuration of ours.
        for block in blocks.iter().filter(|block| !block.starts_with("[dependencies]")) {
            let dir = tempfile::tempdir().unwrap();
            // A block may show a part of a file whose caches a preset declares.
            let preset = if block.contains("[[republish]]") && !block.contains("presets") { "presets = [\"llm-gateway\"]\n" } else { "" };
            fs::write(dir.path().join("unstale.toml"), format!("{preset}{}", with_secrets(block, dir.path()))).unwrap();
            let output = unstale(&["config", "show"], dir.path());
            assert!(output.status.success(), "{}:\n{block}\n{}", path.display(), String::from_utf8_lossy(&output.stderr));
            seen += 1;
        }
    }
    assert!(seen >= 4, "only {seen} blocks were found");
}

/// Languages of blocks that aren't looked at here.
const ELSEWHERE: [(&str, &str); 7] = [
    ("", "output, and drawings: shown, not typed"),
    ("toml", "every_configuration_shown_is_accepted"),
    ("rust", "parts of programs: the client's documentation and examples have the whole, and are compiled"),
    ("csharp", "there is no .NET where the tests run"),
    ("sql", "the table of an outbox, for a database that is yours"),
    ("yaml", "a part of a chart's template: `deploy/helm/example` has the whole, and is rendered"),
    ("mermaid", "`cargo xtask tidy` draws it"),
];

#[test]
fn every_block_shown_is_what_it_says() {
    let mut wrong = Vec::new();
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for (language, text) in fenced(&page) {
            let outcome = match language {
                "sh" => shell(text),
                "json" => json(text),
                "jsonl" => text.lines().try_for_each(json),
                "python" => grammar("python3", &["-c", "import ast, sys; ast.parse(sys.stdin.read())"], text),
                "js" if text.contains("import ") => grammar("node", &["--check", "--input-type=module", "-"], text),
                "js" => grammar("node", &["--check", "-"], text),
                other if ELSEWHERE.iter().any(|(language, _)| *language == other) => Ok(()),
                other => Err(format!("nobody looks at blocks of `{other}`")),
            };
            wrong.extend(outcome.err().map(|why| format!("{}: {why}\n{text}", path.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is left out of an answer is an ellipsis.
fn json(text: &str) -> Result<(), String> {
    if text.contains('…') {
        return Ok(());
    }
    serde_json::from_str::<serde::de::IgnoredAny>(text).map(drop).map_err(|error| error.to_string())
}

fn grammar(program: &str, args: &[&str], text: &str) -> Result<(), String> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{program}: {error}"))?;
    child.stdin.take().expect("it is piped").write_all(text.as_bytes()).map_err(|error| format!("{program}: {error}"))?;
    let output = child.wait_with_output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A shell takes the block apart, and runs nothing of it: it finds no programs, and tells the words of those that are ours.
fn shell(text: &str) -> Result<(), String> {
    const TELL: &str = "PATH=/nowhere
command_not_found_handle() { :; }
unstale() { printf '%s\\x1f' unstale \"$@\" >> told; printf '\\x1e' >> told; }
cargo() { printf '%s\\x1f' cargo \"$@\" >> told; printf '\\x1e' >> told; }
";
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let text = text.replace("./target/release/unstale", "unstale");
    grammar("bash", &["-n"], &text)?;
    let script = format!("{TELL}{text}\ntrue");
    let told = Command::new("bash").args(["-c", &script]).current_dir(dir.path()).env_clear().output();
    told.map_err(|error| format!("bash: {error}"))?;
    let told = fs::read_to_string(dir.path().join("told")).unwrap_or_default();
    let named = text.lines().filter(|line| line.starts_with("unstale ") || line.starts_with("cargo ")).count();
    let commands: Vec<Vec<&str>> = told.split_terminator('\x1e').map(|words| words.split_terminator('\x1f').collect()).collect();
    if commands.len() < named {
        return Err(format!("of {named} calls {} were heard", commands.len()));
    }
    commands.iter().try_for_each(|words| if words[0] == "cargo" { task(words) } else { call(words) })
}

/// A call of the program must be one that it takes.
fn call(words: &[&str]) -> Result<(), String> {
    match Cli::try_parse_from(words) {
        Err(error) if ![ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&error.kind()) => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// A command of the project must be one that its help names.
fn task(words: &[&str]) -> Result<(), String> {
    let help = include_str!("../../../xtask/src/main.rs");
    match words {
        [_, "xtask", name, ..] if !help.contains(&format!("  cargo xtask {name}")) => Err(format!("there is no `cargo xtask {name}`")),
        _ => Ok(()),
    }
}

#[test]
fn every_recipe_of_the_cookbook_does_what_its_cases_say() {
    let page = fs::read_to_string(pages().into_iter().find(|path| path.ends_with("cookbook.md")).unwrap()).unwrap();
    let recipes: Vec<&str> = page.split("\n## ").skip(1).collect();
    for recipe in &recipes {
        let dir = tempfile::tempdir().unwrap();
        let [config, cases] = ["toml", "jsonl"].map(|language| blocks(recipe, language).concat());
        fs::write(dir.path().join("unstale.toml"), config).unwrap();
        fs::write(dir.path().join("cases.jsonl"), &cases).unwrap();
        let output = unstale(&["explain", "--expect", "cases.jsonl"], dir.path());
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !cases.is_empty(), "{recipe}\n{said}");
    }
    assert_eq!(recipes.len(), 10);
}

/// The page of metrics as the code describes them.
fn metrics_page() -> String {
    let head = "# Metrics\n\nEvery metric of the sidecar, as the program describes it; made from the code by `UPDATE_DOCS=1 cargo test -p unstale --test docs`. Beside \
                    these `/metrics` has those of the process, `process_…`. [HTTP](http.md#metrics) groups them, the [runbook](runbook.md) has alerts for them.\n\n\
                    | metric | kind | labels | |\n|---|---|---|---|\n";
    let row = |metric: &unstale_pipeline::metrics::Metric| {
        let labels = metric.labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        format!("| `{}` | {} | {labels} | {} |\n", metric.name, metric.kind(), metric.help)
    };
    let rows: String = unstale_pipeline::metrics::all().iter().map(row).collect();
    format!("{head}{rows}")
}

#[test]
fn the_page_of_metrics_is_what_the_code_says() {
    let path = root().join("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, metrics_page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, metrics_page(), "docs/metrics.md is not what the code says: UPDATE_DOCS=1 cargo test -p unstale --test docs");
}

/// What stands on a page between two marks must be this; with `UPDATE_DOCS` it is put there.
#[track_caller]
fn hold(page: &str, mark: &str, made: &str) {
    let path = root().join("docs").join(page);
    let text = fs::read_to_string(&path).expect("docs/ has the page");
    let (begin, end) = (format!("<!-- {mark} -->\n"), format!("<!-- /{mark} -->"));
    let (head, rest) = text.split_once(&begin).expect("a page has a place for what is made");
    let (shown, tail) = rest.split_once(&end).expect("and that place an end");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{begin}{made}{end}{tail}")).expect("the page can be written");
    } else {
        assert_eq!(shown, made, "docs/{page} is not what the code says: UPDATE_DOCS=1 cargo test -p unstale --test docs");
    }
}

fn told_as_json(args: &[&str]) -> Value {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = unstale(args, dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("what it prints is JSON")
}

/// What a property refers to, in the schema's definitions; itself if it refers to nothing.
fn meant<'a>(schema: &'a Value, property: &'a Value) -> &'a Value {
    let reference = property["$ref"].as_str().and_then(|reference| schema.pointer(reference.trim_start_matches('#')));
    reference.unwrap_or(property)
}

/// The rows of a section's settings, and of those of its own sections.
fn rows_of(schema: &Value, section: &Value, above: &str, defaults: Option<&Value>, rows: &mut String) {
    for (name, property) in section["properties"].as_object().into_iter().flatten() {
        let (key, definition) = (format!("{above}{name}"), meant(schema, property));
        if definition["properties"].is_object() {
            rows_of(schema, definition, &format!("{key}."), None, rows);
            continue;
        }
        let default = defaults.map_or(&property["default"], |defaults| &defaults[name]);
        let default = if default.is_null() { String::new() } else { format!("`{default}`") };
        let values = definition["oneOf"].as_array().into_iter().flatten();
        let values = values.map(|value| format!("<br>`{}`: {}", value["const"], value["description"].as_str().unwrap_or_default()));
        let text = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        writeln!(rows, "| `{key}` | {default} | {text}{} |", values.collect::<String>()).expect("a String takes everything");
    }
}

/// Every setting with its default and its description, from the schema of the file. What routes have beside is on their own page.
fn settings_table(schema: &Value) -> String {
    let mut rows = "| key | default | |\n|---|---|---|\n".to_owned();
    for (name, property) in schema["properties"].as_object().expect("a schema has properties") {
        let of_main = (name == "redis").then(|| (meant(schema, &property["additionalProperties"]), &property["default"]["main"]));
        match of_main {
            Some((server, defaults)) => rows_of(schema, server, "redis.main.", Some(defaults), &mut rows),
            None if name == "presets" || !unstale_router::KEYS.contains(&name.as_str()) => {
                rows_of(schema, &json!({ "properties": { name.as_str(): property } }), "", None, &mut rows);
            }
            None => {}
        }
    }
    rows
}

#[test]
fn the_settings_are_what_the_code_says() {
    let schema = told_as_json(&["config", "schema"]);
    let table = settings_table(&schema);
    hold("configuration.md", "settings", &table);
    let shown = told_as_json(&["config", "show", "--json"]);
    for line in shown["settings"].as_array().unwrap() {
        assert!(table.contains(&format!("| `{}` |", line["key"].as_str().unwrap())), "the table lacks {line}");
    }
}

#[test]
fn the_profiles_are_what_the_code_says() {
    let schema = told_as_json(&["config", "schema"]);
    let mut table = "| profile | `window` | `max_size` | `coalescing` | |\n|---|---|---|---|---|\n".to_owned();
    for profile in schema["$defs"]["Profile"]["oneOf"].as_array().unwrap() {
        let name = profile["const"].as_str().unwrap();
        let shown = told_as_json(&["config", "show", "--json", "--set", &format!("batching.profile={name}")]);
        let lines = shown["settings"].as_array().unwrap();
        let value =
            |key: &str| lines.iter().find(|line| line["key"] == key).map(|line| line["value"].to_string().replace('"', "")).unwrap();
        let [window, size, coalescing] = ["batching.window", "batching.max_size", "batching.coalescing"].map(value);
        writeln!(table, "| `{name}` | `{window}` | {size} | {coalescing} | {} |", profile["description"].as_str().unwrap()).unwrap();
    }
    hold("configuration.md", "profiles", &table);
}

/// The events of a system, as its types describe them.
fn events_table(events: &[Described]) -> String {
    let attribute = |attribute: &unstale_events::catalogue::Attribute| {
        let name = if attribute.is_optional() { format!("`{}`?", attribute.name) } else { format!("`{}`", attribute.name) };
        format!("{name}: {}", attribute.doc)
    };
    let row = |event: &Described| {
        let attributes: Vec<String> = event.attributes.iter().map(attribute).collect();
        format!("| `{}` | {} | {} |\n", event.name, event.doc, attributes.join("<br>"))
    };
    let rows: String = events.iter().map(row).collect();
    // Links of Rust's documentation lead nowhere here.
    let rows = rows.replace("[`", "`").replace("`]", "`");
    format!("| event | what happened | attributes |\n|---|---|---|\n{rows}")
}

#[test]
fn the_events_of_each_system_are_what_its_types_say() {
    for (system, events) in [
        ("llm-gateway", llm_gateway::EVENTS),
        ("model-catalog", model_catalog::EVENTS),
        ("endpoint-catalog", endpoint_catalog::EVENTS),
        ("entity-repository", entity_repository::EVENTS),
        ("subscription-plans", subscription_plans::EVENTS),
    ] {
        hold(&format!("systems/{system}.md"), "events", &events_table(events));
    }
}
