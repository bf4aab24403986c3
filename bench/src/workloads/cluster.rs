//! A backlog worked off on a cluster of three nodes, to which the streams and the keys belong.

use std::collections::BTreeSet;

use unstale_testkit::{Cluster, Redis, Value, slot_of};
use unstale_tests::Bus;

use super::side_by_side;
use crate::Bench;
use crate::backlog::{Backlog, Event, Form, add, send, spread};
use crate::contender::{Kind, PRESET, Running, sidecar_at};
use crate::drain::{Drained, drain, server_pid, watch};
use crate::section::Section;

/// All keys of a namespace must be on one node.
const NAMESPACE: &str = "{unstale}";
const STREAM: &str = "{unstale}:events";

pub(super) fn run(bench: &Bench) -> Section {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let cluster = runtime.block_on(Cluster::start(3, 0));
    let redis = Redis::start_sync();
    let (events, keys) = (bench.many(300_000), bench.many(60_000));
    let backlog = Backlog::keep(&redis, "json", spread(Form::Json, events, keys));
    let all: Vec<Event> = spread(Form::Json, events, keys).collect();
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for _ in bench.rounds("cluster") {
        alone.push(drain(&redis, &backlog, &Kind::unstale(PRESET)));
        together.push(one_run(&cluster, &all));
    }
    let runs = [("one server".to_owned(), alone), ("three nodes".to_owned(), together)];
    let table = side_by_side(&["", "events", "of one server", "CPU an event", "CPU of all servers an event"], &runs);
    Section {
        title: "A cluster of three nodes",
        about: format!(
            "The backlog of {events} events again, on a cluster. Keys are deleted slot by slot there and announced afterwards, for a script can't reach keys of other nodes. All nodes, the sidecar and this program share the machine's cores."
        ),
        tables: vec![table],
        bars: Vec::new(),
        doubts: Vec::new(),
    }
}

fn one_run(cluster: &Cluster, events: &[Event]) -> Drained {
    for node in cluster.nodes() {
        node.cmd(&["FLUSHALL"]);
    }
    let homes = homes(cluster, events);
    for (node, keys) in cluster.nodes().iter().zip(&homes) {
        send(&mut node.resp(), keys.iter().map(|key| vec!["SET", key, "value"]));
    }
    let bus = cluster.node(cluster.owner_of(STREAM));
    send(&mut bus.resp(), events.iter().map(|event| add(STREAM, event.clone())));
    bus.cmd(&["XGROUP", "CREATE", STREAM, NAMESPACE, "0"]);
    let servers: Vec<u32> = cluster.nodes().iter().map(server_pid).collect();
    let config = format!("namespace = '{NAMESPACE}'\n{PRESET}");
    let sidecar = [Running::Sidecar(sidecar_at(&cluster.url(), &config).spawn())];
    let drained = watch(&mut Bus::new(bus).in_namespace(NAMESPACE), &servers, &sidecar, events.len() as u64);
    for (node, keys) in cluster.nodes().iter().zip(&homes) {
        let (mut resp, keys) = (node.resp(), keys.iter().map(|key| vec!["EXISTS", key]).collect::<Vec<_>>());
        let left: i64 = keys.chunks(500).flat_map(|some| resp.pipeline(some)).map(|there| there.int()).sum();
        assert_eq!(left, 0, "keys are left\n{}", sidecar[0].log());
    }
    drained
}

/// The keys of each node, in the order of the nodes.
fn homes<'e>(cluster: &Cluster, events: &'e [Event]) -> Vec<BTreeSet<&'e String>> {
    let slots = cluster.node(0).cmd(&["CLUSTER", "SLOTS"]);
    let range = |range: &Value| {
        let [from, to, master, ..] = range.array() else { panic!("CLUSTER SLOTS says {range:?}") };
        (from.int()..=to.int(), master.array()[1].int())
    };
    let ranges: Vec<_> = slots.array().iter().map(range).collect();
    let mut homes = vec![BTreeSet::new(); cluster.nodes().len()];
    for event in events {
        let slot = i64::from(slot_of(&event.key));
        let port = ranges.iter().find(|(slots, _)| slots.contains(&slot)).map(|(_, port)| *port);
        let node = cluster.nodes().iter().position(|node| Some(i64::from(node.port())) == port);
        homes[node.expect("every slot is somewhere")].insert(&event.key);
    }
    homes
}
