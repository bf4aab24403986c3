//! One Redis that keeps what it confirmed, with a proxy before it for each sidecar.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::runtime::Handle;
use unstale_testkit::{Fault, FaultProxy, Listener, Redis, Tap};

use crate::client::{Fixed, Route};
use crate::stage::{Deed, PERSISTENT, Stage, Strike};

const SERVER: Duration = Duration::from_secs(4);
const WIRE: Duration = Duration::from_secs(5);
const DEEDS: [Deed; 10] = [
    Deed { kind: "redis killed", weight: 8, grace: SERVER, loses: false },
    Deed { kind: "redis stopped", weight: 8, grace: SERVER, loses: false },
    Deed { kind: "connections cut", weight: 6, grace: WIRE, loses: false },
    Deed { kind: "connections stalled", weight: 6, grace: WIRE, loses: false },
    Deed { kind: "connections half open", weight: 6, grace: WIRE, loses: false },
    Deed { kind: "replies delayed", weight: 4, grace: WIRE, loses: false },
    Deed { kind: "reply swallowed", weight: 8, grace: WIRE, loses: false },
    Deed { kind: "connections refused", weight: 4, grace: WIRE, loses: false },
    Deed { kind: "clients killed", weight: 5, grace: WIRE, loses: false },
    Deed { kind: "scripts flushed", weight: 4, grace: Duration::from_secs(1), loses: false },
];

/// The server and its proxies.
pub struct Standalone {
    redis: Redis,
    proxies: Vec<FaultProxy>,
    taps: Vec<Tap>,
}

impl Standalone {
    /// Starts a server for so many sidecars. With a listener, what they and the server say goes by it.
    pub fn start(sidecars: usize, listener: Option<&Arc<dyn Listener>>, runtime: &Handle) -> Self {
        let redis = Redis::builder().args(PERSISTENT).start_sync();
        let proxies: Vec<FaultProxy> = (0..sidecars).map(|_| runtime.block_on(FaultProxy::start(redis.address()))).collect();
        let tap = |proxy: &FaultProxy| listener.map(|listener| runtime.block_on(Tap::start(proxy.address(), Arc::clone(listener))));
        let taps = proxies.iter().filter_map(tap).collect();
        Self { redis, proxies, taps }
    }

    fn kill(&mut self, strike: &mut Strike<'_>) {
        self.redis.kill();
        strike.pass(0..3000);
        self.redis.launch();
        self.redis.ready_sync();
    }

    fn each(&self, which: &[usize], act: impl Fn(&FaultProxy)) {
        for one in which {
            act(&self.proxies[*one]);
        }
    }

    /// Has a fault on these proxies.
    fn spoil(&self, which: &[usize], fault: Fault, strike: &mut Strike<'_>, milliseconds: std::ops::Range<u64>) {
        self.each(which, |proxy| proxy.set(fault));
        strike.pass(milliseconds);
        self.each(which, |proxy| proxy.set(Fault::None));
    }
}

impl Stage for Standalone {
    fn route(&self) -> Arc<dyn Route> {
        Arc::new(Fixed(self.redis.address()))
    }

    fn urls(&self, _sidecars: usize) -> Vec<String> {
        if self.taps.is_empty() { self.proxies.iter().map(FaultProxy::url).collect() } else { self.taps.iter().map(Tap::url).collect() }
    }

    fn deeds(&self) -> &'static [Deed] {
        &DEEDS
    }

    fn act(&mut self, deed: &Deed, strike: &mut Strike<'_>) {
        let all: Vec<usize> = (0..self.proxies.len()).collect();
        let which = if strike.random.random_bool(0.3) { all } else { vec![strike.random.random_range(0..self.proxies.len())] };
        let what = match deed.kind {
            "redis killed" | "redis stopped" | "clients killed" | "scripts flushed" => String::new(),
            _ => format!("of sidecars {which:?}"),
        };
        let fault = strike.begin(deed, what);
        match deed.kind {
            "redis killed" => self.kill(strike),
            "redis stopped" => {
                self.redis.pause();
                strike.pass(200..6000);
                self.redis.resume();
            }
            "connections cut" => self.each(&which, FaultProxy::cut),
            "connections stalled" => self.spoil(&which, Fault::Stall, strike, 200..6000),
            // Until it is closed, a connection that went dead without a word is found out when it is used, each for itself.
            "connections half open" => {
                self.each(&which, FaultProxy::freeze);
                strike.pass(1000..9000);
                self.each(&which, FaultProxy::cut);
            }
            "replies delayed" => {
                let delay = Duration::from_millis(strike.random.random_range(10..300));
                self.spoil(&which, Fault::Delay(delay), strike, 1000..5000);
            }
            "reply swallowed" => self.spoil(&which, Fault::SwallowReply, strike, 100..500),
            "connections refused" => {
                self.each(&which, |proxy| proxy.set(Fault::Refuse));
                self.each(&which, FaultProxy::cut);
                self.spoil(&which, Fault::Refuse, strike, 100..4000);
            }
            "clients killed" => {
                self.redis.cmd(&["CLIENT", "KILL", "TYPE", "normal"]);
                self.redis.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            }
            _ => drop(self.redis.cmd(&["SCRIPT", "FLUSH"])),
        }
        strike.end(fault);
    }
}
