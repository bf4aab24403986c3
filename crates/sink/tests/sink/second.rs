//! The second delete, against readers that store an old value again.

use std::time::{Duration, Instant};

use unstale_batcher::TargetState;
use unstale_events::{Priority, TargetKind};
use unstale_testkit::wait_until;

use crate::world::{World, is_done};

const DELAY: Duration = Duration::from_millis(300);
const PATIENCE: Duration = Duration::from_secs(5);

#[tokio::test]
async fn keys_are_deleted_and_announced_again_and_counted_once() {
    let world = World::start().await;
    world.set(&["price:a", "vkey:a"]);
    let began = Instant::now();
    let targets = [("price", TargetKind::Key, "price:a"), ("vkey", TargetKind::Key, "vkey:a")];
    let delivering = world.delivering(world.batch(Priority::Normal, &targets));
    wait_until("the first notice", PATIENCE, || async { world.log().first().map(drop).ok_or("none".to_owned()) }).await;
    world.set(&["price:a", "vkey:a"]);
    let delivery = delivering.await.unwrap();
    assert!(began.elapsed() >= DELAY);
    assert!(is_done(&delivery));
    assert!(!world.exists("price:a") && world.exists("vkey:a"));
    assert_eq!((world.deleted(&delivery, "price"), world.deleted(&delivery, "vkey"), delivery.notices), (1, 1, 2));
    let log = world.log();
    assert_eq!(log[1].1.drop.iter().map(|drop| &drop.keys[..]).collect::<Vec<_>>(), [["price:a".to_owned()]]);
    assert_eq!(delivery.at_ms, Some(log[0].1.at), "the age of an event ends with the first delete");
}

#[tokio::test]
async fn what_the_second_delete_can_not_do_is_left_pending() {
    let world = World::as_user(&["+@all", "~*", "allchannels"], |config| config.budgets.normal = DELAY).await;
    let delivering = world.delivering(world.keys("price", &["price:a"]));
    wait_until("the first notice", PATIENCE, || async { world.log().first().map(drop).ok_or("none".to_owned()) }).await;
    crate::world::set_user(&world.redis, &["-unlink"]);
    let delivery = delivering.await.unwrap();
    assert_eq!(delivery.states, [TargetState::Failed]);
    assert_eq!(world.log().len(), 1);
}

#[tokio::test]
async fn patterns_do_not_wait_for_it() {
    let world = World::start().await;
    let targets = [("price", TargetKind::Key, "price:a"), ("vkey", TargetKind::Pattern, "vkey:*")];
    let delivery = world.deliver(&world.batch(Priority::Normal, &targets)).await;
    assert!(is_done(&delivery));
    let log = world.log();
    assert_eq!(log.iter().map(|(_, notice)| notice.drop[0].patterns.len()).collect::<Vec<_>>(), [0, 1, 0]);
    assert!(log[1].1.at - log[0].1.at < 300 && log[2].1.at - log[0].1.at >= 290);
}
