//! A network that drops every packet without a word, between two namespaces of the kernel: what a proxy can't do, for its own end of a
//! connection goes on acknowledging bytes. Needs root and `ip`; skipped, with a message, where there is neither.

use std::process::Command;
use std::time::{Duration, Instant};

use unstale_testkit::Redis;
use unstale_tests::{Bus, Setup};

use super::kit::{assert_nothing_lost, pass, publish, routes, slows, things, wait_pending};

/// A network namespace that reaches the host over one cable.
struct Network {
    name: String,
    /// The host's end, and its address.
    cable: String,
    address: String,
}

impl Network {
    /// `None` if this machine doesn't let one be made.
    fn make() -> Option<Self> {
        let number = std::process::id() % 16_000;
        let (name, block, low) = (format!("unst{number}"), number / 64, number % 64 * 4);
        let network = Self { cable: format!("{name}h"), address: format!("10.231.{block}.{}", low + 1), name };
        let Self { name, cable, address } = &network;
        let (inner, inner_address) = (format!("{name}n"), format!("10.231.{block}.{}/30", low + 2));
        let made = ip(&["netns", "add", name])
            && ip(&["link", "add", cable, "type", "veth", "peer", "name", &inner, "netns", name])
            && ip(&["addr", "add", &format!("{address}/30"), "dev", cable])
            && ip(&["link", "set", cable, "up"])
            && ip(&["-n", name, "addr", "add", &inner_address, "dev", &inner])
            && ip(&["-n", name, "link", "set", &inner, "up"])
            && ip(&["-n", name, "link", "set", "lo", "up"]);
        made.then_some(network)
    }

    /// Takes the host's end down: packets vanish in both directions, and nobody is told.
    fn set(&self, state: &str) {
        assert!(ip(&["link", "set", &self.cable, state]), "{} can't be set {state}", self.cable);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        ip(&["link", "del", &self.cable]);
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> bool {
    Command::new("ip").args(words).output().is_ok_and(|output| output.status.success())
}

#[test]
fn a_network_that_drops_every_packet_costs_no_event() {
    let Some(network) = Network::make() else {
        eprintln!("skipped: no network namespace can be made here (root and `ip` are needed)");
        return;
    };
    let redis = Redis::builder().args(["--bind", "127.0.0.1", &network.address, "--protected-mode", "no"]).start_sync();
    let mut bus = Bus::new(&redis);
    let setup = Setup::at(format!("redis://{}:{}", network.address, redis.port())).within(&network.name).config(&routes());
    let sidecar = setup.set("redis.main.command_timeout=1s").set("redis.main.connect_timeout=1s").start(&redis);
    publish(&mut bus, "events", "Touched", 0..20);
    wait_pending(&mut bus, "events", 20);
    network.set("down");
    // Redis hands these to a read whose reader is out of reach.
    publish(&mut bus, "events", "Changed", 0..100);
    publish(&mut bus, "events:critical", "Revoked", 100..120);
    sidecar.wait_log("Redis can't be reached");
    pass(Duration::from_secs(3));
    network.set("up");
    let back = Instant::now();
    bus.wait_settled();
    eprintln!("after a network that dropped every packet all was done {:?} after it was back", back.elapsed());
    let log = sidecar.log();
    assert_eq!(log.matches("Redis can't be reached").count(), 1, "{log}");
    assert_nothing_lost(&mut bus, &(&things(0..120) | &slows(0..20)));
}
