//! What README and docs show must work: every configuration in them is accepted, every setting is named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use unstale_events::catalogue::{Described, endpoint_catalog, entity_repository, llm_gateway, model_catalog, subscription_plans};

fn unstale(args: &[&str], dir: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_unstale"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .output()
        .expect("the program that cargo has built starts")
}

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dirs = ["docs", "docs/systems"].map(|dir| fs::read_dir(root.join(dir)).expect("the repository has docs/"));
    dirs.into_iter()
        .flat_map(Iterator::flatten)
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "md"))
        .chain([root.join("README.md")])
        .collect()
}

/// The fenced blocks of a language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).filter_map(|rest| rest.split("\n```").next().map(str::to_owned)).collect()
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
        let blocks = blocks(&fs::read_to_string(&path).unwrap(), "toml");
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

#[test]
fn every_setting_is_in_the_table() {
    let dir = tempfile::tempdir().unwrap();
    let page = pages().into_iter().find(|path| path.ends_with("configuration.md")).unwrap();
    let page = fs::read_to_string(page).unwrap();
    let shown = String::from_utf8(unstale(&["config", "show"], dir.path()).stdout).unwrap();
    let keys = shown.lines().filter_map(|line| line.trim_start_matches("# ").split([' ', '=']).next());
    let missing: Vec<&str> = keys.filter(|key| key.contains('.') && !page.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/configuration.md lacks {missing:?}");
}

#[test]
fn links_between_pages_lead_somewhere() {
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !file.contains("://") {
                assert!(path.parent().unwrap().join(file).exists(), "{} links to {link}", path.display());
            }
        }
    }
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
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, metrics_page()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(written, metrics_page(), "docs/metrics.md is not what the code says: UPDATE_DOCS=1 cargo test -p unstale --test docs");
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
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/systems/{system}.md"));
        let page = fs::read_to_string(&path).unwrap();
        let (head, rest) = page.split_once("<!-- events -->\n").expect("a page has a place for its events");
        let (shown, tail) = rest.split_once("<!-- /events -->").expect("and that place an end");
        let table = events_table(events);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, format!("{head}<!-- events -->\n{table}<!-- /events -->{tail}")).unwrap();
        } else {
            assert_eq!(shown, table, "{system}: UPDATE_DOCS=1 cargo test -p unstale --test docs");
        }
    }
}
