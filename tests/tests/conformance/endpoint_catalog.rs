//! The third system, a catalogue of endpoints: keys, patterns and an operation's name in one call, and configuration that looks like cache.

use serde_json::{Value as Json, json};
use unstale_testkit::wait_until_sync;
use unstale_tests::{PATIENCE, World};

use crate::kit::{Store, figure, play, row};

/// Deleting one of these takes a model or a key out of service.
const CONFIGURATION: &[&str] = &[
    "api_key:sk-1",
    "model_table:e1",
    "published_model_info",
    "guardrail_table:g1",
    "blocking_rule",
    "blocking_rules:p1",
    "usage_limit:u1",
    "prompt:p1",
    "prompt:p1:v2",
];

const CACHED: &[&str] = &[
    "catalog:model:e1",
    "catalog:model:e10",
    "catalog:models:list:page:1",
    "catalog:models:search:llama:1",
    "catalog:models",
    "catalog:modelsx:1",
    "credential_valid:k1",
    "credential_valid:k10",
    "credential_valid",
    "user:u1",
    "user:u10",
    "user:u1:profile",
    "user:u1:sessions:s1",
    "user:u1:projects:p1",
    "user:u1:projectsx",
    "user:u10:profile",
    "user:session:u1",
    "user:session:u10",
    "users:u1",
    "project:p1",
    "project:p10",
    "project:p1:members",
    "project:p10:members",
    "projects:list:1",
    "projects:count",
    "models:list:1",
    "models:search:llama",
    "models:count",
    "endpoint:e1",
    "endpoint:e10",
    "endpoint:e1:status",
    "endpoint:e1:metrics",
    "endpoint:e1:metricsx",
    "endpoint:e1:workers:w1",
    "endpoint:e1:workers:w2",
    "endpoint:e1:workers",
    "cluster:c1",
    "cluster:c10",
    "cluster:c1:status",
    "cluster:c1:metrics",
    "cluster:c1:nodes",
    "cluster:c10:status",
    "clusters:list:1",
    "clusters:count",
];

fn universe() -> Vec<&'static str> {
    [CACHED, CONFIGURATION].concat()
}

#[test]
fn events_of_endpoints_and_their_lists() {
    const LISTS: &[&str] = &["catalog:models:*"];
    const LISTED: &[&str] = &["catalog:models:list:page:1", "catalog:models:search:llama:1"];
    const E1: &[(&str, &str)] = &[("endpoint_id", "e1")];
    play(
        "endpoint-catalog",
        Store::Redis,
        &universe(),
        &[
            row("EndpointPublished", E1, "normal", &["catalog:model:e1"]).and(LISTS, LISTED),
            row("EndpointUnpublished", E1, "high", &["catalog:model:e1"]).and(LISTS, LISTED),
            row("EndpointPricingUpdated", E1, "normal", &["catalog:model:e1"]).and(LISTS, LISTED),
            row("CatalogChanged", &[], "normal", &[]).and(LISTS, LISTED),
            row("ModelsBulkUpdated", &[], "low", &[]).and(&["models:list:*", "models:search:*"], &["models:list:1", "models:search:llama"]),
            row("EndpointUpdated", E1, "normal", &["endpoint:e1", "endpoint:e1:status", "endpoint:e1:metrics"])
                .and(&["endpoint:e1:workers:*"], &["endpoint:e1:workers:w1", "endpoint:e1:workers:w2"]),
        ],
    );
}

#[test]
fn events_of_credentials_users_projects_and_clusters() {
    const CREDENTIAL: &[(&str, &str)] = &[("hashed_key", "k1"), ("project_id", "p1")];
    play(
        "endpoint-catalog",
        Store::Redis,
        &universe(),
        &[
            row("CredentialDeleted", CREDENTIAL, "critical", &["credential_valid:k1"]),
            row("CredentialUpdated", CREDENTIAL, "critical", &["credential_valid:k1"]),
            row("UserLoggedOut", &[("user_id", "u1")], "high", &["user:session:u1"])
                .and(&["user:u1:*"], &["user:u1:profile", "user:u1:sessions:s1", "user:u1:projects:p1", "user:u1:projectsx"]),
            row("UserUpdated", &[("user_id", "u1")], "normal", &["user:u1", "user:u1:profile"])
                .and(&["user:u1:projects:*", "user:u1:sessions:*"], &["user:u1:sessions:s1", "user:u1:projects:p1"]),
            row("ProjectUpdated", &[("project_id", "p1")], "normal", &["project:p1"])
                .and(&["project:p1:*", "projects:list:*"], &["project:p1:members", "projects:list:1"]),
            row("ClusterUpdated", &[("cluster_id", "c1")], "normal", &["cluster:c1", "cluster:c1:status", "cluster:c1:metrics"])
                .and(&["cluster:c1:*", "clusters:list:*"], &["cluster:c1:nodes", "clusters:list:1"]),
            row("ClusterUpdated", &[], "normal", &[]).and(&["clusters:list:*"], &["clusters:list:1"]),
        ],
    );
}

/// The call of the system's own API: keys, patterns, an operation.
fn update_of_e1() -> Json {
    json!({
        "keys": ["endpoint:e1", "endpoint:e1:status", "project:p1"],
        "patterns": ["endpoint:e1:workers:*", "projects:list:*"],
        "operation": "endpoint_update",
    })
}

/// Takes the right to the projects' keys away, or gives it back.
fn permit_projects(world: &mut World, permitted: bool) {
    let user = world.sidecar.name().to_owned();
    let all = ["~unstale:*", "~catalog:*", "~credential_valid:*", "~user:*", "~models:*", "~endpoint:*", "~cluster*"];
    let projects: &[&str] = if permitted { &["~project:*", "~projects:list:*"] } else { &[] };
    world.cmd(&[&["ACL", "SETUSER", &user, "resetkeys"], &all[..], projects].concat());
}

#[test]
fn keys_patterns_and_operation_in_one_call_of_which_one_target_fails() {
    let mut world = World::with(|setup| setup.preset("endpoint-catalog").set("retry.budget=300ms"));
    world.seed(universe());
    permit_projects(&mut world, false);
    let (status, body) = world.sidecar.post("/v1/invalidate", &update_of_e1());
    assert_eq!(status, 202, "{body}");
    let forbidden = ["project:p1", "projects:list:1"];
    let gone = ["endpoint:e1", "endpoint:e1:status", "endpoint:e1:workers:w1", "endpoint:e1:workers:w2"];
    let without = |gone: &[&str]| universe().into_iter().filter(|key| !gone.contains(key)).map(str::to_owned).collect();
    wait_until_sync("all to be gone but what is forbidden", PATIENCE, || {
        let left = world.keys();
        if left == without(&gone) { Ok(()) } else { Err(format!("{left:?}")) }
    });
    let announced = world.wait_notice("of the workers", |notice| notice.patterns().contains(&"endpoint:e1:workers:*".to_owned()));
    assert_eq!(announced.json["operations"], json!(["endpoint_update"]));
    let told = world.notices().iter().flat_map(|notice| [notice.keys(), notice.patterns()].concat()).collect::<Vec<_>>();
    assert!(!told.iter().any(|target| target.starts_with("project")), "only what was deleted is announced: {told:?}");
    let warning = wait_until_sync("a warning with the operation's name", PATIENCE, || {
        let log = world.sidecar.log();
        let line = log.lines().find(|line| line.contains("WARN") && line.contains("endpoint_update"));
        line.map(str::to_owned).ok_or_else(|| log.clone())
    });
    assert!(!warning.contains("project:p1"), "{warning}");
    // Once the fault is mended, what was left is done, without anybody asking again.
    permit_projects(&mut world, true);
    world.wait_settled();
    assert_eq!(world.keys(), without(&[&gone[..], &forbidden[..]].concat()));
    assert_eq!(world.dead_letters(), []);
    figure(
        "2 of 5 targets forbidden: the other 3 done and announced at once, WARN names `endpoint_update`; the 2 done as soon as they may be",
    );
}

#[test]
fn configuration_that_looks_like_cache_survives_whoever_asks() {
    let mut world = World::preset("endpoint-catalog");
    world.seed(universe());
    let asked: Vec<Json> = CONFIGURATION
        .iter()
        .map(|key| json!({ "keys": [key] }))
        .chain(["api_key:*", "*", "prompt:*", "[am]*", "blocking_rule*"].map(|pattern| json!({ "patterns": [pattern] })))
        .collect();
    for body in &asked {
        let (status, answer) = world.sidecar.post("/v1/invalidate", body);
        assert_eq!(status, 422, "{body}: {answer}");
    }
    // The same by the stream, where nobody is there to be told: the rest of the event is done.
    for key in CONFIGURATION {
        world.add(&["type", "CacheInvalidationRequested", "keys", &json!([key, "catalog:model:e1"]).to_string()]);
    }
    // A value from outside that tries to be a pattern.
    world.publish("UserLoggedOut", &[("user_id", "*")]);
    world.wait_done();
    assert_eq!(world.keys(), universe().into_iter().filter(|key| *key != "catalog:model:e1").map(str::to_owned).collect());
    let letters = world.dead_letters();
    assert!(letters.len() == CONFIGURATION.len() && letters.iter().all(|letter| letter.codes() == ["refused_target"]), "{letters:#?}");
    figure(format_args!(
        "{} requests answered 422, {} events to the dead letters, 0 of {} such keys deleted",
        asked.len(),
        letters.len(),
        CONFIGURATION.len()
    ));
}

#[test]
fn single_deletes_at_debug_one_true_summary_at_info() {
    let mut world = World::with(|setup| setup.preset("endpoint-catalog").set("log.level=debug").set("log.format=json"));
    world.seed(universe());
    let (status, body) = world.sidecar.post("/v1/invalidate", &update_of_e1());
    assert_eq!(status, 202, "{body}");
    world.wait_done();
    let lines = |world: &World| -> Vec<Json> { world.sidecar.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect() };
    let is_summary = |line: &&Json| line["level"] == "INFO" && line["message"] == "targets" && line["pending"] == 0;
    let summaries = wait_until_sync("a summary at INFO", PATIENCE, || {
        let summaries: Vec<Json> = lines(&world).iter().filter(is_summary).cloned().collect();
        let processed: u64 = summaries.iter().filter_map(|line| line["processed"].as_u64()).sum();
        if processed == 5 { Ok(summaries) } else { Err(world.sidecar.log()) }
    });
    let deleted: u64 = summaries.iter().filter_map(|line| line["keys_deleted"].as_u64()).sum();
    assert_eq!(deleted, 6, "three keys, two workers, one list");
    assert!(summaries.iter().any(|line| line["operations"].as_str().is_some_and(|names| names.contains("endpoint_update"))));
    let log = lines(&world);
    let is_delete = |line: &&Json| line["level"] == "DEBUG" && line["message"] == "done";
    let singles: Vec<&Json> = log.iter().filter(is_delete).collect();
    assert_eq!(singles.len(), 5, "{}", world.sidecar.log());
    assert!(singles.iter().all(|line| line["operations"].as_str().is_some_and(|names| names.contains("endpoint_update"))));
    assert!(!world.sidecar.log().contains("endpoint:e1"), "keys are fingerprints");
    figure("5 lines at DEBUG, a fingerprint each; INFO tells 5 targets and 6 keys in one line, and `endpoint_update`");
}

#[test]
fn every_snippet_of_its_page_works() {
    crate::pages::works("endpoint-catalog");
}
