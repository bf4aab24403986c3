//! A backlog worked off, beside consumers written by hand.

use unstale_testkit::Redis;

use crate::Bench;
use crate::backlog::{Backlog, Form, spread};
use crate::contender::{Kind, PRESET, Peer};
use crate::drain::{Drained, drain};
use crate::figures::{Bar, Samples, Table, Unit, Wanted};
use crate::section::Section;

const TWO_DELETES: &str = "presets = ['llm-gateway']\n";
const THROUGHPUT: &str = "[batching]\nwindow = '200ms'\nmax_size = 500\n";

/// What the C loop does on an idle machine of this class; below, something else had the machine.
const PLAUSIBLE: f64 = 300_000.0;

struct Contender<'b> {
    name: &'static str,
    kind: Kind,
    backlog: &'b Backlog,
    runs: Vec<Drained>,
}

impl Contender<'_> {
    fn samples(&self, figure: impl Fn(&Drained) -> f64) -> Samples {
        self.runs.iter().map(figure).collect()
    }

    fn rates(&self) -> Samples {
        self.samples(|run| run.rate)
    }
}

pub(super) fn run(bench: &Bench) -> Section {
    let redis = Redis::start_sync();
    let (events, keys) = (bench.many(300_000), bench.many(60_000));
    let backlog = |name, form| Backlog::keep(&redis, name, spread(form, events, keys));
    let (json, msgpack, flat) = (backlog("json", Form::Json), backlog("msgpack", Form::MessagePack), backlog("flat", Form::Flat));
    let few = Backlog::keep(&redis, "few", spread(Form::Json, bench.many(5000), bench.many(1000)));
    let unstale = |more: &str| Kind::unstale(format!("{PRESET}{more}"));
    let mut contenders: Vec<Contender<'_>> = [
        ("C, the whole job", Kind::Peer(Peer::C), &json),
        ("unstale", unstale(""), &json),
        ("unstale, throughput profile", unstale(THROUGHPUT), &json),
        ("C, without the log", Kind::Peer(Peer::CWithoutLog), &json),
        ("Python, batched", Kind::Peer(Peer::Python), &json),
        ("Node, batched", Kind::Peer(Peer::Node), &json),
        ("unstale, MessagePack", unstale(""), &msgpack),
        ("unstale, flat fields", unstale(""), &flat),
        ("unstale, second delete after 500 ms", Kind::unstale(TWO_DELETES), &json),
        ("Python, one by one", Kind::Peer(Peer::PythonSingle), &few),
    ]
    .map(|(name, kind, backlog)| Contender { name, kind, backlog, runs: Vec::new() })
    .into();
    for _ in bench.rounds("drain") {
        for contender in &mut contenders {
            contender.runs.push(drain(&redis, contender.backlog, &contender.kind));
        }
    }
    section(events, keys, &contenders)
}

fn section(events: u64, keys: u64, contenders: &[Contender<'_>]) -> Section {
    let mut table = Table::new(&["", "events", "of the C loop", "its CPU an event", "Redis' CPU an event", "most memory"]);
    let c = contenders[0].rates();
    for contender in contenders {
        table.row([
            contender.name.to_owned(),
            contender.rates().show(Unit::PerSecond),
            contender.rates().over(&c).show(Unit::Times),
            contender.samples(|run| run.cpu).show(Unit::Microseconds),
            contender.samples(|run| run.redis_cpu).show(Unit::Microseconds),
            contender.samples(|run| run.peak as f64 / f64::from(1 << 20)).show(Unit::Memory),
        ]);
    }
    let [_, unstale, throughput, _, python, node, ..] = contenders else { unreachable!("there are ten") };
    let best: Samples = if python.rates().median() > node.rates().median() { python.rates() } else { node.rates() };
    let bars = vec![
        Bar::new("Drain, throughput profile, of the C loop", Wanted::AtLeast(1.25), Unit::Times, throughput.rates().over(&c)),
        Bar::new("Drain, defaults, of the C loop", Wanted::AtLeast(1.0), Unit::Times, unstale.rates().over(&c)),
        Bar::new("Drain, defaults, of the best of Python and Node", Wanted::AtLeast(2.5), Unit::Times, unstale.rates().over(&best)),
        Bar::new("CPU an event", Wanted::AtMost(2.0), Unit::Microseconds, unstale.samples(|run| run.cpu)),
        Bar::new("Memory, draining", Wanted::AtMost(40.0), Unit::Memory, unstale.samples(|run| run.peak as f64 / f64::from(1 << 20))),
    ];
    let doubt = format!(
        "The C loop did less than {PLAUSIBLE:.0} events a second: the machine was busy with something else, and this run's rates are void."
    );
    Section {
        title: "Drain",
        about: format!(
            "A backlog of {events} events of 150 bytes of JSON (or the same as MessagePack, or as flat fields) on {keys} keys is worked off: keys deleted, told, acknowledged. One after the other, {} rounds.",
            contenders[0].runs.len()
        ),
        tables: vec![table],
        bars,
        doubts: if c.median() < PLAUSIBLE { vec![doubt] } else { Vec::new() },
    }
}
