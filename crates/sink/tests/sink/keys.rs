//! Exact keys: deleted, counted by cache, announced.

use unstale_events::{EntryId, Priority, TargetKind};

use crate::world::{LOG, World, in_scripts, is_done, sent};

const KEY: TargetKind = TargetKind::Key;

#[tokio::test]
async fn a_key_batch_is_one_script_in_one_round_trip() {
    let world = World::start().await;
    world.deliver(&world.keys("vkey", &["vkey:warm"])).await;
    let mut targets: Vec<(&str, TargetKind, String)> = (0..100).map(|i| ("vkey", KEY, format!("vkey:{i}"))).collect();
    targets.extend((0..50).map(|i| ("model", KEY, format!("model:{i}"))));
    targets.push(("model", TargetKind::Bump, "model:epoch".to_owned()));
    let targets: Vec<_> = targets.iter().map(|(cache, kind, text)| (*cache, *kind, text.as_str())).collect();
    let batch = world.batch(Priority::Normal, &targets);

    let (delivery, lines) = world.watched(world.deliver(&batch)).await;
    assert!(is_done(&delivery));
    assert_eq!(delivery.round_trips, 1);
    let commands = sent(&lines);
    assert_eq!(commands.len(), 1, "{commands:#?}");
    assert!(commands[0].contains("\"EVALSHA\""), "{commands:#?}");
    let order = in_scripts(&lines);
    assert_eq!(order, ["XREVRANGE", "XTRIM", "UNLINK", "UNLINK", "INCR", "TIME", "XADD", "PUBLISH"]);
}

#[tokio::test]
async fn every_key_that_the_script_touches_is_declared() {
    let world = World::start().await;
    let batch =
        world.batch(Priority::Normal, &[("vkey", KEY, "vkey:a"), ("model", KEY, "model:b"), ("model", TargetKind::Bump, "model:epoch")]);
    let (_, lines) = world.watched(world.deliver(&batch)).await;
    let call = sent(&lines).into_iter().find(|line| line.contains("\"EVAL\"")).unwrap();
    assert!(call.contains("\"4\" \"unstale:notices\" \"vkey:a\" \"model:b\" \"model:epoch\" "), "{call}");
}

#[tokio::test]
async fn deleted_counts_come_from_the_replies_cache_by_cache() {
    let world = World::start().await;
    world.set(&["vkey:a", "vkey:b", "model:a", "vkey:other"]);
    let targets = [("vkey", KEY, "vkey:a"), ("model", KEY, "model:a"), ("vkey", KEY, "vkey:b"), ("vkey", KEY, "vkey:absent")];
    let delivery = world.deliver(&world.batch(Priority::High, &targets)).await;
    assert!(is_done(&delivery));
    assert_eq!((world.deleted(&delivery, "vkey"), world.deleted(&delivery, "model"), world.deleted(&delivery, "plan")), (2, 1, 0));
    assert!(world.exists("vkey:other"));
    assert!(!world.exists("vkey:a"));
}

#[tokio::test]
async fn the_time_of_the_delivery_is_redis_own() {
    let world = World::start().await;
    let before = world.redis.cmd(&["TIME"]).texts()[0].parse::<u64>().unwrap() * 1000;
    let delivery = world.deliver(&world.keys("vkey", &["vkey:a"])).await;
    let at = delivery.at_ms.unwrap();
    assert!((before..before + 10_000).contains(&at));
    assert_eq!(world.log()[0].1.at, at);
}

#[tokio::test]
async fn a_notice_says_what_was_deleted_for_whom() {
    let world = World::start().await;
    let batch = world.batch(Priority::Critical, &[("vkey", KEY, "vkey:a\"\\\n"), ("model", KEY, "model:ä")]);
    world.deliver(&batch).await;
    let (seq, notice) = world.log().remove(0);
    assert_eq!((seq, notice.seq, notice.id, notice.v), (1, Some(1), None, 1));
    assert_eq!((notice.origin.as_str(), notice.priority), ("api-3-x7f2", Some(Priority::Critical)));
    let drops: Vec<_> = notice.drop.iter().map(|drop| (drop.cache.as_str(), &drop.keys[..], drop.patterns.len())).collect();
    assert_eq!(drops, [("vkey", &["vkey:a\"\\\n".to_owned()][..], 0), ("model", &["model:ä".to_owned()][..], 0)]);
    assert_eq!(notice.events, [0, 1].map(|seq| EntryId { ms: 1_789_000_000_000, seq }));
    assert_eq!(
        (notice.events_total, &notice.correlation_ids[..], &notice.operations[..]),
        (2, &["trace-1".into()][..], &["revoke".into()][..])
    );
}

#[tokio::test]
async fn at_most_a_hundred_events_are_named() {
    let world = World::start().await;
    let keys: Vec<_> = (0..250).map(|i| format!("vkey:{i}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    world.deliver(&world.keys("vkey", &keys)).await;
    let (_, notice) = world.log().remove(0);
    assert_eq!((notice.events.len(), notice.events_total, notice.drop[0].keys.len()), (100, 250, 250));
}

#[tokio::test]
async fn more_than_a_thousand_keys_are_split_and_each_is_announced_once() {
    let world = World::start().await;
    let keys: Vec<_> = (0..2500).map(|i| format!("vkey:{i}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    world.set(&keys);
    let (delivery, lines) = world.watched(world.deliver(&world.keys("vkey", &keys))).await;
    assert!(is_done(&delivery));
    assert_eq!((world.deleted(&delivery, "vkey"), delivery.notices, delivery.round_trips), (2500, 3, 1));
    let log = world.log();
    assert_eq!(log.iter().map(|(seq, notice)| (*seq, notice.drop[0].keys.len())).collect::<Vec<_>>(), [(1, 1000), (2, 1000), (3, 500)]);
    assert_eq!(world.announced(), keys);
    assert_eq!(in_scripts(&lines).iter().filter(|command| *command == "UNLINK").count(), 3);
}

#[tokio::test]
async fn a_local_cache_is_announced_and_nothing_of_it_deleted() {
    let world = World::start().await;
    world.set(&["plan:a", "vkey:a"]);
    let delivery = world.deliver(&world.batch(Priority::Normal, &[("plan", KEY, "plan:a"), ("vkey", KEY, "vkey:a")])).await;
    assert!(is_done(&delivery));
    assert!(world.exists("plan:a"));
    assert!(!world.exists("vkey:a"));
    assert_eq!((world.deleted(&delivery, "plan"), world.announced()), (0, vec!["vkey:a".to_owned(), "plan:a".to_owned()]));
}

#[tokio::test]
async fn only_local_keys_are_a_notice_too() {
    let world = World::start().await;
    let delivery = world.deliver(&world.keys("plan", &["plan:a"])).await;
    assert!(is_done(&delivery));
    assert_eq!((delivery.notices, world.announced()), (1, vec!["plan:a".to_owned()]));
}

#[tokio::test]
async fn a_server_that_forgot_the_script_is_told_again() {
    let world = World::start().await;
    for key in ["vkey:a", "vkey:b"] {
        world.set(&[key]);
        let delivery = world.deliver(&world.keys("vkey", &[key])).await;
        assert!(is_done(&delivery) && delivery.errors.is_empty(), "{delivery:?}");
        assert!(!world.exists(key));
        world.redis.cmd(&["SCRIPT", "FLUSH"]);
    }
    assert_eq!(world.log().len(), 2);
}

#[tokio::test]
async fn critical_batches_have_a_connection_of_their_own() {
    let world = World::start().await;
    let address = |lines: &[String]| sent(lines)[0].split(['[', ']']).nth(1).unwrap().to_owned();
    let (_, normal) = world.watched(world.deliver(&world.keys("vkey", &["vkey:a"]))).await;
    let (_, critical) = world.watched(world.deliver(&world.batch(Priority::Critical, &[("vkey", KEY, "vkey:a")]))).await;
    assert_ne!(address(&normal), address(&critical));
    assert_eq!(world.redis.cmd(&["XLEN", LOG]).int(), 2);
}
