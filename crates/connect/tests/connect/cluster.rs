//! Keys and streams on a cluster, while its slots move and its nodes die.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use unstale_connect::{Client, FaultKind, Link, Place, ReadGroup, Role, Secret, Since, Site, Store, Unlinked};
use unstale_testkit::{Certificates, Cluster, Fault, SLOTS, server_has_tls, slot_of, wait_until};

use crate::{BLOCK, LONG, NEW, bytes, fields, group, server};

async fn store(cluster: &Cluster) -> (Site, Store) {
    let site = Site::open(&server(&cluster.url())).unwrap();
    let store = site.store("test").unwrap();
    whole(&store).await;
    (site, store)
}

async fn whole(store: &Store) {
    let mut link = store.link();
    let up = tokio::time::timeout(LONG, link.wait_for(Link::is_up)).await;
    up.unwrap_or_else(|_| panic!("never whole: {:?}", store.link().borrow())).unwrap();
}

/// A key in each slot, of the form `<n>` where that has the slot.
fn one_key_for_each_slot() -> Vec<Bytes> {
    let mut keys = vec![None; usize::from(SLOTS)];
    let mut missing = keys.len();
    for number in 0.. {
        let key = format!("k:{number}");
        let place = &mut keys[usize::from(slot_of(&key))];
        if place.is_none() {
            *place = Some(bytes(&key));
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    keys.into_iter().flatten().collect()
}

/// Writes each key where it belongs.
fn fill(cluster: &Cluster, keys: &[Bytes]) {
    let mut nodes: Vec<_> = cluster.nodes().iter().map(unstale_testkit::Redis::resp).collect();
    let owners: Vec<usize> = (0..SLOTS).map_while(|slot| (slot % 64 == 0).then(|| cluster.owner(slot)).or(Some(usize::MAX))).collect();
    for key in keys {
        let slot = slot_of(key);
        let guess = owners[usize::from(slot - slot % 64)];
        // The owners of the first of each 64 slots are right but at the borders.
        if nodes[guess].try_cmd(&[b"SET", &key[..], b"v"]).is_err() {
            let owner = cluster.owner(slot);
            nodes[owner].cmd(&[b"SET", &key[..], b"v"]);
        }
    }
}

fn left(cluster: &Cluster) -> i64 {
    cluster.masters().into_iter().map(|index| cluster.node(index).cmd(&["DBSIZE"]).int()).sum()
}

fn count(answer: &[Unlinked]) -> u64 {
    answer.iter().map(|group| group.outcome.clone().unwrap_or_else(|fault| panic!("{fault}"))).sum()
}

/// Deletes until no group has a fault any more, as a delivery would.
async fn unlink_all(store: &Store, keys: &[Bytes]) -> Vec<FaultKind> {
    let (mut keys, mut faults, deadline) = (keys.to_vec(), Vec::new(), Instant::now() + LONG);
    while !keys.is_empty() {
        let answer = store.unlink(keys.clone()).await;
        let positions: HashSet<usize> = answer.iter().flat_map(|group| group.keys.iter().copied()).collect();
        assert_eq!(positions.len(), keys.len(), "every key is in one group");
        let failed: Vec<_> = answer.into_iter().filter(|group| group.outcome.is_err()).collect();
        faults.extend(failed.iter().filter_map(|group| group.outcome.as_ref().err().map(|fault| fault.kind)));
        assert!(Instant::now() < deadline, "{} groups fail still: {:?}", failed.len(), failed.first());
        keys = failed.iter().flat_map(|group| group.keys.iter().map(|position| keys[*position].clone())).collect();
        if !keys.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_all_slots_are_deleted_while_slots_move_and_a_master_dies() {
    let mut cluster = Cluster::start(3, 1).await;
    let (site, store) = store(&cluster).await;
    let keys = one_key_for_each_slot();

    fill(&cluster, &keys);
    assert_eq!(count(&store.unlink(keys.clone()).await), u64::from(SLOTS));
    assert_eq!(left(&cluster), 0);
    assert_eq!(count(&store.unlink(keys.clone()).await), 0);

    // Counters, and many keys of one slot.
    let counters = store.incr(&["a", "b", "a"].map(bytes)).await;
    assert_eq!(counters, [Ok(1), Ok(1), Ok(2)]);
    let tagged: Vec<Bytes> = (0..2500).map(|number| bytes(&format!("{{t}}{number}"))).collect();
    fill(&cluster, &tagged);
    let answer = store.unlink(tagged.clone()).await;
    assert_eq!((answer.len(), count(&answer)), (3, 2500), "at most a thousand at once");
    assert_eq!(count(&store.unlink(["a", "b"].map(bytes).to_vec()).await), 2);

    // A slot half on its way: some keys here, some there.
    let slot = slot_of("{t}");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    fill(&cluster, &tagged[..100]);
    let mut migration = cluster.migrate(slot, to);
    assert_eq!(migration.move_keys(50), 50);
    let there: Vec<Bytes> = tagged[..100].to_vec();
    assert_eq!(count(&store.unlink(there).await), 100);
    assert_eq!(store.incr(&[bytes("{t}n")]).await, [Ok(1)]);
    assert_eq!(store.masters().await.map(|masters| masters.clients.len()).unwrap(), 3);
    let masters = store.masters().await.unwrap();
    assert_eq!(store.since(&masters).await, Since::Moved, "a slot is on its way");
    while migration.move_keys(100) > 0 {}
    migration.finish();
    assert_eq!(count(&store.unlink(vec![bytes("{t}n")]).await), 1);
    cluster.settled().await;

    // Many slots moving, one after the other, meanwhile.
    let masters = store.masters().await.unwrap();
    assert_eq!(store.since(&masters).await, Since::Same);
    fill(&cluster, &keys);
    let deleting = async {
        let mut faults = unlink_all(&store, &keys).await;
        for part in keys.chunks(500) {
            faults.extend(unlink_all(&store, part).await);
        }
        faults
    };
    let slots = (0..200).map(|number| number * 80);
    let (faults, ()) = tokio::join!(deleting, cluster.reshard(slots, to));
    assert_eq!(left(&cluster), 0);
    assert!(faults.is_empty(), "slots that move are followed: {faults:?}");
    assert_eq!(store.since(&masters).await, Since::Moved);
    cluster.settled().await;
    assert_eq!(*store.failovers().borrow(), 0);

    // A manual failover, then a death in mid-flow.
    fill(&cluster, &keys);
    let masters = store.masters().await.unwrap();
    let new = cluster.fail_over(0).await;
    unlink_all(&store, &keys).await;
    assert_eq!(left(&cluster), 0);
    assert_eq!(store.since(&masters).await, Since::Lost);
    fill(&cluster, &keys);
    let slot = (0..SLOTS).find(|slot| cluster.owner(*slot) == new).unwrap();
    cluster.node_mut(new).kill();
    let mine: Vec<Bytes> = keys.iter().filter(|key| slot_of(key) == slot).cloned().collect();
    let (faults, _) = tokio::join!(unlink_all(&store, &mine), cluster.replaced(new, slot));
    assert!(!faults.is_empty());
    unlink_all(&store, &keys).await;
    assert_eq!(left(&cluster), 0);
    whole(&store).await;
    store.failovers().wait_for(|number| *number >= 2).await.unwrap();
    drop(site);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_a_cluster_goes_on_without_the_other() {
    let cluster = Cluster::builder(3, 0).args(["--cluster-require-full-coverage", "no"]).start().await;
    let (_site, store) = store(&cluster).await;
    let keys = one_key_for_each_slot();
    fill(&cluster, &keys);
    let masters = store.masters().await.unwrap();
    cluster.node(2).pause();
    for round in 0..3 {
        let began = Instant::now();
        let answer = store.unlink(keys.clone()).await;
        let (done, failed): (Vec<_>, Vec<_>) = answer.into_iter().partition(|group| group.outcome.is_ok());
        assert!(done.len() > 10_000 && failed.len() > 5_000, "{} and {}", done.len(), failed.len());
        assert!(failed.iter().flat_map(|group| &group.keys).all(|position| slot_of(&keys[*position]) > 10_000));
        if round == 0 {
            assert_eq!(count(&done), done.len() as u64);
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    assert_eq!(store.since(&masters).await, Since::Lost);
    assert!(store.masters().await.is_err());
    wait_until("the link to name the node", LONG, || async {
        match &*store.link().borrow() {
            Link::Down { why, .. } if why.text.contains("1 of 3") && why.text.contains(&cluster.node(2).address().to_string()) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    cluster.node(2).resume();
    unlink_all(&store, &keys).await;
    assert_eq!(left(&cluster), 0);
    whole(&store).await;

    // Two of three are no majority: the last one refuses everything, and takes up its work when they are back.
    fill(&cluster, &keys);
    cluster.node(1).pause();
    cluster.node(2).pause();
    wait_until("the rest to be refused", LONG, || async {
        let answer = store.unlink(vec![keys[0].clone()]).await;
        match &answer[0].outcome {
            Err(fault) if fault.text.contains("CLUSTERDOWN") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    cluster.node(1).resume();
    cluster.node(2).resume();
    unlink_all(&store, &keys).await;
    assert_eq!(left(&cluster), 0);
    whole(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_one_connection_concerns_its_keys_only() {
    let cluster = Cluster::start(3, 0).await;
    if cluster.node(0).version() < (7, 0) {
        return; // a node tells of a new port only when it starts
    }
    let proxy = cluster.proxy(1).await;
    let (_site, store) = store(&cluster).await;
    let keys: Vec<Bytes> = (0..300).map(|number| bytes(&format!("k:{number}"))).collect();
    let behind: HashSet<usize> = (0..keys.len()).filter(|position| cluster.owner_of(&keys[*position]) == 1).collect();
    assert!((50..150).contains(&behind.len()), "{}", behind.len());
    for (fault, kinds) in [
        (Fault::Stall, &[FaultKind::Timeout, FaultKind::Unreachable][..]),
        (Fault::SwallowReply, &[FaultKind::Unreachable]),
        (Fault::Refuse, &[FaultKind::Unreachable]),
    ] {
        fill(&cluster, &keys);
        proxy.set(fault);
        if fault == Fault::Refuse {
            proxy.cut();
        }
        let answer = store.unlink(keys.clone()).await;
        for group in &answer {
            let is_behind = group.keys.iter().all(|position| behind.contains(position));
            let kind = group.outcome.as_ref().map_err(|fault| fault.kind).err();
            assert!(if is_behind { kind.is_some_and(|kind| kinds.contains(&kind)) } else { kind.is_none() }, "{fault:?}: {group:?}");
        }
        proxy.set(Fault::None);
        proxy.cut();
        unlink_all(&store, &keys).await;
        assert_eq!(left(&cluster), 0);
        whole(&store).await;
    }
    assert_eq!(*store.failovers().borrow(), 0, "a lost connection is no failover");

    proxy.set(Fault::CutAfter(2000));
    proxy.cut();
    fill(&cluster, &keys);
    let cutting = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.set(Fault::None);
    };
    tokio::join!(unlink_all(&store, &keys), cutting);
    assert_eq!(left(&cluster), 0);
}

/// Waits until it is up by a newer connection than this.
async fn newer(client: &Client, generation: u64) -> u64 {
    let mut link = client.link();
    let up = link.wait_for(|link| matches!(link, Link::Up { generation: newer, .. } if *newer > generation));
    let up = tokio::time::timeout(LONG, up).await.unwrap_or_else(|_| panic!("{:?}", client.link().borrow())).unwrap();
    let Link::Up { generation, .. } = &*up else { unreachable!() };
    *generation
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_followed_to_where_its_slot_goes() {
    let mut cluster = Cluster::start(3, 1).await;
    let site = Site::open(&server(&cluster.url())).unwrap();
    let client = site.client(Place::Key("s"), Role::Commands, "test").unwrap();
    let reading = site.client(Place::Key("s"), Role::Reader { block: BLOCK }, "test").unwrap();
    let any = site.client(Place::Any, Role::Commands, "test").unwrap();
    for client in [&client, &reading, &any] {
        client.ready(LONG).await.unwrap();
    }
    any.ping().await.unwrap();
    group(&client).await;
    let blocked = ReadGroup { block: Some(BLOCK), ..NEW };
    let read = |reading: &Client| {
        let reading = reading.clone();
        tokio::spawn(async move { reading.xreadgroup(blocked).await })
    };

    // The slot moves while a read is blocked on it.
    let slot = slot_of("s");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    let blocked_read = read(&reading);
    let began = Instant::now();
    let mut migration = cluster.migrate(slot, to);
    assert_eq!(migration.move_keys(10), 1);
    let fault = client.xadd("s", &fields(&[("a", "1")])).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Cluster, "{fault}");
    migration.finish();
    assert!(blocked_read.await.unwrap().is_err());
    newer(&reading, 1).await;
    let added = wait_until("an entry to be added", LONG, || async {
        client.xadd("s", &fields(&[("a", "1")])).await.map_err(|fault| fault.to_string())
    })
    .await;
    assert!(began.elapsed() < BLOCK, "{:?}", began.elapsed());
    // A node that hasn't heard of the move yet may send the reader back once.
    let entries = wait_until("it to be read", LONG, || async {
        let entries = reading.xreadgroup(NEW).await.map_err(|fault| fault.to_string())?;
        if entries.is_empty() { Err("nothing".to_owned()) } else { Ok(entries) }
    })
    .await;
    assert_eq!(entries[0].id, added);
    assert_eq!(client.xack("s", "g", &[added]).await.unwrap(), 1);
    cluster.settled().await;

    // A failover by command, and then the new master's death.
    let blocked_read = read(&reading);
    let new = cluster.fail_over(to).await;
    assert!(blocked_read.await.unwrap().is_err());
    let added = wait_until("an entry to be added", LONG, || async {
        client.xadd("s", &fields(&[("a", "2")])).await.map_err(|fault| fault.to_string())
    })
    .await;
    let entries = wait_until("it to be read", LONG, || async {
        let entries = reading.xreadgroup(NEW).await.map_err(|fault| fault.to_string())?;
        if entries.is_empty() { Err("nothing".to_owned()) } else { Ok(entries) }
    })
    .await;
    assert_eq!(entries[0].id, added);
    wait_until("the old master to follow", LONG, || async {
        let info = cluster.node(to).cmd(&["INFO", "replication"]).text();
        if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
    })
    .await;
    cluster.node_mut(new).kill();
    wait_until("an entry to be added", LONG, || async {
        client.xadd("s", &fields(&[("a", "3")])).await.map_err(|fault| fault.to_string())
    })
    .await;
    assert_eq!(cluster.owner(slot), to);
}

#[tokio::test]
async fn a_cluster_speaks_tls_and_knows_its_users() {
    if !server_has_tls() {
        return;
    }
    let files = Certificates::new();
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| files.path(name));
    let cluster = Cluster::builder(2, 0).tls(&cert, &key, &ca).password("open").start().await;
    let rights = ["+unlink", "+scan", "+cluster|slots", "+cluster|info", "+cluster|nodes", "+asking"];
    let rights = if cluster.node(0).version() < (7, 0) { ["+unlink", "+scan", "+cluster", "+asking", "+ping", "+time"] } else { rights };
    for node in cluster.nodes() {
        node.cmd(&[&["ACL", "SETUSER", "app", "on", ">app's", "~*"], &rights[..]].concat());
    }
    let mut server = server(&cluster.url());
    (server.ca, server.cert, server.key) = (Some(ca), Some(files.path("client.pem")), Some(files.path("client.key")));
    (server.username, server.password) = (Some("app".to_owned()), Some(Secret::new("app's").into()));
    let store = Site::open(&server).unwrap().store("test").unwrap();
    whole(&store).await;
    let keys: Vec<Bytes> = (0..100).map(|number| bytes(&format!("k:{number}"))).collect();
    fill(&cluster, &keys);
    let slot = slot_of("k:0");
    let migration = cluster.migrate(slot, 1 - cluster.owner(slot));
    let masters = store.masters().await.unwrap();
    let mut seen = 0;
    for client in &masters.clients {
        let mut cursor = 0;
        loop {
            let page = client.scan(cursor, Some(b"k:*"), 1000).await.unwrap();
            seen += page.keys.len();
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
    }
    assert_eq!(seen, 100);
    assert_eq!(count(&store.unlink(keys).await), 100);
    drop(migration);
}
