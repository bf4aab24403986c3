//! Every row of the catalogue's first table: the event goes in, exactly these keys are gone, no others, and the notices say by which lane.

use unstale_tests::World;

/// What is there before each event: every row's keys, and keys that differ from them by as little as possible.
const UNIVERSE: &[&str] = &[
    "vkey:h1",
    "vkey:h2",
    "vkey:h3",
    "vkey:h",
    "vkey:h1x",
    "vkey:H1",
    "Vkey:h1",
    "vkeys:h1",
    "xvkey:h1",
    "vkey",
    "modelcost:pattern:openai/gpt-4*",
    "modelcost:pattern:openai/gpt-4",
    "modelcost:1",
    "modelcost",
    "modelcosts:1",
    "xmodelcost:1",
    "provider:3",
    "provider:33",
    "provider:3:x",
    "providers:3",
    "conduit-tasks:discovery:models:all",
    "conduit-tasks:discovery:models:capability:chat",
    "conduit-tasks:discovery:models:virtualkey:7",
    "conduit-tasks:discovery:models:virtualkey:7:page:1",
    "conduit-tasks:discovery:models:virtualkey:77",
    "conduit-tasks:discovery:models:virtualkey:77:page:1",
    "conduit-tasks:discovery:models",
    "conduit-tasks:discovery:modelsx:1",
    "conduit-tasks:discovery:providers:3",
    "conduit:discovery:models:all",
    "globalsetting:ui.theme",
    "globalsetting:Ui.Theme",
    "globalsetting:auth",
    "globalsetting:auth.mode",
    "globalsetting:authorities",
    "globalsetting:Auth.Mode",
    "globalsettings:auth",
    "ipfilter:global",
    "ipfilter:globals",
    "ipfilter:check:10.0.0.1:7",
    "ipfilter:check:10.0.0.2:7",
    "ipfilter:check:10.0.0.1:77",
    "ipfilter:check:10.0.0.1:7:x",
    "ipfilter:checks:10.0.0.1:7",
    "ipfilter:vkey:7",
    "ipfilter:vkey:77",
    "ipfilters:global",
    "conduit-tasks:async:task:t-1",
    "conduit-tasks:async:task:t-10",
    "conduit-tasks:async:tasks:t-1",
    "conduit:async:task:t-1",
    "conduit:cache:stats:hits",
    "conduit:cache:stats:vkey:h1",
];

/// An event, its lane, the keys and patterns that it names, and what the patterns find.
struct Row {
    kind: &'static str,
    attributes: &'static [(&'static str, &'static str)],
    lane: &'static str,
    keys: &'static [&'static str],
    patterns: &'static [&'static str],
    found: &'static [&'static str],
}

/// A row without patterns.
const fn row(
    kind: &'static str,
    attributes: &'static [(&'static str, &'static str)],
    lane: &'static str,
    keys: &'static [&'static str],
) -> Row {
    Row { kind, attributes, lane, keys, patterns: &[], found: &[] }
}

impl Row {
    const fn and(self, patterns: &'static [&'static str], found: &'static [&'static str]) -> Self {
        Self { patterns, found, ..self }
    }
}

/// Plays the rows one after another, everything being there anew for each.
#[track_caller]
fn play(rows: &[Row]) {
    let mut world = World::preset("llm-gateway");
    for row in rows {
        let what = format!("{} {:?}", row.kind, row.attributes);
        let before = world.notices().len();
        world.seed(UNIVERSE);
        world.publish(row.kind, row.attributes);
        world.wait_done();
        let left = world.keys();
        let gone: Vec<&str> = UNIVERSE.iter().copied().filter(|key| !left.contains(*key)).collect();
        let is_meant = |key: &&str| row.keys.contains(key) || row.found.contains(key);
        let meant: Vec<&str> = UNIVERSE.iter().copied().filter(is_meant).collect();
        assert_eq!(gone, meant, "{what}");
        announced(row, &what, &world.notices()[before..]);
        assert_eq!(world.dead_letters(), [], "{what}");
    }
}

/// The notices name what the row names, but for keys that a pattern of theirs says already; all are of its lane.
#[track_caller]
fn announced(row: &Row, what: &str, notices: &[unstale_tests::Notice]) {
    assert!(notices.iter().all(|notice| notice.priority() == row.lane), "{what}: {notices:#?}");
    let mut patterns: Vec<String> = notices.iter().flat_map(unstale_tests::Notice::patterns).collect();
    patterns.sort();
    assert_eq!(patterns, row.patterns, "{what}");
    let keys: Vec<String> = notices.iter().flat_map(unstale_tests::Notice::keys).collect();
    assert!(keys.iter().all(|key| row.keys.contains(&key.as_str())), "{what}: {keys:?}");
    let is_told = |key: &str| keys.iter().any(|told| told == key) || row.patterns.iter().any(|pattern| begins_as(key, pattern));
    assert!(row.keys.iter().all(|key| is_told(key)), "{what}: {notices:#?}");
    assert_eq!(notices.is_empty(), row.keys.is_empty() && row.patterns.is_empty(), "{what}");
}

fn begins_as(key: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').is_some_and(|prefix| !prefix.contains('*') && key.starts_with(prefix))
}

const ALL_DISCOVERY: &[&str] = &[
    "conduit-tasks:discovery:models:all",
    "conduit-tasks:discovery:models:capability:chat",
    "conduit-tasks:discovery:models:virtualkey:7",
    "conduit-tasks:discovery:models:virtualkey:7:page:1",
    "conduit-tasks:discovery:models:virtualkey:77",
    "conduit-tasks:discovery:models:virtualkey:77:page:1",
];
const DISCOVERY: &[&str] = &["conduit-tasks:discovery:models:*"];
const KEYS_DISCOVERY: &[&str] = &["conduit-tasks:discovery:models:virtualkey:7:*"];
const KEYS_PAGE: &[&str] = &["conduit-tasks:discovery:models:virtualkey:7:page:1"];
const PROVIDER: &[&str] = &["provider:3"];
const VKEY: &[&str] = &["vkey:h1"];

#[test]
fn virtual_keys() {
    play(&[
        row(
            "VirtualKeyCreated",
            &[("KeyId", "7"), ("KeyHash", "h1"), ("KeyName", "n"), ("CreatedAt", "2026-01-01T00:00:00Z"), ("IsEnabled", "true")],
            "normal",
            VKEY,
        ),
        row("VirtualKeyUpdated", &[("KeyId", "7"), ("KeyHash", "h1"), ("ChangedProperties", r#"["KeyName"]"#)], "normal", VKEY),
        row("VirtualKeyUpdated", &[("KeyId", "7"), ("KeyHash", "h1"), ("ChangedProperties", "[]")], "normal", VKEY),
        row("VirtualKeyUpdated", &[("key_id", "7"), ("key_hash", "h1"), ("changed_properties", r#"["IsEnabled"]"#)], "high", VKEY),
        row("VirtualKeyUpdated", &[("key_id", "7"), ("key_hash", "h1"), ("changed_properties", r#"["X","MaxBudget"]"#)], "high", VKEY),
        row("VirtualKeyUpdated", &[("key_id", "7"), ("key_hash", "h1"), ("changed_properties", r#"["ExpiresAt"]"#)], "high", VKEY),
        row(
            "VirtualKeyUpdated",
            &[("key_id", "7"), ("key_hash", "h1"), ("changed_properties", r#"["AllowedModels"]"#)],
            "high",
            &["vkey:h1", "conduit-tasks:discovery:models:virtualkey:7"],
        )
        .and(KEYS_DISCOVERY, KEYS_PAGE),
        row(
            "VirtualKeyDeleted",
            &[("KeyId", "7"), ("KeyHash", "h1"), ("KeyName", "n")],
            "critical",
            &["vkey:h1", "ipfilter:vkey:7", "conduit-tasks:discovery:models:virtualkey:7"],
        )
        .and(
            &["conduit-tasks:discovery:models:virtualkey:7:*", "ipfilter:check:*:7"],
            &["conduit-tasks:discovery:models:virtualkey:7:page:1", "ipfilter:check:10.0.0.1:7", "ipfilter:check:10.0.0.2:7"],
        ),
    ]);
}

#[test]
fn spend() {
    play(&[
        row(
            "SpendUpdated",
            &[("KeyId", "7"), ("KeyHash", "h1"), ("Amount", "0.25"), ("NewTotalSpend", "2"), ("RequestId", "r-1")],
            "high",
            VKEY,
        ),
        row("SpendBatchCompleted", &[("KeyHashes", r#"["h1","h2","h3"]"#)], "high", &["vkey:h1", "vkey:h2", "vkey:h3"]),
        row("SpendBatchCompleted", &[("KeyHashes", "[]")], "", &[]),
        row(
            "SpendThresholdExceeded",
            &[("VirtualKeyId", "7"), ("VirtualKeyHash", "h1"), ("MaxBudget", "10"), ("KeyDisabled", "true")],
            "critical",
            VKEY,
        ),
        row("SpendThresholdApproaching", &[("VirtualKeyId", "7"), ("VirtualKeyHash", "h1"), ("PercentageUsed", "80")], "low", VKEY),
    ]);
}

#[test]
fn model_costs_and_mappings() {
    play(&[
        row(
            "ModelCostChanged",
            &[("ModelCostId", "1"), ("CostName", "OpenAI/GPT-4*"), ("ChangeType", "Updated"), ("ChangedProperties", "[]")],
            "normal",
            &["modelcost:pattern:openai/gpt-4*"],
        )
        .and(&["modelcost:*"], &["modelcost:pattern:openai/gpt-4", "modelcost:1"]),
        row(
            "ModelMappingChanged",
            &[("MappingId", "1"), ("ModelAlias", "a"), ("ProviderId", "3"), ("IsEnabled", "true"), ("ChangeType", "Created")],
            "normal",
            &["conduit-tasks:discovery:models:all"],
        )
        .and(DISCOVERY, ALL_DISCOVERY),
    ]);
}

#[test]
fn settings_and_ip_filters() {
    const AUTH: &[&str] = &["globalsetting:auth*"];
    const OF_AUTH: &[&str] = &["globalsetting:auth", "globalsetting:auth.mode", "globalsetting:authorities"];
    const ALL: &[&str] = &[
        "globalsetting:ui.theme",
        "globalsetting:Ui.Theme",
        "globalsetting:auth",
        "globalsetting:auth.mode",
        "globalsetting:authorities",
        "globalsetting:Auth.Mode",
    ];
    play(&[
        row(
            "GlobalSettingChanged",
            &[("SettingId", "1"), ("SettingKey", "Ui.Theme"), ("ChangeType", "Updated")],
            "normal",
            &["globalsetting:ui.theme"],
        ),
        row(
            "GlobalSettingChanged",
            &[("SettingId", "1"), ("SettingKey", "Auth.Mode"), ("ChangeType", "Updated")],
            "high",
            &["globalsetting:auth.mode"],
        )
        .and(AUTH, OF_AUTH),
        row("GlobalSettingChanged", &[("SettingKey", "AUTH"), ("ChangeType", "Deleted")], "high", &["globalsetting:auth"])
            .and(AUTH, OF_AUTH),
        row("GlobalSettingChanged", &[("SettingKey", ""), ("ChangeType", "BulkUpdate")], "normal", &[]).and(&["globalsetting:*"], ALL),
        row(
            "IpFilterChanged",
            &[("FilterId", "1"), ("IpAddressOrCidr", "10.0.0.0/8"), ("FilterType", "allow"), ("ChangeType", "Created")],
            "high",
            &["ipfilter:global"],
        )
        .and(
            &["ipfilter:check:*", "ipfilter:vkey:*"],
            &[
                "ipfilter:check:10.0.0.1:7",
                "ipfilter:check:10.0.0.2:7",
                "ipfilter:check:10.0.0.1:77",
                "ipfilter:check:10.0.0.1:7:x",
                "ipfilter:vkey:7",
                "ipfilter:vkey:77",
            ],
        ),
    ]);
}

#[test]
fn providers() {
    play(&[
        row("ProviderCreated", &[("ProviderId", "3"), ("ProviderType", "x"), ("IsEnabled", "true")], "normal", PROVIDER)
            .and(DISCOVERY, ALL_DISCOVERY),
        row("ProviderUpdated", &[("ProviderId", "3"), ("ChangedProperties", r#"["Name"]"#)], "normal", PROVIDER),
        row("ProviderUpdated", &[("ProviderId", "3"), ("ChangedProperties", r#"["IsEnabled"]"#)], "high", PROVIDER)
            .and(DISCOVERY, ALL_DISCOVERY),
        row("ProviderUpdated", &[("ProviderId", "3"), ("ChangedProperties", r#"["IsActive","Name"]"#)], "high", PROVIDER)
            .and(DISCOVERY, ALL_DISCOVERY),
        row("ProviderDeleted", &[("ProviderId", "3")], "high", PROVIDER).and(DISCOVERY, ALL_DISCOVERY),
    ]);
}

#[test]
fn credentials_of_providers() {
    play(&[
        row("ProviderKeyCredentialCreated", &[("ProviderId", "3"), ("KeyId", "1")], "normal", PROVIDER),
        row(
            "ProviderKeyCredentialUpdated",
            &[("ProviderId", "3"), ("KeyId", "1"), ("ChangedProperties", r#"["BaseUrl"]"#)],
            "normal",
            PROVIDER,
        ),
        row("ProviderKeyCredentialDeleted", &[("ProviderId", "3"), ("KeyId", "1")], "high", PROVIDER),
        row(
            "ProviderKeyCredentialPrimaryChanged",
            &[("ProviderId", "3"), ("OldPrimaryKeyId", "1"), ("NewPrimaryKeyId", "2")],
            "high",
            PROVIDER,
        ),
        row("ProviderKeyDisabled", &[("KeyId", "1"), ("ProviderId", "3"), ("Reason", "r")], "high", PROVIDER),
        row("ProviderKeyDisabledEvent", &[("KeyId", "1"), ("ProviderId", "3"), ("Reason", "r")], "high", PROVIDER),
        row("ProviderKeyReenabled", &[("KeyId", "1"), ("ProviderId", "3"), ("Reason", "r")], "high", PROVIDER),
        row("ProviderKeyReenabledEvent", &[("KeyId", "1"), ("ProviderId", "3"), ("Reason", "r")], "high", PROVIDER),
    ]);
}

#[test]
fn tasks_and_what_touches_no_cache() {
    const TASK: &[&str] = &["conduit-tasks:async:task:t-1"];
    play(&[
        row("AsyncTaskUpdated", &[("TaskId", "t-1"), ("State", "running"), ("Progress", "50"), ("IsCompleted", "false")], "low", TASK),
        row("AsyncTaskDeleted", &[("TaskId", "t-1")], "low", TASK),
        row("AsyncTaskCreated", &[("TaskId", "t-1")], "", &[]),
        row("RateLimitExceeded", &[("KeyHash", "h1")], "", &[]),
    ]);
}

#[test]
fn the_prefix_of_tasks_and_discovery_is_a_setting() {
    let mut world =
        World::start("presets = ['llm-gateway']\n[preset.llm-gateway]\nvars = { tasks = 'conduit:' }\nwithout = ['AsyncTaskDeleted']\n");
    world.seed(UNIVERSE);
    world.publish("AsyncTaskUpdated", &[("TaskId", "t-1")]);
    world.publish("AsyncTaskDeleted", &[("TaskId", "t-10")]);
    world.publish("ModelMappingChanged", &[("MappingId", "1")]);
    world.wait_done();
    let left = world.keys();
    let gone: Vec<&str> = UNIVERSE.iter().copied().filter(|key| !left.contains(*key)).collect();
    assert_eq!(gone, ["conduit:discovery:models:all", "conduit:async:task:t-1"]);
}
