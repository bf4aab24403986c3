//! One event after silence: from `XADD` to the key gone, beside a bare `PING`.

use std::thread;
use std::time::{Duration, Instant};

use unstale_testkit::{Redis, Resp};

use super::middle_and_worst;
use crate::Bench;
use crate::backlog::{Form, add, spread};
use crate::contender::{PRESET, sidecar};
use crate::ear::Ear;
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::section::Section;

/// Silence before each: longer than the window of the events' lane (a quarter of 100 ms), so that nothing is gathered.
const SILENCE: Duration = Duration::from_millis(30);

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::start_sync();
    let _sidecar = sidecar(&redis, PRESET).start(&redis);
    let (mut resp, mut ear) = (redis.resp(), Ear::open(&redis));
    let (mut pings, mut gone) = (Samples::default(), Samples::default());
    let (mut all_pings, mut all_gone, mut ratios) = (Samples::default(), Samples::default(), Samples::default());
    for _ in bench.rounds("latency") {
        let events = bench.many(60).max(5);
        for event in spread(Form::Json, events, events) {
            pings.push(ping(&mut resp));
            resp.cmd(&["SET", &event.key, "value"]);
            thread::sleep(SILENCE);
            let (key, begun) = (event.key.clone(), Instant::now());
            resp.cmd(&add("unstale:events", event));
            gone.push(microseconds(ear.wait(&key) - begun));
        }
        ratios.push(gone.median() / pings.median());
        all_pings.append(std::mem::take(&mut pings));
        all_gone.append(std::mem::take(&mut gone));
    }
    let mut table = Table::new(&["", "times", "median", "99 of 100 within"]);
    table.row(middle_and_worst("a bare PING", &all_pings, Unit::Microseconds));
    table.row(middle_and_worst("an event: XADD to key gone", &all_gone, Unit::Microseconds));
    let worst = [all_gone.quantile(0.99) / 1e3].into_iter().collect();
    Section {
        title: "One event after silence",
        about: format!(
            "One event at a time, each after {} ms of silence, and a PING likewise. From before the XADD is sent until its notice is heard, which the script publishes with the delete.",
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
