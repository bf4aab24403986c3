//! What systemd hears of a sidecar: the tests listen in its place, on a socket that `NOTIFY_SOCKET` names.

use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use unstale_testkit::Redis;

use crate::kit::{Bench, PATIENCE, Running};

/// Where systemd would listen.
struct Manager {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Manager {
    /// Listens, and has the bench's sidecars told so.
    fn of(bench: Bench) -> (Self, Bench) {
        let path = bench.dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let bench = bench.env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "2000000");
        (Self { socket, heard: Vec::new() }, bench)
    }

    /// Listens until it is told this.
    fn hears(&mut self, wanted: &str) {
        let started = Instant::now();
        loop {
            let mut buffer = [0; 1024];
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}; heard {:#?}", self.heard));
            let message = String::from_utf8(buffer[..length].to_vec()).unwrap();
            let is_wanted = message.lines().any(|line| line == wanted);
            self.heard.push(message);
            if is_wanted {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "no {wanted} among {:#?}", self.heard);
        }
    }

    fn has_heard(&self, text: &str) -> bool {
        self.heard.iter().flat_map(|message| message.lines()).any(|line| line == text)
    }
}

#[test]
fn systemd_hears_of_the_first_connection_of_health_and_of_the_end() {
    let mut redis = Redis::start_sync();
    redis.kill();
    let (mut manager, bench) = Manager::of(Bench::with(&redis.url()));
    let mut running = Running::start(&bench, &[]);
    manager.hears("STATUS=unhealthy: redis_down");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    assert!(!manager.has_heard("READY=1"), "{:#?}", manager.heard);
    redis.launch();
    redis.ready_sync();
    manager.hears("READY=1");
    manager.hears("STATUS=ok");
    redis.kill();
    manager.hears("STATUS=unhealthy: redis_down");
    manager.hears("WATCHDOG=1");
    redis.launch();
    redis.ready_sync();
    manager.hears("STATUS=ok");
    assert_eq!(manager.heard.iter().filter(|message| message.trim() == "READY=1").count(), 1, "{:#?}", manager.heard);
    running.signal("TERM");
    manager.hears("STOPPING=1");
    assert_eq!(running.code(), Some(0), "{}", running.log());
}

#[test]
fn a_sidecar_works_on_where_nobody_listens() {
    let redis = Redis::start_sync();
    let bench = Bench::with(&redis.url()).env("NOTIFY_SOCKET", "/nonexistent/notify");
    let mut running = Running::start(&bench, &[]);
    running.logs("can't tell systemd");
    running.signal("TERM");
    assert_eq!(running.code(), Some(0), "{}", running.log());
}
