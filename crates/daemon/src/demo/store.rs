//! The Redis commands of the demo's own programs: its shared cache, and the hash that plays the database.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use unstale_connect::{Client, Fault, Reply, Role, Server};

use super::Trouble;

/// Where the "database" keeps the versions of its rows, in a Redis database of its own.
const ROWS: &str = "rows";
/// The shared cache forgets by itself after an hour, as caches do: far too late to help the demo.
const TTL_SECONDS: &str = "3600";
/// How long the private Redis may take to start.
const UP_WITHIN: Duration = Duration::from_secs(10);

/// A connection for single commands.
pub(super) struct Store(Client);

impl Store {
    /// Connects, waiting until the server is there.
    pub(super) async fn open(url: &str, name: &str) -> Result<Self, Trouble> {
        let client = Client::open(&server(url)?, Role::Commands, name)?;
        client.ready(UP_WITHIN).await?;
        Ok(Self(client))
    }

    pub(super) fn client(&self) -> &Client {
        &self.0
    }

    /// A cached value.
    pub(super) async fn get(&self, key: &str) -> Result<Option<u64>, Fault> {
        optional(&self.call(&["GET", key]).await?)
    }

    pub(super) async fn set(&self, key: &str, version: u64) -> Result<(), Fault> {
        self.call(&["SET", key, &version.to_string(), "EX", TTL_SECONDS]).await.map(drop)
    }

    /// The version of a row of the database, if there is such a row.
    pub(super) async fn row(&self, hash: &str) -> Result<Option<u64>, Fault> {
        optional(&self.call(&["HGET", ROWS, hash]).await?)
    }

    /// Commits a change to each of these rows.
    pub(super) async fn bump(&self, hashes: &[String]) -> Result<(), Fault> {
        let bumps = hashes.iter().map(|hash| async { self.call(&["HINCRBY", ROWS, hash, "1"]).await });
        try_join_all(bumps).await.map(drop)
    }

    /// Deletes a row.
    pub(super) async fn delete_row(&self, hash: &str) -> Result<(), Fault> {
        self.call(&["HDEL", ROWS, hash]).await.map(drop)
    }

    async fn call(&self, words: &[&str]) -> Result<Reply, Fault> {
        self.0.raw(words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()).await
    }
}

/// The server behind a URL.
pub(super) fn server(url: &str) -> Result<Server, Trouble> {
    url.parse().map_err(|bad: unstale_connect::BadUrl| Trouble(bad.to_string()))
}

fn optional(reply: &Reply) -> Result<Option<u64>, Fault> {
    if reply.is_nil() { Ok(None) } else { reply.count().map(Some) }
}
