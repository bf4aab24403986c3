//! Counters: after the deletes, before the notice, once a batch.

use std::time::Duration;

use unstale_batcher::TargetState;
use unstale_connect::FaultKind;
use unstale_events::{Code, Priority, TargetKind};
use unstale_sink::{Budgets, Stage};
use unstale_testkit::wait_until;

use crate::world::{World, in_scripts, is_done, set_user};

const KEY: TargetKind = TargetKind::Key;
const BUMP: TargetKind = TargetKind::Bump;

#[tokio::test]
async fn a_counter_goes_up_by_one_however_many_events_ask() {
    let world = World::start().await;
    let targets = [("model", KEY, "model:a"), ("model", BUMP, "model:epoch"), ("model", BUMP, "model:epoch")];
    assert!(is_done(&world.deliver(&world.batch(Priority::Normal, &targets)).await));
    assert_eq!(world.redis.cmd(&["GET", "model:epoch"]).int(), 1);
}

#[tokio::test]
async fn a_counter_alone_is_no_notice() {
    let world = World::start().await;
    let delivery = world.deliver(&world.batch(Priority::Normal, &[("model", BUMP, "model:epoch")])).await;
    assert!(is_done(&delivery));
    assert_eq!((delivery.notices, world.log().len(), world.redis.cmd(&["GET", "model:epoch"]).int()), (0, 0, 1));
}

#[tokio::test]
async fn a_counter_of_the_wrong_type_concerns_itself_only() {
    let world = World::start().await;
    world.redis.cmd(&["RPUSH", "model:epoch", "x"]);
    world.redis.cmd(&["SET", "model:other-epoch", "many"]);
    world.set(&["model:a"]);
    let targets = [("model", KEY, "model:a"), ("model", BUMP, "model:epoch"), ("model", BUMP, "model:other-epoch")];
    let batch = world.batch(Priority::Normal, &targets);
    let delivery = world.deliver(&batch).await;
    assert_eq!(delivery.states[0], TargetState::Done);
    for state in &delivery.states[1..] {
        assert!(matches!(state, TargetState::Permanent(reason) if reason.code == Code::CommandFailed), "{state:?}");
    }
    assert!(delivery.met(Stage::Bump, FaultKind::WrongType) && delivery.met(Stage::Bump, FaultKind::NotInteger));
    assert_eq!((world.announced(), delivery.retries, world.exists("model:a")), (vec!["model:a".to_owned()], 0, false));
    let settlement = batch.settle(&delivery.states);
    assert_eq!((settlement.done.len(), settlement.dead.len(), settlement.failed.len()), (1, 2, 0));
}

#[tokio::test]
async fn in_a_batch_of_several_parts_counters_come_after_all_deletes() {
    let world = World::with(|config| config.max_keys = 10).await;
    let keys: Vec<_> = (0..25).map(|i| format!("model:{i}")).collect();
    let mut targets: Vec<_> = keys.iter().map(|key| ("model", KEY, key.as_str())).collect();
    targets.insert(0, ("model", BUMP, "model:epoch"));
    let (delivery, lines) = world.watched(world.deliver(&world.batch(Priority::Normal, &targets))).await;
    assert!(is_done(&delivery));
    let order = in_scripts(&lines);
    let bump = order.iter().position(|command| command == "INCR").unwrap();
    assert_eq!(order[..bump].iter().filter(|command| *command == "UNLINK").count(), 3);
    assert_eq!(order.iter().filter(|command| *command == "INCR").count(), 1);
    assert!(order[bump..].iter().any(|command| command == "XADD"));
}

#[tokio::test]
async fn a_forbidden_counter_keeps_no_key() {
    let budgets = Budgets { normal: Duration::from_millis(200), ..Budgets::default() };
    let rights = ["+@all", "~unstale:*", "~model:free:*", "allchannels"];
    let world = World::as_user(&rights, |config| config.budgets = budgets).await;
    let targets = [("model", KEY, "model:free:a"), ("model", KEY, "model:free:b"), ("model", BUMP, "model:epoch")];
    let delivery = world.deliver(&world.batch(Priority::Normal, &targets)).await;
    assert_eq!(delivery.states, [TargetState::Done, TargetState::Done, TargetState::Failed]);
    assert!(delivery.met(Stage::Bump, FaultKind::Denied));
    let mut announced = world.announced();
    announced.sort();
    assert_eq!(announced, ["model:free:a", "model:free:b"]);
}

#[tokio::test]
async fn a_counter_waits_for_keys_that_can_not_be_deleted_yet() {
    let world =
        World::as_user(&["+@all", "~unstale:*", "~model:free:*", "~model:epoch", "allchannels"], |config| config.max_keys = 1).await;
    let targets = [("model", KEY, "model:locked"), ("model", KEY, "model:free:a"), ("model", BUMP, "model:epoch")];
    let delivering = world.delivering(world.batch(Priority::Normal, &targets));
    let refused = || async {
        let stats = world.redis.cmd(&["INFO", "commandstats"]).text();
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default().to_owned();
        if line.contains("rejected_calls=0") || line.is_empty() { Err(line) } else { Ok(()) }
    };
    wait_until("a refused script", Duration::from_secs(5), refused).await;
    assert!(world.redis.cmd(&["GET", "model:epoch"]).is_nil());
    set_user(&world.redis, &["~model:*"]);
    assert!(is_done(&delivering.await.unwrap()));
    assert_eq!(world.redis.cmd(&["GET", "model:epoch"]).int(), 1);
    assert_eq!(world.announced(), ["model:locked", "model:free:a"]);
}
