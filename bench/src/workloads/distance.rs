//! A Redis that is 100 ms away: what counts is how often one waits for it.

use std::time::{Duration, Instant};

use serde_json::json;
use unstale_testkit::{Fault, FaultProxy, Redis, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Sidecar};

use crate::Bench;
use crate::backlog::seed;
use crate::contender::sidecar_at;
use crate::ear::Ear;
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::section::Section;

/// How long an answer is on its way.
const AWAY: Duration = Duration::from_millis(100);
/// How many keys a sidecar asks `SCAN` to look at.
const COUNT: i64 = 1000;
const PROVIDERS: usize = 18;

/// The preset, and an event of keys alone.
const CONFIG: &str = "presets = ['model-catalog']
[cache.k]
prefixes = ['k:']
[[route]]
event = 'Changed'
cache = 'k'
keys = ['k:{k[]}']
";

#[derive(Default)]
struct Figures {
    /// Round trips from when the 36 keys' event was read, and how often a delivery waited for Redis.
    keys: Samples,
    keys_waits: Samples,
    /// Round trips from when the providers' event was read until their keys and until their patterns are done; how many pages were scanned.
    providers: Samples,
    patterns: Samples,
    pages: Samples,
    /// More pages than the least that it takes.
    extra_pages: Samples,
}

pub(super) fn run(bench: &Bench) -> Section {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime can be made");
    let redis = Redis::start_sync();
    let size = bench.many(20_000);
    let keys: Vec<String> = (0..size).map(|number| format!("gw:models:other:{number}")).collect();
    seed(&mut redis.resp(), &keys);
    let proxy = runtime.block_on(FaultProxy::start(redis.address()));
    proxy.set(Fault::Delay(AWAY));
    let mut sidecar = sidecar_at(&proxy.url(), CONFIG).granted().spawn();
    let mut bus = Bus::new(&redis);
    sidecar.ready(&mut bus);
    let mut far = Far { redis: &redis, bus, sidecar: &sidecar, ear: Ear::open(&redis) };
    // The script is sent whole the first time.
    far.keys(&mut Figures::default());
    let mut figures = Figures::default();
    for _ in bench.rounds("distance") {
        far.keys(&mut figures);
        far.providers(&mut figures);
    }
    section(size, figures)
}

fn section(size: u64, figures: Figures) -> Section {
    let mut table = Table::new(&["", "round trips", "time"]);
    let mut row = |name: &str, trips: &Samples| {
        let times: Samples = trips.map(|trips| trips * AWAY.as_secs_f64() * 1e3);
        table.row([name.to_owned(), trips.show(Unit::Ratio), times.show(Unit::Milliseconds)]);
    };
    row("36 keys of one event: read to gone", &figures.keys);
    row("18 providers: read to their keys gone", &figures.providers);
    row("18 providers: read to their patterns done", &figures.patterns);
    let mut counts = Table::new(&["", "number"]);
    counts.row(["waits for Redis of the delivery of 36 keys".to_owned(), figures.keys_waits.show(Unit::Count)]);
    counts.row(["pages of SCAN for the patterns of 18 providers".to_owned(), figures.pages.show(Unit::Count)]);
    Section {
        title: "A Redis 100 ms away",
        about: format!(
            "A proxy lets each answer come {} ms later. {size} other keys are there. An event counts as read when Redis has given it to the group; its answer to that is on its way for one round trip, and by then the delete is at Redis. The yardstick: the keys of 18 providers, deleted one call after the other, took 15 to 17 s, and 1 to 2 s with a pipeline.",
            AWAY.as_millis()
        ),
        tables: vec![table, counts],
        bars: vec![
            Bar::new("Far Redis: 36 deletes, waits of their delivery", Wanted::AtMost(1.0), Unit::Count, figures.keys_waits),
            Bar::new("Far Redis: 18 providers, read to keys gone, round trips", Wanted::AtMost(1.2), Unit::Ratio, figures.providers),
            Bar::new("Far Redis: pages beyond ⌈keys / COUNT⌉ for the patterns", Wanted::AtMost(1.0), Unit::Count, figures.extra_pages),
        ],
        doubts: Vec::new(),
    }
}

struct Far<'a> {
    redis: &'a Redis,
    bus: Bus,
    sidecar: &'a Sidecar,
    ear: Ear,
}

impl Far<'_> {
    /// 36 keys of one event.
    fn keys(&mut self, figures: &mut Figures) {
        let names: Vec<String> = (0..36).map(|number| number.to_string()).collect();
        seed(&mut self.redis.resp(), &names.iter().map(|name| format!("k:{name}")).collect::<Vec<_>>());
        let before = self.waits(|_| true);
        let read = self.publish("Changed", &json!({ "k": names }));
        let gone = self.ear.wait("\"k:35\"");
        figures.keys.push(round_trips(gone - read));
        self.bus.wait_done();
        figures.keys_waits.push((self.waits(|waits| waits > before) - before) as f64);
    }

    /// The keys and patterns of 18 providers.
    fn providers(&mut self, figures: &mut Figures) {
        let names: Vec<String> = (0..PROVIDERS).map(|number| format!("provider{number}")).collect();
        let of = |name: &String| {
            let keys = ["gw:models:provider:", "gw:models:index:"].map(|prefix| format!("{prefix}{name}"));
            keys.into_iter().chain((0..10).map(move |model| format!("gw:models:model:{name}:{model}"))).collect::<Vec<_>>()
        };
        let keys: Vec<String> = names.iter().flat_map(of).collect();
        seed(&mut self.redis.resp(), &keys);
        let size = self.bus.cmd(&["DBSIZE"]).int();
        self.bus.reset_stats();
        let read = self.publish("ProvidersBatchInvalidated", &json!({ "providers": names, "cascade": true }));
        figures.providers.push(round_trips(self.ear.wait("gw:models:index:provider17") - read));
        figures.patterns.push(round_trips(self.ear.wait("gw:models:model:provider17:*") - read));
        self.bus.wait_done();
        let pages = self.bus.commandstats().get("scan").copied().unwrap_or_default();
        figures.pages.push(pages as f64);
        figures.extra_pages.push(pages as f64 - (size as f64 / COUNT as f64).ceil());
        assert_eq!(crate::backlog::present(&mut self.redis.resp(), &keys), 0, "keys of providers are left\n{}", self.sidecar.log());
    }

    /// Publishes an event, and says when Redis gave it to the group.
    fn publish(&mut self, kind: &str, attributes: &serde_json::Value) -> Instant {
        let id = self.bus.add(&["type", kind, "data", &attributes.to_string()]);
        wait_until_sync("the event to be read", PATIENCE, || {
            let standing = self.bus.standing("events")?;
            if standing.delivered == id { Ok(Instant::now()) } else { Err(format!("{standing:?}")) }
        })
    }

    /// How often deliveries have waited for Redis, once all is shown that was done.
    fn waits(&self, wanted: impl Fn(u64) -> bool) -> u64 {
        wait_until_sync("what was done to be shown", PATIENCE, || {
            let pending = self.sidecar.stats()["totals"]["pending"].take();
            let waits = self.sidecar.metric("unstale_redis_round_trips_total");
            if pending == 0 && wanted(waits) { Ok(waits) } else { Err(format!("{pending} pending, {waits} waits")) }
        })
    }
}

fn round_trips(time: Duration) -> f64 {
    time.as_secs_f64() / AWAY.as_secs_f64()
}
