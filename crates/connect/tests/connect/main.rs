//! Every command and every trap, against a real `redis-server`.

#![allow(clippy::unwrap_used)] // this crate is nothing but tests

mod cluster;
mod commands;
mod faults;
mod group;
mod link;
mod sentinel;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use unstale_connect::{Client, GroupStart, ReadFrom, ReadGroup, Role, Server};
use unstale_events::{EntryId, Fields};
use unstale_testkit::Redis;

/// Long enough for anything on a loaded machine.
const LONG: Duration = Duration::from_secs(30);
const BLOCK: Duration = Duration::from_secs(10);

/// What connections are for. Each is made in a way of its own, and must be as good.
const ROLES: [Role; 3] = [Role::Commands, Role::Bulk, Role::Reader { block: BLOCK }];
/// Those of them that are for commands of all kinds.
const COMMANDS: [Role; 2] = [Role::Commands, Role::Bulk];

/// A server by URL whose timeouts are short enough for a test that waits for them, and long enough for a loaded machine.
fn server(url: &str) -> Server {
    let mut server: Server = url.parse().unwrap();
    server.command_timeout = Duration::from_secs(2);
    server.connect_timeout = Duration::from_secs(2);
    server
}

async fn connect(url: &str, role: Role) -> Client {
    let client = Client::open(&server(url), role, "test").unwrap();
    client.ready(LONG).await.unwrap();
    client
}

async fn start() -> (Redis, Client) {
    let redis = Redis::start().await;
    let client = connect(&redis.url(), Role::Commands).await;
    (redis, client)
}

async fn reader(url: &str) -> Client {
    connect(url, Role::Reader { block: BLOCK }).await
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn fields(pairs: &[(&str, &str)]) -> Fields {
    pairs.iter().map(|(name, value)| (bytes(name), bytes(value))).collect()
}

fn id(text: &str) -> EntryId {
    text.parse().unwrap()
}

const NEW: ReadGroup<'_> = ReadGroup { stream: "s", group: "g", consumer: "me", from: ReadFrom::New, count: 10, block: None };

const PENDING: ReadGroup<'_> = ReadGroup { from: ReadFrom::After(EntryId::ZERO), ..NEW };

async fn group(client: &Client) {
    assert!(client.xgroup_create("s", "g", GroupStart::After(EntryId::ZERO)).await.unwrap());
}
