//! Entries that seem to end every process that touches them.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use unstale_testkit::{Listener, Redis, Tap, Verdict, runtime, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Standing, World};

use super::kit::{assert_nothing_lost, publish, routes, things};

/// Makes a dead instance that read these entries of a stream and died over them so many times.
fn die_over(world: &mut World, stream: &str, instance: &str, deliveries: &[(&String, u32)]) {
    let stream = world.key(stream);
    world.cmd(&["XREADGROUP", "GROUP", "unstale", instance, "COUNT", "1000", "STREAMS", &stream, ">"]);
    for (id, count) in deliveries {
        let count = count.to_string();
        world.cmd(&["XCLAIM", &stream, "unstale", instance, "0", id, "IDLE", "60000", "RETRYCOUNT", &count, "JUSTID"]);
    }
    world.cmd(&["ZADD", "unstale:instances", "1", instance]);
}

/// A world whose sidecar reads nothing, so that the test can read in its place.
fn quiet() -> World {
    let mut world = World::with(|setup| setup.config(&routes()));
    world.sidecar.terminate();
    world.sidecar.wait();
    world
}

#[test]
fn who_was_delivered_too_often_is_buried_and_the_innocents_are_delivered() {
    let mut world = quiet();
    let ids = publish(&mut world, "events", "Changed", 0..10);
    let died: Vec<_> = ids.iter().enumerate().map(|(number, id)| (id, if number == 4 { 5 } else { 1 })).collect();
    die_over(&mut world, "events", "ghost-1", &died);
    let _sidecar = unstale_tests::Setup::on(&world.redis).config(&routes()).start(&world.redis);
    world.wait_settled();
    let letters = world.dead_letters();
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((letters[0].codes(), letters[0].get("dead_entry")), (vec!["deliveries".to_owned()], ids[4].clone()));
    assert_eq!(letters[0].get("id"), "4");
    assert_eq!(world.keys(), ["thing:4".to_owned()].into());
    let announced = super::kit::announced(&mut world);
    assert_eq!(announced, things(0..10).into_iter().filter(|key| key != "thing:4").collect());
}

#[test]
fn suspects_travel_alone() {
    let mut world = quiet();
    let ids = publish(&mut world, "events", "Changed", 0..12);
    let died: Vec<_> = ids.iter().enumerate().map(|(number, id)| (id, if number % 3 == 0 { 3 } else { 2 })).collect();
    die_over(&mut world, "events", "ghost-1", &died);
    let _sidecar = unstale_tests::Setup::on(&world.redis).config(&routes()).start(&world.redis);
    world.wait_settled();
    assert_nothing_lost(&mut world, &things(0..12));
    let notices = world.notices();
    for (number, id) in ids.iter().enumerate() {
        let notice = notices.iter().find(|notice| notice.events().contains(id)).expect("each is announced");
        assert_eq!(notice.events().len() == 1, number % 3 == 0, "{notices:#?}");
    }
    // Its name goes with its last entry.
    wait_until_sync("the dead consumer to be removed", PATIENCE, || {
        let consumers = world.cmd(&["XINFO", "CONSUMERS", "unstale:events", "unstale"]);
        let names: Vec<String> = consumers.array().iter().filter_map(|info| info.field("name")).map(unstale_testkit::Value::text).collect();
        if names.contains(&"ghost-1".to_owned()) { Err(format!("{names:?}")) } else { Ok(()) }
    });
}

/// Kills the process whose number this is whenever it is about to delete what the poison names.
#[derive(Default)]
struct Deadly {
    pid: AtomicU32,
    kills: AtomicU32,
}

impl Listener for Deadly {
    fn asked(&self, command: &mut Vec<Vec<u8>>) -> Verdict {
        if !command.iter().any(|word| word == b"thing:666") {
            return Verdict::Pass;
        }
        let pid = self.pid.load(Ordering::SeqCst).to_string();
        let killed = Command::new("sh").args(["-c", &format!("kill -9 {pid}")]).status();
        assert!(killed.is_ok_and(|status| status.success()), "{pid} can't be killed");
        self.kills.fetch_add(1, Ordering::SeqCst);
        Verdict::Cut
    }
}

impl Deadly {
    /// Starts a sidecar at `url`, and another whenever one was killed, until nothing is left to do. Returns how many were.
    fn outlive(&self, url: &str, bus: &mut Bus) -> u32 {
        let start = || {
            let sidecar = Setup::at(url).config(&routes()).spawn();
            self.pid.store(sidecar.pid(), Ordering::SeqCst);
            sidecar
        };
        let mut sidecar = start();
        wait_until_sync("one entry to be buried and the others to be done", PATIENCE * 6, || {
            if sidecar.ended().is_some() {
                sidecar = start();
            }
            let kills = self.kills.load(Ordering::SeqCst);
            let standings = [bus.standing("events")?, bus.standing("events:critical")?];
            if standings.iter().all(Standing::is_done) {
                Ok(kills)
            } else {
                Err(format!("{kills} kills, {standings:?}\n{}", sidecar.log()))
            }
        })
    }
}

/// Something deadly between sidecars and a server.
fn deadly(redis: &Redis) -> (tokio::runtime::Runtime, Tap, Arc<Deadly>) {
    let deadly = Arc::new(Deadly::default());
    let runtime = runtime();
    let tap = runtime.block_on(Tap::start(redis.address(), Arc::clone(&deadly) as Arc<dyn Listener>));
    (runtime, tap, deadly)
}

#[test]
fn p1_9_of_a_thousand_entries_one_of_which_kills_every_process_only_that_one_is_buried() {
    let redis = Redis::start_sync();
    let mut bus = Bus::new(&redis);
    let (_runtime, tap, deadly) = deadly(&redis);
    let ids = publish(&mut bus, "events", "Changed", 0..1001);
    let kills = deadly.outlive(&tap.url(), &mut bus);
    let letters = bus.dead_letters();
    eprintln!("an entry that kills the process, among 1,000 good ones: {kills} kills, {} dead letters", letters.len());
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!((letters[0].codes(), letters[0].get("dead_entry")), (vec!["deliveries".to_owned()], ids[666].clone()));
    assert_eq!(kills, 5, "it was delivered max_deliveries times");
    assert_eq!(bus.keys(), ["thing:666".to_owned()].into());
    let announced = super::kit::announced(&mut bus);
    assert_eq!(announced, things(0..1001).into_iter().filter(|key| key != "thing:666").collect());
}

/// An innocent, in whose hands four processes have died, and something deadly on either stream that the last of them left as well.
#[test]
fn p1_9_who_is_there_when_another_ends_the_process_is_not_charged_with_it() {
    for (stream, kind, delivered) in [("events", "Changed", 1), ("events:critical", "Revoked", 3)] {
        let mut world = quiet();
        let innocent = publish(&mut world, "events", "Changed", 0..1);
        let poison = publish(&mut world, stream, kind, 666..667);
        die_over(&mut world, "events", "ghost-1", &[(&innocent[0], 4)]);
        die_over(&mut world, stream, "ghost-1", &[(&poison[0], delivered)]);
        let (_runtime, tap, deadly) = deadly(&world.redis);
        let (url, kills) = (tap.url(), 5 - delivered);
        assert_eq!(deadly.outlive(&url, &mut world), kills, "of the poison on {stream}");
        let buried: Vec<String> = world.dead_letters().iter().map(|letter| letter.get("dead_entry")).collect();
        assert_eq!(buried, poison, "of {stream}");
        assert_eq!(world.keys(), ["thing:666".to_owned()].into());
    }
}
