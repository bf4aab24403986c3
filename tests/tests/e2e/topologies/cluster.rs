//! On a cluster: keys of every slot, patterns, slots on the move, a master's death; and the bus in one slot.

use std::collections::BTreeMap;

use unstale_testkit::{Cluster, Redis, SLOTS, now, slot_of, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar};

use super::{ROUTES, changed, left, things};

const SIDECARS: usize = 5;

/// A bus of its own, five sidecars, and the caches on a cluster.
struct Stage {
    sidecars: Vec<Sidecar>,
    bus: Bus,
    _near: Redis,
    far: Cluster,
    /// One for each slot, by slot.
    keys: Vec<String>,
}

impl Stage {
    fn start() -> Self {
        let (near, far) = (Redis::start_sync(), now(Cluster::start(3, 1)));
        let start = |_| Setup::on(&near).config(ROUTES).server("far", &far).start(&near);
        let sidecars: Vec<Sidecar> = (0..SIDECARS).map(start).collect();
        for sidecar in &sidecars {
            sidecar.wait_log("server=\"far\"");
        }
        Self { sidecars, bus: Bus::new(&near), _near: near, far, keys: one_for_each_slot() }
    }

    /// Makes keys wherever they belong.
    fn seed<'a>(&self, keys: impl IntoIterator<Item = &'a String>) {
        seed(&self.far, keys);
    }

    fn publish(&mut self, keys: &[String]) {
        let ids: Vec<String> = keys.iter().map(|key| key.replacen("thing:", "", 1)).collect();
        let listed = |ids: &[String]| vec!["type".to_owned(), "Listed".to_owned(), "ids".to_owned(), format!("{ids:?}")];
        self.bus.add_all(&ids.chunks(64).map(listed).collect::<Vec<_>>());
    }

    /// Waits until all events are done, and every master of now is empty.
    #[track_caller]
    fn wait_empty(&mut self) {
        self.bus.wait_settled();
        wait_empty(&self.far);
    }

    fn unlinks(&self) -> u64 {
        let calls = |node: &Redis| {
            let stats = node.cmd(&["INFO", "commandstats"]).text();
            let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_unlink:calls=")?.split(',').next()?.parse::<u64>().ok());
            line.unwrap_or_default()
        };
        self.far.masters().into_iter().map(|index| calls(self.far.node(index))).sum()
    }
}

/// By slot.
fn one_for_each_slot() -> Vec<String> {
    let mut found = BTreeMap::new();
    for number in 0.. {
        let key = format!("thing:{number}");
        found.entry(slot_of(&key)).or_insert(key);
        if found.len() == usize::from(SLOTS) {
            break;
        }
    }
    found.into_values().collect()
}

/// Makes keys wherever they belong.
fn seed<'a>(cluster: &Cluster, keys: impl IntoIterator<Item = &'a String>) {
    let mut at = BTreeMap::new();
    let owners: Vec<usize> = owners(cluster);
    for key in keys {
        let owner = owners[usize::from(slot_of(key))];
        at.entry(owner).or_insert_with(|| cluster.node(owner).resp()).cmd(&["SET", key, "old"]);
    }
    for (_, mut node) in at {
        node.cmd(&["WAIT", "1", "5000"]);
    }
}

/// The node of each slot. Asking takes long, so of 16 only the ends are asked for, if they agree.
fn owners(cluster: &Cluster) -> Vec<usize> {
    let of_block = |first: u16| {
        let ends = [first, first + 15].map(|slot| cluster.owner(slot));
        let owner = move |slot| if ends[0] == ends[1] { ends[0] } else { cluster.owner(slot) };
        (first..first + 16).map(owner).collect::<Vec<_>>()
    };
    (0..SLOTS).step_by(16).flat_map(of_block).collect()
}

#[track_caller]
fn wait_empty(cluster: &Cluster) {
    wait_until_sync("nothing to be left of the caches", PATIENCE * 2, || {
        let left: Vec<String> = cluster.masters().into_iter().flat_map(|index| left(cluster.node(index))).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{} keys, such as {}", left.len(), left[0])) }
    });
}

#[test]
fn a_cluster_is_kept_fresh_whatever_becomes_of_its_nodes() {
    let mut stage = Stage::start();
    every_slot_once(&mut stage);
    patterns_on_every_master(&mut stage);
    slots_on_the_move(&mut stage);
    the_bus_in_one_slot(&stage);
    a_masters_death(&mut stage);
}

fn every_slot_once(stage: &mut Stage) {
    let keys = stage.keys.clone();
    stage.seed(&keys);
    stage.publish(&keys);
    stage.wait_empty();
    assert_eq!(stage.unlinks(), u64::from(SLOTS), "each slot's key was deleted by one command of one sidecar");
}

fn patterns_on_every_master(stage: &mut Stage) {
    let keys: Vec<String> = (0..3000).map(|number| format!("thing:swept:{number}")).collect();
    stage.seed(&keys);
    stage.bus.publish("Swept", &[("id", "swept:")]);
    stage.wait_empty();
}

/// Two hundred slots go to another master, with keys in them, while those are deleted by name and by pattern.
fn slots_on_the_move(stage: &mut Stage) {
    let moved = 0..192;
    let mut keys = stage.keys[..512].to_vec();
    keys.extend(stage.keys[..192].iter().flat_map(|key| (0..5).map(move |more| format!("thing:swept:{{{key}}}:{more}"))));
    stage.seed(&keys);
    let (mut bus, named) = (stage.bus.again(), stage.keys[..512].to_vec());
    let flow = std::thread::spawn(move || {
        for (count, key) in named.iter().enumerate() {
            bus.publish("Changed", &[("id", key.trim_start_matches("thing:"))]);
            if count % 64 == 0 {
                bus.publish("Swept", &[("id", "swept:")]);
            }
        }
        bus.publish("Swept", &[("id", "swept:")]);
    });
    now(stage.far.reshard(moved, 1));
    flow.join().expect("the publisher ends");
    stage.wait_empty();
    now(stage.far.settled());
}

/// A sidecar all of whose keys are on the cluster, and the master of its bus hands over to a replica.
fn the_bus_in_one_slot(stage: &Stage) {
    const COUNT: usize = 500;
    let owner = stage.far.owner_of("{unstale}:events");
    let mut bus = Bus::new(stage.far.node(owner)).in_namespace("{unstale}");
    let routes = ROUTES.replace("redis = \"far\"\n", "");
    let mut sidecar = Setup::on(&stage.far).config(&routes).namespace("{unstale}").spawn();
    sidecar.ready(&mut bus);
    seed(&stage.far, &things(0..COUNT));
    bus.add_all(&changed(0..COUNT));
    let owner = now(stage.far.fail_over(owner));
    let mut bus = Bus::new(stage.far.node(owner)).in_namespace("{unstale}");
    seed(&stage.far, &things(COUNT..2 * COUNT));
    bus.add_all(&changed(COUNT..2 * COUNT));
    bus.wait_settled();
    wait_empty(&stage.far);
    sidecar.terminate();
    assert_eq!(sidecar.wait(), Some(0), "{}", sidecar.log());
}

fn a_masters_death(stage: &mut Stage) {
    let keys = stage.keys.clone();
    stage.seed(&keys);
    let master = stage.far.owner(9000);
    let (first, second) = keys.split_at(keys.len() / 2);
    stage.publish(first);
    stage.far.node_mut(master).kill();
    stage.publish(second);
    now(stage.far.replaced(master, 9000));
    stage.wait_empty();
    assert!(stage.sidecars.iter_mut().all(|sidecar| sidecar.ended().is_none()));
    assert_eq!(stage.bus.dead_letters(), []);
}
