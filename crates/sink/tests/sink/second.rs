//! The second delete, against readers that store an old value again.

use std::time::{Duration, Instant};

use unstale_batcher::TargetState;
use unstale_connect::FaultKind;
use unstale_events::{Code, Priority, TargetKind};
use unstale_sink::Stage;

use crate::world::{World, is_done, set_user};

const KEY: TargetKind = TargetKind::Key;
const DELAY: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_delivery_ends_without_it() {
    let world = World::start().await;
    let began = Instant::now();
    let delivery = world.deliver(&world.keys("price", &["price:a"])).await;
    assert!(is_done(&delivery) && delivery.is_to_be_repeated());
    assert!(began.elapsed() < DELAY, "{:?}", began.elapsed());
    assert!(!world.deliver(&world.keys("vkey", &["vkey:a"])).await.is_to_be_repeated());
}

#[tokio::test]
async fn keys_are_deleted_and_announced_again_and_counted_once() {
    let world = World::start().await;
    world.set(&["price:a", "vkey:a"]);
    let began = Instant::now();
    let batch = world.batch(Priority::Normal, &[("price", KEY, "price:a"), ("vkey", KEY, "vkey:a")]);
    let first = world.deliver(&batch).await;
    assert_eq!((world.deleted(&first, "price"), world.deleted(&first, "vkey"), first.notices), (1, 1, 1));
    world.set(&["price:a", "vkey:a"]);

    let second = world.sink.repeat(&batch, first).await;
    assert!(began.elapsed() >= DELAY);
    assert!(is_done(&second) && !second.is_to_be_repeated());
    assert!(!world.exists("price:a") && world.exists("vkey:a"));
    assert_eq!((world.deleted(&second, "price"), second.at_ms, second.notices, second.round_trips), (0, None, 1, 1));
    let log = world.log();
    assert_eq!(log[1].1.drop.iter().map(|drop| &drop.keys[..]).collect::<Vec<_>>(), [["price:a".to_owned()]]);
    assert!(log[1].1.at - log[0].1.at >= 290);
}

#[tokio::test]
async fn what_it_can_not_do_is_left_pending_and_nothing_else() {
    let world = World::as_user(&["+@all", "~*", "allchannels"], |config| config.budgets.normal = DELAY).await;
    world.redis.cmd(&["SET", "model:epoch", "many"]);
    let targets = [("price", KEY, "price:a"), ("vkey", KEY, "vkey:a"), ("model", TargetKind::Bump, "model:epoch")];
    let batch = world.batch(Priority::Normal, &targets);
    let first = world.deliver(&batch).await;
    assert_eq!(first.states[..2], [TargetState::Done, TargetState::Done]);
    set_user(&world.redis, &["-unlink"]);

    let second = world.sink.repeat(&batch, first).await;
    assert_eq!(second.states[..2], [TargetState::Failed, TargetState::Done]);
    assert!(matches!(&second.states[2], TargetState::Permanent(reason) if reason.code == Code::CommandFailed), "{second:?}");
    assert!(second.met(Stage::Delete, FaultKind::Denied) && !second.met(Stage::Bump, FaultKind::NotInteger));
    assert_eq!(world.log().len(), 1);
}

#[tokio::test]
async fn it_is_tried_again_and_counters_are_not_bumped_again() {
    let world = World::as_user(&["+@all", "~*", "allchannels"], |_| {}).await;
    let batch = world.batch(Priority::Normal, &[("price", KEY, "price:a"), ("model", TargetKind::Bump, "model:epoch")]);
    let first = world.deliver(&batch).await;
    set_user(&world.redis, &["-unlink"]);
    let refusals = || async { if world.redis.cmd(&["ACL", "LOG"]).array().is_empty() { Err("none".to_owned()) } else { Ok(()) } };
    let repeating = world.repeating(batch, first);
    unstale_testkit::wait_until("a refused delete", Duration::from_secs(5), refusals).await;
    set_user(&world.redis, &["+unlink"]);
    let second = repeating.await.unwrap();
    assert!(is_done(&second) && second.retries > 0, "{second:?}");
    assert_eq!((world.announced().len(), world.redis.cmd(&["GET", "model:epoch"]).int()), (2, 1));
}

#[tokio::test]
async fn patterns_do_not_wait_for_it() {
    let world = World::start().await;
    let batch = world.batch(Priority::Normal, &[("price", KEY, "price:a"), ("vkey", TargetKind::Pattern, "vkey:*")]);
    let delivery = world.deliver(&batch).await;
    assert!(is_done(&delivery));
    assert_eq!(world.announced_patterns(), ["vkey:*"]);
    assert!(is_done(&world.sink.repeat(&batch, delivery).await));
    let log = world.log();
    assert_eq!(log.iter().map(|(_, notice)| notice.drop[0].patterns.len()).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(log[2].1.at - log[0].1.at >= 290, "the delay begins with the keys");
}
