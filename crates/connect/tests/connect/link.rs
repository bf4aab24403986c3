//! Lost answers, lost connections, servers that stop and come back.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use unstale_connect::{Client, FaultKind, Link, ReadGroup, Role};
use unstale_testkit::{Fault, FaultProxy, Redis, wait_until};

use crate::group::blocked_read;
use crate::{BLOCK, COMMANDS, LONG, NEW, PENDING, ROLES, bytes, connect, fields, group, reader, server, start};

async fn generation(client: &Client, above: u64) -> u64 {
    let mut link = client.link();
    let up = link.wait_for(|link| matches!(link, Link::Up { generation, .. } if *generation > above));
    let up = tokio::time::timeout(LONG, up).await.unwrap_or_else(|_| panic!("never up again: {:?}", client.link().borrow())).unwrap();
    let Link::Up { generation, .. } = &*up else { unreachable!() };
    *generation
}

async fn until_down(client: &Client) {
    tokio::time::timeout(LONG, client.link().wait_for(|link| !link.is_up())).await.expect("the link goes down").unwrap();
}

#[tokio::test]
async fn it_opens_at_once_and_connects_when_the_server_comes() {
    let mut redis = Redis::start().await;
    redis.kill();
    let client = Client::open(&server(&redis.url()), Role::Commands, "test").unwrap();
    let began = Instant::now();
    let fault = client.unlink(vec![bytes("k")]).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unreachable);
    assert!(began.elapsed() < Duration::from_secs(1));
    wait_until("the link to say why", LONG, || async {
        match &*client.link().borrow() {
            Link::Down { why, .. } if why.text.contains("refused") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(client.ready(Duration::from_millis(1)).await.is_err());
    redis.launch();
    assert_eq!(client.ready(LONG).await.unwrap(), 1);
    client.ping().await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_of_a_read_is_told_and_its_entries_are_pending() {
    let (redis, client) = start().await;
    group(&client).await;
    let proxy = FaultProxy::start(redis.address()).await;
    let reading = reader(&proxy.url()).await;
    let read = blocked_read(&redis, &reading, ReadGroup { block: Some(BLOCK), ..NEW }).await;
    proxy.set(Fault::SwallowReply);
    let added = client.xadd("s", &fields(&[("a", "1")])).await.unwrap();
    let fault = read.await.unwrap().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unreachable, "{fault}");
    assert_eq!(generation(&reading, 1).await, 2);
    let pending = reading.xreadgroup(PENDING).await.unwrap();
    assert_eq!(pending.iter().map(|entry| entry.id).collect::<Vec<_>>(), [added]);
}

#[tokio::test]
async fn a_killed_server_fails_everything_at_once_until_it_is_back() {
    let (mut redis, client) = start().await;
    group(&client).await;
    let reading = reader(&redis.url()).await;
    let read = blocked_read(&redis, &reading, ReadGroup { block: Some(BLOCK), ..NEW }).await;
    let began = Instant::now();
    redis.kill();
    assert_eq!(read.await.unwrap().unwrap_err().kind, FaultKind::Unreachable);
    until_down(&client).await;
    for _ in 0..100 {
        assert_eq!(client.unlink(vec![bytes("k")]).await.unwrap_err().kind, FaultKind::Unreachable);
    }
    assert!(began.elapsed() < BLOCK / 2, "{:?}", began.elapsed());
    redis.launch();
    assert_eq!((generation(&client, 1).await, generation(&reading, 1).await), (2, 2));
    client.ping().await.unwrap();
}

/// Between the end of a connection and its replacement there is a moment in which its queue still takes commands, but nobody sends them.
#[tokio::test(flavor = "multi_thread")]
async fn who_tries_again_at_once_is_not_made_to_wait() {
    let (redis, client) = start().await;
    group(&client).await;
    let reading = reader(&redis.url()).await;
    for round in 0..10 {
        let read = blocked_read(&redis, &reading, ReadGroup { block: Some(BLOCK), ..NEW }).await;
        let again = reading.clone();
        let retrying = tokio::spawn(async move {
            assert!(read.await.unwrap().is_err());
            // It fails, unless this task was slow and the next connection is up already.
            let _ = again.xreadgroup(PENDING).await;
            again.ready(LONG).await.unwrap();
        });
        let began = Instant::now();
        redis.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        retrying.await.unwrap();
        assert!(began.elapsed() < BLOCK / 2, "round {round}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn it_comes_back_again_and_again() {
    let (redis, client) = start().await;
    for round in 1..=5 {
        redis.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(generation(&client, round).await, round + 1);
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_paused_server_is_a_timeout_and_then_a_new_connection() {
    for role in COMMANDS {
        let redis = Redis::start().await;
        let client = connect(&redis.url(), role).await;
        redis.pause();
        let began = Instant::now();
        let (first, second) = tokio::join!(client.ping(), client.unlink(vec![bytes("k")]));
        assert_eq!(first.unwrap_err().kind, FaultKind::Timeout);
        assert!(matches!(second.unwrap_err().kind, FaultKind::Timeout | FaultKind::Unreachable));
        assert!(began.elapsed() < Duration::from_secs(10));
        until_down(&client).await;
        assert_eq!(client.ping().await.unwrap_err().kind, FaultKind::Unreachable);
        redis.resume();
        generation(&client, 1).await;
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_blocked_read_on_a_paused_server_ends_by_its_own_time() {
    let (redis, client) = start().await;
    group(&client).await;
    let reading = connect(&redis.url(), Role::Reader { block: BLOCK }).await;
    let read = blocked_read(&redis, &reading, ReadGroup { block: Some(Duration::from_millis(500)), ..NEW }).await;
    redis.pause();
    let fault = read.await.unwrap().unwrap_err();
    assert_eq!(fault.kind, FaultKind::Timeout, "{fault}");
    redis.resume();
    generation(&reading, 1).await;
    let added = client_when_up(&client).await;
    let read = reading.xreadgroup(PENDING).await.unwrap();
    let read = if read.is_empty() { reading.xreadgroup(NEW).await.unwrap() } else { read };
    assert_eq!(read[0].id, added);
}

async fn client_when_up(client: &Client) -> unstale_events::EntryId {
    wait_until("an entry to be added", LONG, || async { client.xadd("s", &fields(&[("a", "1")])).await.map_err(|fault| fault.to_string()) })
        .await
}

#[tokio::test]
async fn a_peer_that_vanished_without_a_word_is_found_out() {
    for role in COMMANDS {
        let redis = Redis::start().await;
        let proxy = FaultProxy::start(redis.address()).await;
        let client = connect(&proxy.url(), role).await;
        proxy.set(Fault::Stall);
        assert_eq!(client.ping().await.unwrap_err().kind, FaultKind::Timeout);
        until_down(&client).await;
        proxy.set(Fault::None);
        generation(&client, 1).await;
        client.ping().await.unwrap();
    }
}

/// More than the sockets' buffers hold, so that the client is stuck in a write and can't even read.
#[tokio::test]
async fn a_client_stuck_in_a_write_is_freed() {
    for role in COMMANDS {
        let redis = Redis::start().await;
        let client = connect(&redis.url(), role).await;
        redis.pause();
        let large = fields(&[("a", &"x".repeat(1 << 20))]);
        let answers = client.xadd_many(&vec![("s", &large); 32]).await;
        assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(unstale_connect::Fault::is_transient)));
        until_down(&client).await;
        redis.resume();
        generation(&client, 1).await;
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_connection_cut_amid_many_commands_answers_each_of_them() {
    for role in COMMANDS {
        let redis = Redis::start().await;
        let proxy = FaultProxy::start(redis.address()).await;
        proxy.set(Fault::CutAfter(20_000));
        let client = connect(&proxy.url(), role).await;
        let one = fields(&[("a", "1")]);
        let answers = client.xadd_many(&vec![("s", &one); 2000]).await;
        proxy.set(Fault::None);
        let (done, failed): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
        assert!(!failed.is_empty());
        assert!(failed.iter().all(|answer| answer.as_ref().is_err_and(|fault| fault.kind == FaultKind::Unreachable)));
        let added = redis.cmd(&["XLEN", "s"]).int();
        assert!(added >= i64::try_from(done.len()).unwrap(), "no answer without an entry");
        assert!(added < 2000, "a command is sent once, never again by itself");
        generation(&client, 1).await;
        client.ping().await.unwrap();
    }
}

#[tokio::test]
async fn a_refused_connection_is_tried_again() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    let client = connect(&proxy.url(), Role::Commands).await;
    proxy.set(Fault::Refuse);
    proxy.cut();
    until_down(&client).await;
    proxy.set(Fault::None);
    generation(&client, 1).await;
}

/// Wherever in its first exchange a connection is cut, there is a next one: an attempt that hung would have been the last.
#[tokio::test]
async fn a_connection_cut_while_it_is_made_is_made_again() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    for (bytes, role) in (0..=160).step_by(4).zip(ROLES.into_iter().cycle()) {
        proxy.set(Fault::CutAfter(bytes));
        let client = Client::open(&server(&proxy.url()), role, "cut").unwrap();
        let mut link = client.link();
        let first_cut = tokio::time::timeout(LONG, link.wait_for(|link| !format!("{link:?}").contains("not connected yet"))).await;
        first_cut.unwrap().unwrap();
        proxy.set(Fault::None);
        proxy.cut();
        let came_back = async {
            while client.ping().await.is_err() {
                client.ready(LONG).await.unwrap();
            }
        };
        tokio::time::timeout(LONG, came_back).await.unwrap_or_else(|_| panic!("{role:?}: cut after {bytes} bytes, it stays down"));
    }
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_given_up_with_the_reason() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // Whoever asked is gone if this fails.
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let client = Client::open(&server(&url), Role::Reader { block: BLOCK }, "test").unwrap();
    let told = |link: &Link| matches!(link, Link::Down { why, .. } if why.kind == FaultKind::Protocol && why.text.contains("isn't RESP"));
    tokio::time::timeout(LONG, client.link().wait_for(told)).await.unwrap_or_else(|_| panic!("{:?}", client.link().borrow())).unwrap();
}

/// Nobody uses it, and the system's own probes are answered: by the proxy.
#[tokio::test]
async fn an_idle_connection_that_leads_nowhere_is_made_again() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    let clients = [connect(&proxy.url(), Role::Commands).await, reader(&proxy.url()).await];
    proxy.freeze();
    let frozen = Instant::now();
    for client in &clients {
        assert_eq!(generation(client, 1).await, 2);
        client.ping().await.unwrap();
    }
    println!("an idle connection was made again {:?} after it led nowhere", frozen.elapsed());
}

#[tokio::test]
async fn the_time_of_an_outage_counts_from_its_begin() {
    let (mut redis, client) = start().await;
    redis.kill();
    until_down(&client).await;
    let since = |client: &Client| match &*client.link().borrow() {
        Link::Down { since, why } => Some((*since, why.clone())),
        Link::Up { .. } => None,
    };
    let (began, _) = since(&client).unwrap();
    wait_until("another attempt", LONG, || async {
        let (_, why) = since(&client).ok_or("up")?;
        if why.text.contains("refused") { Ok(()) } else { Err(why.text) }
    })
    .await;
    assert_eq!(since(&client).unwrap().0, began);
}

#[tokio::test]
async fn the_last_clone_takes_the_connection_with_it() {
    let (redis, client) = start().await;
    let connected = || async {
        let list = redis.cmd(&["CLIENT", "LIST"]).text();
        if list.contains("name=test") { Err(list) } else { Ok(()) }
    };
    let clone = client.clone();
    drop(client);
    clone.ping().await.unwrap();
    drop(clone);
    wait_until("the connection to be closed", LONG, connected).await;
}

#[tokio::test]
async fn a_closed_client_stays_closed_and_says_so() {
    let (redis, client) = start().await;
    client.close();
    let fault = client.ping().await.unwrap_err();
    assert_eq!((fault.kind, fault.text.contains("was closed")), (FaultKind::Unreachable, true));
    wait_until("the connection to be closed", LONG, || async {
        let list = redis.cmd(&["CLIENT", "LIST"]).text();
        if list.contains("name=test") { Err(list) } else { Ok(()) }
    })
    .await;
    assert!(!client.link().borrow().is_up());
}

/// Many tasks on one connection: each gets its own answer.
#[tokio::test(flavor = "multi_thread")]
async fn answers_are_never_mixed_up() {
    let (redis, client) = start().await;
    let clients = [client, connect(&redis.url(), Role::Bulk).await, reader(&redis.url()).await];
    let tasks: Vec<_> = (0..33)
        .map(|task| {
            let client = clients[task % 3].clone();
            tokio::spawn(async move {
                for number in 0..200 {
                    let text = bytes(&format!("{task}:{number}"));
                    let reply = client.raw(vec![bytes("ECHO"), text.clone()]).await.unwrap();
                    assert_eq!(reply.bytes().unwrap(), text);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}
