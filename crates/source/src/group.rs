//! One stream's consumer group, as one consumer of it: everything but the blocking read.

use std::time::Duration;

use unstale_connect::{Client, Fault, FaultKind, GroupInfo, GroupStart, PendingEntry, PendingQuery, Reply, Script, Trim};
use unstale_events::{Entry, EntryId, StreamKind};

/// How many ids one XACK or XCLAIM names: enough to make the command's own cost vanish, few enough not to hold Redis up.
const CHUNK: usize = 1000;

/// Where a group begins that is made because there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the stream's beginning. What was acknowledged was trimmed, so little is repeated and nothing lost.
    Beginning,
    /// Behind the newest entry: for a stream that others own and whose past is of no interest.
    End,
}

/// Entries taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// What is now this consumer's.
    pub entries: Vec<Entry>,
    /// Entries that were pending but whose bodies are gone; they are off the pending list.
    pub lost: Vec<EntryId>,
}

/// How a stream and its group stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Entries that the group has yet to deliver, if the server knows.
    pub lag: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// The lowest of them.
    pub oldest: Option<EntryId>,
    /// Each consumer with pending entries, and how many.
    pub owners: Vec<(String, u64)>,
    /// All consumers of the group.
    pub consumers: Vec<String>,
    /// Every entry below is acknowledged by all groups; `None` if that can't be told.
    pub floor: Option<EntryId>,
    /// Whether the group seems to lack entries that it never delivered; [`Group::lost_unread`] tells for sure.
    pub suspicious: bool,
}

/// A stream's group and this process's place in it.
#[derive(Debug, Clone)]
pub struct Group {
    client: Client,
    kind: StreamKind,
    stream: String,
    name: String,
    consumer: String,
    start: Start,
}

impl Group {
    /// The group of a stream; `client` must not be one that blocks.
    pub fn new(client: Client, kind: StreamKind, stream: &str, group: &str, consumer: &str, start: Start) -> Self {
        Self { client, kind, stream: stream.to_owned(), name: group.to_owned(), consumer: consumer.to_owned(), start }
    }

    /// Which stream it is.
    pub fn kind(&self) -> StreamKind {
        self.kind
    }

    /// The stream's key.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// This process's name in the group.
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Makes the group, and the stream, if there is none. Returns whether it did.
    pub async fn create(&self) -> Result<bool, Fault> {
        let start = match self.start {
            Start::Beginning => GroupStart::After(EntryId::ZERO),
            Start::End => GroupStart::End,
        };
        self.client.xgroup_create(&self.stream, &self.name, start).await
    }

    /// Whether the stream is there.
    pub async fn has_stream(&self) -> Result<bool, Fault> {
        match self.client.xinfo_stream(&self.stream).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.kind == FaultKind::NoKey => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// How many entries went from the stream before the group delivered them: somebody else trimmed it. Told once: the group is set
    /// right. Needs Redis 7.0, before which a group doesn't know.
    pub async fn lost_unread(&self) -> Result<u64, Fault> {
        let script = Script::new(include_str!("lost.lua"));
        self.client.eval(&script, vec![self.stream.clone().into()], vec![self.name.clone().into()]).await?.count()
    }

    /// Acknowledges entries, and returns them.
    ///
    /// # Errors
    /// The fault, and all these entries: whether some were acknowledged isn't known, and doing it twice does no harm.
    pub async fn ack(&self, ids: Vec<EntryId>) -> Result<Vec<EntryId>, (Vec<EntryId>, Fault)> {
        for chunk in ids.chunks(CHUNK) {
            match self.client.xack(&self.stream, &self.name, chunk).await {
                Ok(_) => {}
                // The pending list is gone, and with it what there was to acknowledge.
                Err(fault) if fault.kind == FaultKind::NoGroup => {}
                Err(fault) => return Err((ids, fault)),
            }
        }
        Ok(ids)
    }

    /// Pending entries of one consumer, from an id on; by default this process's own.
    pub async fn pending(&self, consumer: Option<&str>, from: EntryId, min_idle: Duration) -> Result<Vec<PendingEntry>, Fault> {
        let query = PendingQuery { stream: &self.stream, group: &self.name, from, count: CHUNK, consumer, min_idle };
        no_group_is(Vec::new(), self.client.xpending(query).await)
    }

    /// Takes over pending entries that were last delivered at least `min_idle` ago, counting the delivery.
    pub async fn claim(&self, ids: &[EntryId], min_idle: Duration) -> Result<Claimed, Fault> {
        let mut claimed = Claimed::default();
        for chunk in ids.chunks(CHUNK) {
            claimed.lost.extend(no_group_is(Vec::new(), self.drop_bodiless(chunk).await)?);
            let claim = self.client.xclaim(&self.stream, &self.name, &self.consumer, min_idle, chunk).await;
            claimed.entries.extend(no_group_is(Vec::new(), claim)?.into_iter().filter(|entry| entry.fields.is_some()));
        }
        Ok(claimed)
    }

    /// Takes those off the pending list whose bodies are gone, and returns them. An entry without a body that isn't pending was
    /// acknowledged by somebody in the meantime; only a script can tell the two apart, for XCLAIM removes the first without a word.
    async fn drop_bodiless(&self, ids: &[EntryId]) -> Result<Vec<EntryId>, Fault> {
        let script = Script::new(include_str!("drop_bodiless.lua"));
        let args = std::iter::once(self.name.clone()).chain(ids.iter().map(ToString::to_string)).map(Into::into).collect();
        let gone = self.client.eval(&script, vec![self.stream.clone().into()], args).await?.array()?;
        gone.iter().map(Reply::entry_id).collect()
    }

    /// Leaves entries pending for later and says how often they count as delivered: they are not to blame for this time.
    pub async fn release(&self, ids: &[EntryId], deliveries: u64) -> Result<(), Fault> {
        for chunk in ids.chunks(CHUNK) {
            let restored = self.client.xclaim_restore(&self.stream, &self.name, &self.consumer, chunk, deliveries).await;
            no_group_is(Vec::new(), restored)?;
        }
        Ok(())
    }

    /// An entry's body, if it is still there.
    pub async fn read_again(&self, id: EntryId) -> Result<Option<Entry>, Fault> {
        Ok(self.client.xrange(&self.stream, id, Some(id), 1).await?.pop())
    }

    /// Looks how the stream and its groups stand.
    pub async fn survey(&self) -> Result<Survey, Fault> {
        let groups = match self.client.xinfo_groups(&self.stream).await {
            Err(fault) if fault.kind == FaultKind::NoKey => return Ok(Survey::default()),
            groups => groups?,
        };
        let Some(own) = groups.iter().find(|group| group.name == self.name) else { return Ok(Survey::default()) };
        let suspicious = match own.lag {
            Some(lag) if lag > 0 => lag > self.client.xlen(&self.stream).await?,
            _ => false,
        };
        let summary = self.client.xpending_summary(&self.stream, &self.name).await?;
        let consumers = self.client.xinfo_consumers(&self.stream, &self.name).await?;
        Ok(Survey {
            lag: own.lag,
            pending: summary.count,
            oldest: summary.range.map(|(low, _)| low),
            owners: summary.consumers,
            consumers: consumers.into_iter().map(|consumer| consumer.name).collect(),
            floor: self.floor(&groups).await?,
            suspicious,
        })
    }

    /// The lowest entry that some group still needs.
    async fn floor(&self, groups: &[GroupInfo]) -> Result<Option<EntryId>, Fault> {
        let mut floor: Option<EntryId> = None;
        for group in groups {
            let oldest = match group.pending {
                0 => None,
                _ => self.client.xpending_summary(&self.stream, &group.name).await?.range.map(|(low, _)| low),
            };
            let needs = oldest.unwrap_or(group.last_delivered.next()).min(group.last_delivered.next());
            floor = Some(floor.map_or(needs, |floor| floor.min(needs)));
        }
        Ok(floor)
    }

    /// Removes the entries below an id. Returns how many.
    pub async fn trim(&self, floor: EntryId) -> Result<u64, Fault> {
        self.client.xtrim_minid(&self.stream, floor, Trim::Exact).await
    }

    /// Removes a consumer if it has nothing pending and no beat newer than `alive_since`, in milliseconds of Redis' clock. Looks and
    /// removes in one script, for a consumer that is removed loses what it has pending.
    pub async fn remove_consumer(&self, consumer: &str, beats: &str, alive_since: u64) -> Result<bool, Fault> {
        let script = Script::new(include_str!("remove_consumer.lua"));
        let keys = [self.stream.clone(), beats.to_owned()].map(Into::into).to_vec();
        let args = [self.name.clone(), consumer.to_owned(), alive_since.to_string()].map(Into::into).to_vec();
        Ok(self.client.eval(&script, keys, args).await?.int()? == 1)
    }
}

/// Without a group nothing is pending.
fn no_group_is<T>(nothing: T, answer: Result<T, Fault>) -> Result<T, Fault> {
    match answer {
        Err(fault) if fault.kind == FaultKind::NoGroup => Ok(nothing),
        answer => answer,
    }
}
