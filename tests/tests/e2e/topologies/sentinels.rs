//! Behind sentinels: a master that is replaced by command and goes on answering, and one that dies with deletes that nobody else has.

use std::time::{Duration, Instant};

use unstale_testkit::{Redis, Sentinels, now, wait_until_sync};
use unstale_tests::{Bus, PATIENCE, Setup, Sidecar};

use super::{ROUTES, announced, changed, left, things, wait_gone};
use crate::faults::kit::pass;

/// A bus of its own, and the caches behind sentinels.
struct Stage {
    sidecar: Sidecar,
    bus: Bus,
    near: Redis,
    far: Sentinels,
}

impl Stage {
    fn start() -> Self {
        let (near, far) = (Redis::start_sync(), now(Sentinels::start(1)));
        let sidecar = Setup::on(&near).config(ROUTES).server("far", &far).start(&near);
        sidecar.wait_log("server=\"far\"");
        Self { sidecar, bus: Bus::new(&near), near, far }
    }

    fn master(&self) -> &Redis {
        self.far.server(self.far.master())
    }

    /// Makes keys that the replica has as well.
    fn seed(&self, keys: impl IntoIterator<Item = String>) {
        let mut master = self.master().resp();
        for key in keys {
            master.cmd(&["SET", &key, "old"]);
        }
        assert_eq!(master.cmd(&["WAIT", "1", "20000"]).int(), 1);
    }

    /// Has many things deleted, by key and by pattern, that the replica still has: it is cut off, so what the master confirms from then on dies
    /// with it. Returns which they are.
    fn deletes_alone(&mut self) -> (usize, usize) {
        const COUNT: usize = 500;
        let (master, replica) = (self.far.master(), 1 - self.far.master());
        self.seed(things(0..COUNT).into_iter().chain((0..COUNT).map(|number| format!("thing:swept:{number}"))));
        self.far.server(replica).pause();
        self.master().cmd(&["CLIENT", "KILL", "TYPE", "replica"]);
        self.bus.add_all(&changed(0..COUNT));
        self.bus.publish("Swept", &[("id", "swept:")]);
        self.bus.wait_settled();
        assert_eq!(left(self.master()), Vec::<String>::new());
        (master, replica)
    }

    /// The master dies, and the replica takes its place.
    fn dies(&mut self, master: usize, replica: usize) {
        self.far.server_mut(master).kill();
        self.far.server(replica).resume();
        now(self.far.replaced(master));
    }

    /// Waits until the server that was a master is a replica of the new one and has what that has.
    fn demoted(&self, index: usize) {
        let old = self.far.server(index);
        wait_until_sync("the old master to follow the new one", PATIENCE * 2, || {
            // Its sentinels end its clients' connections when they have it follow another.
            let info = old.resp().try_cmd(&["INFO", "replication"]).map_err(|error| error.to_string())?.text();
            if info.contains("role:slave") && info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
        });
    }

    /// How long a new event takes from now.
    fn flows(&mut self, id: &str) -> Duration {
        let key = format!("thing:{id}");
        self.master().cmd(&["SET", &key, "old"]);
        let began = Instant::now();
        self.bus.publish("Changed", &[("id", id)]);
        wait_until_sync("a new event to be done", PATIENCE, || {
            if self.master().cmd(&["EXISTS", &key]).int() == 0 { Ok(()) } else { Err("the key is there".to_owned()) }
        });
        began.elapsed()
    }
}

#[test]
fn caches_behind_sentinels_are_never_left_stale_by_a_failover() {
    let mut stage = Stage::start();
    replaced_by_command(&mut stage);
    dead_with_deletes_of_its_own(&mut stage);
}

/// The old master answers as a master for some ten seconds more.
fn replaced_by_command(stage: &mut Stage) {
    const COUNT: usize = 4000;
    let old = stage.far.master();
    stage.seed(things(0..COUNT));
    for part in 0..4 {
        stage.bus.add_all(&changed(COUNT / 8 * part..COUNT / 8 * (part + 1)));
    }
    let flow = {
        let mut bus = stage.bus.again();
        std::thread::spawn(move || changed(COUNT / 2..COUNT).chunks(50).for_each(|some| drop(bus.add_all(some))))
    };
    now(stage.far.fail_over());
    let took = stage.flows("first");
    eprintln!("by command: the first new event was done {took:?} after the sentinels agreed");
    assert!(took < Duration::from_secs(5), "{took:?}");
    flow.join().expect("the publisher ends");
    stage.bus.wait_settled();
    wait_gone(stage.master());
    assert_ne!(stage.far.master(), old);
    stage.demoted(old);
    assert_eq!(left(stage.far.server(old)), Vec::<String>::new());
}

fn dead_with_deletes_of_its_own(stage: &mut Stage) {
    let (old, new) = stage.deletes_alone();
    let before = announced(&mut stage.bus, "thing:7");
    stage.dies(old, new);
    // All of it is back, and nobody publishes it again.
    wait_gone(stage.master());
    stage.sidecar.wait_log("what was deleted there lately was deleted again");
    assert!(announced(&mut stage.bus, "thing:7") > before, "receivers that read the old value again hear of it");
    let took = stage.flows("second");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

/// Who had deleted them died with the master, so nobody remembers: the deletes stand in the log of notices alone.
#[test]
fn what_a_dead_sidecar_deleted_on_a_dead_master_is_deleted_again_by_another() {
    what_the_dead_deleted_is_deleted_again(|_, _| {});
}

/// The bus stands still just before, so that nobody knows who lives when it is to be judged.
#[test]
fn and_it_is_when_nobody_can_be_judged_at_first() {
    what_the_dead_deleted_is_deleted_again(|stage, other| {
        other.wait_log("what was deleted there lately was deleted again");
        pass(UNTIL_THEN);
        stage.near.pause();
        pass(PAUSED);
        stage.near.resume();
    });
}

/// Five seconds after a failover a sidecar looks who has died. For some seconds after a pause of this length nobody can tell; so it begins in time.
const PAUSED: Duration = Duration::from_millis(2200);
const UNTIL_THEN: Duration = Duration::from_secs(2);

/// What happens meanwhile happens when the other sidecar has seen the failover.
fn what_the_dead_deleted_is_deleted_again(meanwhile: impl FnOnce(&Stage, &Sidecar)) {
    let mut stage = Stage::start();
    let servers = format!("[redis.far]\nurl = \"{}\"\n", stage.far.url());
    let other = Setup::on(&stage.near).config(ROUTES).config(&servers).start(&stage.near);
    other.wait_log("server=\"far\"");
    let (old, new) = stage.deletes_alone();
    let own = stage.sidecar.instance(&mut stage.bus);
    assert!(stage.bus.notices().iter().all(|notice| notice.json["origin"] == *own), "the reader did all of it");
    stage.sidecar.kill();
    stage.dies(old, new);
    meanwhile(&stage, &other);
    wait_gone(stage.master());
    assert!(announced(&mut stage.bus, "thing:7") > 1, "receivers that read the old value again hear of it");
}

#[test]
fn a_bus_behind_sentinels_goes_on_with_the_new_master() {
    const COUNT: usize = 500;
    let all = now(Sentinels::start(1));
    let mut bus = Bus::new(all.server(all.master()));
    let routes = ROUTES.replace("redis = \"far\"\n", "");
    let mut sidecar = Setup::on(&all).config(&routes).spawn();
    sidecar.ready(&mut bus);
    bus.seed(things(0..COUNT));
    bus.add_all(&changed(0..COUNT));
    assert_eq!(bus.cmd(&["WAIT", "1", "20000"]).int(), 1);
    let master = now(all.fail_over());
    let mut bus = Bus::new(all.server(master));
    let began = Instant::now();
    bus.seed(things(COUNT..2 * COUNT));
    bus.add_all(&changed(COUNT..2 * COUNT));
    bus.wait_settled();
    eprintln!("the bus: settled {:?} after the sentinels agreed", began.elapsed());
    assert_eq!(left(all.server(master)), Vec::<String>::new());
    assert_eq!(bus.dead_letters(), []);
    sidecar.terminate();
    assert_eq!(sidecar.wait(), Some(0), "{}", sidecar.log());
}
