//! One event after silence: from `XADD` to the key gone, beside a bare `PING`.

use std::thread;
use std::time::{Duration, Instant};

use unstale_testkit::{Redis, Resp};

use super::middle_and_worst;
use crate::Bench;
use crate::backlog::{Event, Form, add, spread};
use crate::contender::{Kind, PRESET, Peer, sidecar};
use crate::ear::Ear;
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::section::Section;

/// Silence before each: longer than the window of the events' lane (a quarter of 100 ms), so that nothing is gathered.
const SILENCE: Duration = Duration::from_millis(30);

pub(super) fn run(bench: &Bench) -> Section {
    let (redis, other) = (Redis::start_sync(), Redis::start_sync());
    let _sidecar = sidecar(&redis, PRESET).start(&redis);
    other.cmd(&["XGROUP", "CREATE", "unstale:events", "unstale", "0", "MKSTREAM"]);
    let _peer = Kind::Peer(Peer::C).start(&other);
    let (mut here, mut there) = (Site::of(&redis), Site::of(&other));
    let mut ratios = Samples::default();
    for _ in bench.rounds("latency") {
        let events = bench.many(60).max(5);
        for event in spread(Form::Json, events, events) {
            here.hear(event.clone());
            there.hear(event);
        }
        ratios.push(here.round());
        there.round();
    }
    let mut table = Table::new(&["", "times", "median", "99 of 100 within"]);
    table.row(middle_and_worst("a bare PING", &here.all_pings, Unit::Microseconds));
    table.row(middle_and_worst("an event: XADD to key gone", &here.all_gone, Unit::Microseconds));
    table.row(middle_and_worst("the same with the loop in C", &there.all_gone, Unit::Microseconds));
    let worst = [here.all_gone.quantile(0.99) / 1e3].into_iter().collect();
    Section {
        title: "One event after silence",
        about: format!(
            "One event at a time, each after {} ms of silence, and a PING likewise. From before the XADD is sent until its notice is heard, which the script publishes with the delete. The loop in C has a server of its own, and takes turns.",
            SILENCE.as_millis()
        ),
        tables: vec![table],
        bars: vec![
            Bar::new("Idle: XADD to key gone, median, of a bare PING", Wanted::AtMost(3.0), Unit::Times, ratios),
            Bar::new("Idle: XADD to key gone, 99 of 100 within", Wanted::AtMost(3.0), Unit::Milliseconds, worst),
        ],
        doubts: Vec::new(),
    }
}

/// A server on which somebody deals with events, and how long that took.
struct Site {
    resp: Resp,
    ear: Ear,
    pings: Samples,
    gone: Samples,
    all_pings: Samples,
    all_gone: Samples,
}

impl Site {
    fn of(redis: &Redis) -> Self {
        let none = Samples::default;
        Self { resp: redis.resp(), ear: Ear::open(redis), pings: none(), gone: none(), all_pings: none(), all_gone: none() }
    }

    /// Sends a PING and an event.
    fn hear(&mut self, event: Event) {
        self.pings.push(ping(&mut self.resp));
        self.resp.cmd(&["SET", &event.key, "value"]);
        thread::sleep(SILENCE);
        let (key, begun) = (event.key.clone(), Instant::now());
        self.resp.cmd(&add("unstale:events", event));
        self.gone.push(microseconds(self.ear.wait(&key) - begun));
    }

    /// Ends a round: how long an event took in it, in PINGs.
    fn round(&mut self) -> f64 {
        let ratio = self.gone.median() / self.pings.median();
        self.all_pings.append(std::mem::take(&mut self.pings));
        self.all_gone.append(std::mem::take(&mut self.gone));
        ratio
    }
}

/// One round trip after silence.
fn ping(resp: &mut Resp) -> f64 {
    thread::sleep(SILENCE);
    let begun = Instant::now();
    resp.cmd(&["PING"]);
    microseconds(begun.elapsed())
}

fn microseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}
