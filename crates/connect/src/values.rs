//! What stands under single keys of a store: for caches that are filled, beside those that are only deleted from.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;

use crate::fault::{Fault, FaultKind};
use crate::script::Script;
use crate::store::Store;
use crate::wire::{Command, Reply};

impl Store {
    /// What a key holds; `None` if there is no such key.
    pub async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Fault> {
        match self.keyed(&key, Command::new("GET").key(key.clone())).await? {
            Reply::Nil => Ok(None),
            value => value.bytes().map(Some),
        }
    }

    /// Sets a key, for so long, in whole milliseconds and at least one.
    pub async fn set(&self, key: Bytes, value: Bytes, life: Duration) -> Result<(), Fault> {
        let command = Command::new("SET").key(key.clone()).arg(value).text("PX").number(life.as_millis().max(1));
        self.keyed(&key, command).await.map(drop)
    }

    /// How long a key has yet to live; `None` if for ever, or if there is no such key.
    pub async fn pttl(&self, key: Bytes) -> Result<Option<Duration>, Fault> {
        Ok(self.keyed(&key, Command::new("PTTL").key(key.clone())).await?.count().ok().map(Duration::from_millis))
    }

    /// Runs a script on one key: by its name, and in full if the server doesn't know it (any more).
    pub async fn eval(&self, script: &Script, key: Bytes, args: Vec<Bytes>) -> Result<Reply, Fault> {
        let call = script.call(vec![key.clone()], args);
        match self.keyed(&key, call.clone()).await {
            Err(fault) if fault.kind == FaultKind::NoScript => self.keyed(&key, script.in_full(call)).await,
            answer => answer,
        }
    }

    /// How long the slowest master takes to answer.
    pub async fn ping(&self) -> Result<Duration, Fault> {
        let masters = self.masters().await?.clients;
        let began = Instant::now();
        try_join_all(masters.iter().map(crate::Client::ping)).await?;
        Ok(began.elapsed())
    }

    /// What all masters have together. What the user may not ask isn't known.
    pub async fn holdings(&self) -> Result<Holdings, Fault> {
        let masters = self.masters().await?.clients;
        let keys = try_join_all(masters.iter().map(|client| async { client.reply(Command::new("DBSIZE")).await?.count() })).await;
        let memory = try_join_all(masters.iter().map(|client| client.info("memory"))).await.ok();
        let used = |info: &BTreeMap<String, String>| info.get("used_memory")?.parse::<u64>().ok();
        Ok(Holdings { keys: keys.ok().map(|keys| keys.iter().sum()), memory: memory.and_then(|infos| infos.iter().map(used).sum()) })
    }
}

/// What the servers of a store have, whoever it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// How many keys their databases have.
    pub keys: Option<u64>,
    /// How many bytes of memory they use.
    pub memory: Option<u64>,
}
