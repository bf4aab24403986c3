//! Batches that are delivered at the same moment: one call of the script, and each as if it were alone.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::poll;
use unstale_events::{EntryId, Priority, TargetKind};
use unstale_sink::Budgets;

use crate::world::{LOG, World, in_scripts, is_done, sent, set_user};

/// A server that knows the script.
async fn warm() -> World {
    let world = World::start().await;
    world.deliver(&world.keys("vkey", &["vkey:warm"])).await;
    world
}

#[tokio::test]
async fn batches_that_leave_at_the_same_moment_are_one_call_with_a_notice_each() {
    let world = warm().await;
    world.set(&["vkey:a", "vkey:b", "model:a"]);
    let epoch = ("model", TargetKind::Bump, "model:epoch");
    let batches = [
        world.keys("vkey", &["vkey:a", "vkey:b", "vkey:absent"]),
        world.batch(Priority::High, &[("model", TargetKind::Key, "model:a"), epoch]),
        world.batch(Priority::Low, &[("model", TargetKind::Key, "model:absent"), ("vkey", TargetKind::Key, "vkey:absent"), epoch]),
    ];
    let (deliveries, lines) = world.watched(join_all(batches.iter().map(|batch| world.deliver(batch)))).await;

    assert_eq!(sent(&lines).len(), 1, "{lines:#?}");
    let order = in_scripts(&lines);
    let begin = ["XREVRANGE", "XTRIM"];
    let parts = [&["UNLINK"][..], &["UNLINK", "INCR"], &["UNLINK", "UNLINK", "INCR"]];
    let expected = parts.into_iter().flat_map(|part| [part, &["TIME", "XADD", "PUBLISH"]].concat());
    assert_eq!(order, begin.into_iter().chain(expected).collect::<Vec<_>>());

    assert!(deliveries.iter().all(|delivery| is_done(delivery) && delivery.errors.is_empty()));
    let deleted: Vec<_> = deliveries.iter().map(|delivery| (world.deleted(delivery, "vkey"), world.deleted(delivery, "model"))).collect();
    assert_eq!(deleted, [(2, 0), (0, 1), (0, 0)]);
    assert_eq!(world.redis.cmd(&["GET", "model:epoch"]).int(), 2);
    let notices: Vec<_> = deliveries.iter().map(|delivery| delivery.last_notice.unwrap()).collect();
    let log = world.log();
    assert_eq!(log.iter().map(|(seq, notice)| (*seq, notice.drop.len())).collect::<Vec<_>>(), [(1, 1), (2, 1), (3, 1), (4, 2)]);
    assert_eq!(notices.iter().map(|notice| notice.seq).collect::<Vec<_>>(), [2, 3, 4]);
    let before: Vec<Option<EntryId>> = log[2..].iter().map(|(_, notice)| notice.prev).collect();
    assert_eq!(before, [Some(notices[0].id), Some(notices[1].id)], "each names the one before it");
}

#[tokio::test]
async fn a_call_is_bounded_by_its_targets_and_its_parts() {
    let world = warm().await;
    let calls = async |keys: usize, batches: usize| {
        let keys: Vec<_> = (0..keys).map(|key| format!("vkey:{key}")).collect();
        let batch = world.keys("vkey", &keys.iter().map(String::as_str).collect::<Vec<_>>());
        let (_, lines) = world.watched(join_all((0..batches).map(|_| world.deliver(&batch)))).await;
        sent(&lines).len()
    };
    assert_eq!((calls(500, 2).await, calls(501, 2).await, calls(1000, 2).await), (1, 2, 2));
    assert_eq!((calls(1, 16).await, calls(1, 17).await), (1, 2));
    assert_eq!(world.log().len(), 1 + 2 + 2 + 2 + 16 + 17);
}

#[tokio::test]
async fn what_is_forbidden_to_one_batch_holds_up_no_other() {
    let budgets = Budgets { normal: Duration::from_millis(200), ..Budgets::default() };
    let world = World::as_user(&["+@all", "~unstale:*", "~vkey:ok:*", "allchannels"], |config| config.budgets = budgets).await;
    let batches = [["vkey:ok:1"], ["vkey:locked"], ["vkey:ok:2"]].map(|keys| world.keys("vkey", &keys));
    world.set(&["vkey:ok:1", "vkey:locked", "vkey:ok:2"]);
    let deliveries = join_all(batches.iter().map(|batch| world.deliver(batch))).await;
    assert_eq!(deliveries.iter().map(is_done).collect::<Vec<_>>(), [true, false, true]);
    assert!([0, 2].into_iter().all(|free| deliveries[free].errors.is_empty() && deliveries[free].retries == 0), "{deliveries:?}");
    assert_eq!((world.announced(), world.exists("vkey:locked")), (vec!["vkey:ok:1".to_owned(), "vkey:ok:2".to_owned()], true));

    set_user(&world.redis, &["~vkey:*"]);
    assert!(is_done(&world.deliver(&batches[1]).await));
}

#[tokio::test]
async fn a_log_that_is_no_stream_stops_all_of_a_call_before_the_deletes() {
    let budgets = Budgets { normal: Duration::from_millis(200), ..Budgets::default() };
    let world = World::with(|config| config.budgets = budgets).await;
    world.set(&[LOG, "vkey:a", "vkey:b"]);
    let batches = [["vkey:a"], ["vkey:b"]].map(|keys| world.keys("vkey", &keys));
    let deliveries = join_all(batches.iter().map(|batch| world.deliver(batch))).await;
    assert!(!deliveries.iter().any(is_done) && world.exists("vkey:a") && world.exists("vkey:b"));
}

#[tokio::test]
async fn who_is_dropped_leaves_the_others_their_answers() {
    let world = warm().await;
    let (first, second) = (world.keys("vkey", &["vkey:a"]), world.keys("vkey", &["vkey:b"]));
    let mut other = pin!(world.deliver(&second));
    {
        let mut dropped = pin!(world.deliver(&first));
        assert!(poll!(dropped.as_mut()).is_pending() && poll!(other.as_mut()).is_pending());
    }
    let delivery = other.await;
    assert!(is_done(&delivery) && delivery.errors.is_empty(), "{delivery:?}");
    assert_eq!(world.announced(), ["vkey:warm", "vkey:a", "vkey:b"], "what was asked for is done with the others");
}
