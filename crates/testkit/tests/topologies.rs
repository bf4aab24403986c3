//! Clusters and sentinels of the kit, against real processes.

use unstale_testkit::{Certificates, Cluster, Sentinels, server_has_tls, slot_of, wait_until};

const LONG: std::time::Duration = std::time::Duration::from_secs(60);

#[tokio::test]
async fn a_cluster_loses_a_master_moves_slots_and_fails_over() {
    let mut cluster = Cluster::start(3, 1).await;
    assert_eq!(cluster.masters(), [0, 1, 2]);
    assert_eq!(cluster.replicas_of(1), [4]);
    for key in ["a", "{tag}:b", "{}c", "plain{tag}", "x{y}{z}"] {
        assert_eq!(cluster.node(0).cmd(&["CLUSTER", "KEYSLOT", key]).int(), i64::from(slot_of(key)), "{key}");
    }

    let slot = slot_of("{t}");
    let from = cluster.owner(slot);
    let to = (from + 1) % 3;
    let mut resp = cluster.node(from).resp();
    for number in 0..30 {
        resp.cmd(&["SET", &format!("{{t}}{number}"), "v"]);
    }
    let mut migration = cluster.migrate(slot, to);
    assert_eq!(migration.move_keys(10), 10);
    let moved = (0..30).filter(|number| resp.try_cmd(&["GET", &format!("{{t}}{number}")]).is_err()).count();
    assert_eq!(moved, 10);
    drop(migration);
    assert_eq!(cluster.owner(slot), from);
    cluster.reshard([slot], to).await;
    cluster.settled().await;
    assert_eq!(cluster.owner(slot), to);
    assert_eq!(cluster.cmd("{t}0", &["GET", "{t}0"]).text(), "v");

    // What was begun ends where it should, whoever is in whose place by then, and nobody's slot becomes somebody's.
    let third = (to + 1) % 3;
    assert_eq!(cluster.migrate(slot, third).move_keys(10), 10);
    let other = cluster.fail_over(third).await;
    cluster.reshard([slot], third).await;
    assert_eq!(cluster.owner(slot), other);
    cluster.nodes().iter().for_each(|node| drop(node.cmd(&["CLUSTER", "DELSLOTS", &slot.to_string()])));
    cluster.reshard([slot], to).await;
    assert_eq!(cluster.owner(slot), to);

    let new = cluster.fail_over(to).await;
    assert_eq!(cluster.owner(slot), new);
    wait_until("the old master to follow", LONG, || async {
        let role = cluster.node(to).cmd(&["ROLE"]).array()[0].text();
        if role == "slave" { Ok(()) } else { Err(role) }
    })
    .await;
    cluster.node_mut(new).kill();
    // The others call the cluster down from when they miss it until its replica has its slots.
    wait_until("another master to call the cluster down", LONG, || async {
        let down = cluster.node(other).cmd(&["CLUSTER", "INFO"]).text().contains("cluster_state:fail");
        if down || cluster.owner(slot) == to { Ok(()) } else { Err("it is up".to_owned()) }
    })
    .await;
    let key = ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().find(|key| cluster.owner_of(key) == other).expect("a key there");
    cluster.cmd(key, &["SET", key, "v"]);
    assert_eq!(cluster.replaced(new, slot).await, to);
}

#[tokio::test]
async fn sentinels_fail_over_by_command_and_by_death() {
    let mut all = Sentinels::start(2).await;
    assert_eq!(all.master(), 0);
    let second = all.fail_over().await;
    assert_ne!(second, 0);
    assert_eq!(all.server(0).cmd(&["ROLE"]).array()[0].text(), "master", "the old one answers as one for a while");
    all.server_mut(second).kill();
    let third = all.replaced(second).await;
    assert!(third != second);
    assert!(all.url().ends_with("?master=main"));
}

#[tokio::test]
async fn both_speak_tls_and_want_passwords() {
    if !server_has_tls() {
        return;
    }
    let files = Certificates::new();
    let [cert, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| files.path(name));
    let all = Sentinels::builder(1).tls(&cert, &key, &ca).password("p1").sentinel_password("p2").start().await;
    let cluster = Cluster::builder(2, 1).tls(&cert, &key, &ca).password("p3").start().await;
    assert!(all.url().starts_with("rediss-sentinel://") && cluster.url().starts_with("rediss-cluster://"));
    all.fail_over().await;
    cluster.cmd("k", &["SET", "k", "v"]);
    let to = 1 - cluster.owner_of("k");
    cluster.reshard([slot_of("k")], to).await;
    assert_eq!(cluster.cmd("k", &["GET", "k"]).text(), "v");
}
