//! The commands of streams and their consumer groups.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use unstale_events::{Entry, EntryId, Fields};

use crate::client::Client;
use crate::fault::{Fault, FaultKind};
use crate::wire::{Answer, Command, Reply};

/// Which entries a consumer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// Those that no consumer of the group got so far.
    New,
    /// Its own pending ones above this id; never blocks.
    After(EntryId),
}

/// One XREADGROUP.
#[derive(Debug, Clone, Copy)]
pub struct ReadGroup<'a> {
    /// The stream's key.
    pub stream: &'a str,
    /// The group's name.
    pub group: &'a str,
    /// The consumer's name.
    pub consumer: &'a str,
    /// Which entries.
    pub from: ReadFrom,
    /// At most so many.
    pub count: usize,
    /// How long to wait for the first new one; only on a [`crate::Role::Reader`]. `None` doesn't wait.
    pub block: Option<Duration>,
}

/// Where a new group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStart {
    /// Behind this entry; [`EntryId::ZERO`] is the beginning.
    After(EntryId),
    /// Behind the newest entry.
    End,
}

/// How exactly to trim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trim {
    /// Each entry below.
    Exact,
    /// Whole nodes of the stream, some hundred entries, which is much cheaper.
    Nearly,
}

/// XPENDING without a range.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PendingSummary {
    /// How many entries are pending.
    pub count: u64,
    /// The lowest id and the highest.
    pub range: Option<(EntryId, EntryId)>,
    /// Each consumer that has some, and how many.
    pub consumers: Vec<(String, u64)>,
}

/// Which pending entries to list.
#[derive(Debug, Clone, Copy)]
pub struct PendingQuery<'a> {
    /// The stream's key.
    pub stream: &'a str,
    /// The group's name.
    pub group: &'a str,
    /// From this id on.
    pub from: EntryId,
    /// At most so many.
    pub count: usize,
    /// Only this consumer's.
    pub consumer: Option<&'a str>,
    /// Only those delivered at least so long ago.
    pub min_idle: Duration,
}

/// One pending entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEntry {
    /// Its id.
    pub id: EntryId,
    /// Who has it.
    pub consumer: String,
    /// Since when it was delivered last.
    pub idle: Duration,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// A group, by XINFO GROUPS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// How many consumers it has.
    pub consumers: u64,
    /// How many entries are pending.
    pub pending: u64,
    /// The last entry that it delivered.
    pub last_delivered: EntryId,
    /// How many entries it has delivered, if the server knows (7.0).
    pub entries_read: Option<u64>,
    /// How many entries it has yet to deliver, if the server knows (7.0, and not always).
    pub lag: Option<u64>,
}

/// A consumer, by XINFO CONSUMERS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// How many entries are pending with it.
    pub pending: u64,
    /// Since when it last tried to do anything.
    pub idle: Duration,
}

/// A stream, by XINFO STREAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// How many entries it has.
    pub length: u64,
    /// The id of the newest entry that it ever had.
    pub last_generated: EntryId,
    /// The id of the oldest entry that it has.
    pub first: Option<EntryId>,
    /// How many entries it ever had, if the server knows (7.0).
    pub entries_added: Option<u64>,
}

impl Client {
    /// Adds an entry.
    pub async fn xadd(&self, stream: &str, fields: &Fields) -> Result<EntryId, Fault> {
        self.add(Command::new("XADD").stream(stream), fields).await
    }

    /// Adds an entry and trims the stream to about `max_len` entries, never below.
    pub async fn xadd_capped(&self, stream: &str, max_len: u64, fields: &Fields) -> Result<EntryId, Fault> {
        self.add(Command::new("XADD").stream(stream).text("MAXLEN").text("~").number(max_len), fields).await
    }

    /// Adds entries, sent together and in this order; each has its own answer.
    pub async fn xadd_many(&self, entries: &[(&str, &Fields)]) -> Vec<Result<EntryId, Fault>> {
        join_all(entries.iter().map(|(stream, fields)| self.xadd(stream, fields))).await
    }

    async fn add(&self, command: Command, fields: &Fields) -> Result<EntryId, Fault> {
        let fields = fields.iter().flat_map(|(name, value)| [name.clone(), value.clone()]);
        self.reply(command.text("*").args(fields)).await?.entry_id()
    }

    /// Acknowledges entries; returns how many were pending.
    pub async fn xack(&self, stream: &str, group: &str, ids: &[EntryId]) -> Result<u64, Fault> {
        if ids.is_empty() {
            return Ok(0);
        }
        self.reply(Command::new("XACK").stream(stream).text(group).ids(ids)).await?.count()
    }

    /// Reads entries of a group. A pending entry whose body was trimmed away has no fields.
    ///
    /// Never drop this future before it is ready: the server would deliver the next entries to nobody. After a fault entries may be
    /// pending that were never seen: read from [`ReadFrom::After`] zero first.
    pub async fn xreadgroup(&self, read: ReadGroup<'_>) -> Result<Vec<Entry>, Fault> {
        let command = Command::new("XREADGROUP").text("GROUP").text(read.group).text(read.consumer).text("COUNT").number(read.count);
        let command = blocking(command, read.block.filter(|_| read.from == ReadFrom::New)).text("STREAMS").stream(read.stream);
        let command = match read.from {
            ReadFrom::New => command.text(">"),
            ReadFrom::After(id) => command.id(id),
        };
        self.send(command).await.and_then(Answer::read)
    }

    /// Reads entries above an id without a group, waiting for the first if `block` is set (only on a [`crate::Role::Reader`]).
    pub async fn xread(&self, stream: &str, after: EntryId, count: usize, block: Option<Duration>) -> Result<Vec<Entry>, Fault> {
        let command = blocking(Command::new("XREAD").text("COUNT").number(count), block).text("STREAMS").stream(stream).id(after);
        self.send(command).await.and_then(Answer::read)
    }

    /// How many entries are pending, and with whom.
    pub async fn xpending_summary(&self, stream: &str, group: &str) -> Result<PendingSummary, Fault> {
        pending_summary(self.reply(Command::new("XPENDING").stream(stream).text(group)).await?)
    }

    /// Lists pending entries, the lowest ids first.
    pub async fn xpending(&self, query: PendingQuery<'_>) -> Result<Vec<PendingEntry>, Fault> {
        let mut command = Command::new("XPENDING").stream(query.stream).text(query.group);
        if !query.min_idle.is_zero() {
            command = command.text("IDLE").number(query.min_idle.as_millis());
        }
        command = command.id(query.from).text("+").number(query.count);
        if let Some(consumer) = query.consumer {
            command = command.text(consumer);
        }
        self.reply(command).await.and_then(pending_entries)
    }

    /// Takes over those of these pending entries that were delivered at least `min_idle` ago; returns what it got. Those whose body was
    /// trimmed away are not returned; Redis 7.0 and later takes them off the pending list, 6.2 makes them this consumer's.
    pub async fn xclaim(
        &self,
        stream: &str,
        group: &str,
        consumer: &str,
        min_idle: Duration,
        ids: &[EntryId],
    ) -> Result<Vec<Entry>, Fault> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let command = Command::new("XCLAIM").stream(stream).text(group).text(consumer).number(min_idle.as_millis()).ids(ids);
        self.send(command).await.and_then(Answer::entries)
    }

    /// Sets how often pending entries count as delivered, and makes them this consumer's; sets their idle time to zero. Returns those
    /// that were pending.
    pub async fn xclaim_restore(
        &self,
        stream: &str,
        group: &str,
        consumer: &str,
        ids: &[EntryId],
        retry_count: u64,
    ) -> Result<Vec<EntryId>, Fault> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let command = Command::new("XCLAIM").stream(stream).text(group).text(consumer).number(0).ids(ids);
        let reply = self.reply(command.text("RETRYCOUNT").number(retry_count).text("JUSTID")).await?;
        reply.array()?.iter().map(Reply::entry_id).collect()
    }

    /// Sets the idle time of those pending entries to zero that were delivered, or had it set, at least `min_idle` ago, and makes them this
    /// consumer's; how often they count as delivered stays. Returns them.
    pub async fn xclaim_keep(
        &self,
        stream: &str,
        group: &str,
        consumer: &str,
        min_idle: Duration,
        ids: &[EntryId],
    ) -> Result<Vec<EntryId>, Fault> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let command = Command::new("XCLAIM").stream(stream).text(group).text(consumer).number(min_idle.as_millis()).ids(ids);
        self.reply(command.text("JUSTID")).await?.array()?.iter().map(Reply::entry_id).collect()
    }

    /// The groups of a stream.
    ///
    /// # Errors
    /// [`FaultKind::NoKey`] if there is no such stream.
    pub async fn xinfo_groups(&self, stream: &str) -> Result<Vec<GroupInfo>, Fault> {
        groups(self.reply(Command::new("XINFO").text("GROUPS").stream(stream)).await?)
    }

    /// The consumers of a group.
    ///
    /// # Errors
    /// [`FaultKind::NoKey`] if there is no such stream, [`FaultKind::NoGroup`] if it has no such group.
    pub async fn xinfo_consumers(&self, stream: &str, group: &str) -> Result<Vec<ConsumerInfo>, Fault> {
        consumers(self.reply(Command::new("XINFO").text("CONSUMERS").stream(stream).text(group)).await?)
    }

    /// The stream itself.
    ///
    /// # Errors
    /// [`FaultKind::NoKey`] if there is none.
    pub async fn xinfo_stream(&self, stream: &str) -> Result<StreamInfo, Fault> {
        stream_info(self.reply(Command::new("XINFO").text("STREAM").stream(stream)).await?)
    }

    /// Makes a group, and the stream if there is none. `false` if there is such a group already.
    pub async fn xgroup_create(&self, stream: &str, group: &str, at: GroupStart) -> Result<bool, Fault> {
        let command = Command::new("XGROUP").text("CREATE").stream(stream).text(group);
        let command = match at {
            GroupStart::After(id) => command.id(id),
            GroupStart::End => command.text("$"),
        };
        match self.reply(command.text("MKSTREAM")).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.kind == FaultKind::GroupExists => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// Sets the entry that a group delivered last and, where the server can (7.0), how many it has delivered.
    pub async fn xgroup_setid(&self, stream: &str, group: &str, after: EntryId, entries_read: Option<u64>) -> Result<(), Fault> {
        let command = Command::new("XGROUP").text("SETID").stream(stream).text(group).id(after);
        if let Some(entries_read) = entries_read {
            match self.reply(command.clone().text("ENTRIESREAD").number(entries_read)).await {
                Err(fault) if fault.kind == FaultKind::Unsupported => {}
                answer => return answer.map(drop),
            }
        }
        self.reply(command).await.map(drop)
    }

    /// Removes the entries below an id; returns how many.
    pub async fn xtrim_minid(&self, stream: &str, id: EntryId, how: Trim) -> Result<u64, Fault> {
        let how = if how == Trim::Exact { "=" } else { "~" };
        self.reply(Command::new("XTRIM").stream(stream).text("MINID").text(how).id(id)).await?.count()
    }

    /// How many entries a stream has; 0 if there is none.
    pub async fn xlen(&self, stream: &str) -> Result<u64, Fault> {
        self.reply(Command::new("XLEN").stream(stream)).await?.count()
    }

    /// Entries from one id to another, both included, the lowest first; `None` is the end of the stream.
    pub async fn xrange(&self, stream: &str, from: EntryId, to: Option<EntryId>, count: usize) -> Result<Vec<Entry>, Fault> {
        let command = highest(Command::new("XRANGE").stream(stream).id(from), to);
        self.send(command.text("COUNT").number(count)).await.and_then(Answer::entries)
    }

    /// The same, the highest first: from `to` down to `from`.
    pub async fn xrevrange(&self, stream: &str, to: Option<EntryId>, from: EntryId, count: usize) -> Result<Vec<Entry>, Fault> {
        let command = highest(Command::new("XREVRANGE").stream(stream), to).id(from);
        self.send(command.text("COUNT").number(count)).await.and_then(Answer::entries)
    }

    /// Removes entries from a stream; returns how many there were.
    pub async fn xdel(&self, stream: &str, ids: &[EntryId]) -> Result<u64, Fault> {
        if ids.is_empty() {
            return Ok(0);
        }
        self.reply(Command::new("XDEL").stream(stream).ids(ids)).await?.count()
    }
}

fn highest(command: Command, id: Option<EntryId>) -> Command {
    match id {
        Some(id) => command.id(id),
        None => command.text("+"),
    }
}

/// `BLOCK 0` would wait for ever.
fn blocking(command: Command, block: Option<Duration>) -> Command {
    match block.map(|block| block.max(Duration::from_millis(1))) {
        Some(block) => command.text("BLOCK").number(block.as_millis()).blocking(block),
        None => command,
    }
}

pub(crate) fn pending_summary(reply: Reply) -> Result<PendingSummary, Fault> {
    let [count, low, high, consumers] = exactly(reply.array()?)?;
    let count = count.count()?;
    let range = if count == 0 { None } else { Some((low.entry_id()?, high.entry_id()?)) };
    let consumers = consumers.array()?.into_iter().map(|pair| {
        let [name, count] = exactly(pair.array()?)?;
        Ok((name.text()?.to_owned(), count.count()?))
    });
    Ok(PendingSummary { count, range, consumers: consumers.collect::<Result<_, Fault>>()? })
}

pub(crate) fn pending_entries(reply: Reply) -> Result<Vec<PendingEntry>, Fault> {
    reply.array()?.into_iter().map(pending_entry).collect()
}

pub(crate) fn groups(reply: Reply) -> Result<Vec<GroupInfo>, Fault> {
    let group = |reply| {
        let named = Named::of(reply)?;
        Ok(GroupInfo {
            name: named.get("name")?.text()?.to_owned(),
            consumers: named.get("consumers")?.count()?,
            pending: named.get("pending")?.count()?,
            last_delivered: named.get("last-delivered-id")?.entry_id()?,
            entries_read: named.count("entries-read"),
            lag: named.count("lag"),
        })
    };
    reply.array()?.into_iter().map(group).collect()
}

pub(crate) fn consumers(reply: Reply) -> Result<Vec<ConsumerInfo>, Fault> {
    let consumer = |reply| {
        let named = Named::of(reply)?;
        let idle = Duration::from_millis(named.get("idle")?.count()?);
        Ok(ConsumerInfo { name: named.get("name")?.text()?.to_owned(), pending: named.get("pending")?.count()?, idle })
    };
    reply.array()?.into_iter().map(consumer).collect()
}

pub(crate) fn stream_info(reply: Reply) -> Result<StreamInfo, Fault> {
    let named = Named::of(reply)?;
    let first = named.get("first-entry")?.clone().array()?.first().map(Reply::entry_id).transpose()?;
    Ok(StreamInfo {
        length: named.get("length")?.count()?,
        last_generated: named.get("last-generated-id")?.entry_id()?,
        first,
        entries_added: named.count("entries-added"),
    })
}

fn pending_entry(reply: Reply) -> Result<PendingEntry, Fault> {
    let [id, consumer, idle, deliveries] = exactly(reply.array()?)?;
    Ok(PendingEntry {
        id: id.entry_id()?,
        consumer: consumer.text()?.to_owned(),
        idle: Duration::from_millis(idle.count()?),
        deliveries: deliveries.count()?,
    })
}

fn exactly<const N: usize>(parts: Vec<Reply>) -> Result<[Reply; N], Fault> {
    parts.try_into().map_err(|parts: Vec<Reply>| Fault::protocol(&format!("{N} values"), &parts.len()))
}

/// A flat list of names and values.
struct Named(Vec<(Bytes, Reply)>);

impl Named {
    fn of(reply: Reply) -> Result<Self, Fault> {
        let mut values = reply.array()?.into_iter();
        let mut named = Vec::new();
        while let (Some(name), Some(value)) = (values.next(), values.next()) {
            named.push((name.bytes()?, value));
        }
        Ok(Self(named))
    }

    fn get(&self, name: &str) -> Result<&Reply, Fault> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        value.ok_or_else(|| Fault::protocol(&format!("a value named `{name}`"), &"none"))
    }

    fn count(&self, name: &str) -> Option<u64> {
        self.get(name).ok()?.count().ok()
    }
}
