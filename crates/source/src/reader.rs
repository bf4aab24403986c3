//! The blocking read of new entries. The reads under way live in here, so that asking for them and turning to something else loses nothing.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use unstale_connect::{Client, Fault, FaultKind, ReadFrom, ReadGroup};
use unstale_events::Entry;

use crate::group::{Delivered, Group};
use crate::limit::EntryLimit;

/// A task, so that the read is sent at once and goes on while its owner does something else.
type Reading = JoinHandle<Result<Read, Fault>>;

/// What a read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Read {
    /// New entries; none if nothing came within the time that a read blocks.
    Entries(Vec<Entry>),
    /// New entries were delivered and are pending, but not here: look at one's own pending entries.
    Delivered(Delivered),
    /// There was no group to read for, so it was made.
    Remade {
        /// Whether the stream was gone too, and with it whatever it held. Of those who find that out together only one is told.
        stream_was_gone: bool,
    },
}

/// Reads what the group has not delivered yet.
pub struct Reader {
    client: Client,
    group: Group,
    block: Duration,
    /// In the order in which they were sent, and are answered.
    reading: VecDeque<Reading>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("group", &self.group).field("reading", &self.is_reading()).finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader of a group's new entries; `client` is its own and made for blocking at least `block`.
    pub fn new(client: Client, group: Group, block: Duration) -> Self {
        Self { client, group, block, reading: VecDeque::new() }
    }

    /// The group that it reads for.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// How many reads are under way.
    pub fn under_way(&self) -> usize {
        self.reading.len()
    }

    /// Whether a read is under way. As long as it is, [`Reader::next`] must be awaited sooner or later, or what it brings is stuck.
    pub fn is_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Sends the next read, for at most `count` entries, unless one is under way. Needs a tokio runtime.
    pub fn begin(&mut self, count: usize) {
        self.send(count, Some(self.block));
    }

    /// The same for one entry, if one is there already.
    pub fn begin_with_one(&mut self) {
        self.send(1, None);
    }

    /// The same without waiting, and without what it reads: see [`Group::deliver`].
    pub fn begin_without_bodies(&mut self, most: usize, enough: usize, limit: EntryLimit) {
        if self.reading.is_empty() {
            self.reading.push_back(tokio::spawn(deliver(self.group.clone(), most, enough, limit)));
        }
    }

    /// Sends another read right behind those that are under way, if any is: the server then has the next to do while the answer to the one
    /// before is dealt with. It doesn't wait for entries, for it would wait behind the others.
    pub fn begin_ahead(&mut self, count: usize) {
        if self.is_reading() {
            self.add(count, None);
        }
    }

    fn send(&mut self, count: usize, block: Option<Duration>) {
        if self.reading.is_empty() {
            self.add(count, block);
        }
    }

    fn add(&mut self, count: usize, block: Option<Duration>) {
        self.reading.push_back(tokio::spawn(read(self.client.clone(), self.group.clone(), count, block)));
    }

    /// What the first of the reads under way brings. Pends for ever if none is under way. Cancel-safe: the read goes on.
    ///
    /// # Errors
    /// After any fault entries may be pending that were never seen here: look at one's own pending entries before the next read.
    pub async fn next(&mut self) -> Result<Read, Fault> {
        let Some(reading) = self.reading.front_mut() else { return std::future::pending().await };
        let result = reading.await;
        self.reading.pop_front();
        result.unwrap_or_else(|error| Err(Fault::new(FaultKind::Other, format!("the read ended: {error}"))))
    }

    /// Ends the read under way as if its time had passed; what it brings is still to be awaited.
    pub fn unblock(&self) -> BoxFuture<'static, Result<(), Fault>> {
        let client = self.client.clone();
        async move { client.unblock().await }.boxed()
    }
}

async fn deliver(group: Group, most: usize, enough: usize, limit: EntryLimit) -> Result<Read, Fault> {
    match group.deliver(most, enough, limit).await {
        Ok(delivered) => Ok(Read::Delivered(delivered)),
        Err(fault) if fault.kind == FaultKind::NoGroup => remake(&group).await,
        Err(fault) => Err(fault),
    }
}

async fn read(client: Client, group: Group, count: usize, block: Option<Duration>) -> Result<Read, Fault> {
    let read = ReadGroup { stream: group.stream(), group: group.name(), consumer: group.consumer(), from: ReadFrom::New, count, block };
    match client.xreadgroup(read).await {
        Ok(entries) => Ok(Read::Entries(entries)),
        // The group is gone, or was never there. Made anew, it is read by the next call.
        Err(fault) if fault.kind == FaultKind::NoGroup => remake(&group).await,
        Err(fault) => Err(fault),
    }
}

async fn remake(group: &Group) -> Result<Read, Fault> {
    let stream_was_gone = !group.has_stream().await?;
    let made = group.create().await?;
    if made {
        tracing::info!(stream = group.stream(), group = group.name(), "made the consumer group");
    }
    Ok(Read::Remade { stream_was_gone: made && stream_was_gone })
}
