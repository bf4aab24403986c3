//! What `deploy/` gives to Compose, to Kubernetes and to whoever edits a file: read by those who will read it.
//!
//! What it gives to Prometheus and Grafana is in `prometheus`, the unit for systemd in `service`.

#![expect(clippy::unwrap_used, reason = "what a test needs and does not get fails it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use unstale_tests::{run, scripts};

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy").join(name)
}

/// What a program prints that is content; otherwise the test fails with its complaint.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What Compose makes of these files, the later over the earlier.
fn composed(files: &[&str]) -> Value {
    let mut compose = Command::new(scripts::python_tool("docker-compose"));
    let files = files.iter().flat_map(|file| ["--file".into(), deploy(file).into_os_string()]);
    compose.env_clear().args(files).args(["config", "--format", "json"]);
    serde_json::from_str(&printed(&mut compose)).unwrap()
}

#[test]
fn compose_puts_each_sidecar_into_the_network_of_its_api() {
    let composed = composed(&["compose.yaml"]);
    let sidecar = &composed["services"]["unstale"];
    assert_eq!(sidecar["network_mode"], "service:api");
    assert_eq!(sidecar["depends_on"]["api"]["restart"], true);
    assert_eq!(sidecar["stop_grace_period"], "30s");
    assert_eq!(sidecar["read_only"], true);
    assert!(sidecar["ports"].is_null(), "what listens there is the API's alone");
}

#[test]
fn compose_has_two_apis_each_with_its_sidecar_to_play_with() {
    let composed = composed(&["compose.yaml", "compose.dev.yaml"]);
    for (sidecar, api) in [("unstale", "api"), ("unstale-2", "api-2")] {
        let sidecar = &composed["services"][sidecar];
        assert_eq!(sidecar["network_mode"], format!("service:{api}"));
        assert_eq!(sidecar["depends_on"].as_object().unwrap().keys().collect::<Vec<_>>(), [api]);
        assert_eq!(sidecar["environment"]["UNSTALE__PRESETS"], "llm-gateway");
        assert_eq!(composed["services"][api]["command"][0], "demo-api");
    }
    let places = composed["configs"]["prometheus"]["content"].as_str().unwrap();
    assert!(places.contains(r#"["api:7864", "api-2:7864"]"#), "{places}");
}

#[test]
fn compose_puts_the_same_on_a_cluster() {
    let composed = composed(&["compose.yaml", "compose.dev.yaml", "compose.cluster.yaml"]);
    for sidecar in ["unstale", "unstale-2"] {
        let environment = &composed["services"][sidecar]["environment"];
        assert_eq!(environment["REDIS_URL"], "redis-cluster://node-1:6379,node-2:6379,node-3:6379");
        assert_eq!(environment["UNSTALE__NAMESPACE"], "{unstale}");
        assert_eq!(environment["UNSTALE__PRESETS"], "llm-gateway");
    }
}

/// The image's program reads what the files tell it by file and environment.
#[test]
fn what_compose_tells_a_sidecar_is_a_configuration() {
    for files in [&["compose.yaml", "compose.dev.yaml"][..], &["compose.yaml", "compose.dev.yaml", "compose.cluster.yaml"]] {
        let composed = composed(files);
        let environment = composed["services"]["unstale"]["environment"].as_object().unwrap();
        let environment: Vec<(&str, &str)> = environment.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
        let file = composed["configs"]["unstale"]["file"].as_str().unwrap();
        let shown = run(&["--config", file, "config", "show"], &environment);
        assert_eq!(shown.code, Some(0), "{}", shown.err);
    }
}

/// The charts where Helm may write beside them.
struct Charts(tempfile::TempDir);

impl Charts {
    fn copy() -> Self {
        let dir = tempfile::tempdir().unwrap();
        printed(Command::new("cp").arg("--recursive").arg(deploy("helm")).arg(dir.path()));
        Self(dir)
    }

    fn helm(&self, args: &[&str]) -> Command {
        let mut helm = Command::new(scripts::helm());
        helm.args(args).current_dir(self.0.path().join("helm")).env("HOME", self.0.path());
        helm
    }

    /// The example's objects, with these values set.
    fn rendered(&self, values: &[&str]) -> String {
        printed(&mut self.helm(&["dependency", "update", "example"]));
        let set = values.iter().flat_map(|value| ["--set", value]);
        printed(self.helm(&["template", "shop", "example"]).args(set))
    }
}

#[test]
fn helm_and_kubernetes_have_nothing_against_the_charts() {
    let charts = Charts::copy();
    printed(&mut charts.helm(&["lint", "--strict", "unstale"]));
    let cases: [&[&str]; 3] = [
        &[],
        &["unstale.redis.existingSecret=", "unstale.redis.password=hunter2", "unstale.podMonitor.enabled=false"],
        &[
            "unstale.redis.existingSecret=",
            "unstale.redis.username=",
            "unstale.presets={llm-gateway,model-catalog}",
            "unstale.env[0].name=A",
            "unstale.env[0].value=b",
        ],
    ];
    for values in cases {
        let rendered = charts.rendered(values);
        let file = charts.0.path().join("rendered.yaml");
        fs::write(&file, &rendered).unwrap();
        // Only built-in kinds have schemas there; a monitor's belongs to the Prometheus operator.
        for version in ["1.29", "1.37"] {
            let validate = scripts::python_tool("kubernetes-validate");
            printed(Command::new(validate).args(["--strict", "--no-warn", "--kubernetes-version", version]).arg(&file));
        }
    }
    let refusals = [
        ("unstale", "redis.url=redis://user:secret@redis", "redis"),
        ("example", "unstale.redis.existingSecret=", "redis.username needs a password"),
    ];
    for (chart, value, why) in refusals {
        let refused = charts.helm(&["template", "shop", chart, "--set", value]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(!refused.status.success() && said.contains(why), "{value}: {said}");
    }
}

#[test]
fn a_pod_starts_its_sidecar_before_its_api_and_asks_it_how_it_is() {
    let charts = Charts::copy();
    let rendered = charts.rendered(&["unstale.redis.existingSecret=", "unstale.redis.password=hunter2"]);
    let read = "import json, sys, yaml; print(json.dumps([o for o in yaml.safe_load_all(sys.stdin) if o]))";
    let file = charts.0.path().join("rendered.yaml");
    fs::write(&file, &rendered).unwrap();
    let mut python = Command::new(scripts::python_tool("python"));
    let objects: Vec<Value> = serde_json::from_str(&printed(python.args(["-c", read]).stdin(fs::File::open(&file).unwrap()))).unwrap();
    let kind = |kind: &str| objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("no {kind} in\n{rendered}"));
    let pod = &kind("Deployment")["spec"]["template"];
    let sidecar = &pod["spec"]["initContainers"][0];
    // So Kubernetes knows a container that starts before the others and stops after them.
    assert_eq!(sidecar["restartPolicy"], "Always");
    let port = &sidecar["ports"][0];
    for (probe, path) in [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")] {
        assert_eq!(sidecar[probe]["httpGet"], json!({ "path": path, "port": port["name"] }), "{probe}");
    }
    let environment: Vec<(&str, &str)> = sidecar["env"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|variable| Some((variable["name"].as_str()?, variable["value"].as_str()?)))
        .collect();
    assert!(environment.contains(&("UNSTALE__HTTP__PROBE_BIND", &format!("0.0.0.0:{}", port["containerPort"]))), "{environment:?}");
    assert_eq!(sidecar["securityContext"]["readOnlyRootFilesystem"], true);
    assert!(sidecar["resources"]["limits"]["memory"].is_string());
    let monitor = &kind("PodMonitor")["spec"];
    assert_eq!(monitor["podMetricsEndpoints"][0]["port"], port["name"]);
    for (label, value) in monitor["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&pod["metadata"]["labels"][label], value);
    }
    assert_eq!(kind("Secret")["stringData"]["password"], "hunter2");
    // The program takes what the pod tells it.
    let config = charts.0.path().join("unstale.toml");
    fs::write(&config, kind("ConfigMap")["data"]["unstale.toml"].as_str().unwrap()).unwrap();
    let secret = charts.0.path().join("password");
    fs::write(&secret, kind("Secret")["stringData"]["password"].as_str().unwrap()).unwrap();
    let mounted = |value| if value == "/run/secrets/unstale/password" { secret.to_str().unwrap() } else { value };
    let environment: Vec<_> = environment.into_iter().map(|(name, value)| (name, mounted(value))).collect();
    let shown = run(&["--config", config.to_str().unwrap(), "config", "show"], &environment);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    assert!(shown.out.contains("cache.product.prefixes"), "{}", shown.out);
}

/// The value of each setting, as `config show` tells it with this file.
fn settings(file: &Path) -> Vec<(String, Value)> {
    let shown = run(&["--config", file.to_str().unwrap(), "config", "show", "--json"], &[]);
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    let shown: Value = serde_json::from_str(&shown.out).unwrap();
    let settings = shown["settings"].as_array().unwrap().iter();
    settings.map(|setting| (setting["key"].as_str().unwrap().to_owned(), setting["value"].clone())).collect()
}

#[test]
fn the_commented_configuration_has_every_setting_with_its_default() {
    let text = fs::read_to_string(deploy("unstale.toml")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let with = |name: &str, text: &str| {
        let file = dir.path().join(name);
        fs::write(&file, text).unwrap();
        settings(&file)
    };
    let defaults = with("nothing.toml", "");
    assert_eq!(with("as-it-is.toml", &text), defaults);
    let uncommented = |is_wanted: fn(&str) -> bool| {
        let line = |line: &str| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') && is_wanted(setting) => setting.to_owned(),
            _ => line.to_owned(),
        };
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    let with_all = with("with-values.toml", &uncommented(|setting| !setting.ends_with("= \"\"")));
    for (key, value) in defaults.iter().filter(|(key, value)| !value.is_null() && key != "instance.name") {
        assert!(with_all.contains(&(key.clone(), value.clone())), "{key} is not {value} there");
    }
    let listed = keys(&text);
    let missing: Vec<&str> = defaults.iter().map(|(key, _)| key.as_str()).filter(|key| !listed.iter().any(|has| has == key)).collect();
    assert!(missing.is_empty(), "deploy/unstale.toml lacks {missing:?}");
    // Those without a default are empty there, which most can't be; but each is a setting.
    let file = dir.path().join("empty.toml");
    fs::write(&file, uncommented(|setting| setting.ends_with("= \"\""))).unwrap();
    let judged = run(&["--config", file.to_str().unwrap(), "config", "show"], &[]);
    assert!(!judged.err.contains("there is no setting"), "{}", judged.err);
}

/// The keys that stand in a file, also behind a `#`, with their sections.
fn keys(text: &str) -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in text.lines().map(|line| line.strip_prefix('#').unwrap_or(line)) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = format!("{name}.");
        } else if let Some((key, _)) = line.split_once(" = ").filter(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) {
            keys.push(format!("{section}{key}"));
        }
    }
    keys
}
