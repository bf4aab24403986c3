//! What `deploy/` gives to Prometheus and Grafana, against a real Prometheus that scrapes a real sidecar.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use unstale_testkit::wait_until_sync;
use unstale_tests::{PATIENCE, World};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn deploy(name: &str) -> PathBuf {
    root().join("deploy").join(name)
}

/// A Prometheus that scrapes one sidecar every second; ended with the test.
struct Prometheus {
    child: Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Prometheus {
    fn start(world: &World) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sidecar = world.sidecar.http();
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{}]\nscrape_configs:\n  - job_name: unstale\n    static_configs: [{{ targets: [\"{}\"] }}]\n",
            deploy("prometheus/unstale.rules.yml").display(),
            sidecar.trim_start_matches("http://"),
        );
        fs::write(dir.path().join("prometheus.yml"), config).unwrap();
        // It doesn't tell which port it took, so one is chosen that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("prometheus")
            .current_dir(dir.path())
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data", &format!("--web.listen-address={address}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts: `cargo xtask test` installs it, or `apt-get install prometheus`");
        Self { child, url: format!("http://{address}"), _dir: dir }
    }

    /// The series that a query has now; the error is what Prometheus says of it.
    fn query(&self, query: &str) -> Result<Vec<Value>, String> {
        let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
        let asked = agent.get(format!("{}/api/v1/query", self.url)).query("query", query).call();
        let answer: Value = asked.map_err(|error| error.to_string())?.body_mut().read_json().map_err(|error| error.to_string())?;
        match answer["data"]["result"].as_array() {
            Some(series) => Ok(series.clone()),
            None => Err(format!("{query}: {answer}")),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every query of the dashboard, with its panel's title, as Grafana would send it.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(deploy("grafana/unstale.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten().map(move |target| (panel, target)));
    let sent = |expr: &str| expr.replace("$job", ".*").replace("$__rate_interval", "30s");
    targets.map(|(panel, target)| (panel["title"].as_str().unwrap().to_owned(), sent(target["expr"].as_str().unwrap()))).collect()
}

fn promtool(args: &[&str]) {
    let output = Command::new("promtool").args(args).current_dir(deploy("prometheus")).output();
    let output = output.expect("promtool starts: `cargo xtask test` installs it, or `apt-get install prometheus`");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
}

#[test]
fn every_panel_shows_something_of_a_sidecar_at_work() {
    let mut world = World::with(|setup| setup.preset("llm-gateway").set("probe.interval=1s"));
    let prometheus = Prometheus::start(&world);
    let mut left: Vec<_> = queries();
    assert!(left.len() > 30, "{}", left.len());
    wait_until_sync("something in every panel", PATIENCE * 2, || {
        world.publish("SpendUpdated", &[("key_hash", "a")]);
        world.publish_critical("VirtualKeyDeleted", &[("key_id", "1"), ("key_hash", "a")]);
        world.add(&["type", "SpendUpdated", "no", "hash"]);
        left.retain(|(_, query)| !has_sample(&prometheus, query));
        if left.is_empty() { Ok(()) } else { Err(format!("{left:#?}")) }
    });
}

/// A query that asks only for what is wrong has nothing to show while all is well; but it must be one that Prometheus takes.
fn has_sample(prometheus: &Prometheus, query: &str) -> bool {
    prometheus.query(query).is_ok_and(|series| !series.is_empty() || query.contains("unstale_errors_total"))
}

#[test]
fn nothing_is_alerted_of_a_sidecar_that_does_its_work() {
    let mut world = World::with(|setup| setup.preset("llm-gateway").set("probe.interval=1s"));
    let prometheus = Prometheus::start(&world);
    wait_until_sync("a rule's result", PATIENCE, || {
        world.publish("SpendUpdated", &[("key_hash", "a")]);
        prometheus
            .query("job_priority:unstale_event_age_seconds:p99_rate5m")
            .and_then(|series| if series.is_empty() { Err("none".into()) } else { Ok(()) })
    });
    let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").unwrap();
    assert!(firing.is_empty(), "{firing:#?}");
}

#[test]
fn promtool_has_nothing_against_rules_configuration_and_page() {
    promtool(&["check", "config", "prometheus.yml"]);
    promtool(&["check", "rules", "unstale.rules.yml"]);
    promtool(&["test", "rules", "unstale.test.yml"]);
    let world = World::preset("llm-gateway");
    let (_, page) = world.sidecar.get("/metrics");
    let mut check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut check.stdin.take().unwrap(), page.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    // 3: it has remarks. The process metrics have the names that all exporters give them.
    let ours: Vec<&str> = text.lines().filter(|line| line.starts_with("unstale_")).collect();
    assert!(ours.is_empty() && output.status.code() != Some(1), "{text}");
}

#[test]
fn every_alert_leads_to_what_to_do_and_every_metric_is_one() {
    let rules = fs::read_to_string(deploy("prometheus/unstale.rules.yml")).unwrap();
    let runbook = fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    let alerts: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 8, "{alerts:?}");
    let tests = fs::read_to_string(deploy("prometheus/unstale.test.yml")).unwrap();
    for alert in &alerts {
        assert!(runbook.contains(&format!("\n## {alert}\n")), "docs/runbook.md lacks {alert}");
        assert!(rules.contains(&format!("runbook_url: docs/runbook.md#{}\n", alert.to_lowercase())), "{alert} leads nowhere");
        assert!(tests.contains(&format!("alertname: {alert}\n        exp_alerts:")), "{alert} has no case in which it fires");
    }
    let world = World::preset("llm-gateway");
    let (_, page) = world.sidecar.get("/metrics");
    let told: BTreeSet<&str> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let dashboard = queries().into_iter().map(|(_, query)| query).collect::<String>();
    let named =
        |text: &str| text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':')).map(str::to_owned).collect::<BTreeSet<_>>();
    for name in named(&dashboard).union(&named(&rules)).filter(|name| name.starts_with("unstale_") || name.starts_with("process_")) {
        let base = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name);
        assert!(told.contains(base), "no sidecar tells {name}");
    }
}
