//! One stream's consumer group, as one consumer of it: everything but the blocking read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use unstale_connect::{Client, Fault, FaultKind, GroupInfo, GroupStart, PendingEntry, PendingQuery, PendingSummary, Reply, Script, Trim};
use unstale_events::{Entry, EntryId, Fields, StreamKind};

use crate::limit::{EntryLimit, Size};

/// How many ids one XACK or XCLAIM names: enough to make the command's own cost vanish, few enough not to hold Redis up.
const CHUNK: usize = 1000;
/// How many bytes of entries are looked at to count them: some ten thousand of a few fields.
const COUNTED_BYTES: usize = 4 * 1024 * 1024;
/// How many fields are kept of an entry that is too large, and how many bytes of each.
pub(crate) const KEPT: (usize, usize) = (1000, 4096);

/// Where a group begins that is made because there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the stream's beginning. What was acknowledged was trimmed, so little is repeated and nothing lost.
    Beginning,
    /// Behind the newest entry: for a stream that others own and whose past is of no interest.
    End,
}

/// Where pending entries are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingAt {
    /// Whose they are; `None` for anybody's.
    pub consumer: Option<String>,
    /// Only those that were delivered at least so long ago.
    pub min_idle: Duration,
}

/// Entries taken over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// What is now this consumer's.
    pub entries: Vec<Entry>,
    /// What is now this consumer's too, but is over the limit: its body is not here.
    pub heavy: Vec<Heavy>,
    /// Entries that were pending but whose bodies are gone; they are off the pending list.
    pub lost: Vec<EntryId>,
    /// How many of the ids were looked at, the first ones; the others would have been too much.
    pub looked_at: usize,
}

/// An entry that is over the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heavy {
    /// The entry.
    pub id: EntryId,
    /// How large it is.
    pub size: Size,
}

/// What a delivery without bodies found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// How many entries were delivered, and are pending now.
    pub entries: usize,
    /// How many of them are over the limit.
    pub heavy: usize,
    /// Whether nothing is left to deliver.
    pub was_last: bool,
}

/// What is left of an entry in its stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// Its fields; none if the entry is gone.
    pub fields: Fields,
    /// Whether these are only the beginnings of some of them.
    pub is_cut: bool,
}

/// How a stream and its group stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Survey {
    /// Entries that the group has yet to deliver; at most so many where the server doesn't know it.
    pub lag: u64,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// The lowest of them.
    pub oldest: Option<EntryId>,
    /// Each consumer with pending entries, and how many.
    pub owners: Vec<(String, u64)>,
    /// All consumers of the group, if they were asked for.
    pub consumers: Vec<String>,
    /// Every entry below is acknowledged by all groups; `None` if that can't be told.
    pub floor: Option<EntryId>,
    /// Whether the group seems to lack entries that it never delivered; [`Group::lost_unread`] tells for sure.
    pub suspicious: bool,
}

/// What a group has yet to deliver.
#[derive(Debug, Clone, Copy, Default)]
struct Unread {
    lag: u64,
    /// Whether some of it seems to be gone.
    suspicious: bool,
}

impl Unread {
    /// So much of a stream of this length.
    fn of(lag: u64, length: u64) -> Self {
        Self { lag, suspicious: lag > length }
    }
}

/// A stream's group and this process's place in it. Clones share all but the connection.
#[derive(Debug, Clone)]
pub struct Group {
    client: Client,
    about: Arc<About>,
}

#[derive(Debug)]
struct About {
    kind: StreamKind,
    stream: String,
    group: String,
    consumer: String,
    start: Start,
    claim: Script,
    deliver: Script,
    body: Script,
    lost: Script,
    standing: Script,
    remove_consumer: Script,
}

impl Group {
    /// The group of a stream; `client` must not be one that blocks.
    pub fn new(client: Client, kind: StreamKind, stream: &str, group: &str, consumer: &str, start: Start) -> Self {
        let about = About {
            kind,
            stream: stream.to_owned(),
            group: group.to_owned(),
            consumer: consumer.to_owned(),
            start,
            claim: Script::new(include_str!("claim.lua")),
            deliver: Script::new(include_str!("deliver.lua")),
            body: Script::new(include_str!("body.lua")),
            lost: Script::new(include_str!("lost.lua")),
            standing: Script::new(include_str!("standing.lua")),
            remove_consumer: Script::new(include_str!("remove_consumer.lua")),
        };
        Self { client, about: Arc::new(about) }
    }

    /// Which stream it is.
    pub fn kind(&self) -> StreamKind {
        self.about.kind
    }

    /// The stream's key.
    pub fn stream(&self) -> &str {
        &self.about.stream
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.about.group
    }

    /// This process's name in the group.
    pub fn consumer(&self) -> &str {
        &self.about.consumer
    }

    /// Makes the group, and the stream, if there is none. Returns whether it did.
    pub async fn create(&self) -> Result<bool, Fault> {
        let start = match self.about.start {
            Start::Beginning => GroupStart::After(EntryId::ZERO),
            Start::End => GroupStart::End,
        };
        self.client.xgroup_create(self.stream(), self.name(), start).await
    }

    /// Whether the stream is there. Asks for its groups, not for itself: that would bring entries along, which may be large.
    pub async fn has_stream(&self) -> Result<bool, Fault> {
        match self.client.xinfo_groups(self.stream()).await {
            Ok(_) => Ok(true),
            Err(fault) if fault.kind == FaultKind::NoKey => Ok(false),
            Err(fault) => Err(fault),
        }
    }

    /// How many entries went from the stream before the group delivered them: somebody else trimmed it. Told once: the group is set
    /// right. Before Redis 7.0 a group doesn't know: the loss of all that it had not delivered is told as one, that of a part isn't.
    ///
    /// `anew` if the server is another process than before: there the group's count is no evidence, and it is only set right.
    pub async fn lost_unread(&self, anew: bool) -> Result<u64, Fault> {
        let words = [self.name().to_owned(), u8::from(anew).to_string(), COUNTED_BYTES.to_string()];
        self.run(&self.about.lost, words).await?.count()
    }

    /// Acknowledges entries, and returns them.
    ///
    /// # Errors
    /// The fault, and all these entries: whether some were acknowledged isn't known, and doing it twice does no harm.
    pub async fn ack(&self, ids: Vec<EntryId>) -> Result<Vec<EntryId>, (Vec<EntryId>, Fault)> {
        for chunk in ids.chunks(CHUNK) {
            match self.client.xack(self.stream(), self.name(), chunk).await {
                Ok(_) => {}
                // The pending list is gone, and with it what there was to acknowledge.
                Err(fault) if fault.kind == FaultKind::NoGroup => {}
                Err(fault) => return Err((ids, fault)),
            }
        }
        Ok(ids)
    }

    /// The pending entries of a place, from an id on.
    pub async fn pending(&self, at: &PendingAt, from: EntryId) -> Result<Vec<PendingEntry>, Fault> {
        let (consumer, min_idle) = (at.consumer.as_deref(), at.min_idle);
        let query = PendingQuery { stream: self.stream(), group: self.name(), from, count: CHUNK, consumer, min_idle };
        no_group_is(Vec::new(), self.client.xpending(query).await)
    }

    /// Takes over pending entries of a place, counting the delivery; in the order of `ids`, until what was taken over weighs `enough` bytes.
    /// The bodies of those over the limit stay where they are.
    pub async fn claim(&self, ids: &[EntryId], from: &PendingAt, enough: usize, limit: EntryLimit) -> Result<Claimed, Fault> {
        let ids = &ids[..ids.len().min(CHUNK)];
        let owner = from.consumer.clone().unwrap_or_default();
        let words = [self.name().to_owned(), self.consumer().to_owned(), from.min_idle.as_millis().to_string(), owner];
        let words = words.into_iter().chain(numbers([enough, limit.bytes, limit.fields])).chain(ids.iter().map(ToString::to_string));
        match self.run(&self.about.claim, words).await {
            Ok(reply) => claimed(reply),
            Err(fault) if fault.kind == FaultKind::NoGroup => Ok(Claimed { looked_at: ids.len(), ..Claimed::default() }),
            Err(fault) => Err(fault),
        }
    }

    /// Has the group deliver at most `most` new entries, or what weighs `enough` bytes, to this consumer without handing them out: for when
    /// they may be too large to be read. They are to be claimed next, and count as not delivered yet. Never blocks.
    pub async fn deliver(&self, most: usize, enough: usize, limit: EntryLimit) -> Result<Delivered, Fault> {
        let words = [self.name().to_owned(), self.consumer().to_owned()];
        let words = words.into_iter().chain(numbers([most, enough, limit.bytes, limit.fields]));
        delivered(self.run(&self.about.deliver, words).await?)
    }

    /// Tells Redis that entries are still at work here: who looks for entries that nobody finishes passes them over for as long as before.
    /// Only those that were not told of, or delivered, for `since`.
    pub async fn keep(&self, ids: &[EntryId], since: Duration) -> Result<(), Fault> {
        for chunk in ids.chunks(CHUNK) {
            let kept = self.client.xclaim_keep(self.stream(), self.name(), self.consumer(), since, chunk).await;
            no_group_is(Vec::new(), kept)?;
        }
        Ok(())
    }

    /// Leaves entries pending for later and says how often they count as delivered: they are not to blame for this time.
    pub async fn release(&self, ids: &[EntryId], deliveries: u64) -> Result<(), Fault> {
        for chunk in ids.chunks(CHUNK) {
            let restored = self.client.xclaim_restore(self.stream(), self.name(), self.consumer(), chunk, deliveries).await;
            no_group_is(Vec::new(), restored)?;
        }
        Ok(())
    }

    /// An entry's body, or its beginnings if it is over the limit.
    pub async fn body(&self, id: EntryId, limit: EntryLimit) -> Result<Body, Fault> {
        let words = std::iter::once(id.to_string()).chain(numbers([limit.bytes, limit.fields, KEPT.0, KEPT.1]));
        body(self.run(&self.about.body, words).await?)
    }

    /// Looks how the stream and its groups stand. Who its consumers are is asked only if that is wanted.
    pub async fn survey(&self, consumers: bool) -> Result<Survey, Fault> {
        let groups = match self.client.xinfo_groups(self.stream()).await {
            Err(fault) if fault.kind == FaultKind::NoKey => return Ok(Survey::default()),
            groups => groups?,
        };
        let Some(own) = groups.iter().find(|group| group.name == self.name()) else { return Ok(Survey::default()) };
        let unread = self.unread(own).await?;
        let summary = self.summary(own).await?;
        let consumers = if consumers { self.client.xinfo_consumers(self.stream(), self.name()).await? } else { Vec::new() };
        let oldest = summary.range.map(|(low, _)| low);
        Ok(Survey {
            lag: unread.lag,
            pending: summary.count,
            oldest,
            owners: summary.consumers,
            consumers: consumers.into_iter().map(|consumer| consumer.name).collect(),
            floor: self.floor(&groups, oldest).await?,
            suspicious: unread.suspicious,
        })
    }

    /// How many entries wait to be delivered. Where the server doesn't know, it is at most what isn't pending, for what is acknowledged
    /// is trimmed; and only of a stream without any entry it is sure that some went. From Redis 8 on the lag is of what is there still, and
    /// what went unread shows in the counts alone.
    async fn unread(&self, own: &GroupInfo) -> Result<Unread, Fault> {
        let lag = own.lag.map_or_else(String::new, |lag| lag.to_string());
        let [length, newest, added] = parts(self.run(&self.about.standing, [lag, own.pending.to_string()]).await?)?;
        if newest.is_nil() {
            return Ok(Unread { lag: own.lag.unwrap_or_default(), suspicious: false });
        }
        let (length, newest) = (length.count()?, newest.entry_id()?);
        Ok(match (own.lag, own.entries_read) {
            (Some(lag), Some(read)) => Unread::of(lag.max(added.count()?.saturating_sub(read)), length),
            (Some(lag), None) => Unread::of(lag, length),
            (None, _) if newest <= own.last_delivered => Unread::default(),
            (None, _) => Unread { lag: length.saturating_sub(own.pending), suspicious: length == 0 },
        })
    }

    /// What is pending in a group. An idle one isn't asked for more than it has said.
    async fn summary(&self, group: &GroupInfo) -> Result<PendingSummary, Fault> {
        match group.pending {
            0 => Ok(PendingSummary::default()),
            _ => self.client.xpending_summary(self.stream(), &group.name).await,
        }
    }

    /// The lowest entry that some group still needs; `oldest` is the lowest that is pending in the own one.
    async fn floor(&self, groups: &[GroupInfo], oldest: Option<EntryId>) -> Result<Option<EntryId>, Fault> {
        let mut floor: Option<EntryId> = None;
        for group in groups {
            let oldest = if group.name == self.name() { oldest } else { self.summary(group).await?.range.map(|(low, _)| low) };
            let needs = oldest.unwrap_or(group.last_delivered.next()).min(group.last_delivered.next());
            floor = Some(floor.map_or(needs, |floor| floor.min(needs)));
        }
        Ok(floor)
    }

    /// Removes the entries below an id. Returns how many.
    pub async fn trim(&self, floor: EntryId) -> Result<u64, Fault> {
        self.client.xtrim_minid(self.stream(), floor, Trim::Exact).await
    }

    /// Removes a consumer if it has nothing pending and no beat newer than `alive_since`, in milliseconds of Redis' clock. Looks and
    /// removes in one script, for a consumer that is removed loses what it has pending.
    pub async fn remove_consumer(&self, consumer: &str, beats: &str, alive_since: u64) -> Result<bool, Fault> {
        let keys = [self.stream(), beats].map(bytes).to_vec();
        let args = [self.name(), consumer, &alive_since.to_string()].map(bytes).to_vec();
        Ok(self.client.eval(&self.about.remove_consumer, keys, args).await?.int()? == 1)
    }

    /// Runs a script that concerns the stream alone.
    async fn run(&self, script: &Script, words: impl IntoIterator<Item = String>) -> Result<Reply, Fault> {
        self.client.eval(script, vec![bytes(self.stream())], words.into_iter().map(Bytes::from).collect()).await
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn numbers<const N: usize>(numbers: [usize; N]) -> impl Iterator<Item = String> {
    numbers.into_iter().map(|number| number.to_string())
}

fn parts<const N: usize>(reply: Reply) -> Result<[Reply; N], Fault> {
    reply.array()?.try_into().map_err(|_| Fault::new(FaultKind::Protocol, "a script of the group answered something else"))
}

fn size(reply: &Reply) -> Result<usize, Fault> {
    Ok(usize::try_from(reply.count()?).unwrap_or(usize::MAX))
}

pub(crate) fn delivered(reply: Reply) -> Result<Delivered, Fault> {
    let [entries, heavy, was_last] = parts(reply)?;
    Ok(Delivered { entries: size(&entries)?, heavy: size(&heavy)?, was_last: was_last.int()? == 1 })
}

pub(crate) fn body(reply: Reply) -> Result<Body, Fault> {
    let [list, is_cut] = parts(reply)?;
    Ok(Body { fields: fields(list)?, is_cut: is_cut.int()? == 1 })
}

pub(crate) fn claimed(reply: Reply) -> Result<Claimed, Fault> {
    let [taken, gone, heavy, looked_at] = parts(reply)?;
    Ok(Claimed {
        entries: taken.array()?.into_iter().map(entry).collect::<Result<_, Fault>>()?,
        heavy: heavy.array()?.into_iter().map(too_large).collect::<Result<_, Fault>>()?,
        lost: gone.array()?.iter().map(Reply::entry_id).collect::<Result<_, Fault>>()?,
        looked_at: size(&looked_at)?,
    })
}

fn too_large(reply: Reply) -> Result<Heavy, Fault> {
    let [id, bytes, fields] = parts(reply)?;
    Ok(Heavy { id: id.entry_id()?, size: Size { bytes: size(&bytes)?, fields: size(&fields)? } })
}

fn entry(reply: Reply) -> Result<Entry, Fault> {
    let [id, list] = parts(reply)?;
    Ok(Entry { id: id.entry_id()?, fields: Some(fields(list)?) })
}

fn fields(list: Reply) -> Result<Fields, Fault> {
    let mut words = list.array()?.into_iter();
    let mut fields = Vec::with_capacity(words.len() / 2);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        fields.push((name.bytes()?, value.bytes()?));
    }
    Ok(fields)
}

/// Without a group nothing is pending.
fn no_group_is<T>(nothing: T, answer: Result<T, Fault>) -> Result<T, Fault> {
    match answer {
        Err(fault) if fault.kind == FaultKind::NoGroup => Ok(nothing),
        answer => answer,
    }
}
