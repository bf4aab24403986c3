//! The fourth system, repositories of entities behind a cache of two tiers: everything lies under one prefix, which is a setting.
//!
//! Its two tiers on a cluster that loses a master are the client's affair, and shown by its tests.

use std::collections::BTreeSet;

use serde_json::json;
use unstale_tests::World;

use crate::kit::{Row, Store, figure, row};

const UNIVERSE: &[&str] = &[
    "atp:cache:agent:9",
    "atp:cache:agent:90",
    "atp:cache:agent:list:page:1",
    "atp:cache:agent:list:page:2",
    "atp:cache:agent:count:active",
    "atp:cache:agent:counts",
    "atp:cache:agents:9",
    "atp:cache:agents:list:page:1",
    "atp:cache:model:name:gpt-4",
    "atp:cache:session:s1",
    "atp:cache:session:s1:data",
    "atp:cache:sessions:s1",
    "atp:cache:pricing:openai:gpt-4:current",
    "atp:cache:pricing:openai:gpt-4-turbo:current",
    "atp:cache:pricing:openai-eu:gpt-4:current",
    "atp:cache:pricing:history:openai:gpt-4",
    "atp:cache:pricing:history:openai:gpt-4-turbo",
    "atp:cache:pricing:history:openai-eu:gpt-4",
    "atp:cache:budget:team:7",
    "atp:cache:spending:team:7",
    "atp:cache:budget_block:team:7",
    "atp:cache:budget_throttle:team:7",
    "atp:cache:budget:team:77",
    "atp:cache:spending:team:77",
    "atp:cache:budget_block:team:77",
    "atp:cache:budget_throttle:org:1",
    "atp:cache:budget_blocks:team:7",
    "atp:metrics:agent:9",
    "atp:cachex:agent:9",
    "agent:9",
    "session:s1",
];

#[track_caller]
fn play(rows: &[Row]) {
    super::kit::play("entity-repository", Store::Redis, UNIVERSE, rows);
}

#[test]
fn events_of_entities_and_sessions() {
    const AGENT: &[(&str, &str)] = &[("entity", "agent"), ("entity_id", "9")];
    const LISTS: &[&str] = &["atp:cache:agent:count:*", "atp:cache:agent:list:*"];
    const LISTED: &[&str] = &["atp:cache:agent:list:page:1", "atp:cache:agent:list:page:2", "atp:cache:agent:count:active"];
    play(&[
        row("EntityCreated", AGENT, "normal", &["atp:cache:agent:9"]).and(LISTS, LISTED),
        row("EntityUpdated", AGENT, "normal", &["atp:cache:agent:9"]).and(LISTS, LISTED),
        row("EntityDeleted", AGENT, "high", &["atp:cache:agent:9"]).and(LISTS, LISTED),
        row("EntityTypeCleared", &[("entity", "agent")], "low", &[]).and(
            &["atp:cache:agent:*"],
            &[
                "atp:cache:agent:9",
                "atp:cache:agent:90",
                "atp:cache:agent:list:page:1",
                "atp:cache:agent:list:page:2",
                "atp:cache:agent:count:active",
                "atp:cache:agent:counts",
            ],
        ),
        row("SessionsInvalidated", &[], "high", &[]).and(&["atp:cache:session:*"], &["atp:cache:session:s1", "atp:cache:session:s1:data"]),
    ]);
}

#[test]
fn events_of_prices_and_budgets() {
    play(&[
        row(
            "ModelPriceChanged",
            &[("provider", "openai"), ("model", "gpt-4")],
            "normal",
            &["atp:cache:pricing:openai:gpt-4:current", "atp:cache:pricing:history:openai:gpt-4"],
        ),
        row("ModelPriceChanged", &[("provider", "openai")], "normal", &[]).and(
            &["atp:cache:pricing:history:openai:*", "atp:cache:pricing:openai:*"],
            &[
                "atp:cache:pricing:openai:gpt-4:current",
                "atp:cache:pricing:openai:gpt-4-turbo:current",
                "atp:cache:pricing:history:openai:gpt-4",
                "atp:cache:pricing:history:openai:gpt-4-turbo",
            ],
        ),
        row(
            "BudgetChanged",
            &[("entity_type", "team"), ("entity_id", "7")],
            "high",
            &["atp:cache:budget:team:7", "atp:cache:spending:team:7", "atp:cache:budget_block:team:7", "atp:cache:budget_throttle:team:7"],
        ),
        row("BudgetsReset", &[], "high", &[]).and(
            &["atp:cache:budget_block:*", "atp:cache:budget_throttle:*"],
            &[
                "atp:cache:budget_block:team:7",
                "atp:cache:budget_throttle:team:7",
                "atp:cache:budget_block:team:77",
                "atp:cache:budget_throttle:org:1",
            ],
        ),
    ]);
}

fn all() -> BTreeSet<String> {
    UNIVERSE.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn the_prefix_of_all_keys_is_a_setting() {
    let mut world = World::start("presets = ['entity-repository']\n[preset.entity-repository]\nvars = { prefix = 'staging:atp:cache:' }\n");
    let staging = |key: &str| format!("staging:{key}");
    world.seed(UNIVERSE.iter().map(|key| (*key).to_owned()).chain(UNIVERSE.iter().map(|key| staging(key))));
    world.publish("EntityUpdated", &[("entity", "agent"), ("entity_id", "9")]);
    world.publish("SessionsInvalidated", &[]);
    world.publish("ModelPriceChanged", &[("provider", "openai"), ("model", "gpt-4")]);
    world.publish("BudgetChanged", &[("entity_type", "team"), ("entity_id", "7")]);
    world.wait_done();
    let left = world.keys();
    assert!(all().is_subset(&left), "those of the other environment stay");
    let gone = UNIVERSE.iter().filter(|key| !left.contains(&staging(key))).count();
    assert_eq!(gone, 4 + 2 + 2 + 4);
    figure(format_args!("{gone} keys under `staging:atp:cache:` deleted, those under `atp:cache:` all there"));
}

#[test]
fn clearing_a_kind_takes_nothing_of_sessions_prices_and_budgets() {
    let mut world = World::preset("entity-repository");
    world.seed(UNIVERSE);
    // The kinds have the names of other caches, whose keys lie under the same prefix.
    for kind in ["session", "pricing", "budget", "spending"] {
        world.publish("EntityTypeCleared", &[("entity", kind)]);
    }
    // And kinds that would be patterns.
    for kind in ["*", "a*", "agen?"] {
        world.publish("EntityTypeCleared", &[("entity", kind)]);
    }
    world.wait_done();
    assert_eq!(world.keys(), all());
    let letters = world.dead_letters();
    assert!(letters.len() == 4 && letters.iter().all(|letter| letter.codes() == ["refused_target"]), "{letters:#?}");
    // A sweep of everything is what `entity` owns, and no more.
    let (status, body) = world.sidecar.post("/v1/invalidate?wait=deleted", &json!({ "patterns": ["atp:cache:*"] }));
    assert_eq!(status, 200, "{body}");
    let owned = ["session:", "pricing:", "budget:", "spending:", "budget_block:", "budget_throttle:"];
    let stays = |key: &&str| !key.starts_with("atp:cache:") || owned.iter().any(|cache| key.starts_with(&format!("atp:cache:{cache}")));
    assert_eq!(world.keys(), UNIVERSE.iter().copied().filter(stays).map(str::to_owned).collect());
    figure("4 kinds with the names of caches refused, 3 that would be patterns taken by their letters: 0 keys deleted");
}

#[test]
fn every_snippet_of_its_page_works() {
    crate::pages::works("entity-repository");
}
