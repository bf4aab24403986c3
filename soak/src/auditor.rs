//! Looks at everything that is cached, all the time: a reader might come to a stale value only by chance.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Failure};
use crate::instance::Instance;
use crate::l1::version;
use crate::model::Model;
use crate::oracle::Place;
use crate::world::World;

/// How many keys of Redis are looked at at a time.
const SLICE: usize = 200;
const PAUSE: Duration = Duration::from_millis(25);

/// Looks until the run is over.
pub fn run(world: &Arc<World>, instances: &[Arc<Instance>]) {
    let mut client = world.client();
    let shared = shared(world);
    for slice in shared.chunks(SLICE).cycle() {
        if world.is_over() {
            return;
        }
        let asked = Instant::now();
        // A server that is away is looked at again in the next round.
        for (row, version) in cached(world, &mut client, slice).unwrap_or_default() {
            world.oracle.read(row, version, asked, Place::Redis);
        }
        for instance in instances {
            let asked = Instant::now();
            let all = instance.all();
            world.counts.audited.fetch_add(all.len() as u64, Ordering::Relaxed);
            for (row, version) in all {
                world.oracle.read(row, version, asked, Place::Process(instance.number));
            }
        }
        thread::sleep(PAUSE);
    }
}

/// At the end, when everything is worked off: nothing stale may be left.
///
/// # Errors
/// If Redis can't be asked.
pub fn last_look(world: &World, instances: &[Arc<Instance>]) -> Result<(), Failure> {
    let mut client = world.client();
    for slice in shared(world).chunks(SLICE) {
        for (row, version) in cached(world, &mut client, slice)? {
            world.oracle.left(row, version, Place::Redis);
        }
    }
    for instance in instances {
        for (row, version) in instance.all() {
            world.oracle.left(row, version, Place::Process(instance.number));
        }
    }
    Ok(())
}

fn shared(world: &World) -> Vec<usize> {
    (0..world.oracle.model.rows()).filter(|row| Model::is_shared(*row)).collect()
}

/// Which of these rows are in Redis, and their versions there.
fn cached(world: &World, client: &mut Client, rows: &[usize]) -> Result<Vec<(usize, u64)>, Failure> {
    let keys: Vec<&str> = rows.iter().map(|row| world.oracle.model.key(*row)).collect();
    let values = client.get_many(&keys)?;
    world.counts.audited.fetch_add(rows.len() as u64, Ordering::Relaxed);
    Ok(rows.iter().zip(values).filter(|(_, value)| !value.is_nil()).map(|(row, value)| (*row, version(&value))).collect())
}
