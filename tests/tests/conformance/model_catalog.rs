//! The second system, a catalogue of models: sweeps over providers whose Redis is far away, a cascade, an epoch, and keys that no sweep may take.

use std::time::{Duration, Instant};

use serde_json::json;
use unstale_testkit::{Fault, FaultProxy, Redis, runtime};
use unstale_tests::monitor::touched;
use unstale_tests::{Bus, Line, Setup, World};

use crate::kit::{Row, Store, figure, play, row};

const UNIVERSE: &[&str] = &[
    "gw:models:provider:openai",
    "gw:models:provider:openai-eu",
    "gw:models:provider:openai:x",
    "gw:models:index:openai",
    "gw:models:index:openai-eu",
    "gw:models:relationships:provider:openai",
    "gw:models:relationships:provider:openai-eu",
    "gw:models:relationships:unique:gpt-4o",
    "gw:models:model:openai:gpt-4o",
    "gw:models:model:openai:gpt-4o-mini",
    "gw:models:model:openai-eu:gpt-4o",
    "gw:models:model:openai",
    "gw:models:pricing:gpt-4o",
    "gw:models:pricing:gpt-4o-mini",
    "gw:models:gateway:openai",
    "gw:models:catalog:full",
    "gw:models:catalog:v2:full",
    "gw:models:catalog:v2:full:x",
    "gw:models:sync:in_progress",
    "gw:models:stats",
    "gw:models:stats:openai",
    "gw:models:unique",
    "gw:models:unique:index",
    "gw:models:unique:gpt-4o",
    "gw:models:unique:filtered:sortname:asc",
    "gw:models:unique:filtered:minp3:sortprovider_count:desc",
    "gw:models:uniques",
    "gw:providers:index",
    "gw:providers:provider:openai",
    "gw:catalog:v3:openai:limit50",
    "gw:catalog:v3:openai:limit50:offset50",
    "gw:catalog:v3:openai-eu:limit50",
    "gw:catalog:v3:all:limit50",
    "gw:catalog:v3:allx:limit50",
    "gw:catalog:v2:openai:limit50",
    "gw:catalog:rebuild_lock:all",
    "gw:catalog:rebuild_lock:openai",
    "auth:key_user:gw_live_k1",
    "auth:key_user:gw_live_k10",
    "auth:api_key:gw_live_k1",
    "auth:api_key:gw_live_k10",
    "auth:user_id:5",
    "auth:user_id:55",
    "auth:username:ann",
    "auth:username:anna",
    "auth:privy_id:did:privy:c1",
    "auth:privy_id:did:privy:c10",
    "db:user:5",
    "db:user:55",
    "db:credits:5",
    "db:plan:5",
    "db:plan:5:x",
    "gw:ratelimit:5",
    "openai",
];

const EPOCH: &[&str] = &["gw:models:catalog:epoch"];
const OF_PROVIDER: &[&str] = &["gw:models:provider:openai", "gw:models:index:openai", "gw:models:relationships:provider:openai"];
const OF_PROVIDER_AND_ALL: &[&str] = &[
    "gw:models:provider:openai",
    "gw:models:index:openai",
    "gw:models:relationships:provider:openai",
    "gw:models:catalog:v2:full",
    "gw:models:stats",
    "gw:models:unique",
];
const PATTERNS: &[&str] = &["gw:catalog:v3:all:*", "gw:catalog:v3:openai:*", "gw:models:model:openai:*"];
const PATTERNS_AND_CASCADE: &[&str] =
    &["gw:catalog:v3:all:*", "gw:catalog:v3:openai:*", "gw:models:model:openai:*", "gw:models:unique:filtered:*"];
const FOUND: &[&str] = &[
    "gw:models:model:openai:gpt-4o",
    "gw:models:model:openai:gpt-4o-mini",
    "gw:catalog:v3:openai:limit50",
    "gw:catalog:v3:openai:limit50:offset50",
    "gw:catalog:v3:all:limit50",
];
const FOUND_AND_CASCADE: &[&str] = &[
    "gw:models:model:openai:gpt-4o",
    "gw:models:model:openai:gpt-4o-mini",
    "gw:catalog:v3:openai:limit50",
    "gw:catalog:v3:openai:limit50:offset50",
    "gw:catalog:v3:all:limit50",
    "gw:models:unique:filtered:sortname:asc",
    "gw:models:unique:filtered:minp3:sortprovider_count:desc",
];

const CHANGED: Row = row("ProviderCatalogChanged", &[("provider", "openai"), ("cascade", "False")], "normal", OF_PROVIDER)
    .and(PATTERNS, FOUND)
    .counting(EPOCH);
const WITH_CASCADE: Row = row("ProviderCatalogChanged", &[("provider", "openai"), ("cascade", "True")], "normal", OF_PROVIDER_AND_ALL)
    .and(PATTERNS_AND_CASCADE, FOUND_AND_CASCADE)
    .counting(EPOCH);

#[test]
fn events_of_providers_and_models() {
    play(
        "model-catalog",
        Store::Redis,
        UNIVERSE,
        &[
            CHANGED,
            WITH_CASCADE,
            row("ProvidersBatchInvalidated", &[("providers", r#"["openai"]"#), ("cascade", "false")], "normal", OF_PROVIDER)
                .and(PATTERNS, FOUND)
                .counting(EPOCH),
            row("ProvidersBatchInvalidated", &[("providers", r#"["openai"]"#), ("cascade", "true")], "normal", OF_PROVIDER_AND_ALL)
                .and(PATTERNS_AND_CASCADE, FOUND_AND_CASCADE)
                .counting(EPOCH),
            row("ProvidersBatchInvalidated", &[("providers", "[]"), ("cascade", "true")], "", &[]),
            row("ProviderDeactivated", &[("provider", "openai"), ("delisted_count", "12")], "high", OF_PROVIDER_AND_ALL)
                .and(PATTERNS_AND_CASCADE, FOUND_AND_CASCADE)
                .counting(EPOCH),
            row(
                "ModelSyncCompleted",
                &[("providers", r#"["openai"]"#), ("total_synced", "40"), ("total_delisted", "2")],
                "normal",
                &["gw:models:catalog:v2:full", "gw:models:stats", "gw:models:unique"],
            )
            .and(
                &["gw:catalog:v3:*", "gw:models:unique:filtered:*"],
                &[
                    "gw:models:unique:filtered:sortname:asc",
                    "gw:models:unique:filtered:minp3:sortprovider_count:desc",
                    "gw:catalog:v3:openai:limit50",
                    "gw:catalog:v3:openai:limit50:offset50",
                    "gw:catalog:v3:openai-eu:limit50",
                    "gw:catalog:v3:all:limit50",
                    "gw:catalog:v3:allx:limit50",
                ],
            )
            .counting(EPOCH),
            row(
                "ModelPricingChanged",
                &[("provider", "openai"), ("model_id", "gpt-4o"), ("changed_fields", r#"["input"]"#)],
                "normal",
                &["gw:models:model:openai:gpt-4o", "gw:models:pricing:gpt-4o", "gw:models:catalog:v2:full"],
            )
            .and(
                &["gw:catalog:v3:all:*", "gw:catalog:v3:openai:*"],
                &["gw:catalog:v3:openai:limit50", "gw:catalog:v3:openai:limit50:offset50", "gw:catalog:v3:all:limit50"],
            )
            .counting(EPOCH),
        ],
    );
}

#[test]
fn events_of_api_keys_and_accounts() {
    const ACCOUNT: &[&str] = &["auth:user_id:5", "db:user:5", "db:credits:5", "db:plan:5"];
    const KNOWN: &[&str] = &["auth:user_id:5", "auth:username:ann", "auth:privy_id:did:privy:c1", "db:user:5", "db:credits:5", "db:plan:5"];
    const NAMES: &[(&str, &str)] = &[("user_id", "5"), ("username", "ann"), ("privy_id", "did:privy:c1")];
    play(
        "model-catalog",
        Store::Redis,
        UNIVERSE,
        &[
            row(
                "ApiKeyRevoked",
                &[("user_id", "5"), ("api_key", "gw_live_k1")],
                "critical",
                &["auth:key_user:gw_live_k1", "auth:api_key:gw_live_k1", "auth:user_id:5"],
            ),
            row("CreditsChanged", NAMES, "high", KNOWN),
            row("PlanChanged", &[("user_id", "5")], "high", ACCOUNT),
            row("AccountUpdated", NAMES, "normal", KNOWN),
        ],
    );
}

fn providers(count: usize) -> Vec<String> {
    (1..=count).map(|n| format!("provider-{n}")).collect()
}

/// What is cached for these providers, and for all together.
fn catalogue_of(providers: &[String]) -> Vec<String> {
    let of_one = |slug: &String| {
        let named = ["provider", "index", "relationships:provider"].map(|part| format!("gw:models:{part}:{slug}"));
        let models = (1..=10).map(|n| format!("gw:models:model:{slug}:model-{n}")).collect::<Vec<_>>();
        let pages = (1..=3).map(|n| format!("gw:catalog:v3:{slug}:page{n}")).collect::<Vec<_>>();
        [named.to_vec(), models, pages].concat()
    };
    let of_all =
        ["gw:models:catalog:v2:full", "gw:models:stats", "gw:models:unique", "gw:models:unique:filtered:asc", "gw:catalog:v3:all:1"];
    providers.iter().flat_map(of_one).chain(of_all.map(str::to_owned)).collect()
}

/// Publishes that all of these changed, with cascade.
fn publish_batch(bus: &mut Bus, providers: &[String]) {
    let data = json!({ "providers": providers, "cascade": true }).to_string();
    bus.add(&["type", "ProvidersBatchInvalidated", "data", &data]);
}

#[test]
fn eighteen_providers_with_cascade_on_a_redis_100_ms_away() {
    let runtime = runtime();
    let redis = Redis::start_sync();
    let proxy = runtime.block_on(FaultProxy::start(redis.address()));
    let sidecar = Setup::at(proxy.url()).preset("model-catalog").start(&redis);
    let mut bus = Bus::new(&redis);
    let providers = providers(18);
    bus.seed(catalogue_of(&providers));
    bus.cmd(&["SET", "gw:models:catalog:epoch", "7"]);
    proxy.set(Fault::Delay(Duration::from_millis(100)));
    let began = Instant::now();
    publish_batch(&mut bus, &providers);
    bus.wait_done();
    let took = began.elapsed();
    assert_eq!(bus.keys(), ["gw:models:catalog:epoch".to_owned()].into(), "{}", sidecar.log());
    assert_eq!(bus.cmd(&["GET", "gw:models:catalog:epoch"]).text(), "8");
    assert!(took < Duration::from_secs(5), "{took:?}");
    figure(format_args!(
        "293 keys gone and acknowledged after {:.1} s (stated: one after another 15–17 s, in a pipeline 1–2 s)",
        took.as_secs_f64()
    ));
}

#[test]
fn the_keys_of_thirty_providers_are_one_round_trip_and_their_patterns_one_pass() {
    let mut world = World::preset("model-catalog");
    let providers = providers(30);
    world.seed(catalogue_of(&providers));
    let lines = world.watched(|world| {
        publish_batch(world, &providers);
        world.wait_done();
    });
    assert_eq!(world.keys(), ["gw:models:catalog:epoch".to_owned()].into());
    let at = |wanted: &dyn Fn(&Line) -> bool| (0..lines.len()).filter(|at| wanted(&lines[*at])).collect::<Vec<_>>();
    let named = at(&|line| line.name() == "UNLINK" && line.has("gw:models:index:provider-1"));
    assert_eq!(named.len(), 1);
    assert_eq!(lines[named[0]].words.len() - 1, 93, "three keys of each, and the three of the cascade");
    let passes = at(&|line| line.name() == "SCAN" && line.words[1] == "0");
    assert_eq!(passes.len(), 1);
    assert_eq!(at(&|line| line.name() == "INCR").len(), 1);
    let found = touched(&lines).iter().filter(|(command, _)| command == "UNLINK").count() - 93;
    assert_eq!(found, 30 * 13 + 2);
    figure(format_args!("93 keys in 1 `UNLINK`; 62 patterns in 1 pass that found {found} keys; the epoch counted once"));
}

#[test]
fn an_empty_list_of_providers_is_no_command_at_all() {
    let mut world = World::preset("model-catalog");
    world.seed(UNIVERSE);
    let before = world.keys();
    let lines = world.watched(|world| {
        publish_batch(world, &[]);
        world.wait_done();
    });
    let commands = lines.iter().filter(|line| ["UNLINK", "INCR", "SCAN", "PUBLISH"].contains(&line.name().as_str())).count();
    assert_eq!((commands, touched(&lines)), (0, [].into()));
    assert_eq!((world.keys(), world.notices().len()), (before, 0));
    figure("0 deletes, 0 scans, 0 counts, 0 notices; acknowledged");
}

#[test]
fn many_changes_at_once_count_the_epoch_once() {
    let mut world = World::with(|setup| setup.preset("model-catalog").set("batching.window=2s"));
    world.cmd(&["SET", "gw:models:catalog:epoch", "0"]);
    // The first finds its lane idle; the others its window open.
    let first = world.publish("ProviderCatalogChanged", &[("provider", "p0"), ("cascade", "true")]);
    world.wait_notice("of the first", |notice| notice.events().contains(&first));
    let fields = |n: usize| ["type", "ProviderCatalogChanged", "provider", &format!("p{n}"), "cascade", "true"].map(str::to_owned).to_vec();
    let lines = world.watched(|world| {
        world.add_all(&(1..=18).map(fields).collect::<Vec<_>>());
        world.wait_done();
    });
    let count = |name: &str| lines.iter().filter(|line| line.name() == name).count();
    assert_eq!((count("INCR"), world.cmd(&["GET", "gw:models:catalog:epoch"]).text().as_str()), (1, "2"));
    let full = lines.iter().filter(|line| line.name() == "UNLINK" && line.has("gw:models:catalog:v2:full")).count();
    assert_eq!(full, 1, "the cascade once");
    figure("18 events with cascade within a window: the epoch 1 up, the full catalogue deleted once");
}

#[test]
fn a_sweep_of_all_models_leaves_epoch_and_marks_and_locks() {
    let mut world = World::preset("model-catalog");
    world.seed(UNIVERSE);
    world.cmd(&["SET", "gw:models:catalog:epoch", "7"]);
    let (status, body) = world.sidecar.post("/v1/invalidate?wait=deleted", &json!({ "patterns": ["gw:models:*", "gw:catalog:v3:*"] }));
    assert_eq!(status, 200, "{body}");
    let is_swept = |key: &str| key.starts_with("gw:models:") || key.starts_with("gw:catalog:v3:");
    let kept = ["gw:models:catalog:epoch", "gw:models:sync:in_progress"];
    let left = UNIVERSE.iter().copied().filter(|key| !is_swept(key)).chain(kept).map(str::to_owned).collect();
    assert_eq!(world.keys(), left);
    for pattern in ["gw:*", "gw:catalog:rebuild_lock:*", "*"] {
        let (status, body) = world.sidecar.post("/v1/invalidate", &json!({ "patterns": [pattern] }));
        assert_eq!(status, 422, "{pattern}: {body}");
    }
    let (status, body) = world.sidecar.post("/v1/invalidate", &json!({ "keys": ["gw:models:catalog:epoch"] }));
    assert_eq!(status, 422, "{body}");
    figure("all of `gw:models:*` gone but the epoch and the mark of a sync; asked for by their names: 422");
}

#[test]
fn an_endpoint_that_starts_it_answers_at_once() {
    let mut world = World::preset("model-catalog");
    let url = format!("{}/v1/events", world.sidecar.http());
    let body = json!({ "type": "ProvidersBatchInvalidated", "providers": providers(18), "cascade": true }).to_string();
    let agent = ureq::Agent::new_with_defaults();
    let post = || {
        let began = Instant::now();
        let mut answer = agent.post(&url).content_type("application/json").send(&body).expect("the sidecar answers");
        let took = began.elapsed();
        assert_eq!(answer.status().as_u16(), 202);
        answer.body_mut().read_to_string().expect("a body");
        took
    };
    post();
    let mut times: Vec<Duration> = Vec::new();
    let lines = world.watched(|_| times.extend((0..100).map(|_| post())));
    world.wait_done();
    let added = lines.iter().filter(|line| line.name() == "XADD" && line.words[1].starts_with("unstale:events")).count();
    assert_eq!(added, 100);
    times.sort_unstable();
    let (median, p90) = (times[50], times[90]);
    assert!(median < Duration::from_millis(20), "{median:?}");
    figure(format_args!(
        "202 at the cost of one `XADD`: median {:.2} ms, p90 {:.2} ms (stated: under 1 ms)",
        median.as_secs_f64() * 1e3,
        p90.as_secs_f64() * 1e3
    ));
}

#[test]
fn every_snippet_of_its_page_works() {
    crate::pages::works("model-catalog");
}
