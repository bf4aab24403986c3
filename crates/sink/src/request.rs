//! What the script is given for a part of a batch, and what it answers.

use std::sync::LazyLock;

use bytes::Bytes;
use unstale_connect::{Client, Fault, FaultKind, Reply, Script};
use unstale_events::{CacheId, Position, Target, TargetKind, Targets};

use crate::place::{Place, Places};
use crate::retention::Retention;

pub(crate) static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("script.lua")));

/// The log of the notices, as every call treats it.
#[derive(Debug)]
pub(crate) struct Log {
    /// Its key.
    pub(crate) key: Bytes,
    /// The channel of the notices, or nothing if they aren't published.
    pub(crate) channel: Bytes,
    /// What all notices say between their number and their time.
    pub(crate) head: Bytes,
    pub(crate) retention: Retention,
}

/// What is asked for one part.
#[derive(Debug)]
pub(crate) struct Request {
    /// The keys to delete and the counters, one after the other: a batch has many, and each is needed once.
    text: Bytes,
    /// Where each of them ends.
    ends: Vec<usize>,
    /// Which caches the keys are of, in their order, and how many.
    groups: Vec<(CacheId, u64)>,
    /// The notice after its time; without it there is nothing to announce.
    tail: Option<Bytes>,
    /// Pairs of channel and message for other subscribers.
    republished: Vec<(String, Bytes)>,
    /// How many targets it deals with.
    pub(crate) targets: usize,
}

/// What was done for one part.
#[derive(Debug, Clone, PartialEq, Eq)]
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
}

/// What a call did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answers {
    /// For each part.
    pub(crate) parts: Vec<Answer>,
    /// What the log takes, and how many entries it has; zeros if it was not measured.
    log: (u64, u64),
}

impl Log {
    /// Calls the script once for all of these.
    pub(crate) async fn call(&self, client: &Client, requests: &[Request]) -> Result<Vec<Answer>, Fault> {
        let (keys, args) = self.words(requests);
        let answers = Answers::of(client.eval(&SCRIPT, keys, args).await?)?;
        if answers.parts.len() != requests.len() {
            return Err(unexpected());
        }
        for tail in requests.iter().filter_map(|request| request.tail.as_ref()) {
            self.retention.wrote((tail.len() + self.head.len()) as u64);
        }
        self.retention.measured(answers.log);
        Ok(answers.parts)
    }

    /// What the script is given for these: its keys and its arguments.
    pub(crate) fn words(&self, requests: &[Request]) -> (Vec<Bytes>, Vec<Bytes>) {
        let mut keys = vec![self.key.clone()];
        let mut args = vec![number(self.retention.bound()), number(self.retention.is_due().into())];
        args.extend([self.channel.clone(), self.head.clone()]);
        for request in requests {
            request.add_to(&mut keys, &mut args);
        }
        (keys, args)
    }
}

impl Request {
    /// A request for these targets, which are announced with this text.
    pub(crate) fn new(targets: &Targets, part: &[usize], places: &Places, tail: Option<String>, republished: Vec<(String, Bytes)>) -> Self {
        let mut declared = Declared::default();
        for target in part.iter().filter_map(|position| targets.get(*position)) {
            declared.add(target, places);
        }
        let Declared { text, ends, groups } = declared;
        Self { text: Bytes::from(text), ends, groups, tail: tail.map(Bytes::from), republished, targets: part.len() }
    }

    /// From which caches it deletes, in the order of the counts in its answer.
    pub(crate) fn deleting(&self) -> Vec<CacheId> {
        self.groups.iter().map(|(cache, _)| *cache).collect()
    }

    fn add_to(&self, keys: &mut Vec<Bytes>, args: &mut Vec<Bytes>) {
        let starts = std::iter::once(&0).chain(&self.ends);
        keys.extend(starts.zip(&self.ends).map(|(start, end)| self.text.slice(*start..*end)));
        let deleted: u64 = self.groups.iter().map(|(_, keys)| keys).sum();
        let counters = self.ends.len() as u64 - deleted;
        args.push(self.tail.clone().unwrap_or_default());
        args.extend([counters, self.republished.len() as u64, self.groups.len() as u64].map(number));
        args.extend(self.groups.iter().map(|(_, keys)| number(*keys)));
        let messages = self.republished.iter();
        args.extend(messages.flat_map(|(channel, message)| [Bytes::copy_from_slice(channel.as_bytes()), message.clone()]));
    }
}

/// What the script may touch for a part.
#[derive(Default)]
struct Declared {
    text: Vec<u8>,
    ends: Vec<usize>,
    groups: Vec<(CacheId, u64)>,
}

impl Declared {
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

fn number(number: u64) -> Bytes {
    Bytes::from(number.to_string())
}

impl Answers {
    pub(crate) fn of(reply: Reply) -> Result<Self, Fault> {
        let [parts, bytes, length] = fields(reply)?;
        let parts = parts.array()?.into_iter().map(Answer::of).collect::<Result<_, _>>()?;
        Ok(Self { parts, log: (bytes.count()?, length.count()?) })
    }
}

impl Answer {
    fn of(reply: Reply) -> Result<Self, Fault> {
        let [at_ms, id, deleted, counters, unheard, seq] = fields(reply)?;
        Ok(Self {
            at_ms: at_ms.count()?,
            notice: if id.is_nil() { None } else { Some(Position { id: id.entry_id()?, seq: seq.count()? }) },
            deleted: deleted.array()?.iter().map(Reply::count).collect::<Result<_, _>>()?,
            counters: counters.array()?.iter().map(fault).collect::<Result<_, _>>()?,
            unheard: fault(&unheard)?,
        })
    }
}

fn fields<const N: usize>(reply: Reply) -> Result<[Reply; N], Fault> {
    reply.array()?.try_into().map_err(|_| unexpected())
}

fn unexpected() -> Fault {
    Fault::new(FaultKind::Protocol, "the script answered something else")
}

/// The fault that a text is, if it isn't empty.
fn fault(reply: &Reply) -> Result<Option<Fault>, Fault> {
    Ok(Some(reply.text()?).filter(|text| !text.is_empty()).map(Fault::from_server))
}
