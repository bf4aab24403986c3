//! Batches that share a pass over the keys: one runs, one forms, and nobody joins what has begun.

use futures_util::future::{join, join_all};
use tokio::task::JoinHandle;
use unstale_batcher::{Batch, TargetState};
use unstale_connect::FaultKind;
use unstale_events::{Priority, TargetKind};
use unstale_sink::{Delivery, Stage};

use crate::world::{World, is_done, passes};

/// Enough that a pass is still under way when the test has seen that it is.
const MANY: u32 = 100_000;

fn sweep(world: &World, pattern: &str) -> Batch {
    world.batch(Priority::Normal, &[("model", TargetKind::Pattern, pattern)])
}

/// Three deliveries: the first has a pass of its own that has ended, the second drives a pass under way for itself and the third.
async fn two_in_one_pass(world: &World, patterns: [&str; 2]) -> [JoinHandle<Delivery>; 2] {
    let first = world.delivering(sweep(world, "model:none:*"));
    let two = patterns.map(|pattern| world.delivering(sweep(world, pattern)));
    assert!(is_done(&first.await.unwrap()));
    world.scanning_since(world.calls("scan")).await;
    assert!(two.iter().all(|delivering| !delivering.is_finished()));
    two
}

#[tokio::test]
async fn twenty_batches_that_come_during_a_pass_cost_one_more() {
    let world = World::start().await;
    world.fill("model:filler:", 50_000);
    // The first begins its pass when it is first polled, and that is before the others are.
    let batches: Vec<_> = (0..21).map(|i| sweep(&world, &format!("model:filler:{i}"))).collect();
    let (all, lines) = world.watched(join_all(batches.iter().map(|batch| world.deliver(batch)))).await;

    assert!(all.iter().all(is_done));
    assert_eq!(passes(&lines), 2);
    assert!(all.iter().all(|delivery| world.deleted(delivery, "model") == 1), "each is counted for whose it is");
    assert_eq!(world.log().len(), 21, "each has a notice of its own");
    let waits = all.iter().map(|delivery| delivery.round_trips).sum::<u64>();
    let pages = world.calls("scan");
    assert!((pages + 21..=pages + 21 + 2).contains(&waits), "{pages} pages and the deletes of the last are counted once: {waits}");
}

#[tokio::test]
async fn what_was_written_behind_a_pass_is_gone_after_the_delivery_that_means_it() {
    let world = World::start().await;
    world.fill("model:filler:", MANY);
    let batch = sweep(&world, "model:late:*");
    // A busy machine may let the pass end before anything is written behind it; then with another pass.
    let _running = loop {
        let running = world.delivering(sweep(&world, "model:filler:none*"));
        world.scanning_since(world.calls("scan")).await;
        world.fill("model:late:", 1000);
        if !running.is_finished() {
            break running;
        }
    };
    let delivery = world.deliver(&batch).await;
    assert!(is_done(&delivery));
    assert_eq!(world.deleted(&delivery, "model"), 1000);
    assert!((0..1000).all(|i| !world.exists(&format!("model:late:{i}"))));
}

#[tokio::test]
async fn a_pass_that_has_to_begin_again_does_so_for_all_of_its_batches() {
    let world = World::start().await;
    world.fill("model:filler:", MANY);
    let (all, lines) = world
        .watched(async {
            let two = two_in_one_pass(&world, ["model:filler:1*", "model:filler:2*"]).await;
            world.cut_scan();
            join_all(two).await
        })
        .await;
    for delivery in all.into_iter().map(Result::unwrap) {
        assert!(is_done(&delivery), "{delivery:?}");
        assert!(delivery.met(Stage::Scan, FaultKind::Unreachable) && delivery.retries > 0, "{delivery:?}");
    }
    assert_eq!(passes(&lines), 3);
    // Of each, 1 + 10 + 100 + 1,000 + 10,000; the log is beside what is left.
    assert_eq!(world.redis.cmd(&["DBSIZE"]).int(), 100_000 - 2 * 11_111 + 1);
}

#[tokio::test]
async fn whoever_drives_a_pass_may_be_dropped_and_the_others_get_theirs() {
    let world = World::start().await;
    world.fill("model:filler:", MANY);
    let (delivery, lines) = world
        .watched(async {
            let [driving, waiting] = two_in_one_pass(&world, ["model:none:*", "model:filler:1*"]).await;
            driving.abort();
            assert!(driving.await.unwrap_err().is_cancelled());
            waiting.await.unwrap()
        })
        .await;
    assert!(is_done(&delivery) && delivery.errors.is_empty(), "{delivery:?}");
    assert_eq!(passes(&lines), 3);
    assert_eq!(world.redis.cmd(&["DBSIZE"]).int(), 100_000 - 11_111 + 1);
}

#[tokio::test]
async fn whoever_waits_may_be_dropped_and_no_pass_stops() {
    let world = World::start().await;
    world.fill("model:filler:", MANY);
    let (delivery, lines) = world
        .watched(async {
            let [driving, waiting] = two_in_one_pass(&world, ["model:filler:1*", "model:filler:2*"]).await;
            waiting.abort();
            assert!(waiting.await.unwrap_err().is_cancelled());
            driving.await.unwrap()
        })
        .await;
    assert!(is_done(&delivery) && delivery.errors.is_empty(), "{delivery:?}");
    assert_eq!(passes(&lines), 2);
    assert!(is_done(&world.deliver(&sweep(&world, "model:none:*")).await), "the queue goes on");
}

#[tokio::test]
async fn a_key_that_may_not_be_deleted_fails_its_own_batch_only() {
    let world = World::as_user(&["+@all", "~unstale:*", "~model:free:*", "allchannels"], |_| {}).await;
    world.set(&["model:free:a", "model:locked"]);
    let [first, all, free] = ["model:none:*", "model:*", "model:free:*"].map(|pattern| sweep(&world, pattern));
    let ((first, (all, free)), lines) = world.watched(join(world.deliver(&first), join(world.deliver(&all), world.deliver(&free)))).await;
    assert_eq!(passes(&lines), 2);
    assert_eq!((&all.states[..], is_done(&free), is_done(&first)), (&[TargetState::Failed][..], true, true));
    assert!(all.met(Stage::Scan, FaultKind::Denied) && free.errors.is_empty());
    assert!(world.exists("model:locked") && !world.exists("model:free:a"));
    assert_eq!(world.announced_patterns(), ["model:none:*", "model:free:*"]);
}

#[tokio::test]
async fn a_key_that_several_mean_is_counted_for_the_first() {
    let world = World::start().await;
    world.set(&["model:a:1", "model:a:2", "model:b"]);
    let [first, some, every, again] = ["model:none:*", "model:a:*", "model:*", "model:*"].map(|pattern| sweep(&world, pattern));
    let all = join_all([&first, &some, &every, &again].map(|batch| world.deliver(batch))).await;
    assert!(all.iter().all(is_done));
    assert_eq!(all.iter().map(|delivery| world.deleted(delivery, "model")).collect::<Vec<_>>(), [0, 2, 1, 0]);
}

#[tokio::test]
async fn a_critical_pass_waits_for_no_other() {
    let world = World::start().await;
    world.fill("model:filler:", MANY);
    let running = world.delivering(sweep(&world, "model:none:*"));
    world.scanning().await;
    let (_, lines) = world
        .watched(async {
            let critical = world.delivering(world.batch(Priority::Critical, &[("model", TargetKind::Pattern, "model:none:*")]));
            join(critical, running).await
        })
        .await;
    let place = |begin: &str| lines.iter().position(|line| line.contains(begin)).unwrap();
    assert_eq!(passes(&lines), 1);
    assert!(place("\"SCAN\" \"0\"") < place("\"XADD\""), "it began before the other had ended");
}
