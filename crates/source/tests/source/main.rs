//! The consumer group, the company and the dead letters, against a real `redis-server`.

#![allow(clippy::unwrap_used)] // this crate is nothing but tests

mod company;
mod group;
mod letters;
mod reading;

use std::time::Duration;

use bytes::Bytes;
use unstale_connect::{Client, Role, Server};
use unstale_events::{EntryId, Fields, StreamKind};
use unstale_source::{Group, Names, PendingAt, Start};
use unstale_testkit::Redis;

/// Long enough for anything on a loaded machine.
const LONG: Duration = Duration::from_secs(30);

const STREAM: &str = "unstale:events";

/// A server, and a connection to it.
struct World {
    redis: Redis,
    client: Client,
    names: Names,
}

impl World {
    async fn start() -> Self {
        let redis = Redis::start().await;
        let client = connect(&redis, Role::Commands).await;
        Self { redis, client, names: Names::new("unstale", None) }
    }

    /// The group of the ordinary stream as this consumer sees it.
    fn group(&self, consumer: &str) -> Group {
        Group::new(self.client.clone(), StreamKind::Ordinary, STREAM, "unstale", consumer, Start::Beginning)
    }

    /// The same, made, and with entries delivered to this consumer.
    async fn group_with(&self, consumer: &str, entries: usize) -> (Group, Vec<EntryId>) {
        let group = self.group(consumer);
        group.create().await.unwrap();
        let ids = (0..entries).map(|number| self.add(number)).collect();
        self.deliver(consumer);
        (group, ids)
    }

    fn add(&self, number: usize) -> EntryId {
        self.redis.cmd(&["XADD", STREAM, "*", "number", &number.to_string()]).text().parse().unwrap()
    }

    /// Has Redis deliver everything new to a consumer.
    fn deliver(&self, consumer: &str) {
        self.redis.cmd(&["XREADGROUP", "GROUP", "unstale", consumer, "STREAMS", STREAM, ">"]);
    }
}

async fn connect(redis: &Redis, role: Role) -> Client {
    let client = Client::open(&redis.url().parse::<Server>().unwrap(), role, "test").unwrap();
    client.ready(LONG).await.unwrap();
    client
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| (Bytes::copy_from_slice(name.as_bytes()), Bytes::copy_from_slice(value.as_bytes()))).collect()
}

/// What anybody has had for so long.
fn anybodys(min_idle: Duration) -> PendingAt {
    PendingAt { consumer: None, min_idle }
}

fn ids(entries: &[unstale_events::Entry]) -> Vec<EntryId> {
    entries.iter().map(|entry| entry.id).collect()
}
