//! Commits and publishes, as an application with an outbox: an event is added until Redis has confirmed it.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::client::Client;
use crate::model::{self, Event};
use crate::oracle::lock;
use crate::world::{World, count};

/// The streams of the default namespace.
pub const STREAMS: [&str; 2] = ["unstale:events", "unstale:events:critical"];
const PAUSE: Duration = Duration::from_millis(50);
/// One entry in so many can't be carried out.
const POISON: u32 = 500;

/// Publishes so many events a second until the world stops publishing.
pub fn run(world: &Arc<World>, number: u64, rate: f64) {
    let (mut client, mut random) = (world.client(), world.random(100 + number));
    let (begun, mut done, mut poisons) = (Instant::now(), 0_u32, 0);
    while world.is_publishing() {
        let due = begun + Duration::from_secs_f64(f64::from(done) / rate);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        done += 1;
        if random.random_ratio(1, POISON) {
            poisons += 1;
            poison(world, &mut client, &format!("{number}-{poisons}"), &mut random);
        } else {
            let event = world.oracle.model.happen(&mut random);
            publish(world, &mut client, &event);
        }
    }
}

/// Does nothing if a row of the event is being read into Redis just now.
fn publish(world: &World, client: &mut Client, event: &Event) {
    let Some(committed) = world.oracle.commit(&event.rows) else { return };
    let stream = STREAMS[usize::from(event.on_critical_stream)];
    if let Some(id) = until_confirmed(world, client, stream, &event.fields) {
        world.oracle.confirmed(&committed, &id, event.priority, Instant::now());
        count(&world.counts.events);
    }
}

fn poison(world: &World, client: &mut Client, mark: &str, random: &mut StdRng) {
    // Known before it is there: its letter may be written before its confirmation is heard.
    lock(&world.poison).insert(mark.to_owned());
    let fields = model::poison(mark, random);
    let _ = until_confirmed(world, client, STREAMS[usize::from(random.random_bool(0.2))], &fields);
}

/// The outbox. `None` if the run is over first.
fn until_confirmed(world: &World, client: &mut Client, stream: &str, fields: &[(&str, String)]) -> Option<String> {
    while !world.is_over() {
        if let Ok(id) = client.xadd(stream, fields) {
            return Some(id);
        }
        count(&world.counts.published_again);
        thread::sleep(PAUSE);
    }
    None
}
