//! What Redis refuses, and as what it is told.

use unstale_connect::{Client, Fault, FaultKind, Link, Role, Script, Secret};
use unstale_testkit::{Redis, wait_until};

use crate::{LONG, ROLES, bytes, connect, fields, server, start};

/// Waits until the link is down for a reason of this kind.
async fn down(client: &Client, kind: FaultKind) -> Fault {
    let mut link = client.link();
    let found = link.wait_for(|link| matches!(link, Link::Down { why, .. } if why.kind == kind));
    let found = tokio::time::timeout(LONG, found).await.unwrap_or_else(|_| panic!("never down by {kind:?}: {:?}", client.link().borrow()));
    let Link::Down { why, .. } = found.unwrap().clone() else { unreachable!() };
    why
}

async fn as_user(redis: &Redis, rules: &[&str], role: Role) -> Client {
    redis.cmd(&[&["ACL", "SETUSER", "app", "reset", "on", ">pw"], rules].concat());
    let mut server = server(&redis.url());
    (server.username, server.password) = (Some("app".to_owned()), Some(Secret::new("pw").into()));
    let client = Client::open(&server, role, "test").unwrap();
    client.ready(LONG).await.unwrap();
    client
}

#[tokio::test]
async fn a_missing_right_is_named() {
    let redis = Redis::start().await;
    let client = as_user(&redis, &["~product:*", "resetchannels", "&allowed", "+@all", "-unlink", "-xinfo"], Role::Commands).await;
    let right = |fault: Fault| {
        assert!(fault.is_denied() && fault.is_transient(), "{fault}");
        fault.missing_right().unwrap()
    };
    assert_eq!(right(client.unlink(vec![bytes("product:1")]).await.unwrap_err()), "+unlink");
    // Redis 6.2 doesn't name the subcommand.
    assert!(right(client.xinfo_groups("product:s").await.unwrap_err()).starts_with("+xinfo"));
    assert_eq!(right(client.xlen("other").await.unwrap_err()), "keys");
    assert_eq!(right(client.publish("other", bytes("m")).await.unwrap_err()), "channels");
    let script = Script::new("return redis.call('UNLINK', KEYS[1])");
    let inside = client.eval(&script, vec![bytes("product:1")], vec![]).await.unwrap_err();
    assert_eq!(inside.kind, FaultKind::Denied, "{inside}");
    assert!(client.link().borrow().is_up());
}

#[tokio::test]
async fn the_least_rights_are_enough_to_connect() {
    let redis = Redis::start().await;
    for role in ROLES {
        let client = as_user(&redis, &["~s", "+xlen"], role).await;
        assert_eq!(client.xlen("s").await.unwrap(), 0);
    }
}

#[tokio::test]
async fn wrong_credentials_show_in_the_link() {
    let redis = Redis::builder().args(["--requirepass", "right"]).start().await;
    for role in ROLES {
        let none = Client::open(&server(&redis.url()), role, "test").unwrap();
        down(&none, FaultKind::Unauthenticated).await;
        let mut server = server(&redis.url());
        server.password = Some(Secret::new("wrong").into());
        let wrong = Client::open(&server, role, "test").unwrap();
        let why = down(&wrong, FaultKind::Unauthenticated).await;
        assert!(!why.to_string().contains("wrong"), "{why}");
        server.password = Some(Secret::new("right").into());
        let right = Client::open(&server, role, "test").unwrap();
        right.ready(LONG).await.unwrap();
    }
}

#[tokio::test]
async fn keys_of_the_wrong_type_are_permanent_also_inside_scripts() {
    let (redis, client) = start().await;
    redis.cmd(&["SET", "word", "abc"]);
    redis.cmd(&["RPUSH", "list", "x"]);
    assert_eq!(client.xadd("word", &fields(&[("a", "1")])).await.unwrap_err().kind, FaultKind::WrongType);
    let script = Script::new("return redis.call('INCR', KEYS[1])");
    for (key, kind) in [("word", FaultKind::NotInteger), ("list", FaultKind::WrongType)] {
        let fault = client.eval(&script, vec![bytes(key)], vec![]).await.unwrap_err();
        assert_eq!(fault.kind, kind, "{fault}");
        assert!(!fault.is_transient());
    }
}

#[tokio::test]
async fn without_memory_entries_are_refused_and_keys_still_deleted() {
    let (redis, client) = start().await;
    redis.cmd(&["SET", "k", "v"]);
    redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]);
    let fault = client.xadd("s", &fields(&[("a", "1")])).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutOfMemory);
    let script = Script::new("return redis.call('XADD', KEYS[1], '*', 'a', '1')");
    let fault = client.eval(&script, vec![bytes("s")], vec![]).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::OutOfMemory, "{fault}");
    assert!(fault.is_transient());
    assert_eq!(client.unlink(vec![bytes("k")]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_replica_refuses_writes_and_is_looked_up_again() {
    let (redis, client) = start().await;
    redis.cmd(&["REPLICAOF", "127.0.0.1", "1"]);
    let fault = client.xadd("s", &fields(&[("a", "1")])).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::ReadOnly, "{fault}");
    redis.cmd(&["REPLICAOF", "NO", "ONE"]);
    wait_until("a new connection that may write", LONG, || async {
        client.xadd("s", &fields(&[("a", "1")])).await.map_err(|fault| fault.to_string())
    })
    .await;
    assert!(matches!(&*client.link().borrow(), Link::Up { generation, .. } if *generation > 1));
}

#[tokio::test]
async fn a_server_that_loads_its_data_is_waited_for() {
    let mut redis = Redis::builder().args(["--key-load-delay", "300", "--rdbcompression", "no"]).start().await;
    let mut resp = redis.resp();
    for number in 0..10 {
        let mut set = vec!["MSET".to_owned()];
        set.extend((0..1000).flat_map(|inner| [format!("k{number}:{inner}"), "v".repeat(1000)]));
        resp.cmd(&set);
    }
    resp.cmd(&["SAVE"]);
    redis.kill();
    redis.launch();
    let [client, bulk, reading] = ROLES.map(|role| Client::open(&server(&redis.url()), role, "test").unwrap());
    tokio::join!(down(&client, FaultKind::Loading), down(&bulk, FaultKind::Loading), down(&reading, FaultKind::Loading));
    for client in [&client, &bulk, &reading] {
        client.ready(LONG).await.unwrap();
    }
    assert_eq!(client.unlink(vec![bytes("k0:0")]).await.unwrap(), 1);
}

#[tokio::test]
async fn a_server_that_runs_an_endless_script_is_busy() {
    let redis = Redis::builder().args(["--lua-time-limit", "50"]).start().await;
    let client = connect(&redis.url(), Role::Commands).await;
    let mut stuck = redis.resp();
    stuck.send(&["EVAL", "while true do end", "0"]).unwrap();
    wait_until("the server to answer BUSY", LONG, || async {
        match client.xlen("s").await {
            Err(fault) if fault.kind == FaultKind::Busy => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    redis.cmd(&["SCRIPT", "KILL"]);
}
