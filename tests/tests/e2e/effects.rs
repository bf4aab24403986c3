//! What a delivery does beside deleting: counters, second deletes, notices in the log and on the channel, messages to existing subscribers.

use serde_json::{Value as Json, json};
use unstale_testkit::{Redis, Resp};
use unstale_tests::{Notice, Setup, Sidecar, World};

const ROUTES: &str = "
[cache.k]
prefixes = ['k:']
[cache.again]
prefixes = ['again:']
second_delete = '300ms'
[cache.local]
prefixes = ['plan:']
store = 'local'
[[route]]
event = 'Changed'
cache = 'k'
keys = ['k:{k[]}']
[[route]]
event = 'Counted'
cache = 'k'
keys = ['k:{k}']
bump = ['k:epoch', 'k:other-epoch']
[[route]]
event = 'OnlyCounted'
cache = 'k'
bump = ['k:epoch']
[[route]]
event = 'Restored'
cache = 'again'
keys = ['again:{k}']
patterns = ['again:list:*']
[[route]]
event = 'Planned'
cache = 'local'
keys = ['plan:{k}']
patterns = ['plan:list:*']
[[route]]
event = 'Revoked'
cache = 'k'
priority = 'critical'
keys = ['k:{k}']
";

fn entries(kind: &str, keys: std::ops::Range<usize>) -> Vec<Vec<String>> {
    keys.map(|k| ["type", kind, "k", &k.to_string()].map(str::to_owned).to_vec()).collect()
}

/// A connection that hears these channels.
fn subscriber(redis: &Redis, channels: &[&str]) -> Resp {
    let mut resp = redis.resp();
    resp.cmd(&[&["SUBSCRIBE"], channels].concat());
    for _ in 1..channels.len() {
        resp.read().expect("each channel is confirmed");
    }
    resp
}

/// The next message: channel and text.
fn heard(resp: &mut Resp) -> (String, String) {
    let message = resp.read().expect("a message comes").texts();
    (message[1].clone(), message[2].clone())
}

#[test]
fn counters_count_once_a_batch_after_the_deletes_and_before_the_notice() {
    let mut world = World::start(ROUTES);
    world.seed(["k:1", "k:2"]);
    world.cmd(&["SET", "k:epoch", "41"]);
    // The first read of a process asks for one entry only.
    world.publish("Changed", &[("k", "0")]);
    world.wait_done();
    let mut ids = Vec::new();
    let lines = world.monitored(|world| {
        ids = world.add_all(&entries("Counted", 1..3));
        world.wait_done();
    });
    let at = |name: &str, word: &str| {
        let wanted = |line: &String| line.contains(&format!("lua] \"{name}\"")) && line.contains(word);
        lines.iter().position(wanted).unwrap_or_else(|| panic!("no {name} {word} in {lines:#?}"))
    };
    assert!(at("UNLINK", "k:1") < at("INCR", "k:epoch") && at("INCR", "k:other-epoch") < at("XADD", "unstale:notices"));
    assert_eq!((world.cmd(&["GET", "k:epoch"]).text(), world.cmd(&["GET", "k:other-epoch"]).text()), ("42".to_owned(), "1".to_owned()));
    assert_eq!(world.notices()[1].keys(), ["k:1", "k:2"], "counters are not announced");
    world.publish("OnlyCounted", &[]);
    world.wait_settled();
    assert_eq!(world.cmd(&["GET", "k:epoch"]).text(), "43");
    assert_eq!(world.notices().len(), 2, "nothing to announce");
}

#[test]
fn a_counter_that_is_no_number_is_buried_with_the_rest_done() {
    let mut world = World::start(ROUTES);
    world.seed(["k:1"]);
    world.cmd(&["SET", "k:epoch", "many"]);
    world.cmd(&["LPUSH", "k:other-epoch", "x"]);
    world.publish("Counted", &[("k", "1")]);
    world.wait_settled();
    let letters = world.dead_letters();
    let [letter] = &letters[..] else { panic!("{letters:#?}") };
    assert_eq!(letter.codes(), ["command_failed", "command_failed"], "{}", letter.reason());
    assert_eq!(world.keys(), ["k:epoch", "k:other-epoch"].map(str::to_owned).into());
    assert_eq!(world.notices()[0].keys(), ["k:1"]);
}

#[test]
fn p2_3_a_second_delete_takes_what_a_reader_stored_again_and_is_announced_again() {
    let mut world = World::start(ROUTES);
    world.seed(["again:1", "again:list:1"]);
    let id = world.publish("Restored", &[("k", "1")]);
    world.wait_notice("of the first delete", |notice| notice.keys() == ["again:1"]);
    // A reader that had read the old value from the database stores it only now.
    world.seed(["again:1"]);
    world.wait_settled();
    assert_eq!(world.keys(), [].into());
    let notices = world.notices();
    let of_key: Vec<&Notice> = notices.iter().filter(|notice| notice.keys() == ["again:1"]).collect();
    let [first, second] = of_key[..] else { panic!("{notices:#?}") };
    assert!((300..1500).contains(&(second.at() - first.at())), "{} ms apart", second.at() - first.at());
    assert!(notices.iter().all(|notice| notice.events() == [id.clone()]), "{notices:#?}");
    let patterns = notices.iter().filter(|notice| !notice.patterns().is_empty());
    assert_eq!(patterns.count(), 1, "patterns are scanned once");
    let totals = world.sidecar.stats()["totals"].take();
    assert_eq!((&totals["processed"], &totals["failed"]), (&2.into(), &0.into()), "a second delete isn't counted: {totals}");
}

#[test]
fn an_event_with_a_second_delete_is_pending_until_then() {
    let mut world = World::start(&ROUTES.replace("'300ms'", "'2500ms'"));
    world.publish("Restored", &[("k", "1")]);
    world.wait_notice("of the first delete", |notice| notice.keys() == ["again:1"]);
    assert_eq!(world.standing("events").expect("the stream is there").pending, 1);
    world.sidecar.kill();
    assert_eq!(world.standing("events").expect("the stream is there").pending, 1);
}

#[test]
fn p3_1_notices_are_numbered_and_the_channel_says_what_the_log_says() {
    let mut world = World::start(ROUTES);
    let mut channel = subscriber(&world.redis, &["unstale:notices"]);
    for n in 0..30 {
        let id = world.publish_critical("Revoked", &[("k", &n.to_string()), ("correlation_id", "req-1")]);
        world.wait_notice("of this event", |notice| notice.events().contains(&id));
    }
    let origin = world.origin();
    let mut prev = "0-0".to_owned();
    for (index, notice) in world.notices().iter().enumerate() {
        let seq = index + 1;
        assert_eq!(notice.seq, i64::try_from(seq).expect("few"));
        let (at, event) = (notice.at(), &notice.events()[0]);
        let rest = format!(
            r#""seq":{seq},"prev":"{prev}","origin":"{origin}","at":{at},"priority":"critical","drop":[{{"cache":"k","keys":["k:{index}"],"patterns":[]}}],"events":["{event}"],"events_total":1,"correlation_ids":["req-1"],"operations":[]}}"#
        );
        assert_eq!(notice.text, format!(r#"{{"v":1,{rest}"#), "as docs/notices.md writes it");
        let said = format!(r#"{{"v":1,"id":"{}",{rest}"#, notice.id);
        assert_eq!(heard(&mut channel), ("unstale:notices".to_owned(), said));
        let logged: i64 = notice.id.split_once('-').and_then(|(ms, _)| ms.parse().ok()).expect("an id");
        assert!(at <= logged && logged - at < 1000, "confirmed at {at}, logged at {logged}");
        prev.clone_from(&notice.id);
    }
}

#[test]
fn p3_2_the_numbers_go_on_in_the_next_process() {
    let mut world = World::start(ROUTES);
    world.publish("Changed", &[("k", "1")]);
    world.wait_done();
    world.sidecar.terminate();
    world.sidecar.wait();
    let _next = Sidecar::start(&world.redis, ROUTES);
    world.publish("Changed", &[("k", "2")]);
    world.wait_done();
    let log: Vec<(i64, Vec<String>)> = world.notices().iter().map(|notice| (notice.seq, notice.keys())).collect();
    assert_eq!(log, [(1, vec!["k:1".to_owned()]), (2, vec!["k:2".to_owned()])]);
}

#[test]
fn p3_3_the_log_is_trimmed_to_its_entries_and_its_numbers_go_on() {
    let mut world = World::with(|setup| setup.config(ROUTES).set("notices.retain=100").set("batching.enabled=false"));
    world.add_all(&entries("Changed", 0..1000));
    world.wait_settled();
    let notices = world.notices();
    // Redis trims whole nodes, of at most 100 entries.
    assert!((100..=200).contains(&notices.len()), "{}", notices.len());
    let last = notices.last().expect("some are kept").seq;
    assert_eq!(last, 1000);
    assert!(notices.windows(2).all(|pair| pair[1].seq == pair[0].seq + 1));
}

#[test]
fn p5_10_the_log_is_trimmed_to_its_bytes() {
    let mut world = World::with(|setup| setup.config(ROUTES).set("notices.retain_bytes=200KB").set("batching.enabled=false"));
    world.add_all(&entries("Changed", 0..3000));
    world.wait_settled();
    let bytes = world.cmd(&["MEMORY", "USAGE", "unstale:notices", "SAMPLES", "0"]).int();
    println!("log of 3,000 notices with notices.retain_bytes = 200KB: {bytes} bytes, {} entries", world.notices().len());
    assert!((50_000..=300_000).contains(&bytes), "{bytes}");
    assert_eq!(world.notices().last().map(|notice| notice.seq), Some(3000));
}

#[test]
fn an_event_of_many_keys_is_announced_in_parts() {
    let mut world = World::start(ROUTES);
    let keys: Vec<String> = (0..2500).map(|k| k.to_string()).collect();
    world.seed(keys.iter().map(|k| format!("k:{k}")));
    let id = world.add(&["type", "Changed", "k", &serde_json::to_string(&keys).expect("texts are JSON")]);
    world.wait_settled();
    let notices = world.notices();
    // A busy machine may not hear the answer to a part in time, and then that part is done and announced once more.
    let mut parts: Vec<Vec<String>> = notices.iter().map(unstale_tests::Notice::keys).collect();
    // They are on their way at the same time, so any may be the first.
    parts.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
    parts.dedup();
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [1000, 1000, 500], "{}", world.sidecar.log());
    assert!(notices.iter().all(|notice| notice.events() == [id.clone()]));
    assert_eq!(world.keys(), [].into());
}

#[test]
fn a_notice_names_at_most_100_events_and_says_how_many_there_were() {
    let mut world = World::with(|setup| setup.config(ROUTES).set("batching.window=2s"));
    let opener = world.publish("Changed", &[("k", "opener")]);
    world.wait_notice("of the opener", |notice| notice.events().contains(&opener));
    let events: Vec<Vec<String>> =
        (0..150).map(|n| ["type", "Changed", "k", "same", "correlation_id", &format!("req-{n}")].map(str::to_owned).to_vec()).collect();
    world.add_all(&events);
    world.wait_done();
    let notice = &world.notices()[1];
    assert_eq!((notice.events().len(), &notice.json["events_total"]), (100, &json!(150)));
    assert_eq!(notice.json["correlation_ids"].as_array().map(Vec::len), Some(100));
}

#[test]
fn publishing_can_be_turned_off() {
    let redis = Redis::start_sync();
    let mut channel = subscriber(&redis, &["unstale:notices", "end"]);
    let sidecar = Setup::on(&redis).config(ROUTES).set("notices.publish=false").start(&redis);
    let mut bus = unstale_tests::Bus::new(&redis);
    bus.publish("Changed", &[("k", "1")]);
    bus.wait_settled();
    assert_eq!(bus.notices().len(), 1, "{}", sidecar.log());
    bus.cmd(&["PUBLISH", "end", "of it"]);
    assert_eq!(heard(&mut channel), ("end".to_owned(), "of it".to_owned()));
}

#[test]
fn of_a_local_cache_nothing_is_deleted_but_all_is_announced() {
    let mut world = World::start(ROUTES);
    world.seed(["plan:1", "plan:list:1"]);
    world.publish("Planned", &[("k", "1")]);
    world.wait_settled();
    assert_eq!(world.keys(), ["plan:1", "plan:list:1"].map(str::to_owned).into());
    let notices = world.notices();
    let keys: Vec<String> = notices.iter().flat_map(Notice::keys).collect();
    let patterns: Vec<String> = notices.iter().flat_map(Notice::patterns).collect();
    assert_eq!((keys, patterns), (vec!["plan:1".to_owned()], vec!["plan:list:*".to_owned()]));
    assert_eq!(world.commandstats().get("unlink"), None);
    assert_eq!(world.commandstats().get("scan"), None);
}

#[test]
fn existing_subscribers_hear_the_messages_that_they_know() {
    let republish = "
presets = ['llm-gateway']
[preset.llm-gateway.cache.virtual_key]
second_delete = '0s'
[[republish]]
cache = 'virtual_key'
channel = 'vkey_batch_invalidated'
format = 'json'
fields = { keys = 'KeyHashes', time = 'Timestamp' }
strip = 'vkey:'
[[republish]]
cache = 'virtual_key'
channel = 'vkey_invalidated'
format = 'key'
strip = 'vkey:'
";
    let mut world = World::start(republish);
    let mut channels = subscriber(&world.redis, &["unstale:notices", "vkey_batch_invalidated", "vkey_invalidated", "end"]);
    world.add(&["type", "SpendBatchCompleted", "key_hashes", r#"["h1","h\"2"]"#]);
    world.wait_done();
    world.publish("ModelMappingChanged", &[("mapping_id", "1")]);
    world.wait_done();
    world.cmd(&["PUBLISH", "end", ""]);
    assert_eq!(heard(&mut channels).0, "unstale:notices", "the notice first");
    let mut messages: Vec<(String, String)> =
        std::iter::from_fn(|| Some(heard(&mut channels)).filter(|(channel, _)| channel != "end")).collect();
    messages.retain(|(channel, _)| channel != "unstale:notices");
    let [(batch, object), (one, h1), (two, h2)] = &messages[..] else { panic!("{messages:#?}") };
    assert_eq!((batch.as_str(), one.as_str(), two.as_str()), ("vkey_batch_invalidated", "vkey_invalidated", "vkey_invalidated"));
    assert_eq!((h1.as_str(), h2.as_str()), ("h1", "h\"2"));
    let object: Json = serde_json::from_str(object).expect("an object");
    assert_eq!(object["KeyHashes"], json!(["h1", "h\"2"]));
    let time = object["Timestamp"].as_str().unwrap_or_default();
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T' && time.ends_with('Z'), "ISO 8601, UTC: {object}");
    assert_eq!(object.as_object().map(serde_json::Map::len), Some(2));
}
