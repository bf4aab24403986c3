//! Hostile events: whatever they hold, routing ends, every target lies in its cache, and no value widens a pattern.

use proptest::prelude::*;
use unstale_events::{Event, Glob, Invalidation, TargetKind};
use unstale_router::{Router, presets_available};

use crate::support::{one, router};

fn every_preset() -> Router {
    let names: Vec<_> = presets_available().map(|name| format!("{name:?}")).collect();
    router(&format!(
        "presets = [{}]\n[[route]]\nevent = \"*Hostile?\"\ncache = \"auth\"\npatterns = [\"auth:{{a.b[]?|upper}}*\"]\n",
        names.join(",")
    ))
}

/// Text as an attacker would choose it.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "*",
        "?",
        "[a-z]*",
        "[^x]",
        "[",
        "]",
        "\\",
        "-",
        "\n",
        "\r\n",
        "\0",
        "{",
        "}",
        "${x}",
        ":",
        "_",
        "a",
        "Z",
        "é",
        "\u{130}",
        "unstale:events",
        "session:",
        "catalog:epoch",
        "conduit:cache:stats:",
    ]);
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn quoted(text: &str) -> String {
    let mut out = String::new();
    unstale_events::Value::Text(text.into()).push_json(&mut out);
    out
}

fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        any::<bool>().prop_map(|truth| truth.to_string()),
        prop::sample::select(vec!["0", "-1.50", "1e400", "123456789012345678901234567890"]).prop_map(str::to_owned),
        hostile_text().prop_map(|text| quoted(&text)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|list| format!("[{}]", list.join(","))),
            inner.prop_map(|value| format!("{{\"b\":{value}}}")),
        ]
    })
}

const NAMES: &[&str] = &[
    "a",
    "key_id",
    "key_hash",
    "key_hashes",
    "changed_properties",
    "provider",
    "providers",
    "cascade",
    "entity",
    "entity_id",
    "entity_type",
    "org_slug",
    "user_id",
    "model",
    "model_id",
    "setting_key",
    "change_type",
    "cluster_id",
    "endpoint_id",
    "api_key",
    "keys",
    "patterns",
    "cache",
    "priority",
    "operation",
];

fn attributes() -> impl Strategy<Value = String> {
    prop::collection::vec((prop::sample::subsequence(NAMES, 0..NAMES.len()), json_value()), 0..4).prop_map(|groups| {
        let mut seen = std::collections::BTreeMap::new();
        for (names, value) in groups {
            seen.extend(names.into_iter().map(|name| (name, value.clone())));
        }
        seen.iter().map(|(name, value)| format!(",\"{name}\":{value}")).collect::<Vec<_>>().concat()
    })
}

proptest! {
    #[test]
    fn routing_is_total_and_every_target_lies_in_its_cache(kind in 0_usize..100, attributes in attributes()) {
        let router = every_preset();
        let known = router.labels();
        let kind = known.get(kind).map_or("XHostileY", String::as_str);
        let json = format!("{{\"type\":{}{attributes}}}", quoted(kind));
        let mut out = Invalidation::default();
        if let Ok(event) = Event::from_json(json.as_bytes()) {
            router.route(&event, &mut out);
        }
        let caches = router.caches();
        for target in out.targets.iter() {
            match target.kind {
                TargetKind::Key => prop_assert!(caches.deletable(target.cache, target.text.as_bytes()), "{:?}", target),
                TargetKind::Pattern => prop_assert!(caches.check_pattern(target.cache, target.text).is_ok(), "{:?}", target),
                TargetKind::Bump => prop_assert!(!caches.deletable(target.cache, target.text.as_bytes()), "{:?}", target),
            }
        }
    }

    #[test]
    fn a_value_in_a_pattern_means_only_itself(value in hostile_text(), other in hostile_text()) {
        prop_assume!(!value.is_empty());
        let router = one("patterns = ['c:{a}', 'c:[xy]:{a|upper}:{a[]}']");
        let json = format!("{{\"type\":\"E\",\"a\":{}}}", quoted(&value));
        let mut out = Invalidation::default();
        router.route(&Event::from_json(json.as_bytes()).expect("an event"), &mut out);
        let globs: Vec<_> = out.targets.iter().map(|target| Glob::new(target.text)).collect();
        prop_assert_eq!(globs.len(), 2);
        let upper = value.to_uppercase();
        let own = format!("c:x:{upper}:{value}");
        let others = format!("c:x:{upper}:{other}");
        let first = |text: &str| globs[0].matches(format!("c:{text}").as_bytes());
        prop_assert!(first(&value));
        prop_assert!(globs[1].matches(own.as_bytes()));
        prop_assert_eq!(first(&other), other == value);
        prop_assert_eq!(globs[1].matches(others.as_bytes()), other == value);
    }

    #[test]
    fn the_longest_prefix_owns_a_key(prefixes in prop::collection::btree_set("[ab:]{1,4}", 1..8), key in "[ab:c]{0,8}") {
        let caches: Vec<_> = prefixes.iter().enumerate().map(|(at, prefix)| format!("[cache.c{at}]\nprefixes = [\"{prefix}\"]\n")).collect();
        let router = router(&caches.concat());
        let longest = prefixes.iter().filter(|prefix| key.starts_with(prefix.as_str())).max_by_key(|prefix| prefix.len());
        let owner = router.caches().owner(key.as_bytes()).map(|owner| &router.caches().get(owner).prefixes[0]);
        prop_assert_eq!(owner, longest);
    }

    #[test]
    fn any_text_as_a_template_compiles_or_is_a_problem(text in hostile_text()) {
        for field in ["keys", "patterns", "bump", "event", "cache", "priority"] {
            let toml = format!("[cache.c]\nprefixes = [\"c:\"]\n[[route]]\nevent = \"E\"\n{field} = [{0}, {1}]\n", toml_text(&text), toml_text(&format!("c:{text}")));
            if let Err(problems) = unstale_router::compile(&crate::support::input(&toml)) {
                prop_assert!(!problems.is_empty());
                prop_assert!(!problems.render(false).is_empty());
            }
        }
    }
}

fn toml_text(text: &str) -> String {
    let escape = |c: char| if c.is_control() || "\"\\".contains(c) { format!("\\u{:04X}", u32::from(c)) } else { c.to_string() };
    format!("\"{}\"", text.chars().map(escape).collect::<Vec<_>>().concat())
}
