//! The master behind sentinels: found, lost, and found again, by command and by death.

use std::time::{Duration, Instant};

use unstale_connect::{Client, FaultKind, Link, Place, ReadGroup, Role, Secret, Server, Site};
use unstale_testkit::{Certificates, Sentinels, server_has_tls, wait_until};

use crate::{BLOCK, LONG, NEW, bytes, fields, group, server};

/// Waits until it is up at another server than the one counted so.
async fn another(client: &Client, before: u64) -> u64 {
    let mut link = client.link();
    let up = link.wait_for(|link| matches!(link, Link::Up { server, .. } if *server > before));
    let up = tokio::time::timeout(LONG, up).await.unwrap_or_else(|_| panic!("at no other server: {:?}", client.link().borrow())).unwrap();
    let Link::Up { server, .. } = &*up else { unreachable!() };
    *server
}

/// One test, for the servers take their time: a switch by command, while the old master goes on answering; one by death; one by a pause,
/// after which the old master believes itself still the master; and the sentinels' own deaths.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_master_is_found_however_it_came_to_be() {
    let mut all = Sentinels::start(2).await;
    let site = Site::open(&server(&all.url())).unwrap();
    let client = site.client(Place::Key("s"), Role::Commands, "test").unwrap();
    let reading = site.client(Place::Key("s"), Role::Reader { block: BLOCK }, "test").unwrap();
    let store = site.store("test").unwrap();
    client.ready(LONG).await.unwrap();
    reading.ready(LONG).await.unwrap();
    group(&client).await;

    let reader = reading.clone();
    let read = tokio::spawn(async move { reader.xreadgroup(ReadGroup { block: Some(BLOCK), ..NEW }).await });
    let began = Instant::now();
    let second = all.fail_over().await;
    let server = another(&client, 1).await;
    assert_eq!(all.server(0).cmd(&["ROLE"]).array()[0].text(), "master", "the old one answers as one still");
    assert!(read.await.unwrap().is_err(), "a blocked read at the old master ends");
    another(&reading, 1).await;
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}: before the old master was demoted", began.elapsed());
    let added = client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
    assert_eq!(all.server(second).cmd(&["XLEN", "s"]).int(), 1);
    assert_eq!(reading.xreadgroup(ReadGroup { block: Some(BLOCK), ..NEW }).await.unwrap()[0].id, added);
    store.failovers().wait_for(|number| *number == 1).await.unwrap();

    all.server_mut(second).kill();
    let third = all.replaced(second).await;
    let server = another(&client, server).await;
    client.xadd("s", &fields(&[("a", "2")])).await.unwrap();
    assert!(all.server(third).cmd(&["XLEN", "s"]).int() >= 1);
    store.failovers().wait_for(|number| *number == 2).await.unwrap();

    // It must follow the others before it can be a master again.
    wait_until("the first server to follow", LONG, || async {
        let info = all.server(0).cmd(&["INFO", "replication"]).text();
        if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
    })
    .await;
    // One that waits for the old master to take its connection wouldn't be at the new one in time.
    let patient = Client::open(&Server { connect_timeout: LONG * 2, ..crate::server(&all.url()) }, Role::Commands, "patient").unwrap();
    patient.ready(LONG).await.unwrap();
    all.server(third).pause();
    assert_eq!(patient.xlen("s").await.unwrap_err().kind, FaultKind::Timeout);
    assert_eq!(all.replaced(third).await, 0);
    another(&client, server).await;
    another(&patient, 1).await;
    all.server(third).resume();
    client.xadd("s", &fields(&[("a", "3")])).await.unwrap();
    let length = all.server(0).cmd(&["XLEN", "s"]).int();

    // What a sentinel calls a master is believed only if it says so itself.
    let replica = all.server(third).address();
    let odd = ["SENTINEL", "MONITOR", "odd", &replica.ip().to_string(), &replica.port().to_string(), "3"];
    all.sentinels()[0].cmd(&odd);
    let url = format!("redis-sentinel://{}?master=odd", all.sentinels()[0].address());
    let misled = Client::open(&crate::server(&url), Role::Commands, "test").unwrap();
    wait_until("the replica to be turned down", LONG, || async {
        match &*misled.link().borrow() {
            Link::Down { why, .. } if why.kind == FaultKind::ReadOnly && why.text.contains("is a replica") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    // With one sentinel left, and with none, the master is where it was.
    for sentinel in 0..3 {
        all.sentinel_mut(sentinel).kill();
    }
    all.server(0).cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    wait_until("another entry", LONG, || async { client.xadd("s", &fields(&[("a", "4")])).await.map_err(|fault| fault.to_string()) }).await;
    assert_eq!(all.server(0).cmd(&["XLEN", "s"]).int(), length + 1);
    assert_eq!(*store.failovers().borrow(), 3);
}

#[tokio::test]
async fn what_is_wrong_with_the_sentinels_is_told() {
    let redis = unstale_testkit::Redis::start().await;
    let url = format!("redis-sentinel://{},127.0.0.1:1?master=main", redis.address());
    let client = Client::open(&server(&url), Role::Commands, "test").unwrap();
    wait_until("both to be named", LONG, || async {
        match &*client.link().borrow() {
            Link::Down { why, .. } if why.text.contains("127.0.0.1:1: ") && why.text.contains(&redis.address().to_string()) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(client.unlink(vec![bytes("k")]).await.unwrap_err().kind, FaultKind::Unreachable);
}

#[tokio::test]
async fn servers_and_sentinels_have_credentials_of_their_own_under_tls() {
    if !server_has_tls() {
        return;
    }
    let files = Certificates::new();
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| files.path(name));
    let all = Sentinels::builder(1).tls(&cert, &key, &ca).password("open").sentinel_password("sesame").start().await;
    for server in all.servers() {
        server.cmd(&["ACL", "SETUSER", "app", "on", ">app's", "~*", "&*", "+@all"]);
    }
    for sentinel in all.sentinels() {
        let rights = ["+client|setname", "+client|id", "+subscribe", "+sentinel|master", "+sentinel|get-master-addr-by-name"];
        let rights = if all.server(0).version() < (7, 0) { ["+client", "+subscribe", "+sentinel", "+ping", "+hello"] } else { rights };
        sentinel.cmd(&[&["ACL", "SETUSER", "watch", "on", ">watch's", "&+switch-master"], &rights[..]].concat());
    }
    let mut server = server(&format!("{}&x", all.url()).replace("?master=main&x", "/3?master=main"));
    (server.ca, server.cert, server.key) = (Some(ca), Some(files.path("client.pem")), Some(files.path("client.key")));
    (server.username, server.password) = (Some("app".to_owned()), Some(Secret::new("app's").into()));
    (server.sentinel_username, server.sentinel_password) = (Some("watch".to_owned()), Some(Secret::new("watch's").into()));
    assert_eq!(server.problems(), Vec::<String>::new());
    let client = Client::open(&server, Role::Commands, "test").unwrap();
    client.ready(LONG).await.unwrap();
    assert_eq!(client.acl_whoami().await.unwrap(), "app");
    client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
    let mut resp = all.server(0).resp();
    resp.cmd(&["SELECT", "3"]);
    assert_eq!(resp.cmd(&["XLEN", "s"]).int(), 1);

    all.fail_over().await;
    another(&client, 1).await;
    assert_eq!(client.acl_whoami().await.unwrap(), "app");

    server.sentinel_password = Some(Secret::new("wrong").into());
    let refused = Client::open(&server, Role::Commands, "test").unwrap();
    let why = wait_until("the sentinels to refuse", LONG, || async {
        match &*refused.link().borrow() {
            Link::Down { why, .. } if why.kind == FaultKind::Unauthenticated => Ok(why.text.clone()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(why.contains("no sentinel tells") && !why.contains("wrong"), "{why}");
}
