//! The shipped presets: every event of the five systems, its targets and its priority.

use unstale_events::Invalidation;
use unstale_events::Priority::{self, Critical, High, Low, Normal};
use unstale_router::Router;

use crate::support::{route, router, targets};

/// An event (its type and attributes as JSON), its priority, and its targets: `cache: key …`, a pattern with `~` and a counter with `+` before its text.
pub(crate) type Row = (&'static str, &'static str, Priority, &'static [&'static str]);

/// What becomes of the event of a row.
#[track_caller]
pub(crate) fn routed(router: &Router, kind: &str, attributes: &str) -> Invalidation {
    let comma = if attributes.is_empty() { "" } else { "," };
    route(router, &format!(r#"{{"type":"{kind}"{comma}{attributes}}}"#))
}

#[track_caller]
fn check(router: &Router, rows: &[Row]) {
    for (kind, attributes, priority, expected) in rows {
        let out = routed(router, kind, attributes);
        let mut expected: Vec<_> = expected.iter().flat_map(|line| expand(line)).collect();
        expected.sort();
        assert_eq!(targets(router, &out), expected, "{kind} {attributes}");
        assert_eq!(out.priority, *priority, "{kind} {attributes}");
        assert!(out.routed && out.reasons.is_empty(), "{kind} {attributes}: {:?}", out.reasons);
    }
}

/// `cache: a ~b +c` as the lines that [`targets`] shows.
fn expand(line: &str) -> Vec<String> {
    let (cache, texts) = line.split_once(": ").expect("a cache");
    let show = |text: &str| match text.split_at(1) {
        ("~", pattern) => format!("{cache} pattern {pattern}"),
        ("+", counter) => format!("{cache} bump {counter}"),
        _ => format!("{cache} key {text}"),
    };
    texts.split_whitespace().map(show).collect()
}

/// Every type that a preset names appears in its table, and the other way round.
#[track_caller]
fn covers(router: &Router, rows: &[Row]) {
    for label in router.labels().iter().skip(2) {
        assert!(rows.iter().any(|(kind, ..)| kind == label), "no row for {label}");
    }
    for (kind, ..) in rows {
        assert!(router.labels().iter().any(|label| label == kind), "no route for {kind}");
    }
}

const KEY_DISCOVERY: &str = "model_mapping: conduit-tasks:discovery:models:virtualkey:7 ~conduit-tasks:discovery:models:virtualkey:7:*";
const DISCOVERY: &str = "model_mapping: ~conduit-tasks:discovery:models:*";

pub(crate) const LLM_GATEWAY: &[Row] = &[
    ("VirtualKeyCreated", r#""KeyId":7,"KeyHash":"h1","KeyName":"n","IsEnabled":true"#, Normal, &["virtual_key: vkey:h1"]),
    ("VirtualKeyUpdated", r#""key_id":7,"key_hash":"h1","changed_properties":["KeyName"]"#, Normal, &["virtual_key: vkey:h1"]),
    ("VirtualKeyUpdated", r#""key_id":7,"key_hash":"h1","changed_properties":[]"#, Normal, &["virtual_key: vkey:h1"]),
    ("VirtualKeyUpdated", r#""key_id":7,"key_hash":"h1","changed_properties":["IsEnabled"]"#, High, &["virtual_key: vkey:h1"]),
    ("VirtualKeyUpdated", r#""key_id":7,"key_hash":"h1","changed_properties":["x","MaxBudget"]"#, High, &["virtual_key: vkey:h1"]),
    ("VirtualKeyUpdated", r#""key_id":7,"key_hash":"h1","changed_properties":["ExpiresAt"]"#, High, &["virtual_key: vkey:h1"]),
    (
        "VirtualKeyUpdated",
        r#""key_id":7,"key_hash":"h1","changed_properties":["AllowedModels"]"#,
        High,
        &["virtual_key: vkey:h1", KEY_DISCOVERY],
    ),
    (
        "VirtualKeyDeleted",
        r#""key_id":7,"key_hash":"h1","key_name":"n""#,
        Critical,
        &["virtual_key: vkey:h1", "ip_filter: ipfilter:vkey:7 ~ipfilter:check:*:7", KEY_DISCOVERY],
    ),
    ("SpendUpdated", r#""key_id":7,"key_hash":"h1","amount":0.5,"new_total_spend":2,"request_id":"r""#, High, &["virtual_key: vkey:h1"]),
    ("SpendBatchCompleted", r#""key_hashes":["h1","h2","h3"]"#, High, &["virtual_key: vkey:h1 vkey:h2 vkey:h3"]),
    ("SpendBatchCompleted", r#""key_hashes":[]"#, High, &[]),
    ("SpendThresholdExceeded", r#""virtual_key_id":7,"virtual_key_hash":"h1","key_disabled":true"#, Critical, &["virtual_key: vkey:h1"]),
    ("SpendThresholdApproaching", r#""virtual_key_id":7,"virtual_key_hash":"h1","percentage_used":80"#, Low, &["virtual_key: vkey:h1"]),
    (
        "ModelCostChanged",
        r#""model_cost_id":1,"cost_name":"OpenAI/GPT-4*","change_type":"Updated","changed_properties":[]"#,
        Normal,
        &["model_cost: modelcost:pattern:openai/gpt-4* ~modelcost:*"],
    ),
    (
        "ModelMappingChanged",
        r#""mapping_id":1,"model_alias":"a","provider_id":2,"is_enabled":true,"change_type":"Created""#,
        Normal,
        &["model_mapping: conduit-tasks:discovery:models:all", DISCOVERY],
    ),
    (
        "GlobalSettingChanged",
        r#""setting_id":1,"setting_key":"Ui.Theme","change_type":"Updated""#,
        Normal,
        &["global_setting: globalsetting:ui.theme"],
    ),
    (
        "GlobalSettingChanged",
        r#""setting_id":1,"setting_key":"Auth.Mode","change_type":"Updated""#,
        High,
        &["global_setting: globalsetting:auth.mode ~globalsetting:auth*"],
    ),
    (
        "GlobalSettingChanged",
        r#""setting_id":1,"setting_key":"AUTH","change_type":"Deleted""#,
        High,
        &["global_setting: globalsetting:auth ~globalsetting:auth*"],
    ),
    ("GlobalSettingChanged", r#""setting_key":"","change_type":"BulkUpdate""#, Normal, &["global_setting: ~globalsetting:*"]),
    ("GlobalSettingChanged", r#""change_type":"BulkUpdate""#, Normal, &["global_setting: ~globalsetting:*"]),
    (
        "IpFilterChanged",
        r#""filter_id":1,"ip_address_or_cidr":"10.0.0.0/8","filter_type":"allow","is_enabled":true"#,
        High,
        &["ip_filter: ipfilter:global ~ipfilter:check:* ~ipfilter:vkey:*"],
    ),
    ("ProviderCreated", r#""provider_id":3,"provider_type":"x","is_enabled":true"#, Normal, &["provider: provider:3", DISCOVERY]),
    ("ProviderUpdated", r#""provider_id":3,"changed_properties":["Name"]"#, Normal, &["provider: provider:3"]),
    ("ProviderUpdated", r#""provider_id":3"#, Normal, &["provider: provider:3"]),
    ("ProviderUpdated", r#""provider_id":3,"changed_properties":["IsEnabled"]"#, High, &["provider: provider:3", DISCOVERY]),
    ("ProviderUpdated", r#""provider_id":3,"changed_properties":["IsActive"]"#, High, &["provider: provider:3", DISCOVERY]),
    ("ProviderDeleted", r#""provider_id":3"#, High, &["provider: provider:3", DISCOVERY]),
    ("ProviderKeyCredentialCreated", r#""provider_id":3,"key_id":1"#, Normal, &["provider: provider:3"]),
    ("ProviderKeyCredentialUpdated", r#""provider_id":3,"key_id":1,"changed_properties":["x"]"#, Normal, &["provider: provider:3"]),
    ("ProviderKeyCredentialDeleted", r#""provider_id":3,"key_id":1"#, High, &["provider: provider:3"]),
    (
        "ProviderKeyCredentialPrimaryChanged",
        r#""provider_id":3,"old_primary_key_id":1,"new_primary_key_id":2"#,
        High,
        &["provider: provider:3"],
    ),
    ("ProviderKeyDisabled", r#""key_id":1,"provider_id":3,"reason":"r""#, High, &["provider: provider:3"]),
    ("ProviderKeyDisabledEvent", r#""key_id":1,"provider_id":3,"reason":"r""#, High, &["provider: provider:3"]),
    ("ProviderKeyReenabled", r#""key_id":1,"provider_id":3,"reason":"r""#, High, &["provider: provider:3"]),
    ("ProviderKeyReenabledEvent", r#""key_id":1,"provider_id":3,"reason":"r""#, High, &["provider: provider:3"]),
    ("AsyncTaskUpdated", r#""task_id":"t-1","state":"done","progress":100"#, Low, &["async_task: conduit-tasks:async:task:t-1"]),
    ("AsyncTaskDeleted", r#""task_id":"t-1""#, Low, &["async_task: conduit-tasks:async:task:t-1"]),
    ("AsyncTaskCreated", r#""task_id":"t-1""#, Normal, &[]),
    ("RateLimitExceeded", "", Normal, &[]),
];

#[test]
fn llm_gateway() {
    let router = router("presets = ['llm-gateway']");
    check(&router, LLM_GATEWAY);
    covers(&router, LLM_GATEWAY);
}

const PROVIDER: &[&str] = &[
    "provider_catalog: gw:models:provider:p gw:models:index:p gw:models:relationships:provider:p ~gw:models:model:p:* +gw:models:catalog:epoch",
    "catalog_response: ~gw:catalog:v3:p:* ~gw:catalog:v3:all:*",
];
const PROVIDER_WITH_CASCADE: &[&str] = &[PROVIDER[0], PROVIDER[1], CASCADE];
const CASCADE: &str = "provider_catalog: gw:models:catalog:v2:full gw:models:stats gw:models:unique ~gw:models:unique:filtered:*";
const PROVIDERS: &[&str] = &[
    "provider_catalog: gw:models:provider:p gw:models:index:p gw:models:relationships:provider:p ~gw:models:model:p:*",
    "provider_catalog: gw:models:provider:q gw:models:index:q gw:models:relationships:provider:q ~gw:models:model:q:*",
    "provider_catalog: +gw:models:catalog:epoch",
    "catalog_response: ~gw:catalog:v3:p:* ~gw:catalog:v3:q:* ~gw:catalog:v3:all:*",
];
const ACCOUNT: &str = "account: db:user:5 db:credits:5 db:plan:5";

pub(crate) const MODEL_CATALOG: &[Row] = &[
    ("ProviderCatalogChanged", r#""provider":"p","cascade":false"#, Normal, PROVIDER),
    ("ProviderCatalogChanged", r#""provider":"p""#, Normal, PROVIDER),
    ("ProviderCatalogChanged", r#""provider":"p","cascade":true"#, Normal, PROVIDER_WITH_CASCADE),
    ("ProvidersBatchInvalidated", r#""providers":["p","q"],"cascade":false"#, Normal, PROVIDERS),
    (
        "ProvidersBatchInvalidated",
        r#""providers":["p","q"],"cascade":true"#,
        Normal,
        &[PROVIDERS[0], PROVIDERS[1], PROVIDERS[2], PROVIDERS[3], CASCADE],
    ),
    ("ProvidersBatchInvalidated", r#""providers":[],"cascade":true"#, Normal, &[]),
    ("ProviderDeactivated", r#""provider":"p","delisted_count":4"#, High, PROVIDER_WITH_CASCADE),
    (
        "ModelSyncCompleted",
        r#""providers":["p"],"total_synced":1,"total_delisted":0"#,
        Normal,
        &[CASCADE, "provider_catalog: +gw:models:catalog:epoch", "catalog_response: ~gw:catalog:v3:*"],
    ),
    (
        "ModelPricingChanged",
        r#""provider":"p","model_id":"m","changed_fields":["x"]"#,
        Normal,
        &[
            "provider_catalog: gw:models:model:p:m gw:models:pricing:m gw:models:catalog:v2:full +gw:models:catalog:epoch",
            "catalog_response: ~gw:catalog:v3:p:* ~gw:catalog:v3:all:*",
        ],
    ),
    ("ApiKeyRevoked", r#""user_id":5,"api_key":"k""#, Critical, &["auth: auth:key_user:k auth:api_key:k auth:user_id:5"]),
    (
        "CreditsChanged",
        r#""user_id":5,"username":"u","privy_id":"v""#,
        High,
        &["auth: auth:user_id:5 auth:username:u auth:privy_id:v", ACCOUNT],
    ),
    ("PlanChanged", r#""user_id":5,"username":"u""#, High, &["auth: auth:user_id:5 auth:username:u", ACCOUNT]),
    ("AccountUpdated", r#""user_id":5"#, Normal, &["auth: auth:user_id:5", ACCOUNT]),
];

#[test]
fn model_catalog() {
    let router = router("presets = ['model-catalog']");
    check(&router, MODEL_CATALOG);
    covers(&router, MODEL_CATALOG);
}

/// As Python writes it into a flat field.
#[test]
fn a_cascade_may_be_text() {
    let router = router("presets = ['model-catalog']");
    check(&router, &[("ProviderCatalogChanged", r#""provider":"p","cascade":"True""#, Normal, PROVIDER_WITH_CASCADE)]);
}

#[test]
fn a_sweep_of_all_models_leaves_what_is_protected() {
    let router = router("presets = ['model-catalog']");
    let caches = router.caches();
    let cache = caches.by_name("provider_catalog").expect("declared");
    assert!(caches.check_pattern(cache, "gw:models:*").is_ok());
    for key in ["gw:models:catalog:epoch", "gw:models:sync:in_progress", "gw:catalog:rebuild_lock:x"] {
        assert!(!caches.deletable(cache, key.as_bytes()), "{key}");
    }
    assert!(caches.deletable(cache, b"gw:models:stats"));
}

#[test]
fn an_empty_provider_in_a_batch_is_no_silence() {
    let router = router("presets = ['model-catalog']");
    let out = route(&router, r#"{"type":"ProvidersBatchInvalidated","providers":["p",""]}"#);
    assert_eq!(out.targets.len(), 7);
    assert!(!out.reasons.is_empty());
    assert!(!route(&router, r#"{"type":"ProvidersBatchInvalidated"}"#).reasons.is_empty());
}

pub(crate) const ENDPOINT_CATALOG: &[Row] = &[
    ("EndpointPublished", r#""endpoint_id":"e""#, Normal, &["model_catalog: catalog:model:e ~catalog:models:*"]),
    ("EndpointUnpublished", r#""endpoint_id":"e""#, High, &["model_catalog: catalog:model:e ~catalog:models:*"]),
    ("EndpointPricingUpdated", r#""endpoint_id":"e""#, Normal, &["model_catalog: catalog:model:e ~catalog:models:*"]),
    ("CatalogChanged", "", Normal, &["model_catalog: ~catalog:models:*"]),
    ("CredentialDeleted", r#""hashed_key":"k","project_id":"p""#, Critical, &["credential: credential_valid:k"]),
    ("CredentialUpdated", r#""hashed_key":"k","project_id":"p""#, Critical, &["credential: credential_valid:k"]),
    ("UserLoggedOut", r#""user_id":"u""#, High, &["user: user:session:u ~user:u:*"]),
    ("UserUpdated", r#""user_id":"u""#, Normal, &["user: user:u user:u:profile ~user:u:sessions:* ~user:u:projects:*"]),
    ("ProjectUpdated", r#""project_id":"p""#, Normal, &["project: project:p ~project:p:* ~projects:list:*"]),
    ("ModelsBulkUpdated", "", Low, &["model_list: ~models:list:* ~models:search:*"]),
    (
        "EndpointUpdated",
        r#""endpoint_id":"e""#,
        Normal,
        &["endpoint: endpoint:e endpoint:e:status endpoint:e:metrics ~endpoint:e:workers:*"],
    ),
    (
        "ClusterUpdated",
        r#""cluster_id":"c""#,
        Normal,
        &["cluster: cluster:c cluster:c:status cluster:c:metrics ~clusters:list:* ~cluster:c:*"],
    ),
    ("ClusterUpdated", "", Normal, &["cluster: ~clusters:list:*"]),
];

#[test]
fn endpoint_catalog() {
    let router = router("presets = ['endpoint-catalog']");
    check(&router, ENDPOINT_CATALOG);
    covers(&router, ENDPOINT_CATALOG);
}

#[test]
fn configuration_beside_the_endpoint_caches_is_protected() {
    let router = router(
        "presets = ['endpoint-catalog']\n[cache.wide]\nprefixes = ['api_', 'model_', 'published', 'guard', 'block', 'usage', 'prompt']\n",
    );
    let caches = router.caches();
    let wide = caches.by_name("wide").expect("declared");
    let protected = [
        "api_key:1",
        "model_table:1",
        "published_model_info",
        "guardrail_table:1",
        "blocking_rule",
        "blocking_rules:1",
        "usage_limit:1",
        "prompt:1",
    ];
    for key in protected {
        assert!(!caches.deletable(wide, key.as_bytes()), "{key}");
    }
    assert!(caches.deletable(wide, b"api_keys"));
}

const ENTITY: &[&str] = &["entity: atp:cache:agent:9 ~atp:cache:agent:list:* ~atp:cache:agent:count:*"];

pub(crate) const ENTITY_REPOSITORY: &[Row] = &[
    ("EntityCreated", r#""entity":"agent","entity_id":"9""#, Normal, ENTITY),
    ("EntityUpdated", r#""entity":"agent","entity_id":"9""#, Normal, ENTITY),
    ("EntityDeleted", r#""entity":"agent","entity_id":"9""#, High, ENTITY),
    ("EntityTypeCleared", r#""entity":"agent""#, Low, &["entity: ~atp:cache:agent:*"]),
    ("SessionsInvalidated", "", High, &["session: ~atp:cache:session:*"]),
    (
        "ModelPriceChanged",
        r#""provider":"p","model":"m""#,
        Normal,
        &["pricing: atp:cache:pricing:p:m:current atp:cache:pricing:history:p:m"],
    ),
    ("ModelPriceChanged", r#""provider":"p""#, Normal, &["pricing: ~atp:cache:pricing:p:* ~atp:cache:pricing:history:p:*"]),
    ("ModelPriceChanged", r#""provider":"p","model":null"#, Normal, &["pricing: ~atp:cache:pricing:p:* ~atp:cache:pricing:history:p:*"]),
    (
        "BudgetChanged",
        r#""entity_type":"t","entity_id":"9""#,
        High,
        &["budget: atp:cache:budget:t:9 atp:cache:spending:t:9 atp:cache:budget_block:t:9 atp:cache:budget_throttle:t:9"],
    ),
    ("BudgetsReset", "", High, &["budget: ~atp:cache:budget_block:* ~atp:cache:budget_throttle:*"]),
];

#[test]
fn entity_repository() {
    let router = router("presets = ['entity-repository']");
    check(&router, ENTITY_REPOSITORY);
    covers(&router, ENTITY_REPOSITORY);
}

#[test]
fn the_prefix_of_all_entities_is_a_setting() {
    let router = router("presets = ['entity-repository']\npreset.entity-repository.vars.prefix = 'app:'\n");
    check(&router, &[("SessionsInvalidated", "", High, &["session: ~app:session:*"])]);
    let out = route(&router, r#"{"type":"EntityTypeCleared","entity":"session"}"#);
    assert!(out.targets.is_empty() && out.reasons.len() == 1, "sessions are another cache's");
}

const PLANS: &[&str] =
    &["subscription_plan: providers_list_acme all_plans_acme_True all_plans_acme_False plans_list_acme_p_True plans_list_acme_p_False"];
const ORGANIZATION: &str = "subscription_plan: providers_list_acme all_plans_acme_True all_plans_acme_False";
const ORGANIZATION_WITH_PROVIDERS: &[&str] =
    &[ORGANIZATION, "subscription_plan: plans_list_acme_p_True plans_list_acme_p_False plans_list_acme_q_True plans_list_acme_q_False"];
const PLAN: &str = r#""org_slug":"acme","provider":"p","subscription_id":"s""#;

pub(crate) const SUBSCRIPTION_PLANS: &[Row] = &[
    ("SubscriptionPlanCreated", PLAN, Normal, PLANS),
    ("SubscriptionPlanUpdated", PLAN, Normal, PLANS),
    ("SubscriptionPlanDeleted", PLAN, Normal, PLANS),
    ("SubscriptionPlanToggled", PLAN, Normal, PLANS),
    ("SubscriptionProviderEnabled", r#""org_slug":"acme","provider":"p""#, Normal, PLANS),
    ("SubscriptionProviderDisabled", r#""org_slug":"acme","provider":"p""#, Normal, PLANS),
    ("OrganizationDeleted", r#""org_slug":"acme","providers":["p","q"]"#, High, ORGANIZATION_WITH_PROVIDERS),
    ("OrganizationDeleted", r#""org_slug":"acme""#, High, &[ORGANIZATION]),
    ("OrganizationCacheInvalidated", r#""org_slug":"acme","providers":["p","q"]"#, High, ORGANIZATION_WITH_PROVIDERS),
    ("OrganizationCacheInvalidated", r#""org_slug":"acme","providers":[]"#, High, &[ORGANIZATION]),
    (
        "ProviderCacheInvalidated",
        r#""org_slug":"acme","provider":"p""#,
        Normal,
        &["subscription_plan: plans_list_acme_p_True plans_list_acme_p_False"],
    ),
    ("CacheCleared", r#""reason":"r""#, Low, &["subscription_plan: ~providers_list_* ~plans_list_* ~all_plans_*"]),
];

#[test]
fn subscription_plans() {
    let router = router("presets = ['subscription-plans']");
    check(&router, SUBSCRIPTION_PLANS);
    covers(&router, SUBSCRIPTION_PLANS);
}

/// Or the event would be acked and its keys would stay.
#[test]
fn a_required_attribute_that_is_absent_is_never_dropped_in_silence() {
    for (preset, rows) in [("llm-gateway", LLM_GATEWAY), ("model-catalog", MODEL_CATALOG), ("endpoint-catalog", ENDPOINT_CATALOG)] {
        let router = router(&format!("presets = ['{preset}']"));
        for (kind, _, _, expected) in rows.iter().filter(|(kind, _, _, expected)| !expected.is_empty() && *kind != "ClusterUpdated") {
            let out = route(&router, &format!(r#"{{"type":"{kind}"}}"#));
            assert!(!out.reasons.is_empty() || !out.targets.is_empty(), "{kind} {expected:?}");
        }
    }
}
