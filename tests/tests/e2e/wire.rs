//! SPEC 3: an event in every form that a publisher may write, and what becomes of those that can't be handled.

use std::collections::BTreeMap;

use serde_json::json;
use unstale_tests::{Letter, World};

/// Fields of an entry, from texts.
fn fields(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn msgpack(value: &serde_json::Value) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("JSON fits into MessagePack")
}

#[test]
fn every_form_means_the_same() {
    let cloud = json!({"specversion": "1.0", "type": "SpendUpdated", "id": "e1", "source": "/billing", "time": "2026-01-01T00:00:00Z",
        "datacontenttype": "application/json", "data": {"keyHash": "cloud", "amount": 1}});
    let forms: &[(&[&str], Vec<Vec<u8>>)] = &[
        (&["flat"], fields(&["type", "SpendUpdated", "key_hash", "flat"])),
        (&["pascal"], fields(&["type", "SpendUpdated", "KeyHash", "pascal"])),
        (&["camel"], fields(&["type", "SpendUpdated", "keyHash", "camel"])),
        (&["kebab"], fields(&["type", "SpendUpdated", "KEY-HASH", "kebab"])),
        (&["unknown"], fields(&["type", "SpendUpdated", "key_hash", "unknown", "whatever", "{not json", "x", "\u{1}"])),
        (&["twice"], fields(&["type", "SpendUpdated", "key_hash", "twice", "KeyHash", "twice"])),
        (&["json"], fields(&["type", "SpendUpdated", "data", r#" {"KeyHash": "json", "amount": 1.5, "nested": {"a": [1]}}"#])),
        (
            &["msgpack"],
            [fields(&["type", "SpendUpdated", "data"]), vec![msgpack(&json!({"KeyHash": "msgpack", "n": [1, -2.5, null, true]}))]].concat(),
        ),
        (&["1789"], [fields(&["type", "SpendUpdated", "data"]), vec![msgpack(&json!({"key_hash": 1789}))]].concat()),
        (&["1.50"], fields(&["type", "SpendUpdated", "data", r#"{"key_hash": 1.50}"#])),
        (&["cloud"], fields(&["data", &cloud.to_string()])),
        (
            &["cloudy"],
            [
                fields(&["data"]),
                vec![msgpack(
                    &json!({"specversion": "1.0", "type": "SpendUpdated", "id": "1", "source": "/", "data": {"KeyHash": "cloudy"}}),
                )],
            ]
            .concat(),
        ),
        (&["added"], fields(&["type", "SpendUpdated", "amount", "3", "data", r#"{"key_hash":"added"}"#])),
        (&["a", "b"], fields(&["type", "SpendBatchCompleted", "key_hashes", "a", "key_hashes", "b"])),
        (&["c", "d"], fields(&["type", "SpendBatchCompleted", "KeyHashes", r#"["c", "d"]"#])),
        (&["scalar"], fields(&["type", "SpendBatchCompleted", "KeyHashes", "scalar"])),
        (&["[oops"], fields(&["type", "SpendUpdated", "key_hash", "[oops"])),
        (&["späß"], fields(&["type", "SpendUpdated", "key_hash", "späß"])),
        (&["own"], fields(&["type", "SpendUpdated", "id", "x-1", "time", "never", "correlation_id", "req-7", "key_hash", "own"])),
    ];
    let mut world = World::start("presets = ['llm-gateway']\n[preset.llm-gateway.cache.virtual_key]\nsecond_delete = '0s'");
    let keys: Vec<String> = forms.iter().flat_map(|(keys, _)| keys.iter()).map(|key| format!("vkey:{key}")).collect();
    world.seed(keys.iter());
    let mut expected: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (keys, fields) in forms {
        let id = world.add(fields);
        expected.insert(id, keys.iter().map(|key| format!("vkey:{key}")).collect());
    }
    world.wait_done();
    assert_eq!(world.dead_letters(), []);
    assert_eq!(world.keys(), [].into());
    let notices = world.notices();
    let mut announced: Vec<String> = notices.iter().flat_map(unstale_tests::Notice::keys).collect();
    announced.sort();
    announced.dedup();
    let mut all: Vec<String> = expected.into_values().flatten().collect();
    all.sort();
    assert_eq!(announced, all);
    assert!(notices.iter().any(|notice| notice.json["correlation_ids"] == json!(["req-7"])), "{notices:#?}");
}

#[test]
fn a_flat_type_holds_against_that_of_the_envelope() {
    let mut world = World::preset("llm-gateway");
    let cloud =
        r#"{"specversion":"1.0","type":"SpendThresholdExceeded","id":"1","source":"/","data":{"virtual_key_hash":"a","key_hash":"b"}}"#;
    world.seed(["vkey:a", "vkey:b"]);
    world.add(&["type", "SpendUpdated", "data", cloud]);
    world.wait_done();
    assert_eq!(world.keys(), ["vkey:a".to_owned()].into());
}

#[test]
fn paths_lead_into_nested_attributes() {
    let mut world = World::start(
        "[cache.user]\nprefixes = ['user:']\n[[route]]\nevent = 'UserChanged'\ncache = 'user'\nkeys = ['user:{user.id}:{user.roles[]?|lower}']\n",
    );
    world.seed(["user:5:admin", "user:5:ops", "user:5:x"]);
    world.add(&["type", "UserChanged", "User", r#"{"ID":5,"Roles":["Admin","OPS"]}"#]);
    world.add(&["type", "UserChanged", "data", r#"{"user":{"id":6}}"#]);
    world.wait_done();
    assert_eq!(world.keys(), ["user:5:x".to_owned()].into());
    assert_eq!(world.dead_letters(), []);
}

/// One letter for this entry, with the original fields first and as they were, then `dead_*`, all as SPEC 3 has it.
#[track_caller]
fn buried(world: &mut World, stream: &str, id: &str, original: &[Vec<u8>], codes: &[&str]) -> Letter {
    let letters = world.dead_letters();
    let [letter] =
        &letters.iter().filter(|letter| letter.get("dead_entry") == id && letter.get("dead_stream") == stream).collect::<Vec<_>>()[..]
    else {
        panic!("not one letter of {id} ({codes:?}) in {letters:#?}")
    };
    let kept: Vec<Vec<u8>> = letter.fields.iter().flat_map(|(name, value)| [name.as_bytes().to_vec(), value.clone()]).collect();
    assert_eq!(kept[..original.len()], *original, "{codes:?}");
    let names: Vec<&str> = letter.fields[original.len() / 2..].iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["dead_reason", "dead_entry", "dead_stream", "dead_deliveries", "dead_at", "dead_by"], "{codes:?}");
    assert_eq!(letter.codes(), codes, "{}", letter.reason());
    assert_eq!(letter.get("dead_deliveries"), "1");
    let (added, at) = (ms(id), letter.get("dead_at").parse::<i64>().expect("milliseconds"));
    assert!(at >= added && at <= ms(&letter.id), "added {added}, dead_at {at}, written {}", letter.id);
    assert_eq!(letter.get("dead_by"), world.origin());
    (*letter).clone()
}

/// The time of an id.
fn ms(id: &str) -> i64 {
    id.split_once('-').and_then(|(ms, _)| ms.parse().ok()).unwrap_or_else(|| panic!("{id} is no id"))
}

#[test]
fn p1_8_what_cant_be_handled_is_buried_with_its_reason_and_holds_nobody_up() {
    let bytes: &[u8] = &[0xff, 0xfe];
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("undecodable", fields(&["key_hash", "abc"])),
        ("undecodable", fields(&["type", "", "key_hash", "abc"])),
        ("undecodable", fields(&["data", r#"{"type":"SpendUpdated","key_hash":"abc"}"#])),
        ("undecodable", fields(&["type", "SpendUpdated", "data", "neither"])),
        ("undecodable", fields(&["type", "SpendUpdated", "data", r#"{"key_hash":"#])),
        ("undecodable", fields(&["type", "SpendUpdated", "data", r#"["key_hash"]"#])),
        ("undecodable", [fields(&["type", "SpendUpdated", "data"]), vec![vec![0x81, 0xa1]]].concat()),
        ("undecodable", [fields(&["data", r#"{"x":1}"#, "type"]), vec![bytes.to_vec()]].concat()),
        ("conflicting_attribute", fields(&["type", "SpendUpdated", "key_hash", "a", "KeyHash", "b"])),
        ("conflicting_attribute", fields(&["type", "SpendUpdated", "key_hash", "a", "data", r#"{"KeyHash":"b"}"#])),
        ("missing_attribute", fields(&["type", "SpendUpdated"])),
        ("missing_attribute", fields(&["type", "SpendUpdated", "key_hash", ""])),
        ("missing_attribute", fields(&["type", "SpendUpdated", "data", r#"{"key_hash":null}"#])),
        ("missing_attribute", fields(&["type", "SpendUpdated", "data", r#"{"key_hash":{"a":1}}"#])),
        ("missing_attribute", fields(&["type", "SpendUpdated", "key_hash", r#"["a"]"#])),
        ("missing_attribute", [fields(&["type", "SpendUpdated", "key_hash"]), vec![bytes.to_vec()]].concat()),
        ("missing_attribute", fields(&["type", "SpendBatchCompleted"])),
    ];
    let mut world = World::preset("llm-gateway");
    world.seed(["vkey:a", "vkey:b", "vkey:abc", "vkey:", "vkey:good"]);
    let ids: Vec<String> = cases.iter().map(|(_, fields)| world.add(fields)).collect();
    world.publish("SpendUpdated", &[("key_hash", "good")]);
    let critical = world.publish_critical("SpendThresholdExceeded", &[("key", "x")]);
    world.wait_settled();
    for ((code, fields), id) in cases.iter().zip(&ids) {
        buried(&mut world, "unstale:events", id, fields, &[code]);
    }
    buried(
        &mut world,
        "unstale:events:critical",
        &critical,
        &fields(&["type", "SpendThresholdExceeded", "key", "x"]),
        &["missing_attribute"],
    );
    assert_eq!(world.dead_letters().len(), cases.len() + 1);
    let left = ["vkey:", "vkey:a", "vkey:abc", "vkey:b"];
    assert_eq!(world.keys(), left.map(str::to_owned).into());
}

#[test]
fn a_type_that_no_route_names_is_acknowledged() {
    let mut world = World::preset("llm-gateway");
    world.seed(["vkey:a"]);
    for kind in ["OrderPlaced", "spendupdated", "SpendUpdated "] {
        world.publish(kind, &[("key_hash", "a")]);
    }
    world.wait_settled();
    assert_eq!(world.dead_letters(), []);
    assert_eq!(world.notices(), []);
    assert_eq!(world.keys(), ["vkey:a".to_owned()].into());
    assert_eq!(world.sidecar.metric(r#"unstale_events_total{type="other",outcome="unrouted"}"#), 3);
}

#[test]
fn or_kept_if_that_is_wanted() {
    let mut world = World::with(|setup| setup.preset("llm-gateway").set("bus.unrouted=dead-letter"));
    let id = world.publish("OrderPlaced", &[("order", "1")]);
    world.publish("AsyncTaskCreated", &[("task_id", "t")]);
    world.wait_settled();
    buried(&mut world, "unstale:events", &id, &fields(&["type", "OrderPlaced", "order", "1"]), &["unrouted"]);
    assert_eq!(world.dead_letters().len(), 1, "a route without targets makes a type known");
}

#[test]
fn what_is_missing_or_refused_doesnt_keep_the_rest_from_being_done() {
    let mut world = World::preset("llm-gateway");
    world.seed(["vkey:a", "vkey:b", "vkey:c", "foreign:x", "conduit:cache:stats:x"]);
    let batch = fields(&["type", "SpendBatchCompleted", "key_hashes", r#"["a","",null,"b"]"#]);
    let first = world.add(&batch);
    let deleted = fields(&["type", "VirtualKeyDeleted", "key_hash", "c"]);
    let second = world.add(&deleted);
    world.wait_done();
    buried(&mut world, "unstale:events", &first, &batch, &["missing_attribute"]);
    let letter = buried(&mut world, "unstale:events", &second, &deleted, &["missing_attribute"; 4]);
    assert!(letter.reason().contains("key_id"), "{}", letter.reason());
    assert_eq!(world.keys(), ["conduit:cache:stats:x", "foreign:x"].map(str::to_owned).into());
    let announced: Vec<String> = world.notices().iter().flat_map(unstale_tests::Notice::events).collect();
    assert!(announced.contains(&first) && announced.contains(&second), "{announced:?}");
}

#[test]
fn of_an_entry_that_is_too_large_the_beginning_is_kept() {
    let mut world = World::preset("llm-gateway");
    world.seed(["vkey:a"]);
    let big = "x".repeat(1 << 20);
    let id = world.add(&["type", "SpendUpdated", "key_hash", "a", "note", &big]);
    let fits = world.add(&["type", "SpendUpdated", "key_hash", "fits", "note", &big[..(1 << 20) - 100]]);
    world.wait_done();
    let letters = world.dead_letters();
    let [letter] = &letters[..] else { panic!("{} letters", letters.len()) };
    assert_eq!((letter.get("dead_entry"), letter.codes()), (id, vec!["too_large".to_owned()]));
    assert_eq!((letter.get("note").len(), letter.get("key_hash").as_str(), letter.get("dead_truncated").as_str()), (4096, "a", "1"));
    assert_eq!(world.keys(), ["vkey:a".to_owned()].into());
    assert!(world.notices().iter().any(|notice| notice.events().contains(&fits)));
}

#[test]
fn an_event_with_too_many_targets_is_not_carried_out_in_part() {
    let mut world = World::with(|setup| setup.preset("llm-gateway").set("limits.targets=3"));
    world.seed(["vkey:1", "vkey:2", "vkey:3", "vkey:4"]);
    let many = fields(&["type", "SpendBatchCompleted", "key_hashes", "[1,2,3,4]"]);
    let id = world.add(&many);
    world.wait_done();
    buried(&mut world, "unstale:events", &id, &many, &["too_many_targets"]);
    assert_eq!(world.keys().len(), 4);
    world.add(&["type", "SpendBatchCompleted", "key_hashes", "[1,2,3]"]);
    world.wait_done();
    assert_eq!(world.keys(), ["vkey:4".to_owned()].into());
}

#[test]
fn p5_9_dead_letters_are_bounded() {
    let mut world = World::with(|setup| setup.preset("llm-gateway").set("dead_letters.retain=100"));
    let bad: Vec<Vec<String>> =
        (0..1000).map(|n| vec!["type".to_owned(), "SpendUpdated".to_owned(), "n".to_owned(), n.to_string()]).collect();
    world.add_all(&bad);
    world.wait_settled();
    let letters = world.dead_letters();
    // Redis trims whole nodes, of at most 100 entries.
    assert!((100..=200).contains(&letters.len()), "{}", letters.len());
    assert!(letters.iter().any(|letter| letter.get("n") == "999"), "the newest are kept");
}
