//! Caches on another server or database than the log: deleted there first, then announced; each server for itself.

use std::time::Duration;

use unstale_batcher::TargetState;
use unstale_connect::FaultKind;
use unstale_events::{Code, Priority, TargetKind};
use unstale_sink::{Budgets, Config, Stage};
use unstale_testkit::{Redis, wait_until};

use crate::world::{World, calls, in_scripts, is_done, passes, sent, watched};

const KEY: TargetKind = TargetKind::Key;
const PATTERN: TargetKind = TargetKind::Pattern;
const BUMP: TargetKind = TargetKind::Bump;
const PATIENCE: Duration = Duration::from_secs(10);

/// `vkey` is with the log; `model` and `price` on `other`, and `inner` in its database 1.
struct Split {
    world: World,
    other: Redis,
}

impl Split {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let other = Redis::start().await;
        let second = format!("{}/1", other.url());
        let world = World::split(&[(&["model", "price"], &other.url()), (&["inner"], &second)], change).await;
        Self { world, other }
    }

    async fn short() -> Self {
        Self::with(|config| config.budgets = Budgets { normal: Duration::from_millis(600), critical: Duration::from_millis(300) }).await
    }

    fn set(&self, keys: &[&str]) {
        for key in keys {
            self.other.cmd(&["SET", key, "old"]);
        }
    }

    fn exists(&self, key: &str) -> bool {
        self.other.cmd(&["EXISTS", key]).int() == 1
    }

    /// Has `other` let its users do this and no more: as in ACL SETUSER.
    fn limit(&self, rights: &[&str]) {
        self.other.cmd(&[&["ACL", "SETUSER", "default"], rights].concat());
    }
}

#[tokio::test]
async fn keys_elsewhere_are_deleted_there_and_then_announced() {
    let Split { world, other } = Split::start().await;
    other.cmd(&["MSET", "model:a", "old", "price:a", "old"]);
    world.deliver(&world.keys("model", &["model:warm"])).await;
    let targets = [("model", KEY, "model:a"), ("model", KEY, "model:absent"), ("price", KEY, "price:a")];
    let batch = world.batch(Priority::Normal, &targets);

    let ((delivery, here), there) = watched(&other, world.watched(world.deliver(&batch))).await;
    assert!(is_done(&delivery));
    assert_eq!((world.deleted(&delivery, "model"), world.deleted(&delivery, "price")), (1, 1));
    assert_eq!((delivery.round_trips, delivery.notices), (2, 1));
    assert_eq!(sent(&there).len(), 2, "one UNLINK for each cache: {there:#?}");
    assert_eq!(in_scripts(&here), ["XREVRANGE", "XTRIM", "TIME", "XADD", "PUBLISH"]);
    assert_eq!(world.announced(), ["model:warm", "model:a", "model:absent", "price:a"]);
    assert!(delivery.at_ms.is_some());
}

#[tokio::test]
async fn many_keys_go_at_most_a_thousand_to_a_command() {
    let Split { world, other } = Split::start().await;
    let keys: Vec<_> = (0..2500).map(|i| format!("model:{i}")).collect();
    let batch = world.keys("model", &keys.iter().map(String::as_str).collect::<Vec<_>>());
    let (delivery, there) = watched(&other, world.deliver(&batch)).await;
    assert!(is_done(&delivery));
    let words: Vec<_> = sent(&there).iter().map(|line| line.matches("\"model:").count()).collect();
    assert_eq!((words, delivery.round_trips, delivery.notices), (vec![1000, 1000, 500], 2, 3));
}

#[tokio::test]
async fn a_database_is_another_place_even_on_the_same_server() {
    let Split { world, other } = Split::start().await;
    let mut second = other.resp();
    second.cmd(&["SELECT", "1"]);
    for key in ["model:inner:a", "model:inner:b", "model:c"] {
        second.cmd(&["SET", key, "old"]);
        other.cmd(&["SET", key, "old"]);
    }
    let delivery =
        world.deliver(&world.batch(Priority::High, &[("inner", KEY, "model:inner:a"), ("inner", PATTERN, "model:inner:*")])).await;
    assert!(is_done(&delivery));
    assert_eq!((world.deleted(&delivery, "inner"), second.cmd(&["DBSIZE"]).int(), other.cmd(&["DBSIZE"]).int()), (2, 1, 3));
}

#[tokio::test]
async fn a_server_that_hangs_holds_up_no_other_nor_the_log() {
    let Split { world, other } = Split::start().await;
    world.set(&["vkey:a"]);
    other.pause();
    let batch = world.batch(Priority::Critical, &[("model", KEY, "model:a"), ("vkey", KEY, "vkey:a"), ("plan", KEY, "plan:a")]);
    let delivering = world.delivering(batch);
    wait_until("the free keys' notice", PATIENCE, || async { world.log().first().map(drop).ok_or("none".to_owned()) }).await;
    assert_eq!(world.announced(), ["vkey:a", "plan:a"]);
    other.resume();
    let delivery = delivering.await.unwrap();
    assert!(is_done(&delivery), "{delivery:?}");
    assert_eq!(world.announced(), ["vkey:a", "plan:a", "model:a"]);
}

#[tokio::test]
async fn a_server_that_is_gone_fails_its_own_targets_only() {
    let Split { world, mut other } = Split::short().await;
    other.kill();
    let targets = [("model", KEY, "model:a"), ("model", BUMP, "model:epoch"), ("inner", PATTERN, "model:inner:*"), ("vkey", KEY, "vkey:a")];
    let batch = world.batch(Priority::Normal, &targets);
    let delivery = world.deliver(&batch).await;
    assert_eq!(delivery.states, [TargetState::Failed, TargetState::Failed, TargetState::Failed, TargetState::Done]);
    assert!(delivery.met(Stage::Delete, FaultKind::Unreachable) && delivery.met(Stage::Scan, FaultKind::Unreachable));
    assert_eq!((world.announced(), world.announced_patterns()), (vec!["vkey:a".to_owned()], vec![]));
    let settlement = batch.settle(&delivery.states);
    assert_eq!((settlement.done.len(), settlement.failed.len(), settlement.dead.len()), (1, 3, 0));
}

#[tokio::test]
async fn what_was_deleted_waits_for_the_log_and_is_not_deleted_again() {
    let Split { mut world, other } = Split::start().await;
    other.cmd(&["SET", "model:a", "old"]);
    let batch = world.batch(Priority::Normal, &[("model", KEY, "model:a"), ("model", BUMP, "model:epoch")]);
    world.redis.kill();
    let delivering = world.delivering(batch);
    wait_until("the key to go", PATIENCE, || async { if calls(&other, "incr") > 0 { Ok(()) } else { Err("there".to_owned()) } }).await;
    world.redis.restart_empty().await;
    let delivery = delivering.await.unwrap();
    assert!(is_done(&delivery) && delivery.met(Stage::Announce, FaultKind::Unreachable), "{delivery:?}");
    assert_eq!((world.announced(), calls(&other, "unlink"), calls(&other, "incr")), (vec!["model:a".to_owned()], 1, 1));
}

#[tokio::test]
async fn a_delivery_that_can_not_announce_fails_with_all_its_targets() {
    let Split { mut world, other } = Split::short().await;
    world.redis.kill();
    let delivery = world.deliver(&world.batch(Priority::Normal, &[("model", KEY, "model:a"), ("model", PATTERN, "model:b*")])).await;
    assert_eq!(delivery.states, [TargetState::Failed, TargetState::Failed]);
    assert!(calls(&other, "unlink") == 1 && delivery.notices == 0, "{delivery:?}");
}

#[tokio::test]
async fn counters_go_up_on_their_caches_server_after_its_deletes() {
    let Split { world, other } = Split::start().await;
    let targets = [("model", BUMP, "model:epoch"), ("model", KEY, "model:a"), ("price", KEY, "price:a")];
    let (delivery, there) = watched(&other, world.deliver(&world.batch(Priority::Normal, &targets))).await;
    assert!(is_done(&delivery));
    let order: Vec<_> = sent(&there).iter().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect();
    assert_eq!(order, ["UNLINK", "UNLINK", "INCR"]);
    assert_eq!((other.cmd(&["GET", "model:epoch"]).int(), delivery.notices), (1, 1));
    assert!(world.redis.cmd(&["GET", "model:epoch"]).is_nil());
}

#[tokio::test]
async fn with_patterns_counters_wait_for_the_scan() {
    let Split { world, other } = Split::start().await;
    let targets = [("model", BUMP, "model:epoch"), ("model", KEY, "model:a"), ("model", PATTERN, "model:b*")];
    let (delivery, there) = watched(&other, world.deliver(&world.batch(Priority::Normal, &targets))).await;
    assert!(is_done(&delivery));
    let at = |name: &str| sent(&there).iter().position(|line| line.contains(&format!("\"{name}\""))).unwrap();
    assert!(at("SCAN") < at("INCR"), "{there:#?}");
    assert_eq!(
        (delivery.notices, world.announced(), world.announced_patterns()),
        (2, vec!["model:a".to_owned()], vec!["model:b*".to_owned()])
    );
}

#[tokio::test]
async fn a_counter_that_is_no_number_concerns_itself_only() {
    let Split { world, other } = Split::start().await;
    other.cmd(&["SET", "model:epoch", "many"]);
    let delivery = world.deliver(&world.batch(Priority::Normal, &[("model", KEY, "model:a"), ("model", BUMP, "model:epoch")])).await;
    assert_eq!(delivery.states[0], TargetState::Done);
    assert!(matches!(&delivery.states[1], TargetState::Permanent(reason) if reason.code == Code::CommandFailed), "{delivery:?}");
    assert_eq!((world.announced(), delivery.retries), (vec!["model:a".to_owned()], 0));
}

#[tokio::test]
async fn a_forbidden_key_keeps_neither_others_nor_counters() {
    let split = Split::short().await;
    split.limit(&["resetkeys", "~model:ok:*", "~model:epoch"]);
    let Split { world, .. } = &split;
    let keys: Vec<_> = (0..100).map(|i| if i == 37 { "model:locked".to_owned() } else { format!("model:ok:{i}") }).collect();
    let mut targets: Vec<_> = keys.iter().map(|key| ("model", KEY, key.as_str())).collect();
    targets.push(("model", BUMP, "model:epoch"));
    let delivery = world.deliver(&world.batch(Priority::Normal, &targets)).await;
    for (index, state) in delivery.states.iter().enumerate() {
        let expected = if index == 37 { TargetState::Failed } else { TargetState::Done };
        assert_eq!(*state, expected, "target {index}");
    }
    assert!(delivery.met(Stage::Delete, FaultKind::Denied));
    assert_eq!((world.announced().len(), delivery.notices), (99, 1));
    split.limit(&["allkeys"]);
    assert_eq!(split.other.cmd(&["GET", "model:epoch"]).int(), 1);
}

#[tokio::test]
async fn one_pass_there_serves_all_its_patterns_and_none_is_made_here() {
    let split = Split::start().await;
    split.set(&["model:a1", "model:b1", "model:c1", "price:a"]);
    let Split { world, other } = &split;
    world.set(&["model:a1"]);
    let targets = [("model", PATTERN, "model:a*"), ("model", PATTERN, "model:b*"), ("price", PATTERN, "price:*")];
    let (delivery, there) = watched(other, world.deliver(&world.batch(Priority::Normal, &targets))).await;
    assert!(is_done(&delivery));
    assert_eq!((passes(&there), world.calls("scan"), delivery.notices), (1, 0, 1));
    assert_eq!((world.deleted(&delivery, "model"), world.deleted(&delivery, "price")), (2, 1));
    assert!(world.exists("model:a1") && split.exists("model:c1") && !split.exists("model:a1"));
}

#[tokio::test]
async fn the_second_delete_happens_there_too() {
    let split = Split::start().await;
    let Split { world, .. } = &split;
    let batch = world.batch(Priority::Normal, &[("price", KEY, "price:a"), ("vkey", KEY, "vkey:a")]);
    let first = world.deliver(&batch).await;
    assert!(is_done(&first) && first.is_to_be_repeated());
    split.set(&["price:a"]);
    let second = world.sink.repeat(&batch, first).await;
    assert!(is_done(&second) && !split.exists("price:a"));
    assert_eq!((world.deleted(&second, "price"), second.notices), (0, 1));
    assert_eq!(world.announced().iter().filter(|key| *key == "price:a").count(), 2);
}

#[tokio::test]
async fn critical_keys_there_have_a_connection_of_their_own() {
    let Split { world, other } = Split::start().await;
    let address = |line: &str| line.split(['[', ']']).nth(1).unwrap().to_owned();
    let mut seen = Vec::new();
    for priority in [Priority::Critical, Priority::Normal] {
        let (_, there) = watched(&other, world.deliver(&world.batch(priority, &[("model", KEY, "model:a")]))).await;
        seen.extend(sent(&there).into_iter().map(address));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 2);
}
