//! Does one deed after another, chosen at random, until its time is over.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::crew::Crew;
use crate::oracle::lock;
use crate::stage::{Deed, Stage, Strike};
use crate::world::World;

/// One deed in so many comes while the traces of the one before are fresh.
const ON_TOP: u32 = 4;
/// Beyond the grace of a deed, so that its traces are not taken for the next one's.
const REST: Duration = Duration::from_millis(500);

/// Does deeds until `end` or the world stops publishing.
pub fn run(world: &Arc<World>, stage: &mut dyn Stage, crew: &std::sync::Mutex<Crew>, end: Instant) {
    let mut random = world.random(1);
    let deeds: Vec<Deed> = lock(crew).deeds().iter().chain(stage.deeds()).copied().collect();
    while Instant::now() < end && world.is_publishing() {
        let deed = choose(&deeds, &mut random);
        let mut strike = Strike { calendar: &world.calendar, random: &mut random };
        if !lock(crew).act(&deed, &mut strike) {
            stage.act(&deed, &mut strike);
        }
        let rest = if random.random_ratio(1, ON_TOP) { Duration::ZERO } else { deed.grace + REST };
        thread::sleep(rest + Duration::from_millis(random.random_range(0..1000)));
        lock(crew).fallen().into_iter().for_each(|fallen| world.oracle.broken(fallen));
    }
}

fn choose(deeds: &[Deed], random: &mut StdRng) -> Deed {
    let mut point = random.random_range(0..deeds.iter().map(|deed| deed.weight).sum());
    for deed in deeds {
        if point < deed.weight {
            return *deed;
        }
        point -= deed.weight;
    }
    deeds[0]
}
