//! What each command sends and understands.

use std::time::Duration;

use bytes::Bytes;
use unstale_connect::{Fault, FaultKind, Reply, Script, Trim};
use unstale_events::EntryId;
use unstale_testkit::Redis;

use crate::{bytes, connect, fields, start};

#[tokio::test]
async fn keys_are_deleted_a_thousand_at_a_time_and_counted() {
    let (redis, client) = start().await;
    let mut resp = redis.resp();
    let keys: Vec<Bytes> = (0..2500).map(|number| bytes(&format!("k{number}"))).collect();
    let mut set = vec!["MSET".to_owned()];
    set.extend((0..2500).step_by(2).flat_map(|number| [format!("k{number}"), "v".to_owned()]));
    resp.cmd(&set);
    assert_eq!(client.unlink(keys).await.unwrap(), 1250);
    assert_eq!(resp.cmd(&["DBSIZE"]).int(), 0);
    assert!(resp.cmd(&["INFO", "commandstats"]).text().contains("cmdstat_unlink:calls=3,"));
    assert_eq!(client.unlink(Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn keys_may_hold_any_bytes() {
    let (redis, client) = start().await;
    let key = b"\x00\xff\r\n k".as_slice();
    redis.cmd(&[b"SET", key, b"v"]);
    let page = client.scan(0, None, 100).await.unwrap();
    assert_eq!((page.cursor, page.keys), (0, vec![Bytes::from_static(key)]));
    assert_eq!(client.unlink(vec![Bytes::from_static(key)]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_scan_visits_every_key_that_matches() {
    let (redis, client) = start().await;
    let mut resp = redis.resp();
    for number in 0..300 {
        resp.cmd(&["SET", &format!("product:{number}"), "v"]);
        resp.cmd(&["SET", &format!("other:{number}"), "v"]);
    }
    let (mut cursor, mut seen, mut pages) = (0, std::collections::HashSet::new(), 0);
    loop {
        let page = client.scan(cursor, Some(b"product:*"), 50).await.unwrap();
        seen.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen.len(), 300);
    assert!(pages > 5, "{pages}");
}

/// The client library takes a list that begins with one of these names, and has the right length, for a message of a channel.
#[tokio::test]
async fn names_that_look_like_messages_of_channels_stay_what_they_are() {
    let (redis, client) = start().await;
    let mut resp = redis.resp();
    for key in ["message", "a", "b"] {
        resp.cmd(&["SET", key, "v"]);
    }
    let mut page = client.scan(0, None, 100).await.unwrap();
    page.keys.sort();
    assert_eq!(page.keys, ["a", "b", "message"].map(bytes));

    let odd = fields(&[("pmessage", "x"), ("type", "T")]);
    let added = client.xadd("s", &odd).await.unwrap();
    let read = client.xrange("s", EntryId::ZERO, None, 10).await.unwrap();
    assert_eq!((read[0].id, read[0].fields.as_ref()), (added, Some(&odd)));

    let script = Script::new("return {{'message', 'a', 'b'}, {'smessage', 'c', 'd'}}");
    let inner = |texts: [&str; 3]| Reply::Array(texts.map(|text| Reply::Bulk(bytes(text))).to_vec());
    let reply = client.eval(&script, vec![], vec![]).await.unwrap();
    assert_eq!(reply, Reply::Array(vec![inner(["message", "a", "b"]), inner(["smessage", "c", "d"])]));
}

#[tokio::test]
async fn a_script_is_sent_in_full_only_to_a_server_that_does_not_know_it() {
    let (redis, client) = start().await;
    let script = Script::new("return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[2]), false, redis.error_reply('no')}");
    let run = async || client.eval(&script, vec![bytes("k"), bytes("n")], vec![bytes("a")]).await.unwrap();
    let reply = run().await;
    let expected = [Reply::Bulk(bytes("k")), Reply::Bulk(bytes("a")), Reply::Int(1), Reply::Nil];
    assert_eq!(reply.array().unwrap()[..4], expected);
    run().await;
    redis.cmd(&["SCRIPT", "FLUSH"]);
    run().await;
    assert_eq!(redis.cmd(&["GET", "n"]).int(), 3);
    let stats = redis.cmd(&["INFO", "commandstats"]).text();
    assert!(stats.contains("cmdstat_evalsha:calls=3,") && stats.contains("cmdstat_eval:calls=2,"), "{stats}");
    assert_eq!(
        script.sha(),
        redis.cmd(&["SCRIPT", "LOAD", "return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[2]), false, redis.error_reply('no')}"]).text()
    );
}

#[tokio::test]
async fn counters_are_incremented_each_for_itself() {
    let (redis, client) = start().await;
    redis.cmd(&["SET", "word", "abc"]);
    redis.cmd(&["RPUSH", "list", "x"]);
    redis.cmd(&["SET", "full", &i64::MAX.to_string()]);
    let answers = client.incr(&["n", "word", "list", "n", "full"].map(bytes)).await;
    let kinds: Vec<_> = answers.iter().map(|answer| answer.as_ref().map_err(|fault| fault.kind).copied()).collect();
    assert_eq!(kinds, [Ok(1), Err(FaultKind::NotInteger), Err(FaultKind::WrongType), Ok(2), Err(FaultKind::NotInteger)]);
    assert!(answers[1].as_ref().is_err_and(|fault| !fault.is_transient()));
}

#[tokio::test]
async fn streams_are_written_read_trimmed_and_measured() {
    let (redis, client) = start().await;
    let one = fields(&[("type", "A"), ("type", "B"), ("empty", "")]);
    let first = client.xadd("s", &one).await.unwrap();
    let two = fields(&[("type", "C")]);
    let added = client.xadd_many(&[("s", &two), ("other", &two), ("s", &two)]).await;
    let ids: Vec<EntryId> = added.into_iter().map(Result::unwrap).collect();
    assert!(first < ids[0] && ids[0] < ids[2]);
    assert_eq!((client.xlen("s").await.unwrap(), client.xlen("none").await.unwrap()), (3, 0));

    let all = client.xrange("s", EntryId::ZERO, None, 10).await.unwrap();
    assert_eq!(all[0].fields.as_ref(), Some(&one));
    assert_eq!(all.iter().map(|entry| entry.id).collect::<Vec<_>>(), [first, ids[0], ids[2]]);
    let newest = client.xrevrange("s", None, EntryId::ZERO, 1).await.unwrap();
    assert_eq!(newest[0].id, ids[2]);
    let middle = client.xrange("s", ids[0], Some(ids[0]), 10).await.unwrap();
    assert_eq!(middle.len(), 1);
    assert_eq!(client.xread("s", first, 10, None).await.unwrap().len(), 2);
    assert_eq!(client.xread("s", ids[2], 10, None).await.unwrap(), []);

    let info = client.xinfo_stream("s").await.unwrap();
    assert_eq!((info.length, info.first, info.last_generated), (3, Some(first), ids[2]));
    assert_eq!(info.entries_added, (redis.version() >= (7, 0)).then_some(3));
    assert_eq!(client.xtrim_minid("s", ids[0], Trim::Exact).await.unwrap(), 1);
    assert_eq!(client.xtrim_minid("s", ids[2], Trim::Nearly).await.unwrap(), 0);
    assert_eq!(client.xdel("s", &[ids[0], ids[2], first]).await.unwrap(), 2);
    assert_eq!(client.xinfo_stream("s").await.unwrap().first, None);
    assert_eq!(client.xinfo_stream("none").await.unwrap_err().kind, FaultKind::NoKey);
}

#[tokio::test]
async fn a_capped_stream_stays_near_its_cap() {
    let (_redis, client) = start().await;
    for _ in 0..500 {
        client.xadd_capped("dead", 100, &fields(&[("a", "1")])).await.unwrap();
    }
    let length = client.xlen("dead").await.unwrap();
    assert!((100..300).contains(&length), "{length}");
}

#[tokio::test]
async fn the_server_is_asked_about_itself() {
    let (redis, client) = start().await;
    assert!(client.ping().await.unwrap() < Duration::from_secs(2));
    let info = client.info("memory").await.unwrap();
    assert_eq!(info["maxmemory_policy"], "noeviction");
    let clock = redis.cmd(&["TIME"]).array()[0].int();
    assert!(client.time().await.unwrap().as_secs().abs_diff(u64::try_from(clock).unwrap()) < 60);
    assert_eq!(client.acl_whoami().await.unwrap(), "default");
    assert_eq!(client.raw(vec![bytes("ECHO"), bytes("hi")]).await.unwrap(), Reply::Bulk(bytes("hi")));
    assert_eq!(client.raw(vec![bytes("GET"), bytes("none")]).await.unwrap(), Reply::Nil);
    let unknown = client.raw(["NOSUCH", "secret"].map(bytes).to_vec()).await.unwrap_err();
    assert_eq!(unknown.kind, FaultKind::Unsupported);
    assert!(!unknown.text.contains("secret"), "{unknown}");
}

#[tokio::test]
async fn rights_can_be_asked_for_without_using_them() {
    let (redis, client) = start().await;
    redis.cmd(&["ACL", "SETUSER", "app", "on", "nopass", "~product:*", "+get"]);
    if redis.version() < (7, 0) {
        assert_eq!(client.acl_dryrun("app", &["GET", "product:1"]).await.unwrap_err().kind, FaultKind::Unsupported);
        return;
    }
    assert_eq!(client.acl_dryrun("app", &["GET", "product:1"]).await.unwrap(), None);
    let right = async |words: &[&str]| client.acl_dryrun("app", words).await.unwrap().and_then(|fault: Fault| fault.missing_right());
    assert_eq!(right(&["UNLINK", "product:1"]).await.as_deref(), Some("+unlink"));
    assert_eq!(right(&["GET", "other"]).await.as_deref(), Some("keys"));
}

#[tokio::test]
async fn it_connects_by_unix_socket_to_the_database_of_its_url() {
    let redis = Redis::builder().unix().start().await;
    let mut resp = redis.resp();
    resp.cmd(&["SELECT", "3"]);
    for (role, added) in crate::ROLES.into_iter().zip(1..) {
        let client = connect(&format!("unix://{}?db=3", redis.socket().display()), role).await;
        client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
        assert_eq!(resp.cmd(&["XLEN", "s"]).int(), added);
        assert!(resp.cmd(&["CLIENT", "LIST"]).text().contains("name=test"));
    }
}
