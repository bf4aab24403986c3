//! One call of the script: what it is given, and what it answers.

use std::sync::LazyLock;

use bytes::Bytes;
use unstale_connect::{Client, Fault, FaultKind, Reply, Script};
use unstale_events::{CacheId, Position, Target, TargetKind, Targets};

use crate::place::{Place, Places};

pub(crate) static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("script.lua")));

/// How a call treats the log, and what it writes to it.
#[derive(Debug)]
pub(crate) struct Announcement<'a> {
    /// The key of the log.
    pub(crate) log: &'a str,
    /// How many entries it may keep.
    pub(crate) bound: u64,
    /// Whether it is measured.
    pub(crate) measure: bool,
    /// The channel of the notices, if they are published.
    pub(crate) channel: Option<&'a str>,
    /// The notice before its time and after it; without a tail there is nothing to announce.
    pub(crate) head: &'a str,
    pub(crate) tail: Option<String>,
    /// Pairs of channel and message for other subscribers.
    pub(crate) republished: Vec<(String, Bytes)>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) keys: Vec<Bytes>,
    pub(crate) args: Vec<Bytes>,
    deleting: Vec<CacheId>,
}

/// What a call did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Redis' time in milliseconds.
    pub(crate) at_ms: u64,
    /// The notice in the log, if there was something to announce.
    pub(crate) notice: Option<Position>,
    /// How many keys of each cache there were.
    pub(crate) deleted: Vec<u64>,
    /// The fault of each counter that has one, in the order of the counters.
    pub(crate) counters: Vec<Option<Fault>>,
    /// Why a message was not published.
    pub(crate) unheard: Option<Fault>,
    /// What the log takes, and how many entries it has; zeros if it was not measured.
    pub(crate) log: (u64, u64),
}

impl Request {
    /// What the script is given for these targets: keys cache by cache, then counters.
    pub(crate) fn new(say: Announcement<'_>, targets: &Targets, part: &[usize], places: &Places) -> Self {
        let mut declared = Declared::new(say.log);
        for target in part.iter().filter_map(|position| targets.get(*position)) {
            declared.add(target, places);
        }
        let Declared { text, ends, groups } = declared;
        let mut args = vec![number(say.bound), number(say.measure.into())];
        args.extend([owned(say.channel.unwrap_or_default()), owned(say.head), Bytes::from(say.tail.unwrap_or_default())]);
        args.push(number(groups.len() as u64));
        args.extend(groups.iter().map(|(_, keys)| number(*keys)));
        args.extend(say.republished.into_iter().flat_map(|(channel, message)| [Bytes::from(channel), message]));
        Self { keys: slices(text, &ends), args, deleting: groups.into_iter().map(|(cache, _)| cache).collect() }
    }

    /// Sends it. Returns which caches it deleted from, in the order of the counts, and what it did.
    pub(crate) async fn send(self, client: &Client) -> Result<(Vec<CacheId>, Answer), Fault> {
        Ok((self.deleting, Answer::of(client.eval(&SCRIPT, self.keys, self.args).await?)?))
    }
}

/// The keys of a call in one buffer: a batch has many, and each is needed once.
struct Declared {
    text: Vec<u8>,
    ends: Vec<usize>,
    groups: Vec<(CacheId, u64)>,
}

impl Declared {
    fn new(log: &str) -> Self {
        Self { text: log.as_bytes().to_vec(), ends: vec![log.len()], groups: Vec::new() }
    }

    fn add(&mut self, target: Target<'_>, places: &Places) {
        match target.kind {
            TargetKind::Key if places.of(target.cache) == Place::Together => self.count(target.cache),
            TargetKind::Bump => {}
            TargetKind::Key | TargetKind::Pattern => return,
        }
        self.text.extend_from_slice(target.text.as_bytes());
        self.ends.push(self.text.len());
    }

    fn count(&mut self, cache: CacheId) {
        match self.groups.last_mut() {
            Some((last, keys)) if *last == cache => *keys += 1,
            _ => self.groups.push((cache, 1)),
        }
    }
}

fn slices(text: Vec<u8>, ends: &[usize]) -> Vec<Bytes> {
    let text = Bytes::from(text);
    let starts = std::iter::once(&0).chain(ends);
    starts.zip(ends).map(|(start, end)| text.slice(*start..*end)).collect()
}

fn number(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

fn owned(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

impl Answer {
    pub(crate) fn of(reply: Reply) -> Result<Self, Fault> {
        let parts: [Reply; 8] =
            reply.array()?.try_into().map_err(|_| Fault::new(FaultKind::Protocol, "the script answered something else"))?;
        let [at_ms, id, deleted, counters, unheard, bytes, length, seq] = parts;
        Ok(Self {
            at_ms: at_ms.count()?,
            notice: if id.is_nil() { None } else { Some(Position { id: id.entry_id()?, seq: seq.count()? }) },
            deleted: deleted.array()?.iter().map(Reply::count).collect::<Result<_, _>>()?,
            counters: counters.array()?.iter().map(fault).collect::<Result<_, _>>()?,
            unheard: fault(&unheard)?,
            log: (bytes.count()?, length.count()?),
        })
    }
}

/// The fault that a text is, if it isn't empty.
fn fault(reply: &Reply) -> Result<Option<Fault>, Fault> {
    Ok(Some(reply.text()?).filter(|text| !text.is_empty()).map(Fault::from_server))
}
