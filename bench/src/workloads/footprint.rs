//! Start, memory, and what an idle sidecar costs.

use std::thread;
use std::time::{Duration, Instant};

use unstale_testkit::Redis;
use unstale_tests::{Bus, Sidecar};

use crate::Bench;
use crate::backlog::{Form, add, spread};
use crate::contender::{PRESET, sidecar};
use crate::ear::Ear;
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::proc;
use crate::section::Section;

/// How long an idle sidecar is looked at, in milliseconds, and how long it is left alone before.
const LOOK: u64 = 3000;
const REST: Duration = Duration::from_secs(1);

/// What was measured.
#[derive(Default)]
struct Figures {
    start: Samples,
    memory: Samples,
    cpu: Samples,
    commands: Samples,
    standby_memory: Samples,
    standby_cpu: Samples,
    standby_commands: Samples,
    standby_inner: Samples,
}

/// What the server ran for idle sidecars, in a second.
struct Run {
    sent: f64,
    within_scripts: f64,
}

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::start_sync();
    let (mut figures, look) = (Figures::default(), Duration::from_millis(bench.many(LOOK)));
    for _ in bench.rounds("footprint") {
        one_round(&redis, look, &mut figures);
    }
    let mut table = Table::new(&["", "memory", "CPU", "commands a second"]);
    table.row([
        "idle, the only one".to_owned(),
        figures.memory.show(Unit::Memory),
        figures.cpu.show(Unit::Percent),
        figures.commands.show(Unit::Count),
    ]);
    let standby = format!("{}; within scripts {}", figures.standby_commands.show(Unit::Count), figures.standby_inner.show(Unit::Count));
    table.row([
        "idle, standing by".to_owned(),
        figures.standby_memory.show(Unit::Memory),
        figures.standby_cpu.show(Unit::Percent),
        standby,
    ]);
    let mut start = Table::new(&["", "time"]);
    start.row(["from the start of the process to the first key gone".to_owned(), figures.start.show(Unit::Milliseconds)]);
    Section {
        title: "Start, and an idle sidecar",
        about: format!(
            "A sidecar is started on a server on which one event waits. When that is done it is left alone for {} s and looked at for {} ms; then a second one is started beside it, which stands by. Commands are those that MONITOR shows.",
            REST.as_secs(),
            look.as_millis()
        ),
        tables: vec![start, table],
        bars: vec![
            Bar::new("Start of the process to the first key gone", Wanted::AtMost(100.0), Unit::Milliseconds, figures.start),
            Bar::new("Memory, idle", Wanted::AtMost(15.0), Unit::Memory, figures.memory),
            Bar::new("CPU, idle, of one core", Wanted::AtMost(0.5), Unit::Percent, figures.cpu),
            Bar::new("Commands a second that a stand-by sends", Wanted::AtMost(10.0), Unit::Count, figures.standby_commands),
        ],
        doubts: Vec::new(),
    }
}

fn one_round(redis: &Redis, look: Duration, figures: &mut Figures) {
    redis.cmd(&["FLUSHDB"]);
    let event = spread(Form::Json, 1, 1).next().expect("one event");
    let key = event.key.clone();
    redis.cmd(&["SET", &key, "value"]);
    redis.cmd(&add("unstale:events", event));
    let mut ear = Ear::open(redis);
    // Its configuration file is written with it, which takes no time to speak of.
    let begun = Instant::now();
    let mut first = sidecar(redis, PRESET).spawn();
    figures.start.push((ear.wait(&key) - begun).as_secs_f64() * 1e3);
    drop(ear);
    let mut bus = Bus::new(redis);
    first.ready(&mut bus);
    let (alone, cpu) = idle(redis, &first, look);
    figures.memory.push(memory(&first));
    figures.cpu.push(cpu);
    figures.commands.push(alone.sent);
    let mut second = sidecar(redis, PRESET).spawn();
    second.ready(&mut bus);
    let (both, cpu) = idle(redis, &second, look);
    figures.standby_memory.push(memory(&second));
    figures.standby_cpu.push(cpu);
    figures.standby_commands.push(both.sent - alone.sent);
    figures.standby_inner.push(both.within_scripts - alone.within_scripts);
}

fn memory(sidecar: &Sidecar) -> f64 {
    proc::resident(sidecar.pid()) as f64 / f64::from(1 << 20)
}

/// What all idle sidecars have the server run, and how much of a core this one takes, in percent.
fn idle(redis: &Redis, sidecar: &Sidecar, look: Duration) -> (Run, f64) {
    thread::sleep(REST);
    let mut monitor = redis.resp();
    monitor.monitor();
    let (begun, before) = (Instant::now(), proc::cpu(sidecar.pid()));
    thread::sleep(look);
    let (took, after) = (begun.elapsed().as_secs_f64(), proc::cpu(sidecar.pid()));
    redis.cmd(&["ECHO", "the end of the look"]);
    let lines = monitor.monitored("the end of the look");
    let inner = lines.iter().filter(|line| line.contains(" lua] ")).count();
    let run = Run { sent: (lines.len() - inner) as f64 / took, within_scripts: inner as f64 / took };
    (run, after.saturating_sub(before).as_secs_f64() * 100.0 / took)
}
