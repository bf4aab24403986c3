//! After a failover: whose deletes are repeated, and which.

use std::time::Duration;

use unstale_events::{Priority, TargetKind};
use unstale_sink::{Replayer, Whose};
use unstale_testkit::Redis;

use crate::world::{World, is_done};

/// What the sink of a [`World`] calls itself.
const ORIGIN: &str = "api-3-x7f2";
/// Each of it announced once by now, and back on its server, as after a failover to a replica that had heard of none of it.
const FORGOTTEN: [&str; 3] = ["model:a", "model:swept:1", "model:inner:b"];

/// `model` and `inner` on a server of their own, which has forgotten that everything was deleted.
async fn forgotten() -> (World, Redis, Replayer) {
    let other = Redis::start().await;
    let world = World::split(&[(&["model", "inner"], &other.url())], |_| {}).await;
    let (key, pattern) = (TargetKind::Key, TargetKind::Pattern);
    let targets =
        [("model", key, "model:a"), ("model", pattern, "model:swept:*"), ("inner", key, "model:inner:b"), ("vkey", key, "vkey:c")];
    assert!(is_done(&world.deliver(&world.batch(Priority::Normal, &targets)).await));
    world.set(&["vkey:c"]);
    for name in FORGOTTEN {
        other.cmd(&["SET", name, "old"]);
    }
    let replayer = world.sink.replayers().pop().expect("a server apart has a watch");
    (world, other, replayer)
}

fn left(other: &Redis) -> i64 {
    other.cmd(&["DBSIZE"]).int()
}

#[tokio::test]
async fn what_the_dead_had_deleted_is_repeated_and_announced_again() {
    let (world, other, mut replayer) = forgotten().await;
    let replay = replayer.repeat(&Whose::Others(vec!["api-1-alive".to_owned()])).await;
    assert_eq!((replay.targets, replay.server.as_str(), left(&other)), (3, "other", 0));
    let announced = world.announced();
    let often = |name: &str| announced.iter().filter(|known| *known == name).count();
    assert_eq!([often("model:a"), often("model:inner:b"), often("vkey:c")], [2, 2, 1], "{announced:?}");
    assert_eq!(world.announced_patterns(), ["model:swept:*", "model:swept:*"]);
    assert!(world.exists("vkey:c"), "what is with the log was lost with the log, and is pending again");
}

#[tokio::test]
async fn what_the_living_had_deleted_is_left_to_them() {
    let (world, other, mut replayer) = forgotten().await;
    let notices = world.log().len();
    let replay = replayer.repeat(&Whose::Others(vec!["api-1-alive".to_owned(), ORIGIN.to_owned()])).await;
    assert_eq!((replay.targets, left(&other), world.log().len()), (0, 3, notices));
    let replay = replayer.repeat(&Whose::Own).await;
    assert_eq!((replay.targets, left(&other)), (3, 0));
}

/// What happened before is no more forgotten than it was then.
#[tokio::test]
async fn what_was_deleted_long_ago_is_not_repeated() {
    let (world, other, mut replayer) = forgotten().await;
    let (_, notice) = world.log().pop().expect("it was announced");
    assert_eq!(notice.origin, ORIGIN);
    let old = world.redis.cmd(&["XRANGE", crate::world::LOG, "-", "+"]);
    // The same notices, as if they were a minute older.
    world.redis.cmd(&["DEL", crate::world::LOG]);
    for (number, entry) in old.array().iter().enumerate() {
        let [seq, count, name, json] = <[String; 4]>::try_from(entry.array()[1].texts()).expect("four");
        let ms = entry.array()[0].text().split('-').next().and_then(|ms| ms.parse::<u128>().ok()).expect("an id");
        let id = format!("{}-{number}", ms - Duration::from_secs(60).as_millis());
        world.redis.cmd(&["XADD", crate::world::LOG, &id, &seq, &count, &name, &json]);
    }
    assert_eq!(replayer.repeat(&Whose::Own).await.targets, 0);
    assert_eq!(left(&other), 3);
}
