//! Events of all priorities at once, and how old they are when they are done.

use std::thread;
use std::time::{Duration, Instant};

use unstale_testkit::{Redis, Resp};
use unstale_tests::{Bus, Notice};

use super::middle_and_worst;
use crate::Bench;
use crate::contender::sidecar;
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::section::Section;

/// Of a hundred events so many have each priority; what each may take at the most, by what the systems of the presets ask for.
const MIX: [(&str, u64, Option<f64>); 4] =
    [("critical", 2, Some(50.0)), ("high", 18, Some(300.0)), ("normal", 60, Some(300.0)), ("low", 20, None)];
/// How often a hundred events are published.
const BEAT: Duration = Duration::from_millis(5);

fn config() -> String {
    let route = |(priority, ..): (&str, u64, Option<f64>)| {
        format!("[[route]]\nevent = '{priority}'\ncache = 'k'\npriority = '{priority}'\nkeys = ['k:{{k}}']\n")
    };
    format!("[cache.k]\nprefixes = ['k:']\n{}", MIX.map(route).concat())
}

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::start_sync();
    let beats = bench.many(400);
    let mut ages: [Samples; 4] = Default::default();
    let mut worst: [Samples; 4] = Default::default();
    for _ in bench.rounds("priorities") {
        redis.cmd(&["FLUSHDB"]);
        let _sidecar = sidecar(&redis, &config()).start(&redis);
        publish(&mut redis.resp(), beats);
        let mut bus = Bus::new(&redis);
        bus.wait_done();
        let notices = bus.notices();
        for (((priority, ..), ages), worst) in MIX.iter().zip(&mut ages).zip(&mut worst) {
            let of_round: Samples = notices.iter().filter(|notice| notice.priority() == *priority).flat_map(ages_of).collect();
            worst.push(of_round.quantile(0.99));
            ages.append(of_round);
        }
    }
    let mut table = Table::new(&["priority", "events", "median", "99 of 100 within"]);
    MIX.iter().zip(&ages).for_each(|((priority, ..), ages)| table.row(middle_and_worst(priority, ages, Unit::Milliseconds)));
    let bars = MIX.iter().zip(worst).filter_map(|((priority, _, bar), worst)| {
        let what = format!("Mixed priorities: {priority}, 99 of 100 within");
        Some(Bar::new(what, Wanted::AtMost((*bar)?), Unit::Milliseconds, worst))
    });
    Section {
        title: "All priorities at once",
        about: format!(
            "{} events a second for {} ms, each on a key of its own: 2 of 100 critical, on the critical stream, 18 high, 60 normal, 20 low. From an entry's id to its notice's time, both by Redis' clock; windows are the default (none, 25 ms, 100 ms, 1 s).",
            100 * 1000 / BEAT.as_millis(),
            u128::from(beats) * BEAT.as_millis(),
        ),
        tables: vec![table],
        bars: bars.collect(),
        doubts: Vec::new(),
    }
}

/// A hundred events at a time, their keys made before them.
fn publish(resp: &mut Resp, beats: u64) {
    let begun = Instant::now();
    for beat in 0..beats {
        let priorities = MIX.iter().flat_map(|(priority, many, _)| (0..*many).map(move |_| *priority));
        let numbered = priorities.zip(beat * 100..).map(|(priority, number)| (priority, number.to_string()));
        let command = |(priority, number): (&str, String)| {
            let stream = if priority == "critical" { "unstale:events:critical" } else { "unstale:events" };
            ["XADD", stream, "*", "type", priority, "k", &number].map(str::to_owned).to_vec()
        };
        let keys = (beat * 100..beat * 100 + 100).flat_map(|number| [format!("k:{number}"), "value".to_owned()]);
        let commands: Vec<Vec<String>> =
            [["MSET".to_owned()].into_iter().chain(keys).collect()].into_iter().chain(numbered.map(command)).collect();
        resp.pipeline(&commands);
        let next = BEAT * u32::try_from(beat + 1).unwrap_or(u32::MAX);
        thread::sleep(next.saturating_sub(begun.elapsed()));
    }
}

/// How old its events were, in milliseconds.
fn ages_of(notice: &Notice) -> Vec<f64> {
    let milliseconds = |id: &String| id.split('-').next().and_then(|ms| ms.parse::<i64>().ok()).expect("an id begins with its time");
    notice.events().iter().map(|id| (notice.at() - milliseconds(id)) as f64).collect()
}
