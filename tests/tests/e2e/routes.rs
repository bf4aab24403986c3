//! SPEC 4 and 2: routes as a user writes them, from the file to the deleted key; names, and where reading begins.

use unstale_testkit::Redis;
use unstale_tests::{Bus, Notice, Setup, World, run};

/// The example of SPEC 4, with the second delete off to make it quick.
const EXAMPLE: &str = r#"
presets = ["llm-gateway"]
protected = ["conduit:cache:stats:"]
[preset.llm-gateway]
vars = { tasks = "conduit:" }
without = ["AsyncTaskUpdated"]
[preset.llm-gateway.cache.virtual_key]
second_delete = "1s"

[cache.product]
prefixes = ["product:"]
redis = "main"
store = "redis"

[[route]]
event    = ["ProductUpdated"]
cache    = "product"
priority = "high"
when     = { changed_properties = ["Price", "Stock"] }
keys     = ["product:{product_id}", "product:{product_id}:{locales[]?}"]
patterns = []
bump     = []
"#;

#[test]
fn the_example_of_the_contract_works_as_written() {
    let mut world = World::start(EXAMPLE);
    let all = ["product:7", "product:7:en", "product:7:de", "product:7:fr", "product:8", "product:9", "conduit:cache:stats:x"];
    world.seed(all);
    let updated = |changed| [("ProductId", "7"), ("ChangedProperties", changed), ("Locales", r#"["en","de"]"#)];
    world.publish("ProductUpdated", &updated(r#"["Name"]"#));
    world.wait_done();
    assert_eq!(world.keys().len(), all.len(), "the condition doesn't hold");
    world.publish("ProductUpdated", &updated(r#"["Name","Stock"]"#));
    world.publish("ProductUpdated", &[("product_id", "8"), ("changed_properties", "Price")]);
    world.wait_done();
    assert_eq!(world.keys(), ["conduit:cache:stats:x", "product:7:fr", "product:9"].map(str::to_owned).into());
    assert!(world.notices().iter().all(|notice| notice.priority() == "high"));
    assert_eq!(world.dead_letters(), []);
}

/// A route for each form of condition; the attribute is `a`.
const CONDITIONS: &str = "
[cache.c]
prefixes = ['c:']
[[route]]
event = 'E'
cache = 'c'
when = { a = 'x' }
keys = ['c:value']
[[route]]
event = 'E'
cache = 'c'
when = { a = ['x', 'y'] }
keys = ['c:list']
[[route]]
event = 'E'
cache = 'c'
when = { a = { not = 'x' } }
keys = ['c:not']
[[route]]
event = 'E'
cache = 'c'
when = { a = { like = 'AUTH*' } }
keys = ['c:like']
[[route]]
event = 'E'
cache = 'c'
when = { a = '' }
keys = ['c:empty']
[[route]]
event = 'E'
cache = 'c'
when = { a = 1.50 }
keys = ['c:number']
[[route]]
event = 'E'
cache = 'c'
when = { a = true }
keys = ['c:true']
[[route]]
event = 'E'
cache = 'c'
when = { a = 'x', b = 'x' }
keys = ['c:both']
[[route]]
event = ['F*']
cache = 'c'
keys = ['c:glob']
";

/// A type, attributes, and the names of the keys whose conditions hold.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);

#[test]
fn conditions_compare_as_the_contract_says() {
    let cases: &[Case] = &[
        ("E", &[("a", "x")], &["list", "value"]),
        ("E", &[("a", "y")], &["list", "not"]),
        ("E", &[("a", r#"["z","x"]"#)], &["list", "value"]),
        ("E", &[("a", r#"["z"]"#)], &["not"]),
        ("E", &[("a", "x"), ("b", "x")], &["both", "list", "value"]),
        ("E", &[("a", "Authority")], &["like", "not"]),
        ("E", &[], &["empty", "not"]),
        ("E", &[("a", "")], &["empty", "not"]),
        ("E", &[("a", "[]")], &["empty", "not"]),
        ("E", &[("data", r#"{"a":null}"#)], &["empty", "not"]),
        ("E", &[("a", "1.50")], &["not", "number"]),
        ("E", &[("data", r#"{"a":1.50}"#)], &["not", "number"]),
        ("E", &[("a", "1.5")], &["not"]),
        ("E", &[("a", "TRUE")], &["not", "true"]),
        ("E", &[("data", r#"{"a":true}"#)], &["not", "true"]),
        ("Fine", &[("a", "x")], &["glob"]),
        ("fine", &[("a", "x")], &[]),
    ];
    let mut world = World::start(CONDITIONS);
    for (kind, attributes, expected) in cases {
        let id = world.publish(kind, attributes);
        world.wait_done();
        let of_event = world.notices().into_iter().filter(|notice| notice.events().contains(&id));
        let keys: Vec<String> = of_event.flat_map(|notice| notice.keys()).collect();
        let expected: Vec<String> = expected.iter().map(|name| format!("c:{name}")).collect();
        assert_eq!(keys, expected, "{kind} {attributes:?}");
    }
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn templates_fill_in_as_the_contract_says() {
    let mut world = World::start(
        "
[vars]
base = 't:'
[cache.t]
prefixes = ['t:']
[[route]]
event = 'E'
cache = 't'
keys = ['${base}{{{id}}}:{name|lower}', '${base}up:{name|upper}', '${base}maybe:{maybe?}', '${base}each:{list[]}']
",
    );
    world.publish("E", &[("id", "5"), ("name", "MiXed"), ("list", r#"["a",2,true]"#)]);
    world.publish("E", &[("id", "6"), ("name", "N"), ("maybe", "m"), ("list", "one")]);
    world.wait_done();
    let mut keys: Vec<String> = world.notices().iter().flat_map(Notice::keys).collect();
    keys.sort();
    let expected = ["t:each:2", "t:each:a", "t:each:one", "t:each:true", "t:maybe:m", "t:up:MIXED", "t:up:N", "t:{5}:mixed", "t:{6}:n"];
    assert_eq!(keys, expected);
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn mistakes_in_routes_stop_the_start_all_at_once_with_file_and_line() {
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    let file = dir.path().join("bad.toml");
    let text = "presets = ['llm-gatway']\n[cache.a]\nprefixes = ['']\n[cache.b]\nprefixes = ['b:']\n[[route]]\nevent = 'E'\ncache = 'b'\nkeys = ['c:{x}', 'b:{x']\npriority = 'urgent'\n";
    std::fs::write(&file, text).expect("a temporary file can be written");
    let outcome = run(&["run", "--config", &file.display().to_string()], &[]);
    assert_eq!(outcome.code, Some(64), "{}", outcome.err);
    for needed in ["llm-gateway", "bad.toml:1", "bad.toml:3", "bad.toml:9", "bad.toml:10", "critical", "^"] {
        assert!(outcome.err.contains(needed), "{needed:?} in\n{}", outcome.err);
    }
}

#[test]
fn two_namespaces_on_one_server_share_nothing() {
    let redis = Redis::start_sync();
    let routes = "[cache.k]\nprefixes = ['k:']\n[[route]]\nevent = 'E'\ncache = 'k'\nkeys = ['k:{k}']\n";
    let _shop = Setup::on(&redis).config(routes).namespace("shop").start(&redis);
    let _mall = Setup::on(&redis).config(routes).namespace("mall").start(&redis);
    let mut shop = Bus::new(&redis).in_namespace("shop");
    let mut mall = Bus::new(&redis).in_namespace("mall");
    shop.publish("E", &[("k", "1")]);
    mall.publish("E", &[("k", "2")]);
    mall.publish("E", &[]);
    shop.wait_settled();
    mall.wait_settled();
    assert_eq!((shop.notices()[0].keys(), shop.notices().len(), shop.dead_letters().len()), (vec!["k:1".to_owned()], 1, 0));
    assert_eq!((mall.notices()[0].keys(), mall.notices().len(), mall.dead_letters().len()), (vec!["k:2".to_owned()], 1, 1));
    let all = shop.cmd(&["KEYS", "*"]).texts();
    assert!(all.iter().all(|key| key.starts_with("shop:") || key.starts_with("mall:")), "{all:?}");
}

#[test]
fn what_was_published_before_the_first_start_is_done() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    bus.seed(["vkey:a", "vkey:b"]);
    bus.publish("SpendUpdated", &[("key_hash", "a")]);
    bus.publish_critical("SpendThresholdExceeded", &[("virtual_key_hash", "b")]);
    let _sidecar = Setup::on(&redis).preset("llm-gateway").start(&redis);
    bus.wait_settled();
    assert_eq!(bus.keys(), [].into());
}

#[test]
fn a_stream_of_others_can_be_read_from_now_on() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let publish = |bus: &mut Bus, hash: &str| bus.cmd(&["XADD", "orders", "*", "type", "SpendUpdated", "key_hash", hash]).text();
    bus.seed(["vkey:past", "vkey:now"]);
    publish(&mut bus, "past");
    let config = "presets = ['llm-gateway']\n[bus]\nstream = 'orders'\nstart = '$'\n";
    let sidecar = Setup::on(&redis).config(config).spawn();
    sidecar.wait_log("made the consumer group stream=\"orders\"");
    let now = publish(&mut bus, "now");
    bus.wait_notice("of what came since", |notice| notice.events().contains(&now));
    assert_eq!(bus.keys(), ["orders", "vkey:past"].map(str::to_owned).into());
    assert_eq!(bus.notices()[0].keys(), ["vkey:now"]);
}
