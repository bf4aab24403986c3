//! The commands of keys, scripts, channels and of the server itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;

use crate::client::Client;
use crate::fault::{Fault, FaultKind};
use crate::script::Script;
use crate::wire::{Command, Reply};

/// How many keys one UNLINK takes at most: it holds the server up for less than a millisecond.
pub(crate) const KEYS_AT_ONCE: usize = 1000;

/// A page of a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Where the next page begins; 0 after the last.
    pub cursor: u64,
    /// The keys; may be none on any page, and a key may come more than once.
    pub keys: Vec<Bytes>,
}

impl Client {
    /// Runs a script: by its name, and in full if the server doesn't know it (any more).
    pub async fn eval(&self, script: &Script, keys: Vec<Bytes>, args: Vec<Bytes>) -> Result<Reply, Fault> {
        let command = script.call(keys, args);
        match self.reply(command.clone()).await {
            Err(fault) if fault.kind == FaultKind::NoScript => self.reply(script.in_full(command)).await,
            answer => answer,
        }
    }

    /// Deletes keys, at most 1000 with each command, the commands sent together; returns how many there were.
    ///
    /// # Errors
    /// The first fault of any of the commands; all of them were sent.
    pub async fn unlink(&self, keys: Vec<Bytes>) -> Result<u64, Fault> {
        let commands = keys.chunks(KEYS_AT_ONCE).map(|chunk| {
            let command = Command::new("UNLINK").key(chunk[0].clone()).args(chunk[1..].iter().cloned());
            async move { self.reply(command).await?.count() }
        });
        join_all(commands).await.into_iter().sum()
    }

    /// What a key holds; `None` if there is no such key.
    pub async fn get(&self, key: Bytes) -> Result<Option<Bytes>, Fault> {
        match self.reply(Command::new("GET").key(key)).await? {
            Reply::Nil => Ok(None),
            value => value.bytes().map(Some),
        }
    }

    /// Increments counters, the commands sent together; each has its own answer.
    pub async fn incr(&self, counters: &[Bytes]) -> Vec<Result<i64, Fault>> {
        let commands = counters.iter().map(|counter| self.reply(Command::new("INCR").key(counter.clone())));
        join_all(commands).await.into_iter().map(|reply| reply?.int()).collect()
    }

    /// One page of a scan of the keys. `count` bounds how long the server works on it, not what it returns. On a cluster it visits one
    /// node only.
    pub async fn scan(&self, cursor: u64, pattern: Option<&[u8]>, count: u32) -> Result<Page, Fault> {
        let mut command = Command::new("SCAN").number(cursor);
        if let Some(pattern) = pattern {
            command = command.text("MATCH").arg(Bytes::copy_from_slice(pattern));
        }
        page(self.reply(command.text("COUNT").number(count)).await?)
    }

    /// A section of INFO, such as `memory`.
    pub async fn info(&self, section: &str) -> Result<BTreeMap<String, String>, Fault> {
        let reply = self.reply(Command::new("INFO").text(section)).await?;
        let lines = reply.text()?.lines().filter_map(|line| line.split_once(':'));
        Ok(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// How long the server takes to answer.
    pub async fn ping(&self) -> Result<Duration, Fault> {
        let began = Instant::now();
        self.reply(Command::new("PING")).await?;
        Ok(began.elapsed())
    }

    /// The server's clock: the time since the Unix epoch.
    pub async fn time(&self) -> Result<Duration, Fault> {
        time(self.reply(Command::new("TIME")).await?)
    }

    /// Sends a message to a channel; returns how many subscribers it has (on a cluster, of one node).
    pub async fn publish(&self, channel: &str, message: Bytes) -> Result<u64, Fault> {
        self.reply(Command::new("PUBLISH").text(channel).arg(message)).await?.count()
    }

    /// Waits until so many replicas have everything that was written on this connection so far; returns how many have, after `within` at the latest.
    /// What comes behind it on the connection waits as long.
    pub async fn wait(&self, replicas: u32, within: Duration) -> Result<u64, Fault> {
        let command = Command::new("WAIT").number(replicas).number(within.as_millis().max(1)).blocking(within);
        self.reply(command).await?.count()
    }

    /// The ACL user of this connection.
    pub async fn acl_whoami(&self) -> Result<String, Fault> {
        self.reply(Command::new("ACL").text("WHOAMI")).await?.text().map(str::to_owned)
    }

    /// Whether a user may run a command, without running it (7.0): the fault that it would give, if any.
    ///
    /// # Errors
    /// [`FaultKind::Denied`] if this user may not ask, [`FaultKind::Unsupported`] if the server can't tell.
    pub async fn acl_dryrun(&self, user: &str, words: &[&str]) -> Result<Option<Fault>, Fault> {
        let command = words.iter().fold(Command::new("ACL").text("DRYRUN").text(user), |command, word| command.text(word));
        let reply = self.reply(command).await?;
        let text = reply.text()?;
        Ok((text != "OK").then(|| Fault::new(FaultKind::Denied, text)))
    }
}

pub(crate) fn page(reply: Reply) -> Result<Page, Fault> {
    let mut parts = reply.array()?.into_iter();
    let (Some(cursor), Some(keys)) = (parts.next(), parts.next()) else {
        return Err(Fault::new(FaultKind::Protocol, "expected a cursor and keys"));
    };
    let keys = keys.array()?.into_iter().map(Reply::bytes).collect::<Result<_, _>>()?;
    Ok(Page { cursor: cursor.text()?.parse().map_err(|_| Fault::new(FaultKind::Protocol, "expected a cursor"))?, keys })
}

pub(crate) fn time(reply: Reply) -> Result<Duration, Fault> {
    let parts = reply.array()?;
    let [seconds, micros] = &parts[..] else {
        return Err(Fault::protocol("seconds and microseconds", &parts.len()));
    };
    let time = Duration::from_secs(seconds.count()?).checked_add(Duration::from_micros(micros.count()?));
    time.ok_or_else(|| Fault::new(FaultKind::Protocol, "expected a time"))
}
