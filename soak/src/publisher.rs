//! Commits and publishes, as an application with an outbox: an event is added until Redis has confirmed it, and its replicas where servers may
//! lose what they confirmed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::StdRng;

use crate::client::{Added, Client};
use crate::model::{self, Priority};
use crate::oracle::lock;
use crate::world::{World, count};

/// The namespace; in braces, because on a cluster all of it must lie in one slot.
pub const NAMESPACE: &str = "{unstale}";
/// Its streams.
pub const STREAMS: [&str; 2] = ["{unstale}:events", "{unstale}:events:critical"];
const PAUSE: Duration = Duration::from_millis(50);
/// One entry in so many can't be carried out.
const POISON: u32 = 500;

/// Publishes so many events a second until the world stops publishing.
pub fn run(world: &Arc<World>, number: u64, rate: f64) {
    let mut publisher = Publisher { world, client: world.client(), random: world.random(100 + number), outbox: Vec::new() };
    let (begun, mut done, mut poisons) = (Instant::now(), 0_u32, 0);
    while world.is_publishing() {
        let due = begun + Duration::from_secs_f64(f64::from(done) / rate);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        done += 1;
        if publisher.random.random_ratio(1, POISON) {
            poisons += 1;
            publisher.poison(&format!("{number}-{poisons}"));
        } else {
            publisher.publish();
        }
        publisher.confirm();
    }
    while !publisher.outbox.is_empty() && !world.is_over() {
        publisher.confirm();
        thread::sleep(PAUSE);
    }
}

/// An event that is not confirmed yet.
struct Open {
    fields: Vec<(&'static str, String)>,
    stream: &'static str,
    priority: Priority,
    /// The versions that it announces; none if it is poison.
    committed: Vec<(usize, u64)>,
    added: Added,
}

struct Publisher<'a> {
    world: &'a World,
    client: Client,
    random: StdRng,
    outbox: Vec<Open>,
}

impl Publisher<'_> {
    /// Does nothing if a row of the event is being read into Redis just now.
    fn publish(&mut self) {
        let event = self.world.oracle.model.happen(&mut self.random);
        let Some(committed) = self.world.oracle.commit(&event.rows) else { return };
        self.open(event.fields, event.on_critical_stream, event.priority, committed);
    }

    fn poison(&mut self, mark: &str) {
        // Known before it is there: its letter may be written before its confirmation is heard.
        lock(&self.world.poison).insert(mark.to_owned());
        let fields = model::poison(mark, &mut self.random);
        let critical = self.random.random_bool(0.2);
        self.open(fields, critical, Priority::Normal, Vec::new());
    }

    fn open(&mut self, fields: Vec<(&'static str, String)>, critical: bool, priority: Priority, committed: Vec<(usize, u64)>) {
        let stream = STREAMS[usize::from(critical)];
        if let Some(added) = self.add(stream, &fields) {
            self.outbox.push(Open { fields, stream, priority, committed, added });
        }
    }

    /// Until Redis has said that it is there. `None` if the run is over first.
    fn add(&mut self, stream: &str, fields: &[(&'static str, String)]) -> Option<Added> {
        while !self.world.is_over() {
            if let Ok(added) = self.client.add(stream, fields) {
                return Some(added);
            }
            count(&self.world.counts.published_again);
            thread::sleep(PAUSE);
        }
        None
    }

    /// Asks whether the replicas have what is open. What went to a server that is no longer the one, or over a connection that has ended, is
    /// published again.
    fn confirm(&mut self) {
        let mut sessions: Vec<(SocketAddr, u64)> = self.outbox.iter().map(|open| (open.added.server, open.added.session)).collect();
        sessions.sort_unstable();
        sessions.dedup();
        for (server, session) in sessions {
            let of_session = |open: &mut Open| (open.added.server, open.added.session) == (server, session);
            let replicated = self.client.replicated(server, session);
            if let Ok(true) = replicated {
                let now = Instant::now();
                for open in self.outbox.extract_if(.., of_session).filter(|open| !open.committed.is_empty()) {
                    self.world.oracle.confirmed(&open.committed, &open.added.id, open.priority, now);
                    count(&self.world.counts.events);
                }
            }
            let is_gone = |open: &Open| replicated.is_err() || self.world.route.owner(open.stream) != Some(server);
            let again: Vec<Open> = self.outbox.extract_if(.., |open| of_session(open) && is_gone(open)).collect();
            for open in again {
                count(&self.world.counts.published_again);
                self.open_again(open);
            }
        }
    }

    fn open_again(&mut self, open: Open) {
        if let Some(added) = self.add(open.stream, &open.fields) {
            self.outbox.push(Open { added, ..open });
        }
    }
}
