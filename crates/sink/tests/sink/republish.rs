//! Channels of existing subscribers.

use unstale_events::{Priority, TargetKind};
use unstale_router::Republish;
use unstale_testkit::Redis;

use crate::world::{World, in_scripts};

async fn world() -> World {
    let wishes: Vec<Republish> = World::start().await.router.republish().to_vec();
    World::with(|config| config.republish = wishes).await
}

fn messages(redis: &Redis, channels: &[&str], publish: impl FnOnce()) -> impl FnMut() -> (String, String) {
    let mut subscriber = redis.resp();
    subscriber.send(&[&["SUBSCRIBE"], channels].concat()).unwrap();
    for _ in channels {
        subscriber.read().unwrap();
    }
    publish();
    move || {
        let message = subscriber.read().unwrap().texts();
        (message[1].clone(), message[2].clone())
    }
}

#[tokio::test]
async fn json_is_one_object_a_delivery_and_key_one_message_a_key() {
    let world = world().await;
    let mut next = messages(&world.redis, &["vkey_batch_invalidated", "vkey_invalidated"], || {});
    world.deliver(&world.keys("vkey", &["vkey:one", "vkey:two"])).await;
    let (channel, text) = next();
    let object: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((channel.as_str(), &object["KeyHashes"]), ("vkey_batch_invalidated", &serde_json::json!(["one", "two"])));
    let time = object["Timestamp"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T' && time.len() == 24, "{time}");
    assert_eq!(next(), ("vkey_invalidated".to_owned(), "one".to_owned()));
    assert_eq!(next(), ("vkey_invalidated".to_owned(), "two".to_owned()));
}

#[tokio::test]
async fn it_comes_after_the_notice_and_never_for_patterns_or_other_caches() {
    let world = world().await;
    let targets = [("vkey", TargetKind::Key, "vkey:a"), ("vkey", TargetKind::Pattern, "vkey:b*"), ("model", TargetKind::Key, "model:a")];
    let (_, lines) = world.watched(world.deliver(&world.batch(Priority::Normal, &targets))).await;
    let order = in_scripts(&lines);
    let published: Vec<_> = lines.iter().filter(|line| line.contains("\"PUBLISH\"")).collect();
    assert!(order.iter().position(|command| command == "XADD") < order.iter().position(|command| command == "PUBLISH"));
    assert_eq!(published.len(), 4, "{published:#?}");
    assert!(published[0].contains("unstale:notices"));
    assert!(published[1].contains("vkey_batch_invalidated") && published[1].contains("[\\\"a\\\"]"), "{}", published[1]);
    assert!(published[2].contains("\"vkey_invalidated\" \"a\""), "{}", published[2]);
    assert!(published[3].contains("unstale:notices"));
}
