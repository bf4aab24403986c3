//! Consumer groups: reading, what is pending, taking over.

use std::time::{Duration, Instant};

use unstale_connect::{FaultKind, GroupStart, PendingQuery, ReadFrom, ReadGroup};
use unstale_events::EntryId;
use unstale_testkit::{Redis, wait_until};

use crate::{BLOCK, LONG, NEW, PENDING, bytes, fields, group, id, reader, start};

const QUERY: PendingQuery<'_> =
    PendingQuery { stream: "s", group: "g", from: EntryId::ZERO, count: 10, consumer: None, min_idle: Duration::ZERO };

#[tokio::test]
async fn entries_are_delivered_pending_and_acknowledged() {
    let (_redis, client) = start().await;
    group(&client).await;
    assert!(!client.xgroup_create("s", "g", GroupStart::End).await.unwrap());
    let mut ids = Vec::new();
    for number in ["1", "2", "3"] {
        ids.push(client.xadd("s", &fields(&[("n", number)])).await.unwrap());
    }
    let read = client.xreadgroup(ReadGroup { count: 2, ..NEW }).await.unwrap();
    assert_eq!(read.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[..2]);
    assert_eq!(read[1].fields, Some(fields(&[("n", "2")])));
    client.xreadgroup(ReadGroup { consumer: "other", ..NEW }).await.unwrap();

    let summary = client.xpending_summary("s", "g").await.unwrap();
    assert_eq!((summary.count, summary.range), (3, Some((ids[0], ids[2]))));
    assert_eq!(summary.consumers, [("me".to_owned(), 2), ("other".to_owned(), 1)]);
    let mine = client.xpending(PendingQuery { consumer: Some("me"), ..QUERY }).await.unwrap();
    assert_eq!(mine.iter().map(|entry| (entry.id, entry.deliveries)).collect::<Vec<_>>(), [(ids[0], 1), (ids[1], 1)]);
    let from_second = client.xpending(PendingQuery { from: ids[1], count: 1, ..QUERY }).await.unwrap();
    assert_eq!((from_second[0].id, from_second[0].consumer.as_str()), (ids[1], "me"));
    assert_eq!(client.xpending(PendingQuery { min_idle: Duration::from_secs(3600), ..QUERY }).await.unwrap(), []);

    assert_eq!(client.xreadgroup(PENDING).await.unwrap().len(), 2);
    assert_eq!(client.xreadgroup(ReadGroup { from: ReadFrom::After(ids[0]), ..NEW }).await.unwrap().len(), 1);
    assert_eq!(client.xack("s", "g", &ids).await.unwrap(), 3);
    assert_eq!(client.xack("s", "g", &ids).await.unwrap(), 0);
    assert_eq!(client.xack("s", "g", &[]).await.unwrap(), 0);
    let summary = client.xpending_summary("s", "g").await.unwrap();
    assert_eq!((summary.count, summary.range, summary.consumers), (0, None, vec![]));
}

#[tokio::test]
async fn many_ids_are_acknowledged_by_one_command() {
    let (redis, client) = start().await;
    group(&client).await;
    let one = fields(&[("a", "1")]);
    let added = client.xadd_many(&vec![("s", &one); 1000]).await;
    let ids: Vec<EntryId> = added.into_iter().map(Result::unwrap).collect();
    assert!(ids.is_sorted());
    assert_eq!(client.xreadgroup(ReadGroup { count: 5000, ..NEW }).await.unwrap().len(), 1000);
    assert_eq!(client.xack("s", "g", &ids).await.unwrap(), 1000);
    assert!(redis.cmd(&["INFO", "commandstats"]).text().contains("cmdstat_xack:calls=1,"));
}

#[tokio::test]
async fn a_pending_entry_without_a_body_has_no_fields_and_spoils_no_other() {
    let (redis, client) = start().await;
    group(&client).await;
    let gone = client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
    let kept = client.xadd("s", &fields(&[("a", "2")])).await.unwrap();
    client.xreadgroup(NEW).await.unwrap();
    redis.cmd(&["XDEL", "s", &gone.to_string()]);
    let pending = client.xreadgroup(PENDING).await.unwrap();
    assert_eq!((pending[0].id, &pending[0].fields), (gone, &None));
    assert_eq!((pending[1].id, &pending[1].fields), (kept, &Some(fields(&[("a", "2")]))));
    let claimed = client.xclaim("s", "g", "other", Duration::ZERO, &[gone, kept]).await.unwrap();
    assert_eq!(claimed.iter().map(|entry| entry.id).collect::<Vec<_>>(), [kept]);
}

#[tokio::test]
async fn entries_are_taken_over_and_their_delivery_counts_set_back() {
    let (_redis, client) = start().await;
    group(&client).await;
    let id = client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
    client.xreadgroup(NEW).await.unwrap();
    assert_eq!(client.xclaim("s", "g", "other", Duration::from_secs(3600), &[id]).await.unwrap(), []);
    let claimed = client.xclaim("s", "g", "other", Duration::ZERO, &[id]).await.unwrap();
    assert_eq!(claimed[0].fields, Some(fields(&[("a", "1")])));
    let state = async || {
        let pending = client.xpending(QUERY).await.unwrap();
        (pending[0].consumer.clone(), pending[0].deliveries)
    };
    assert_eq!(state().await, ("other".to_owned(), 2));
    let restored = client.xclaim_restore("s", "g", "me", &[id, crate::id("1-1")], 1).await.unwrap();
    assert_eq!(restored, [id]);
    assert_eq!(state().await, ("me".to_owned(), 1));
}

#[tokio::test]
async fn groups_and_consumers_are_described() {
    let (redis, client) = start().await;
    assert_eq!(client.xinfo_groups("s").await.unwrap_err().kind, FaultKind::NoKey);
    group(&client).await;
    let first = client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
    client.xadd("s", &fields(&[("a", "2")])).await.unwrap();
    client.xreadgroup(ReadGroup { count: 1, ..NEW }).await.unwrap();
    let groups = client.xinfo_groups("s").await.unwrap();
    let info = &groups[0];
    assert_eq!((info.name.as_str(), info.consumers, info.pending, info.last_delivered), ("g", 1, 1, first));
    let counts = redis.version() >= (7, 0);
    assert_eq!((info.entries_read, info.lag), if counts { (Some(1), Some(1)) } else { (None, None) });
    let consumers = client.xinfo_consumers("s", "g").await.unwrap();
    assert_eq!((consumers[0].name.as_str(), consumers[0].pending), ("me", 1));
    assert_eq!(client.xinfo_consumers("s", "none").await.unwrap_err().kind, FaultKind::NoGroup);

    client.xgroup_setid("s", "g", EntryId::ZERO, Some(0)).await.unwrap();
    let group = client.xinfo_groups("s").await.unwrap().remove(0);
    assert_eq!((group.last_delivered, group.lag), (EntryId::ZERO, counts.then_some(2)));
    client.xgroup_setid("s", "g", first, None).await.unwrap();
    assert_eq!(client.xinfo_groups("s").await.unwrap()[0].last_delivered, first);
    redis.cmd(&["XADD", "s", "99999999999999-1", "a", "1"]);
    client.xgroup_create("s", "late", GroupStart::End).await.unwrap();
    assert_eq!(client.xreadgroup(ReadGroup { group: "late", ..NEW }).await.unwrap(), []);
    assert_eq!(client.xinfo_groups("s").await.unwrap()[1].last_delivered, id("99999999999999-1"));
}

#[tokio::test]
async fn a_missing_stream_or_group_is_told_from_other_faults() {
    let (_redis, client) = start().await;
    for fault in [
        client.xreadgroup(NEW).await.unwrap_err(),
        client.xpending_summary("s", "g").await.unwrap_err(),
        client.xclaim("s", "g", "me", Duration::ZERO, &[id("1-1")]).await.unwrap_err(),
    ] {
        assert_eq!(fault.kind, FaultKind::NoGroup, "{fault}");
        assert!(fault.is_transient());
    }
}

#[tokio::test]
async fn a_blocked_read_ends_with_the_entry_or_empty_or_when_its_stream_goes() {
    let (redis, client) = start().await;
    group(&client).await;
    let reading = reader(&redis.url()).await;
    let short = ReadGroup { block: Some(Duration::from_millis(20)), ..NEW };
    assert_eq!(reading.xreadgroup(short).await.unwrap(), []);
    assert_eq!(reading.xread("s", EntryId::ZERO, 1, Some(Duration::from_millis(20))).await.unwrap(), []);

    let blocked = ReadGroup { block: Some(BLOCK), ..NEW };
    let read = blocked_read(&redis, &reading, blocked).await;
    let began = Instant::now();
    let added = client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
    assert_eq!(read.await.unwrap().unwrap()[0].id, added);
    assert!(began.elapsed() < BLOCK / 2);

    // Redis 6.2 says nothing until the BLOCK ends.
    let read = blocked_read(&redis, &reading, blocked).await;
    redis.cmd(&["DEL", "s"]);
    if redis.version() >= (7, 0) {
        assert_eq!(read.await.unwrap().unwrap_err().kind, FaultKind::NoGroup);
    }
}

#[tokio::test]
async fn a_blocked_read_can_be_ended_without_losing_its_answer() {
    let (redis, client) = start().await;
    group(&client).await;
    let reading = reader(&redis.url()).await;
    let read = blocked_read(&redis, &reading, ReadGroup { block: Some(BLOCK), ..NEW }).await;
    let began = Instant::now();
    reading.unblock().await.unwrap();
    assert_eq!(read.await.unwrap().unwrap(), []);
    assert!(began.elapsed() < BLOCK / 2);
    assert!(reading.link().borrow().is_up());
}

type Read = tokio::task::JoinHandle<Result<Vec<unstale_events::Entry>, unstale_connect::Fault>>;

/// A read that the server has blocked.
pub(crate) async fn blocked_read(redis: &Redis, client: &unstale_connect::Client, read: ReadGroup<'static>) -> Read {
    let client = client.clone();
    let task = tokio::spawn(async move { client.xreadgroup(read).await });
    wait_until("the read to block", LONG, || async {
        let clients = redis.cmd(&["INFO", "clients"]).text();
        if clients.contains("blocked_clients:1") { Ok(()) } else { Err(clients) }
    })
    .await;
    task
}

#[tokio::test]
async fn commands_go_on_beside_a_blocked_read() {
    let (redis, client) = start().await;
    group(&client).await;
    let reading = reader(&redis.url()).await;
    let read = blocked_read(&redis, &reading, ReadGroup { block: Some(BLOCK), ..NEW }).await;
    let began = Instant::now();
    client.unlink(vec![bytes("k")]).await.unwrap();
    assert!(began.elapsed() < BLOCK / 2);
    client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
    assert_eq!(read.await.unwrap().unwrap().len(), 1);
}
