//! Two releases in one namespace: today's program goes on from what an earlier one left in Redis, passes over what a later one may add, and still writes all that
//! the earlier one reads.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;
use unstale_testkit::{Redis, Value, wait_until_sync};
use unstale_tests::{Bus, Outcome, PATIENCE, Setup, run};

/// What a release left.
fn left_by(release: &str, file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat").join(release).join(file)
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The commands that make what a release left; with `add`, each thing it wrote has something that it didn't know.
fn commands(release: &str, add: bool) -> Vec<Vec<String>> {
    let lines = text(&left_by(release, "namespace.jsonl"));
    let mut commands: Vec<Vec<String>> = lines.lines().map(|line| serde_json::from_str(line).expect("a list of words")).collect();
    if add {
        commands.iter_mut().filter(|words| words[0] == "XADD").for_each(add_something);
    }
    commands
}

/// A member to each notice, a field to each entry.
fn add_something(words: &mut Vec<String>) {
    for word in words.iter_mut().filter(|word| word.starts_with("{\"v\":1,")) {
        *word = word.replacen("{\"v\":1,", r#"{"later":{"a":[1,null]},"v":1,"#, 1);
    }
    if !words[1].ends_with(":dead") {
        words.extend(["later".to_owned(), "added".to_owned()]);
    }
}

fn restored(release: &str, add: bool) -> (Redis, Bus) {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    for words in commands(release, add) {
        bus.cmd(&words);
    }
    (redis, bus)
}

fn goes_on(release: &str, add: bool) {
    let (redis, mut bus) = restored(release, add);
    bus.seed(["product:9", "product:10", "product:11", "product:11:de"]);
    let config = text(&left_by(release, "unstale.toml"));
    let sidecar = Setup::on(&redis).config(&config).start(&redis);

    // What the dead instance had read, and what nobody had, is carried out.
    bus.wait_settled();
    assert_eq!(bus.keys(), BTreeSet::from(["product:version".to_owned()]));
    assert_eq!(bus.cmd(&["GET", "product:version"]).text(), "2");
    assert_eq!(sidecar.metric("unstale_flushes_total{cause=\"loss\"}"), 0, "{}", sidecar.log());

    // The numbers go on, and a receiver from before has missed nothing.
    let log = bus.cmd(&["XRANGE", "unstale:notices", "-", "+"]);
    let numbers: Vec<i64> = log.array().iter().map(|entry| number(&entry.array()[1])).collect();
    assert!(numbers.len() > 6 && numbers.iter().copied().eq(1..=i64::try_from(numbers.len()).expect("a few")), "{numbers:?}");
    let (hello, mut stream) = sidecar.notices("", Some("1789000000925-0/2"));
    assert!(hello.resumed(), "{hello:?}");
    let heard = [(); 3].map(|()| stream.next_notice().expect("a notice"));
    assert_eq!(heard.each_ref().map(unstale_tests::sse::Event::seq), [3, 4, 5]);
    assert_eq!(heard.each_ref().map(|event| event.name.as_str()), ["drop", "flush", "drop"]);

    // Its place among the instances is cleared away: nobody waits for the dead.
    wait_until_sync("the dead instance to be forgotten", PATIENCE, || {
        let left = bus.cmd(&["HGET", "unstale:positions", "old-aaaaa"]);
        if left.is_nil() { Ok(()) } else { Err(format!("{left:?}")) }
    });

    // The tools read what it wrote.
    let ask = |args: &[&str]| -> Outcome {
        let file = left_by(release, "unstale.toml");
        let args = [&["--config", file.to_str().expect("a path of this repository")], args].concat();
        run(&args, &[("REDIS_URL", &redis.url())])
    };
    let why = ask(&["why", "product:7", "--json"]);
    assert!(why.out.contains("1789000000502-0") && why.out.contains("price import"), "{}{}", why.out, why.err);
    let replay = ask(&["dead-letters", "replay", "1789000001694-0", "--json"]);
    assert_eq!(replay.code, Some(0), "{}", replay.err);
    wait_until_sync("the event of the old letter to come back as a new one", PATIENCE, || {
        let letters = bus.dead_letters();
        let again = letters.iter().any(|letter| letter.get("product") == "12" && letter.get("dead_entry") != "1789000001500-0");
        if again && letters.len() == 1 { Ok(()) } else { Err(format!("{letters:?}")) }
    });
}

/// The number of a notice among the fields of its entry.
fn number(fields: &Value) -> i64 {
    fields.field("seq").expect("each notice has a number").text().parse().expect("a number")
}

#[test]
fn today_goes_on_from_what_0_1_left() {
    goes_on("v0.1", false);
}

#[test]
fn today_passes_over_what_it_does_not_know() {
    goes_on("v0.1", true);
}

/// Whether today's value has all that the earlier one had, of the same kinds.
fn keeps(earlier: &Json, today: &Json) -> bool {
    match (earlier, today) {
        (Json::Object(earlier), Json::Object(today)) => {
            earlier.iter().all(|(name, value)| today.get(name).is_some_and(|today| keeps(value, today)))
        }
        (Json::Array(earlier), Json::Array(today)) => today.iter().all(|today| earlier.first().is_none_or(|earlier| keeps(earlier, today))),
        (Json::Number(earlier), Json::Number(today)) => earlier.is_u64() == today.is_u64(),
        (Json::String(_), Json::String(_)) | (Json::Bool(_), Json::Bool(_)) | (Json::Null, Json::Null) => true,
        _ => false,
    }
}

#[test]
fn what_0_1_reads_is_still_written() {
    let redis = Redis::start_sync();
    let config = text(&left_by("v0.1", "unstale.toml"));
    let sidecar = Setup::on(&redis).config(&config).start(&redis);
    let mut bus = Bus::new(&redis);
    bus.publish("ProductUpdated", &[("product_id", "7"), ("correlation_id", "c1")]);
    bus.publish_critical("ProductDeleted", &[("product_id", "8")]);
    bus.publish("ProductUpdated", &[("product", "12")]);
    bus.add(&["type", "CacheInvalidationRequested", "cache", "product", "keys", r#"["product:9"]"#, "operation", "price import"]);
    bus.wait_settled();
    let (status, body) = sidecar.post("/v1/invalidate", &serde_json::json!({ "keys": ["product:1"] }));
    assert_eq!(status, 202, "{body}");
    let flush = run(&["flush"], &[("REDIS_URL", &redis.url())]);
    assert_eq!(flush.code, Some(0), "{}", flush.err);

    let written = bus.notices();
    for words in commands("v0.1", false) {
        match (words[0].as_str(), words[1].as_str()) {
            ("XADD", "unstale:notices") => {
                assert_eq!([&words[3], &words[5]], ["seq", "notice"]);
                let earlier: Json = serde_json::from_str(&words[6]).expect("a notice is JSON");
                assert!(written.iter().any(|today| keeps(&earlier, &today.json)), "none is like {earlier} among\n{written:#?}");
            }
            ("XADD", "unstale:events:dead") => {
                let letter = &bus.dead_letters()[0];
                for name in words[3..].iter().step_by(2).filter(|name| name.starts_with("dead_")) {
                    assert!(!letter.get(name).is_empty(), "{name}");
                }
                assert!(letter.reason().starts_with("missing_attribute: "), "{}", letter.reason());
                assert_eq!([letter.get("dead_stream"), letter.get("product")], ["unstale:events", "12"]);
            }
            _ => {}
        }
    }
    let instance = sidecar.instance(&mut bus);
    assert_eq!(bus.cmd(&["GET", "unstale:reader"]).text(), instance);
    let last = bus.notices().pop().expect("notices were written");
    wait_until_sync("its position", PATIENCE, || {
        let position = bus.cmd(&["HGET", "unstale:positions", &instance]).text();
        if position == format!("{}/{}", last.id, last.seq) { Ok(()) } else { Err(position) }
    });
    let beat: u64 = bus.cmd(&["ZSCORE", "unstale:instances", &instance]).text().parse().expect("milliseconds");
    assert!(beat > 1_789_000_000_000, "{beat}");
}
