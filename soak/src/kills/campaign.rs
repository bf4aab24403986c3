//! The course of the campaign: waves of shots, and a rest after each in which the dead's entries are taken over. Without rests an entry could
//! be hit five times, and be taken for one that kills its process.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;
use unstale_testkit::{Redis, Tap, wait_until_sync};
use unstale_tests::{Bus, Setup, Sidecar, THINGS};

use super::flow::{self, CONFIG, Level};
use super::ledger;
use super::points::{MOMENTS, Members, OnceMembers, Point, STEPS, Sniper, Trigger};
use super::verdict::{Shots, Verdict};
use crate::oracle::lock;

/// How many shots fall between two rests.
const WAVE: u64 = 12;
/// Every other shot falls at a point, the rest at random.
const RANDOM: f64 = 0.5;
/// How long a shot waits for somebody to pass its point.
const PATIENCE: Duration = Duration::from_secs(3);
/// The same for points that are passed only when a dead one's entries are taken over.
const TAKEOVER: Duration = Duration::from_secs(10);
/// A loaded machine takes its time.
const REST: Duration = Duration::from_secs(120);

/// `kills`.
#[derive(Debug, Clone, Args)]
pub struct Kills {
    /// How many
    #[arg(long, default_value_t = 50)]
    pub kills: u64,
    /// How many events meanwhile
    #[arg(long, default_value_t = 50_000)]
    pub events: u64,
    /// How many sidecars share the work
    #[arg(long, default_value_t = 4)]
    pub sidecars: usize,
    /// Makes the same shots again, as far as processes allow
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Prints the verdict as JSON
    #[arg(long)]
    pub json: bool,
}

impl Kills {
    /// Runs it.
    ///
    /// # Panics
    /// If servers or sidecars don't start, or the sidecars don't come to rest.
    pub fn run(&self, runtime: &Handle) -> Verdict {
        let redis = Redis::start_sync();
        let (trigger, late) = (Arc::<Trigger>::default(), OnceMembers::default());
        let tap = |one| Tap::start(redis.address(), Arc::new(Sniper { one, trigger: Arc::clone(&trigger), members: Arc::clone(&late) }));
        let taps: Vec<Tap> = (0..self.sidecars).map(|one| runtime.block_on(tap(one))).collect();
        let members: Members = Arc::new(taps.iter().map(|tap| Mutex::new(sidecar(tap))).collect());
        let mut bus = Bus::new(&redis);
        for member in members.iter() {
            lock(member).ready(&mut bus);
        }
        late.set(Arc::clone(&members)).expect("they are told once");

        let (begun, level) = (Instant::now(), Arc::<Level>::default());
        thread::scope(|scope| {
            let flow = scope.spawn(|| flow::run(&redis, &level));
            let ledger = scope.spawn(|| ledger::run(&redis, &level));
            let mut campaign = Campaign {
                options: self,
                random: StdRng::seed_from_u64(self.seed),
                taps,
                members: Arc::clone(&members),
                trigger: &trigger,
                bus,
                level: &level,
                shots: Shots::default(),
            };
            campaign.run();
            let lasted = begun.elapsed();
            let Campaign { mut bus, shots, .. } = campaign;
            level.over.store(true, Ordering::Relaxed);
            flow.join().expect("the flow goes on while the server is there");
            let ledger = ledger.join().expect("the log can be read while the server is there");
            Verdict::find(self, lasted, shots, &ledger, &mut bus)
        })
    }

    /// How to do it again.
    pub fn command(&self) -> String {
        let Self { kills, events, sidecars, seed, .. } = self;
        format!("cargo xtask kills --kills {kills} --events {events} --sidecars {sidecars} --seed {seed}")
    }
}

fn sidecar(tap: &Tap) -> Sidecar {
    Setup::at(tap.url()).config(THINGS).config(CONFIG).set("batching.window=20ms").spawn()
}

/// A shot.
#[derive(Debug, Clone, Copy)]
enum Shot {
    Random,
    At(Point),
}

struct Campaign<'a> {
    options: &'a Kills,
    random: StdRng,
    taps: Vec<Tap>,
    members: Members,
    trigger: &'a Trigger,
    bus: Bus,
    level: &'a Level,
    shots: Shots,
}

impl Campaign<'_> {
    fn run(&mut self) {
        let Kills { kills, events, .. } = *self.options;
        let (mut done, mut points) = (0, self.points());
        while done < kills {
            let wave = WAVE.min(kills - done);
            let mut shots: Vec<Shot> = (0..wave).map(|_| self.draw(&mut points)).collect();
            shots.sort_by_key(|shot| matches!(shot, Shot::At(point) if point.step.is_of_takeover()));
            for shot in shots {
                done += 1;
                self.level.allowed.store(events * done / kills, Ordering::Relaxed);
                self.shoot(shot);
            }
            self.rest();
            if crate::interrupted() {
                return;
            }
            eprintln!("{done} of {kills} kills, {} events", self.level.published.load(Ordering::Relaxed));
        }
    }

    /// All points in random order, again and again.
    fn points(&self) -> Vec<Point> {
        let mut random = StdRng::seed_from_u64(self.options.seed ^ 0x5eed);
        let all: Vec<Point> = STEPS.into_iter().flat_map(|step| MOMENTS.map(|moment| Point { step, moment })).collect();
        let rounds = usize::try_from(self.options.kills).unwrap_or(usize::MAX).div_ceil(all.len());
        let mut points: Vec<Point> = Vec::new();
        for _ in 0..rounds {
            let mut round = all.clone();
            while !round.is_empty() {
                points.push(round.swap_remove(random.random_range(0..round.len())));
            }
        }
        points
    }

    fn draw(&mut self, points: &mut Vec<Point>) -> Shot {
        if self.random.random_bool(RANDOM) { Shot::Random } else { points.pop().map_or(Shot::Random, Shot::At) }
    }

    fn shoot(&mut self, shot: Shot) {
        let hit = match shot {
            Shot::Random => None,
            Shot::At(point) => {
                let hit = self.trigger.wait_at(point, if point.step.is_of_takeover() { TAKEOVER } else { PATIENCE });
                if hit.is_none() {
                    self.shots.missed(point);
                }
                hit.map(|one| (one, point.to_string()))
            }
        };
        let (one, place) = hit.unwrap_or_else(|| (self.at_random(), "at random".to_owned()));
        self.replace(one, place);
    }

    /// Kills the reader, or anybody.
    fn at_random(&mut self) -> usize {
        thread::sleep(Duration::from_micros(self.random.random_range(0..200_000)));
        let reader = self.bus.reader().unwrap_or_default();
        let is_reader = |member: &Mutex<Sidecar>| reader.starts_with(&format!("{}-", lock(member).name()));
        let reader = self.members.iter().position(is_reader).filter(|_| self.random.random_bool(0.6));
        let one = reader.unwrap_or_else(|| self.random.random_range(0..self.members.len()));
        lock(&self.members[one]).kill();
        one
    }

    fn replace(&mut self, one: usize, place: String) {
        let mut member = lock(&self.members[one]);
        let in_hand = self.bus.instance(member.name()).map_or(0, |instance| in_hand(&mut self.bus, &instance));
        self.shots.hit(place, in_hand);
        *member = sidecar(&self.taps[one]);
        drop(member);
        // Often the next one reads at once; else it finds the lease taken for up to two seconds.
        if self.random.random_bool(0.75) {
            self.bus.cmd(&["DEL", "unstale:reader"]);
        }
    }

    /// Until all that was published is acknowledged.
    fn rest(&mut self) {
        let allowed = self.level.allowed.load(Ordering::Relaxed);
        wait_until_sync("the sidecars to work off what the dead left", REST, || {
            let published = self.level.published.load(Ordering::Relaxed);
            let both = [self.bus.standing("events")?, self.bus.standing("events:critical")?];
            let done = published == allowed && both.iter().all(unstale_tests::Standing::is_done);
            if done { Ok(()) } else { Err(format!("{published} of {allowed} events are published\n{both:#?}\n{}", self.logs())) }
        });
    }

    fn logs(&self) -> String {
        self.members.iter().map(|member| lock(member).log()).collect::<Vec<_>>().join("\n---\n")
    }
}

/// How many entries this instance has read and not acknowledged.
fn in_hand(bus: &mut Bus, instance: &str) -> u64 {
    let mut of = |stream: &str| {
        let words = ["XPENDING", stream, "unstale", "-", "+", "100000", instance];
        bus.try_cmd(&words).map_or(0, |entries| entries.array().len() as u64)
    };
    of("unstale:events") + of("unstale:events:critical")
}
