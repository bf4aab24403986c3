//! A run: actors on their threads, faults for so long, then quiet, then the verdict.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use tokio::runtime::Handle;

use crate::client::Client;
use crate::cluster::ClusterStage;
use crate::crew::Crew;
use crate::follower::Progress;
use crate::instance::Instance;
use crate::notice::NOTICES;
use crate::oracle::lock;
use crate::plant::Plant;
use crate::publisher::STREAMS;
use crate::report::{Report, kinds};
use crate::sentinels::SentinelStage;
use crate::stage::Stage;
use crate::standalone::Standalone;
use crate::world::World;
use crate::{auditor, conductor, follower, hearing, instance, metronome, model, publisher};

/// How long everything that is left may take when the faults are over.
const DRAIN: Duration = Duration::from_secs(60);
const PUBLISHERS: u32 = 2;
/// Keys that belong to nobody and must stay.
const BALLAST: usize = 5000;

/// The servers of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// One Redis.
    Standalone,
    /// A master with a replica, and three sentinels.
    Sentinel,
    /// A Redis Cluster of three masters with a replica each.
    Cluster,
}

/// `soak`.
#[derive(Debug, Clone, Args)]
pub struct Soak {
    /// How long faults come
    #[arg(long, default_value_t = 2.0)]
    pub minutes: f64,
    /// The servers
    #[arg(long, value_enum, default_value_t = Topology::Standalone)]
    pub topology: Topology,
    /// How many sidecars, each with an instance beside it
    #[arg(long, default_value_t = 3)]
    pub sidecars: usize,
    /// Makes the same load and the same faults again, as far as processes allow
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Events a second
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
    /// Values that each instance reads a second
    #[arg(long, default_value_t = 300.0)]
    pub reads: f64,
    /// What an event may take beside the window of its lane before it is late, in milliseconds
    #[arg(long, default_value_t = 1000)]
    pub patience: u64,
    /// A bug to find, on a standalone server; the run ends when it is found
    #[arg(long, value_enum)]
    pub plant: Option<Plant>,
    /// Where the logs of the sidecars are kept
    #[arg(long)]
    pub logs: Option<PathBuf>,
    /// Prints the report as JSON
    #[arg(long)]
    pub json: bool,
}

impl Soak {
    /// Runs it.
    ///
    /// # Panics
    /// If the servers can't be started.
    pub fn run(&self, runtime: &Handle) -> Report {
        let mut stage = self.stage(runtime);
        let world = World::new(stage.route(), Duration::from_millis(self.patience), self.seed);
        world.client().cmd(NOTICES, &["PING"]).expect("the servers answer");
        add_ballast(&mut world.client());
        let crew = Mutex::new(Crew::start(stage.urls(self.sidecars), self.logs.clone()));
        wait_for_groups(&world, &crew);
        let instances: Vec<Arc<Instance>> = (0..self.sidecars).map(|number| Instance::new(&world, number)).collect();
        let progress = Arc::<Progress>::default();
        let readers = self.readers(&world, &instances, &progress);
        let publishers = self.publishers(&world);

        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(self.minutes * 60.0);
        thread::scope(|scope| {
            let conductor = scope.spawn(|| conductor::run(&world, &mut *stage, &crew, end));
            self.watch(&world, &progress, begun, end);
            world.stop_publishing();
            if conductor.join().is_err() {
                world.oracle.broken("the conductor of the faults failed: see above".to_owned());
            }
        });
        let lasted = begun.elapsed();
        join(&world, publishers);
        Self::verdict(&world, &instances, &progress);
        world.end();
        join(&world, readers);
        let peak = lock(&crew).peak_bytes();
        self.report(&world, lasted, peak)
    }

    fn stage(&self, runtime: &Handle) -> Box<dyn Stage> {
        match self.topology {
            Topology::Standalone => {
                let planted = self.plant.map(Plant::listener);
                let stage = Standalone::start(self.sidecars, planted.as_ref().map(|(listener, _)| listener), runtime);
                if let Some((_, server)) = planted {
                    server.set(stage.route().masters()[0]).expect("it is told once");
                }
                Box::new(stage)
            }
            Topology::Sentinel => Box::new(SentinelStage::start(runtime)),
            Topology::Cluster => Box::new(ClusterStage::start(runtime)),
        }
    }

    fn readers(&self, world: &Arc<World>, instances: &[Arc<Instance>], progress: &Arc<Progress>) -> Vec<JoinHandle<()>> {
        let mut threads = Vec::new();
        for one in instances {
            let (shared, instance) = (Arc::clone(world), Arc::clone(one));
            threads.push(thread::spawn(move || hearing::run(&shared, &instance)));
            let (shared, instance, rate) = (Arc::clone(world), Arc::clone(one), self.reads);
            threads.push(thread::spawn(move || instance::run(&shared, &instance, rate)));
        }
        let (shared, instances) = (Arc::clone(world), instances.to_vec());
        threads.push(thread::spawn(move || auditor::run(&shared, &instances)));
        let (shared, progress) = (Arc::clone(world), Arc::clone(progress));
        threads.push(thread::spawn(move || follower::run(&shared, &progress)));
        let shared = Arc::clone(world);
        threads.push(thread::spawn(move || metronome::run(&shared)));
        threads
    }

    fn publishers(&self, world: &Arc<World>) -> Vec<JoinHandle<()>> {
        let rate = self.rate / f64::from(PUBLISHERS);
        let spawn = |number: u32| {
            let world = Arc::clone(world);
            thread::spawn(move || publisher::run(&world, number.into(), rate))
        };
        (0..PUBLISHERS).map(spawn).collect()
    }

    /// Says every ten seconds how it goes. Ends with the time, when a planted bug was found, or when somebody asks for it.
    fn watch(&self, world: &World, progress: &Progress, begun: Instant, end: Instant) {
        let mut told = begun;
        while Instant::now() < end && !crate::interrupted() {
            thread::sleep(Duration::from_millis(100));
            let violations = world.oracle.violations().len();
            if self.plant.is_some() && violations > 0 {
                return;
            }
            if told.elapsed() > Duration::from_secs(10) {
                told = Instant::now();
                let (events, seq) = (world.counts.events.load(Ordering::Relaxed), progress.seq());
                let on = world.calendar.current().unwrap_or_else(|| "-".to_owned());
                eprintln!("{:6.0} s  {events} events, notice {seq}, {violations} violations; now: {on}", begun.elapsed().as_secs_f64());
            }
        }
    }

    /// Waits until everything is worked off, and looks at what is left.
    fn verdict(world: &World, instances: &[Arc<Instance>], progress: &Progress) {
        let begun = Instant::now();
        loop {
            match settled(world, instances, progress) {
                Ok(()) => break,
                Err(state) if begun.elapsed() > DRAIN => {
                    world.oracle.broken(format!("not everything was worked off within {DRAIN:?} after the last fault: {state}"));
                    break;
                }
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
        world.oracle.all_announced();
        if let Err(failure) = auditor::last_look(world, instances) {
            world.oracle.broken(format!("the last look failed: {failure}"));
        }
        let mut client = world.client();
        dead_letters(world, &mut client);
        let ballast = count_ballast(&mut client);
        if ballast != BALLAST {
            world.oracle.broken(format!("of {BALLAST} keys that belong to nobody {ballast} are left"));
        }
    }

    fn report(&self, world: &World, lasted: Duration, peak: u64) -> Report {
        let counts = &world.counts;
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let figures = vec![
            ("events confirmed", read(&counts.events)),
            ("published again for want of an answer", read(&counts.published_again)),
            ("entries that can't be carried out", lock(&world.poison).len() as u64),
            ("reads", read(&counts.reads)),
            ("values looked at by auditors", read(&counts.audited)),
            ("values stored in Redis", read(&counts.fills)),
            ("notices", read(&counts.notices)),
            ("notices heard twice", read(&counts.repeated)),
            ("gaps on the channel filled from the log", read(&counts.gaps)),
            ("positions lost by receivers", read(&counts.starts_over)),
            ("flushes asked for", read(&counts.flushes)),
            ("other histories of the log", read(&counts.histories)),
            ("largest sidecar in KiB", peak / 1024),
        ];
        let kinds = kinds(world.calendar.by_kind());
        Report { command: self.command(), lasted, figures, kinds, violations: world.oracle.violations() }
    }

    fn command(&self) -> String {
        let topology = self.topology.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let mut command = format!(
            "cargo xtask soak --minutes {} --topology {topology} --sidecars {} --seed {} --rate {} --reads {} --patience {}",
            self.minutes, self.sidecars, self.seed, self.rate, self.reads, self.patience
        );
        if let Some(plant) = self.plant.and_then(|plant| plant.to_possible_value()) {
            command = format!("{command} --plant {}", plant.get_name());
        }
        command
    }
}

fn join(world: &World, threads: Vec<JoinHandle<()>>) {
    for thread in threads {
        if thread.join().is_err() {
            world.oracle.broken("an actor of the run failed: see above".to_owned());
        }
    }
}

fn wait_for_groups(world: &World, crew: &Mutex<Crew>) {
    let mut client = world.client();
    unstale_testkit::wait_until_sync("the sidecars to make their groups", DRAIN, || {
        let fallen = lock(crew).fallen();
        assert!(fallen.is_empty(), "{}", fallen.join("\n"));
        STREAMS.iter().try_for_each(|stream| standing(&mut client, stream).map(drop))
    });
}

/// Whether both streams are worked off, and everybody has heard of it.
fn settled(world: &World, instances: &[Arc<Instance>], progress: &Progress) -> Result<(), String> {
    let mut client = world.client();
    for stream in STREAMS {
        let (pending, delivered, added) = standing(&mut client, stream)?;
        if pending > 0 || delivered != added {
            return Err(format!("{stream} has {pending} pending, delivered to {delivered} of {added}"));
        }
    }
    let newest = client.cmd(NOTICES, &["XREVRANGE", NOTICES, "+", "-", "COUNT", "1"]).map_err(|failure| failure.to_string())?;
    let newest =
        newest.array().first().and_then(|entry| entry.array()[1].field("seq").map(|seq| seq.int().unsigned_abs())).unwrap_or_default();
    let behind = |who: String, seq: u64| (seq != newest).then(|| format!("{who} is at notice {seq} of {newest}"));
    let all = instances.iter().map(|instance| (format!("instance {}", instance.number), instance.seq()));
    all.chain([("the auditor of the log".to_owned(), progress.seq())]).find_map(|(who, seq)| behind(who, seq)).map_or(Ok(()), Err)
}

/// How many entries are pending, the last that was delivered, and the last that was added.
fn standing(client: &mut Client, stream: &str) -> Result<(i64, String, String), String> {
    let mut ask = |what: &str| client.cmd(stream, &["XINFO", what, stream]).map_err(|failure| failure.to_string());
    let (info, groups) = (ask("STREAM")?, ask("GROUPS")?);
    let group = groups.array().first().ok_or_else(|| format!("{stream} has no group"))?;
    let field = |value: &unstale_testkit::Value, name: &str| value.field(name).cloned().ok_or_else(|| format!("no {name}"));
    Ok((field(group, "pending")?.int(), field(group, "last-delivered-id")?.text(), field(&info, "last-generated-id")?.text()))
}

/// All that can't be carried out is a dead letter, and nothing else is.
fn dead_letters(world: &World, client: &mut Client) {
    const DEAD: &str = "{unstale}:events:dead";
    let letters = match client.cmd(DEAD, &["XRANGE", DEAD, "-", "+"]) {
        Ok(letters) => letters,
        Err(failure) => return world.oracle.broken(format!("the dead letters can't be read: {failure}")),
    };
    let mut marks = BTreeSet::new();
    for letter in letters.array() {
        match letter.array()[1].field("mark") {
            Some(mark) => drop(marks.insert(mark.text())),
            None => world.oracle.broken(format!("a dead letter that is no poison: {letter:?}")),
        }
    }
    for missing in lock(&world.poison).difference(&marks) {
        world.oracle.broken(format!("poison {missing} is no dead letter"));
    }
}

fn add_ballast(client: &mut Client) {
    for number in 0..BALLAST {
        let key = format!("ballast:{number}");
        client.cmd(&key, &["SET", &key, "1"]).expect("the servers answer");
    }
    client.cmd(model::COUNTER, &["SET", model::COUNTER, "0"]).expect("the servers answer");
}

fn count_ballast(client: &mut Client) -> usize {
    let there = |number: &usize| {
        let key = format!("ballast:{number}");
        client.cmd(&key, &["EXISTS", &key]).is_ok_and(|there| there.int() == 1)
    };
    (0..BALLAST).filter(there).count()
}
