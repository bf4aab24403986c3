//! The fifth system, plans that organizations may subscribe to, cached in each process alone: nothing to delete, all to be told, to every instance.
//!
//! Its caches of five minutes on two instances, with one load for all who wait, are the client's affair, and shown by its tests.

use std::collections::BTreeSet;
use std::time::Instant;

use unstale_tests::{Bus, Setup, World};

use crate::kit::{Row, Store, figure, row};

/// What an organization has in a process.
fn keys_of(org: &str) -> BTreeSet<String> {
    let plans =
        ["slack", "canva"].into_iter().flat_map(|provider| ["True", "False"].map(|flag| format!("plans_list_{org}_{provider}_{flag}")));
    let all = ["True", "False"].map(|flag| format!("all_plans_{org}_{flag}"));
    plans.chain(all).chain([format!("providers_list_{org}")]).collect()
}

/// Keys of Redis that happen to have such names.
const UNIVERSE: &[&str] = &[
    "providers_list_acme",
    "providers_list_acme_corp",
    "plans_list_acme_slack_True",
    "plans_list_acme_slack_False",
    "plans_list_acme_corp_slack_True",
    "all_plans_acme_True",
    "all_plans_acme_False",
    "all_plans_acme_corp_True",
    "plans",
];

#[test]
fn events_of_plans_and_organizations() {
    const FIVE: &[&str] = &[
        "providers_list_acme",
        "all_plans_acme_True",
        "all_plans_acme_False",
        "plans_list_acme_slack_True",
        "plans_list_acme_slack_False",
    ];
    const THREE: &[&str] = &["providers_list_acme", "all_plans_acme_True", "all_plans_acme_False"];
    const ACME: &[(&str, &str)] = &[("org_slug", "acme"), ("provider", "slack"), ("subscription_id", "sub_slack_pro")];
    const PROVIDER: &[(&str, &str)] = &[("org_slug", "acme"), ("provider", "slack")];
    let rows: &[Row] = &[
        row("SubscriptionPlanCreated", ACME, "normal", FIVE),
        row("SubscriptionPlanUpdated", ACME, "normal", FIVE),
        row("SubscriptionPlanDeleted", ACME, "normal", FIVE),
        row("SubscriptionPlanToggled", ACME, "normal", FIVE),
        row("SubscriptionProviderEnabled", PROVIDER, "normal", FIVE),
        row("SubscriptionProviderDisabled", PROVIDER, "normal", FIVE),
        row("OrganizationDeleted", &[("org_slug", "acme"), ("providers", r#"["slack"]"#)], "high", FIVE),
        row("OrganizationDeleted", &[("org_slug", "acme")], "high", THREE),
        row("OrganizationCacheInvalidated", &[("org_slug", "acme"), ("providers", r#"["slack"]"#)], "high", FIVE),
        row("OrganizationCacheInvalidated", &[("org_slug", "acme"), ("providers", "[]")], "high", THREE),
        row("ProviderCacheInvalidated", PROVIDER, "normal", &["plans_list_acme_slack_True", "plans_list_acme_slack_False"]),
        row("CacheCleared", &[("reason", "migration")], "low", &[]).and(&["all_plans_*", "plans_list_*", "providers_list_*"], &[]),
    ];
    super::kit::play("subscription-plans", Store::Local, UNIVERSE, rows);
}

#[test]
fn acme_takes_nothing_of_acme_corp() {
    let mut world = World::preset("subscription-plans");
    let (_, mut stream) = world.sidecar.notices("", None);
    let mut process: BTreeSet<String> = ["acme", "acme_corp", "acm", "acme_corp_eu"].into_iter().flat_map(keys_of).collect();
    let all = process.len();
    world.publish("OrganizationDeleted", &[("org_slug", "acme"), ("providers", r#"["slack","canva"]"#)]);
    let notice = stream.next_notice().expect("a notice comes");
    for key in notice.keys() {
        process.remove(&key);
    }
    assert!(notice.data["drop"].as_array().into_iter().flatten().all(|drop| drop["patterns"] == serde_json::json!([])), "{notice:?}");
    assert_eq!(process, ["acme_corp", "acm", "acme_corp_eu"].into_iter().flat_map(keys_of).collect());
    figure(format_args!(
        "{} of {all} keys dropped, by their names; those of `acme_corp`, `acme_corp_eu` and `acm` all there",
        all - process.len()
    ));
}

#[test]
fn a_change_on_one_instance_is_heard_by_both() {
    let world = World::preset("subscription-plans");
    let other = Setup::on(&world.redis).preset("subscription-plans").start(&world.redis);
    let mut instances = [&world.sidecar, &other].map(|sidecar| (sidecar.notices("", None).1, keys_of("acme")));
    let mut bus = Bus::new(&world.redis);
    let mut times = Vec::new();
    for _ in 0..20 {
        for (_, process) in &mut instances {
            *process = keys_of("acme");
        }
        let began = Instant::now();
        bus.publish("SubscriptionPlanUpdated", &[("org_slug", "acme"), ("provider", "slack"), ("subscription_id", "sub_slack_pro")]);
        for (stream, process) in &mut instances {
            for key in stream.next_notice().expect("a notice comes").keys() {
                process.remove(&key);
            }
        }
        times.push(began.elapsed());
        let canva = ["plans_list_acme_canva_False", "plans_list_acme_canva_True"].map(str::to_owned);
        assert!(instances.iter().all(|(_, process)| *process == BTreeSet::from(canva.clone())));
        bus.wait_done();
    }
    times.sort_unstable();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    figure(format_args!(
        "20 changes, dropped on both instances after {} ms in the median, {} ms at most (before: on the other only after its lifetime of 5 minutes)",
        median.as_millis(),
        most.as_millis()
    ));
}

#[test]
fn every_snippet_of_its_page_works() {
    crate::pages::works("subscription-plans");
}
