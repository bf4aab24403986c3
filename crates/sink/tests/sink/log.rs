//! The notice log and the channel.

use std::time::Duration;

use unstale_connect::FaultKind;
use unstale_events::{Cause, EntryId, Notice};
use unstale_sink::{Budgets, Stage};
use unstale_testkit::{Redis, Resp};

use crate::world::{LOG, World, is_done, set_user};

/// A subscriber to channels.
fn subscriber(redis: &Redis, channels: &[&str]) -> Resp {
    let mut subscriber = redis.resp();
    subscriber.send(&[&["SUBSCRIBE"], channels].concat()).unwrap();
    for _ in channels {
        subscriber.read().unwrap();
    }
    subscriber
}

#[tokio::test]
async fn numbers_are_consecutive_and_go_on_from_what_is_there() {
    let world = World::start().await;
    world.redis.cmd(&["XADD", LOG, "*", "seq", "41", "notice", "{\"v\":1,\"flush\":[\"*\"]}"]);
    for key in ["vkey:a", "vkey:b", "vkey:c"] {
        world.deliver(&world.keys("vkey", &[key])).await;
    }
    assert_eq!(world.log().iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [41, 42, 43, 44]);
    assert_eq!(world.log().iter().map(|(_, notice)| notice.seq).collect::<Vec<_>>(), [None, Some(42), Some(43), Some(44)]);
    let entries = world.redis.cmd(&["XRANGE", LOG, "-", "+"]);
    let ids: Vec<_> = entries.array().iter().map(|entry| Some(entry.array()[0].text().parse().unwrap())).collect();
    let before: Vec<Option<EntryId>> = world.log().iter().map(|(_, notice)| notice.prev).collect();
    assert_eq!(before[1..], ids[..3], "each names the one before it");
}

#[tokio::test]
async fn what_is_published_is_what_is_logged_with_its_place() {
    let world = World::start().await;
    let mut subscriber = subscriber(&world.redis, &[LOG]);
    world.deliver(&world.keys("vkey", &["vkey:a"])).await;
    let published = Notice::from_json(subscriber.read().unwrap().array()[2].text().as_bytes()).unwrap();
    let id: EntryId = world.redis.cmd(&["XRANGE", LOG, "-", "+"]).array()[0].array()[0].text().parse().unwrap();
    assert_eq!((published.id, published.seq, published.prev), (Some(id), Some(1), Some(EntryId::ZERO)));
    assert_eq!(Notice { id: None, ..published }, world.log().remove(0).1);
}

#[tokio::test]
async fn publishing_can_be_turned_off() {
    let world = World::with(|config| config.publish = false).await;
    world.deliver(&world.keys("vkey", &["vkey:a"])).await;
    assert_eq!((world.log().len(), world.calls("publish")), (1, 0));
}

#[tokio::test]
async fn a_channel_that_is_denied_holds_nothing_up() {
    let world = World::as_user(&["+@all", "~*", "resetchannels"], |_| {}).await;
    let delivery = world.deliver(&world.keys("vkey", &["vkey:a"])).await;
    assert!(is_done(&delivery));
    assert!(delivery.met(Stage::Publish, FaultKind::Denied), "{:?}", delivery.errors);
    assert_eq!(world.log().len(), 1);
    set_user(&world.redis, &["allchannels"]);
    assert!(world.deliver(&world.keys("vkey", &["vkey:a"])).await.errors.is_empty());
}

#[tokio::test]
async fn the_log_is_held_to_its_entries() {
    let world = World::with(|config| config.retain = 200).await;
    for _ in 0..700 {
        world.deliver(&world.keys("vkey", &["vkey:a"])).await;
    }
    // Redis trims whole nodes of a hundred entries.
    let length = world.redis.cmd(&["XLEN", LOG]).int();
    assert!((200..=301).contains(&length), "{length} entries");
    assert_eq!(world.log().last().unwrap().0, 700);
}

#[tokio::test]
async fn the_log_is_held_to_its_bytes() {
    let bound = 400_000;
    let world = World::with(|config| config.retain_bytes = bound).await;
    let keys: Vec<_> = (0..100).map(|i| format!("vkey:{i:0>60}")).collect();
    let keys: Vec<_> = keys.iter().map(String::as_str).collect();
    for _ in 0..300 {
        world.deliver(&world.keys("vkey", &keys)).await;
    }
    let bytes = world.redis.cmd(&["MEMORY", "USAGE", LOG, "SAMPLES", "0"]).int();
    assert!((bound / 2..bound * 5 / 4).contains(&bytes.try_into().unwrap()), "{bytes} bytes");
    assert!(world.log().len() < 100);
}

#[tokio::test]
async fn a_log_that_is_no_stream_stops_everything_before_the_deletes() {
    let budgets = Budgets { normal: Duration::from_millis(200), ..Budgets::default() };
    let world = World::with(|config| config.budgets = budgets).await;
    world.set(&[LOG, "vkey:a"]);
    let delivery = world.deliver(&world.keys("vkey", &["vkey:a"])).await;
    assert!(!is_done(&delivery) && world.exists("vkey:a"));
    assert!(delivery.met(Stage::Delete, FaultKind::WrongType), "{:?}", delivery.errors);
}

#[tokio::test]
async fn a_flush_is_a_notice_among_the_others_and_deletes_nothing() {
    let world = World::start().await;
    world.set(&["vkey:a"]);
    let mut subscriber = subscriber(&world.redis, &[LOG]);
    let id = world.sink.flush(&["vkey", "model"], Cause::Request).await.unwrap();
    let published = Notice::from_json(subscriber.read().unwrap().array()[2].text().as_bytes()).unwrap();
    assert_eq!(
        (published.id, published.seq, &published.flush[..], published.drop.len()),
        (Some(id.id), Some(1), &["vkey".into(), "model".into()][..], 0)
    );
    assert_eq!(published.cause.as_deref(), Some("request"));
    world.deliver(&world.keys("vkey", &["vkey:b"])).await;
    assert_eq!(world.log().iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 2]);
    assert!(world.exists("vkey:a"));
}
