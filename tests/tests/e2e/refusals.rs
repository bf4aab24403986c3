//! P6: what was not declared can't be deleted, whatever an event says.

use unstale_tests::World;

const ROUTES: &str = "
protected = ['p:stats:', 'o:']
[cache.p]
prefixes = ['p:']
[cache.inner]
prefixes = ['p:inner:']
[cache.u]
prefixes = ['u']
[[route]]
event = 'Changed'
cache = 'p'
keys = ['p:{x}']
[[route]]
event = 'Swept'
cache = 'p'
patterns = ['p:{x?}*']
[[route]]
event = 'SweptWhole'
cache = 'p'
patterns = ['p:*']
[[route]]
event = 'SweptAll'
cache = 'u'
patterns = ['u*']
[[route]]
event = 'Counted'
cache = 'p'
keys = ['p:counted']
bump = ['p:epoch']
";

/// What nothing below may delete.
const STAYS: [&str; 6] = ["p:stats:1", "p:epoch", "p:inner:1", "o:1", "foreign:1", "u-not-mine"];

/// A world with routes, and with everything there that must stay.
fn world() -> World {
    let mut world = World::start(ROUTES);
    world.seed(STAYS);
    world
}

/// The keys that are there, but for those that must stay; these are.
#[track_caller]
fn others(world: &mut World) -> Vec<String> {
    let keys = world.keys();
    assert!(STAYS.iter().all(|key| keys.contains(*key)), "{keys:?}");
    keys.into_iter().filter(|key| !STAYS.contains(&key.as_str())).collect()
}

/// Publishes an event and waits; returns its dead letter's reason, empty if it has none.
#[track_caller]
fn reason_of(world: &mut World, kind: &str, attributes: &[(&str, &str)]) -> String {
    let id = world.publish(kind, attributes);
    world.wait_done();
    let letters = world.dead_letters();
    letters.iter().find(|letter| letter.get("dead_entry") == id).map(unstale_tests::Letter::reason).unwrap_or_default()
}

#[test]
fn p6_1_a_key_outside_its_routes_cache_is_refused() {
    let mut world = world();
    for x in ["stats:1", "stats:", "inner:1", "epoch"] {
        let reason = reason_of(&mut world, "Changed", &[("x", x)]);
        assert!(reason.starts_with("refused_target: "), "{x}: {reason}");
    }
    assert_eq!(reason_of(&mut world, "Changed", &[("x", "fine")]), "");
    assert_eq!(others(&mut world), [""; 0]);
    let log = world.sidecar.log();
    assert!(!log.contains("p:stats:1") && !log.contains("inner:1"), "no key in the log: {log}");
}

#[test]
fn p6_2_an_event_that_names_keys_and_patterns_itself_is_judged_like_any_other() {
    let mut world = world();
    world.seed(["p:a", "p:b1", "p:b2"]);
    let requests: &[(&str, &str)] = &[
        ("keys", "foreign:1"),
        ("keys", "p:stats:1"),
        ("keys", "p:epoch"),
        ("keys", "o:1"),
        ("keys", "unstale:events"),
        ("keys", "unstale:notices"),
        ("keys", "unstale:instances"),
        ("keys", "unstale:reader"),
        ("keys", "unstale:anything"),
        ("patterns", "*"),
        ("patterns", "?:*"),
        ("patterns", "[op]:*"),
        ("patterns", "foreign:*"),
        ("patterns", "o:*"),
        ("patterns", "p:stats:*"),
        ("patterns", "unstale:*"),
        ("patterns", "p:*?*?*?*?*"),
    ];
    for (name, target) in requests {
        let reason = reason_of(&mut world, "CacheInvalidationRequested", &[(name, &format!("[{target:?}]"))]);
        assert!(reason.starts_with("refused_target: "), "{name} {target}: {reason:?}");
    }
    let named = reason_of(&mut world, "CacheInvalidationRequested", &[("cache", "p"), ("keys", r#"["p:inner:1"]"#)]);
    assert!(named.starts_with("refused_target: "), "another cache owns it: {named}");
    let unknown = reason_of(&mut world, "CacheInvalidationRequested", &[("cache", "nope"), ("keys", r#"["p:a"]"#)]);
    assert!(unknown.starts_with("refused_target: "), "{unknown}");
    assert_eq!(others(&mut world), ["p:a", "p:b1", "p:b2"]);
    assert!(!world.notices().iter().any(|notice| !notice.keys().is_empty() || !notice.patterns().is_empty()));
}

#[test]
fn what_of_it_is_allowed_is_carried_out() {
    let mut world = world();
    world.seed(["p:a", "p:b1", "p:b2", "p:c"]);
    let request = [("keys", r#"["p:a","foreign:1"]"#), ("patterns", r#"["p:b?","o:*"]"#), ("operation", "nightly"), ("priority", "high")];
    let reason = reason_of(&mut world, "CacheInvalidationRequested", &request);
    assert_eq!(reason.matches("refused_target").count(), 2, "{reason}");
    assert_eq!(others(&mut world), ["p:c"]);
    let notices = world.notices();
    assert!(notices.iter().all(|notice| notice.priority() == "high" && notice.json["operations"][0] == "nightly"), "{notices:#?}");
}

#[test]
fn p6_6_scans_pass_over_what_is_protected_counted_or_anothers() {
    let mut world = world();
    world.seed(["p:a", "p:b", "p:statsx", "p:epochs", "p:inner"]);
    assert_eq!(reason_of(&mut world, "SweptWhole", &[]), "");
    assert_eq!(others(&mut world), [""; 0]);
    assert_eq!(world.notices()[0].patterns(), ["p:*"]);
}

#[test]
fn p6_7_a_cache_whose_prefix_begins_the_sidecars_own_names_leaves_them_alone() {
    let mut world = World::start(ROUTES);
    world.seed(["u1", "unstal", "unstales:1"]);
    let own: Vec<String> = world.cmd(&["KEYS", "unstale:*"]).texts();
    world.publish("SweptAll", &[]);
    world.wait_done();
    assert_eq!(world.keys(), [].into());
    let left = world.cmd(&["KEYS", "unstale:*"]).texts();
    assert!(own.iter().all(|key| left.contains(key)), "{own:?} {left:?}");
    world.publish("Changed", &[("x", "still served")]);
    world.wait_settled();
}

#[test]
fn p6_3_a_value_in_a_pattern_is_no_pattern() {
    let mut world = world();
    let hostile = ["*", "?", "[a-z]*", "[^x]", "\\", "\\*", "a\nb", "é*"];
    let mut all: Vec<String> = hostile.iter().map(|value| format!("p:{value}:tail")).collect();
    all.extend(["p:a:tail", "p:z:tail", "p:x", "p:ab:tail", "p:é:tail"].map(str::to_owned));
    all.sort();
    all.dedup();
    world.seed(all.iter());
    for value in hostile {
        assert_eq!(reason_of(&mut world, "Swept", &[("x", value)]), "", "{value:?}");
        all.retain(|key| !key.starts_with(&format!("p:{value}")));
        assert_eq!(others(&mut world), all, "{value:?}");
    }
}

#[test]
fn p6_4_a_value_in_a_key_is_only_that_key() {
    let mut world = world();
    let hostile = ["*", "?", "[a-z]*", "a\r\nb", "\u{1}", " ", "{x}", "é"];
    let mut all: Vec<String> = hostile.iter().map(|value| format!("p:{value}")).chain(["p:a", "p:z"].map(str::to_owned)).collect();
    all.sort();
    world.seed(all.iter());
    for value in hostile {
        assert_eq!(reason_of(&mut world, "Changed", &[("x", value)]), "", "{value:?}");
        all.retain(|key| *key != format!("p:{value}"));
        assert_eq!(others(&mut world), all, "{value:?}");
    }
}

#[test]
fn p6_5_whatever_bytes_a_value_has_nothing_but_the_key_that_it_makes_is_deleted() {
    let mut world = world();
    let near = ["p:", "p:a", "p:*", "p:\u{fffd}", "p:x", "p:xx"];
    let (large, larger) = ("x".repeat(1_000_000), "x".repeat((1 << 20) + 1));
    world.seed(near);
    world.seed([format!("p:{large}")]);
    let hostile: [(&[u8], &str); 6] = [
        (b"", "missing_attribute"),
        (b"\xff\xfe", "missing_attribute"),
        (b"a\xff", "missing_attribute"),
        (b"\0", ""),
        (large.as_bytes(), ""),
        (larger.as_bytes(), "too_large"),
    ];
    for (value, code) in hostile {
        for kind in ["Changed", "Swept"] {
            let shown = value[..value.len().min(10)].escape_ascii();
            let id = world.add(&[b"type", kind.as_bytes(), b"x", value]);
            world.wait_done();
            let letter = world.dead_letters().into_iter().find(|letter| letter.get("dead_entry") == id);
            match (kind, code) {
                // An optional value that is empty leaves the target out.
                ("Swept", "missing_attribute") if value.is_empty() => assert!(letter.is_none(), "{letter:?}"),
                (_, "") => assert!(letter.is_none(), "{kind} {shown}: {letter:?}"),
                _ => assert!(letter.is_some_and(|letter| letter.reason().starts_with(code)), "{kind} {shown} should be {code}"),
            }
        }
    }
    assert_eq!(
        others(&mut world),
        near.map(str::to_owned).into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    );
}

/// A page in a browser can reach a loopback port, by DNS rebinding too.
#[test]
fn p6_8_a_page_of_another_origin_can_delete_nothing() {
    let mut world = world();
    world.seed(["p:a"]);
    let address = world.sidecar.http();
    let port = address.rsplit(':').next().expect("an address has a port");
    let rebound = format!("attacker.example:{port}");
    let json = "application/json";
    let requests: [(&str, &[(&str, &str)]); 7] = [
        ("another origin", &[("Content-Type", json), ("Origin", "https://attacker.example")]),
        ("the origin of a sandboxed frame", &[("Content-Type", json), ("Origin", "null")]),
        ("another port of the same host", &[("Content-Type", json), ("Origin", "http://127.0.0.1:1")]),
        ("a name that was rebound", &[("Content-Type", json), ("Host", &rebound)]),
        (
            "a name that was rebound, and its origin",
            &[("Content-Type", json), ("Host", &rebound), ("Origin", &format!("http://{rebound}"))],
        ),
        ("a form, which needs no preflight", &[("Content-Type", "text/plain")]),
        ("no content type", &[]),
    ];
    for path in ["/v1/invalidate?wait=deleted", "/v1/invalidate", "/v1/events"] {
        for (who, headers) in requests {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let mut request = agent.post(format!("{address}{path}"));
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let body = if path == "/v1/events" { r#"{"type":"Changed","x":"a"}"# } else { r#"{"keys":["p:a"]}"# };
            let status = request.send(body.as_bytes()).expect("it is answered").status().as_u16();
            assert!((400..500).contains(&status), "{who} to {path}: {status}");
        }
    }
    assert_eq!(reason_of(&mut world, "Changed", &[("x", "b")]), "", "all that was accepted is done");
    assert_eq!(others(&mut world), ["p:a"]);
    // And this is how it would have been deleted.
    assert_eq!(world.sidecar.post("/v1/invalidate?wait=deleted", &serde_json::json!({"keys": ["p:a"]})).0, 200);
    assert_eq!(others(&mut world), [""; 0]);
}

#[test]
fn p8_1_no_key_is_in_logs_metrics_or_stats() {
    let mut world = world();
    let secret = "s3cr3t-0123456789";
    world.publish("Changed", &[("x", secret)]);
    world.publish_critical("Changed", &[("x", secret)]);
    world.publish("Changed", &[("x", &format!("inner:{secret}"))]);
    world.publish("Swept", &[("x", secret)]);
    world.publish(
        "CacheInvalidationRequested",
        &[("keys", &format!("[\"p:{secret}\",\"{secret}\"]")), ("priority", secret), ("cache", secret)],
    );
    world.publish(secret, &[("x", secret)]);
    world.cmd(&["SET", "p:epoch", secret]);
    world.publish("Counted", &[("x", secret)]);
    world.publish("Changed", &[("data", secret)]);
    world.wait_settled();
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 4, "{letters:#?}");
    assert!(letters.iter().all(|letter| !letter.reason().contains(secret)), "{letters:#?}");
    let pages = ["/metrics", "/healthz", "/v1/stats"].map(|path| world.sidecar.get(path).1);
    world.sidecar.terminate();
    world.sidecar.wait();
    for text in pages.iter().chain([&world.sidecar.log()]) {
        assert!(!text.contains(secret), "{text}");
    }
}
