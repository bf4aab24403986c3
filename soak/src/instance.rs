//! An imagined API instance: reads through its own cache, Redis and the database, and fills what missed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Failure};
use crate::l1::{L1, version};
use crate::model::Model;
use crate::oracle::{Place, lock};
use crate::world::{World, count};

const PAUSE: Duration = Duration::from_millis(50);

/// One instance.
#[derive(Debug)]
pub struct Instance {
    /// Which one, from 0.
    pub number: usize,
    l1: Mutex<L1>,
    seq: AtomicU64,
    epoch: AtomicU64,
}

impl Instance {
    /// One with an empty cache.
    pub fn new(world: &World, number: usize) -> Arc<Self> {
        let l1 = Mutex::new(L1::new(world.oracle.model.rows()));
        Arc::new(Self { number, l1, seq: AtomicU64::new(0), epoch: AtomicU64::new(0) })
    }

    /// What is in its cache.
    pub fn all(&self) -> Vec<(usize, u64)> {
        lock(&self.l1).all()
    }

    /// Drops rows.
    pub fn drop_rows(&self, rows: &[usize]) {
        lock(&self.l1).drop_rows(rows.iter().copied());
    }

    /// Drops everything.
    pub fn flush(&self) {
        lock(&self.l1).flush();
    }

    /// It has applied the notices up to this one.
    pub fn heard(&self, seq: u64) {
        self.seq.store(seq, Ordering::Relaxed);
    }

    /// The number of the last notice that it applied.
    pub fn seq(&self) -> u64 {
        self.seq.load(Ordering::Relaxed)
    }

    /// The servers have changed places: what was fetched from the old ones is not stored any more.
    pub fn moved(&self, epoch: u64) {
        if self.epoch.swap(epoch, Ordering::SeqCst) != epoch {
            lock(&self.l1).refuse_fetched();
        }
    }
}

/// Reads so many rows a second until the run is over.
pub fn run(world: &Arc<World>, instance: &Arc<Instance>, rate: f64) {
    let mut random = world.random(200 + instance.number as u64);
    let (mut client, mut epoch) = (world.client(), 0);
    let pace = Duration::from_secs_f64(10.0 / rate);
    while !world.is_over() {
        let begun = Instant::now();
        for _ in 0..10 {
            let row = world.oracle.model.any(&mut random);
            if read(world, instance, &mut client, &mut epoch, row).is_err() {
                thread::sleep(PAUSE);
            }
        }
        thread::sleep(pace.saturating_sub(begun.elapsed()));
    }
}

fn read(world: &World, instance: &Instance, client: &mut Client, epoch: &mut u64, row: usize) -> Result<(), Failure> {
    count(&world.counts.reads);
    let asked = Instant::now();
    let (known, ticket) = {
        let l1 = lock(&instance.l1);
        (l1.get(row), l1.ticket(row))
    };
    if let Some(version) = known {
        world.oracle.read(row, version, asked, Place::Process(instance.number));
        return Ok(());
    }
    // Connections of before the servers changed places may speak to one that is no master any more. Looked at after the ticket was taken: what is
    // fetched over an old one is refused then.
    let now = instance.epoch.load(Ordering::SeqCst);
    if now != *epoch {
        client.forget();
        *epoch = now;
    }
    let version = if Model::is_shared(row) { fetch(world, instance, client, row)? } else { world.oracle.version(row) };
    if lock(&instance.l1).fill(row, ticket, version) {
        world.oracle.stored_in_process(row, version, instance.number);
    }
    Ok(())
}

/// From Redis, else from the database by way of Redis.
fn fetch(world: &World, instance: &Instance, client: &mut Client, row: usize) -> Result<u64, Failure> {
    let (key, asked) = (world.oracle.model.key(row), Instant::now());
    let value = client.cmd(key, &["GET", key])?;
    if !value.is_nil() {
        let version = version(&value);
        world.oracle.read(row, version, asked, Place::Redis);
        return Ok(version);
    }
    count(&world.counts.fills);
    world.oracle.fill(row, instance.number, |version| client.cmd(key, &["SET", key, &version.to_string()]).map(drop))
}
