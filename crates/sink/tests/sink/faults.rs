//! What a server refuses, and servers that are gone: nothing is skipped, nothing announced that was not deleted.

use std::time::{Duration, Instant};

use unstale_batcher::TargetState;
use unstale_connect::FaultKind;
use unstale_events::{Priority, TargetKind};
use unstale_sink::{Budgets, Stage};
use unstale_testkit::wait_until;

use crate::world::{World, is_done, set_user};

const KEY: TargetKind = TargetKind::Key;
const SHORT: Budgets = Budgets { normal: Duration::from_millis(400), critical: Duration::from_millis(200) };
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_forbidden_key_in_mid_batch_skips_no_other_and_is_not_announced() {
    let rights = ["+@all", "~unstale:*", "~vkey:ok:*", "allchannels"];
    let world = World::as_user(&rights, |config| config.budgets = SHORT).await;
    let keys: Vec<_> = (0..100).map(|i| if i == 37 { "vkey:locked".to_owned() } else { format!("vkey:ok:{i}") }).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    world.set(&keys);
    let batch = world.keys("vkey", &keys);
    let delivery = world.deliver(&batch).await;

    for (index, state) in delivery.states.iter().enumerate() {
        let expected = if index == 37 { TargetState::Failed } else { TargetState::Done };
        assert_eq!(*state, expected, "target {index}");
    }
    assert_eq!(world.deleted(&delivery, "vkey"), 99);
    assert!(world.exists("vkey:locked"));
    let mut announced = world.announced();
    announced.sort();
    let mut expected: Vec<_> = keys.iter().filter(|key| **key != "vkey:locked").map(ToString::to_string).collect();
    expected.sort();
    assert_eq!(announced, expected);
    assert!(delivery.met(Stage::Delete, FaultKind::Denied));
    let settlement = batch.settle(&delivery.states);
    assert_eq!((settlement.done.len(), settlement.failed.len(), settlement.dead.len()), (99, 1, 0));
}

#[tokio::test]
async fn what_was_forbidden_is_announced_when_it_succeeds() {
    let world = World::as_user(&["+@all", "~unstale:*", "~vkey:ok:*", "allchannels"], |_| {}).await;
    world.set(&["vkey:ok:1", "vkey:locked"]);
    let delivering = world.delivering(world.keys("vkey", &["vkey:locked", "vkey:ok:1"]));
    wait_until("the free key's notice", PATIENCE, || async { world.log().first().map(drop).ok_or("none".to_owned()) }).await;
    set_user(&world.redis, &["~vkey:*"]);
    let delivery = delivering.await.unwrap();
    assert!(is_done(&delivery) && delivery.retries > 0);
    assert_eq!((world.announced(), world.exists("vkey:locked")), (vec!["vkey:ok:1".to_owned(), "vkey:locked".to_owned()], false));
}

#[tokio::test]
async fn a_forbidden_command_is_not_blamed_on_single_keys() {
    let world = World::as_user(&["+@all", "-unlink", "~*", "allchannels"], |config| config.budgets = SHORT).await;
    let keys: Vec<_> = (0..500).map(|i| format!("vkey:{i}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    let delivery = world.deliver(&world.keys("vkey", &keys)).await;
    assert!(delivery.states.iter().all(|state| *state == TargetState::Failed));
    assert!(delivery.met(Stage::Delete, FaultKind::Denied), "{:?}", delivery.errors);
    assert_eq!((world.log().len(), delivery.notices), (0, 0));
    assert!(world.calls("evalsha") + world.calls("eval") <= delivery.retries + 3);
}

#[tokio::test]
async fn a_forbidden_log_means_nothing_is_deleted() {
    let world = World::as_user(&["+@all", "~vkey:*", "allchannels"], |config| config.budgets = SHORT).await;
    world.set(&["vkey:a", "vkey:b"]);
    let delivery = world.deliver(&world.keys("vkey", &["vkey:a", "vkey:b"])).await;
    assert_eq!(delivery.states, [TargetState::Failed, TargetState::Failed]);
    assert!(world.exists("vkey:a") && world.exists("vkey:b"));
}

#[tokio::test]
async fn a_full_server_deletes_counts_and_announces_all_the_same() {
    let world = World::start().await;
    world.set(&["vkey:a"]);
    world.redis.cmd(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    world.redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]);
    let refused = world.redis.resp().try_cmd(&["XADD", "other", "*", "a", "b"]);
    assert!(format!("{refused:?}").contains("OOM"), "{refused:?}");
    for targets in [&[("vkey", KEY, "vkey:a"), ("model", TargetKind::Bump, "model:epoch")][..], &[("plan", KEY, "plan:a")]] {
        let delivery = world.deliver(&world.batch(Priority::Normal, targets)).await;
        assert!(is_done(&delivery) && delivery.errors.is_empty(), "{delivery:?}");
    }
    let alone = world.deliver(&world.batch(Priority::Normal, &[("model", TargetKind::Bump, "model:epoch")])).await;
    assert!(is_done(&alone));
    assert_eq!((world.announced(), world.redis.cmd(&["GET", "model:epoch"]).int()), (vec!["vkey:a".to_owned(), "plan:a".to_owned()], 2));
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for() {
    let mut world = World::start().await;
    world.redis.kill();
    let delivering = world.delivering(world.keys("vkey", &["vkey:a"]));
    world.redis.restart_empty().await;
    let delivery = delivering.await.unwrap();
    assert!(is_done(&delivery), "{delivery:?}");
    assert!(delivery.retries > 0);
    assert_eq!(world.announced().last().map(String::as_str), Some("vkey:a"));
}

#[tokio::test]
async fn a_paused_server_delays_and_loses_nothing() {
    let world = World::start().await;
    world.set(&["vkey:a"]);
    world.redis.pause();
    let delivering = world.delivering(world.keys("vkey", &["vkey:a"]));
    let link = world.clients.scripts.ordinary.link();
    let down = || async { if link.borrow().is_up() { Err("still up".to_owned()) } else { Ok(()) } };
    wait_until("the command to time out", PATIENCE, down).await;
    world.redis.resume();
    let delivery = delivering.await.unwrap();
    assert!(is_done(&delivery) && delivery.met(Stage::Delete, FaultKind::Timeout), "{delivery:?}");
    assert!(!world.exists("vkey:a") && world.announced().contains(&"vkey:a".to_owned()));
}

#[tokio::test]
async fn the_budget_ends_a_delivery_and_critical_has_the_shorter_one() {
    let mut world =
        World::with(|config| config.budgets = Budgets { normal: Duration::from_secs(2), critical: Duration::from_millis(300) }).await;
    world.redis.kill();
    for (priority, least, most) in [(Priority::Critical, 0, 1000), (Priority::Low, 1000, 4000)] {
        let began = Instant::now();
        let delivery = world.deliver(&world.batch(priority, &[("vkey", KEY, "vkey:a"), ("vkey", TargetKind::Pattern, "vkey:b*")])).await;
        assert_eq!(delivery.states, [TargetState::Failed, TargetState::Failed]);
        assert!(delivery.met(Stage::Delete, FaultKind::Unreachable) && delivery.met(Stage::Scan, FaultKind::Unreachable), "{delivery:?}");
        assert!(
            (Duration::from_millis(least)..Duration::from_millis(most)).contains(&began.elapsed()),
            "{priority:?} took {:?}",
            began.elapsed()
        );
        assert_eq!((delivery.at_ms, delivery.notices), (None, 0));
    }
}
