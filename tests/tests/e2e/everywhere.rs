//! Gone everywhere: waiting until every instance has told its receivers, and who keeps one waiting.

use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use unstale_testkit::wait_until_sync;
use unstale_tests::{Setup, Sidecar, World, run};

const PATIENCE: Duration = Duration::from_secs(30);
const ROUTES: &str = "[cache.c]
prefixes = ['c:']
[cache.d]
prefixes = ['d:']
[[route]]
event = 'Changed'
cache = 'c'
keys = ['c:{k}']";

/// Two instances.
fn stage() -> (World, Sidecar) {
    let world = World::start(ROUTES);
    let second = Setup::on(&world.redis).config(ROUTES).start(&world.redis);
    (world, second)
}

fn everywhere(sidecar: &Sidecar, timeout: &str) -> (u16, Json) {
    let (status, body) = sidecar.post(&format!("/v1/invalidate?wait=everywhere&timeout={timeout}"), &json!({ "keys": ["c:1"] }));
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

/// Waits until both have said how far they are.
fn settled(world: &mut World, count: usize) {
    wait_until_sync("the positions of all instances", PATIENCE, || {
        let positions = world.cmd(&["HGETALL", "unstale:positions"]).texts();
        if positions.len() == 2 * count { Ok(()) } else { Err(format!("{positions:?}")) }
    });
}

#[test]
fn p3_7_the_answer_comes_when_every_instance_has_told_its_receivers() {
    let (mut world, second) = stage();
    settled(&mut world, 2);
    let (_, mut one) = world.sidecar.notices("", None);
    let (_, mut other) = second.notices("", None);
    world.seed(["c:1"]);
    let (status, answer) = everywhere(&world.sidecar, "20s");
    assert_eq!((status, &answer["success"], &answer["keys_deleted"], &answer["instances"]), (200, &json!(true), &json!(1), &json!(2)));
    let notice = world.notices().pop().expect("a notice");
    assert_eq!(notice.json["confirm"], true);
    let position = format!("{}/{}", notice.id, notice.seq);
    let positions = world.cmd(&["HVALS", "unstale:positions"]).texts();
    assert_eq!(positions, [position.clone(), position.clone()]);
    for stream in [&mut one, &mut other] {
        stream.set_patience(Duration::from_secs(1)).expect("a socket");
        assert_eq!(stream.next_notice().expect("what is said to be heard is there").id, position);
    }
    // Without receivers, and without waiting, the next beat says it.
    drop((one, other));
    world.publish("Changed", &[("k", "2")]);
    wait_until_sync("both to be at the newest notice", PATIENCE, || {
        let positions = world.cmd(&["HVALS", "unstale:positions"]).texts();
        if positions.iter().all(|position| position.ends_with("/2")) { Ok(()) } else { Err(format!("{positions:?}")) }
    });
    second.wait_metric("unstale_notices_behind", 0);
}

#[test]
fn p3_8_an_instance_that_stands_still_is_named_and_one_that_said_goodbye_is_not_waited_for() {
    let (mut world, mut second) = stage();
    settled(&mut world, 2);
    let name = second.instance(&mut world);
    second.pause();
    world.seed(["c:1"]);
    let (status, answer) = everywhere(&world.sidecar, "1s");
    let error = &answer["error"];
    assert_eq!((status, &error["code"], &error["behind"][0]["instance"]), (504, &json!("behind"), &json!(name)), "{answer}");
    assert_eq!((&error["behind"][0]["notices"], &error["behind"][0]["position"]), (&json!(1), &json!("0-0/0")), "{answer}");
    assert!(world.keys().is_empty(), "it is deleted nevertheless");
    second.resume();
    let (status, answer) = everywhere(&world.sidecar, "20s");
    assert_eq!((status, &answer["instances"]), (200, &json!(2)), "{answer}");
    second.terminate();
    assert_eq!(second.wait(), Some(0));
    let (status, answer) = everywhere(&world.sidecar, "20s");
    assert_eq!((status, &answer["instances"]), (200, &json!(1)), "{answer}");
}

#[test]
fn an_instance_that_dies_is_waited_for_until_its_receivers_do_not_trust_it_any_more() {
    let (mut world, mut second) = stage();
    settled(&mut world, 2);
    let began = Instant::now();
    second.kill();
    let (status, answer) = everywhere(&world.sidecar, "50s");
    assert_eq!((status, &answer["instances"]), (200, &json!(1)), "{answer}");
    assert!(began.elapsed() >= Duration::from_secs(14), "{:?}", began.elapsed());
}

#[test]
fn what_is_no_wait_is_refused() {
    let world = World::start(ROUTES);
    let refused = |query: &str| {
        let (status, body) = world.sidecar.post(&format!("/v1/invalidate?{query}"), &json!({ "keys": ["c:1"] }));
        (status, serde_json::from_str::<Json>(&body).expect("JSON")["error"]["code"].as_str().map(str::to_owned))
    };
    assert_eq!(refused("wait=never"), (400, Some("bad_wait".to_owned())));
    for timeout in ["soon", "61s", "-1s"] {
        assert_eq!(refused(&format!("wait=everywhere&timeout={timeout}")), (400, Some("bad_timeout".to_owned())), "{timeout}");
    }
}

#[test]
fn the_command_line_waits_and_flushes() {
    let (mut world, second) = stage();
    settled(&mut world, 2);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("unstale.toml");
    std::fs::write(&file, ROUTES).expect("a file");
    let (file, url) = (file.display().to_string(), world.redis.url());
    let cli = |args: &[&str]| run(&[&["--config", &file], args].concat(), &[("REDIS_URL", &url)]);

    let (_, mut stream) = second.notices("?cache=d", None);
    world.seed(["c:1", "d:1"]);
    let done = cli(&["invalidate", "c:1", "--wait", "everywhere", "--timeout", "20s", "--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(serde_json::from_str::<Json>(&done.out).expect("JSON")["instances"], 2, "{done:?}");
    assert_eq!(world.keys().into_iter().collect::<Vec<_>>(), ["d:1"]);

    let done = cli(&["flush", "c"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let done = cli(&["flush", "d", "--clear"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(world.keys().is_empty());
    let heard = [stream.next_notice().expect("a notice"), stream.next_notice().expect("a notice")];
    assert_eq!((&heard[0].data["drop"][0]["patterns"], &heard[1].data["flush"]), (&json!(["d:*"]), &json!(["d"])), "{heard:?}");
    assert_eq!(cli(&["flush", "nothing"]).code, Some(2));
    // The commands have ended; one of the sidecars counts for them.
    wait_until_sync("both flushes to be counted once", PATIENCE, || {
        let counts = [&world.sidecar, &second].map(|sidecar| sidecar.metric("unstale_flushes_total{cause=\"request\"}"));
        if counts.iter().sum::<u64>() == 2 { Ok(()) } else { Err(format!("{counts:?}")) }
    });

    second.pause();
    let done = cli(&["invalidate", "c:1", "--wait", "everywhere", "--timeout", "1s"]);
    assert!(done.code == Some(1) && done.err.contains(second.name()), "{done:?}");
    second.resume();
}
