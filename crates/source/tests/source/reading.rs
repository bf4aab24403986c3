//! The blocking read.

use std::time::Duration;

use futures_util::FutureExt;
use unstale_connect::Role;
use unstale_events::EntryId;
use unstale_source::{Read, Reader};

use crate::{LONG, World, anybodys, connect, ids};

const BLOCK: Duration = Duration::from_secs(20);

async fn reader(world: &World) -> Reader {
    let client = connect(&world.redis, Role::Reader { block: BLOCK }).await;
    Reader::new(client, world.group("me"), BLOCK)
}

async fn next(reader: &mut Reader) -> Read {
    tokio::time::timeout(LONG, reader.next()).await.expect("the read ends").unwrap()
}

/// Waits until Redis has the read.
async fn blocked(world: &World) {
    unstale_testkit::wait_until("a blocked client", LONG, async || {
        let info = world.redis.cmd(&["INFO", "clients"]).text();
        if info.contains("blocked_clients:1") { Ok(()) } else { Err(info) }
    })
    .await;
}

#[tokio::test]
async fn a_read_that_is_turned_away_from_loses_nothing() {
    let world = World::start().await;
    world.group("me").create().await.unwrap();
    let mut reader = reader(&world).await;
    reader.begin(10);
    blocked(&world).await;
    // Polled and dropped again and again, as when something else comes first; the entry comes meanwhile.
    assert!(reader.next().now_or_never().is_none());
    let added = world.add(1);
    let read = loop {
        match reader.next().now_or_never() {
            Some(read) => break read.unwrap(),
            None => tokio::task::yield_now().await,
        }
    };
    let Read::Entries(entries) = read else { panic!("there was a group") };
    assert_eq!(ids(&entries), [added]);
    assert!(!reader.is_reading());
}

#[tokio::test]
async fn beginning_twice_reads_once() {
    let world = World::start().await;
    world.group("me").create().await.unwrap();
    let added: Vec<_> = (0..3).map(|number| world.add(number)).collect();
    let mut reader = reader(&world).await;
    reader.begin(2);
    reader.begin(2);
    let Read::Entries(entries) = next(&mut reader).await else { panic!("there was a group") };
    assert_eq!(ids(&entries), added[..2]);
    assert_eq!(world.group("me").pending(&anybodys(Duration::ZERO), EntryId::ZERO).await.unwrap().len(), 2);
}

/// The one ahead waits for nothing: it would do so behind the other.
#[tokio::test]
async fn a_read_ahead_brings_what_comes_after() {
    let world = World::start().await;
    world.group("me").create().await.unwrap();
    let added: Vec<_> = (0..5).map(|number| world.add(number)).collect();
    let mut reader = reader(&world).await;
    reader.begin_ahead(2);
    assert!(!reader.is_reading(), "there is nothing that it would be ahead of");
    reader.begin(2);
    reader.begin_ahead(2);
    assert_eq!(reader.under_way(), 2);
    for expected in [&added[..2], &added[2..4]] {
        let Read::Entries(entries) = next(&mut reader).await else { panic!("there was a group") };
        assert_eq!(ids(&entries), expected);
    }
    assert!(!reader.is_reading());
    reader.begin(2);
    reader.begin_ahead(2);
    let Read::Entries(entries) = next(&mut reader).await else { panic!("there was a group") };
    assert_eq!(ids(&entries), added[4..]);
    assert_eq!(next(&mut reader).await, Read::Entries(vec![]));
}

#[tokio::test]
async fn a_missing_group_is_made_at_the_beginning() {
    let world = World::start().await;
    let added = world.add(1);
    let mut reader = reader(&world).await;
    reader.begin(10);
    assert_eq!(next(&mut reader).await, Read::Remade { stream_was_gone: false });
    reader.begin(10);
    let Read::Entries(entries) = next(&mut reader).await else { panic!("it was just made") };
    assert_eq!(ids(&entries), [added]);
}

#[tokio::test]
async fn a_stream_that_goes_under_a_blocked_read_is_made_again() {
    let world = World::start().await;
    world.group("me").create().await.unwrap();
    let mut reader = reader(&world).await;
    reader.begin(10);
    blocked(&world).await;
    world.redis.cmd(&["DEL", "unstale:events"]);
    // Up to Redis 6.2 the read goes on to block; then its time passes without an entry.
    reader.unblock().await.unwrap();
    if let Read::Entries(entries) = next(&mut reader).await {
        assert_eq!(entries, []);
        reader.begin(10);
        assert_eq!(next(&mut reader).await, Read::Remade { stream_was_gone: true });
    }
    assert!(world.group("me").has_stream().await.unwrap());
}

#[tokio::test]
async fn unblocking_ends_the_read_and_keeps_what_comes() {
    let world = World::start().await;
    world.group("me").create().await.unwrap();
    let mut reader = reader(&world).await;
    reader.begin(10);
    blocked(&world).await;
    reader.unblock().await.unwrap();
    assert_eq!(next(&mut reader).await, Read::Entries(vec![]));
}
