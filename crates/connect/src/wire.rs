//! Commands on their way out, and answers on their way in, without copies: what an entry holds are slices of the buffer it was read into.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fred::types::{ClusterHash, CustomCommand, Resp3Frame, Value};
use unstale_events::{Entry, EntryId, Fields};

use crate::fault::{Fault, FaultKind};
use crate::resp;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// No value.
    Nil,
    /// A number.
    Int(i64),
    /// Bytes, or a status such as `OK`.
    Bulk(Bytes),
    /// A list.
    Array(Vec<Reply>),
    /// An error within a list.
    Error(String),
}

impl Reply {
    /// The number, also one written as text.
    pub fn int(&self) -> Result<i64, Fault> {
        match self {
            Self::Int(number) => Ok(*number),
            Self::Bulk(_) => self.text()?.parse().map_err(|_| self.unlike("a number")),
            _ => Err(self.unlike("a number")),
        }
    }

    /// The number as a count.
    pub fn count(&self) -> Result<u64, Fault> {
        u64::try_from(self.int()?).map_err(|_| self.unlike("a count"))
    }

    /// The bytes.
    pub fn bytes(self) -> Result<Bytes, Fault> {
        match self {
            Self::Bulk(bytes) => Ok(bytes),
            other => Err(other.unlike("bytes")),
        }
    }

    /// The bytes as text.
    pub fn text(&self) -> Result<&str, Fault> {
        match self {
            Self::Bulk(bytes) => std::str::from_utf8(bytes).map_err(|_| self.unlike("text")),
            _ => Err(self.unlike("text")),
        }
    }

    /// The entry id.
    pub fn entry_id(&self) -> Result<EntryId, Fault> {
        self.text()?.parse().map_err(|_| self.unlike("an entry id"))
    }

    /// The elements of the list; none of nil.
    pub fn array(self) -> Result<Vec<Reply>, Fault> {
        match self {
            Self::Array(items) => Ok(items),
            Self::Nil => Ok(Vec::new()),
            other => Err(other.unlike("a list")),
        }
    }

    /// Whether there is no value.
    pub fn is_nil(&self) -> bool {
        *self == Self::Nil
    }

    /// Says the kind of answer only: its content may be a key.
    fn unlike(&self, expected: &str) -> Fault {
        let got = match self {
            Self::Nil => "nil",
            Self::Int(_) => "a number",
            Self::Bulk(_) => "other bytes",
            Self::Array(_) => "a list",
            Self::Error(_) => "an error",
        };
        Fault::new(FaultKind::Protocol, format!("expected {expected}, got {got}"))
    }
}

/// A command being written.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    name: Bytes,
    args: Vec<Bytes>,
    /// Where the first key stands, by which a cluster routes.
    key: Option<usize>,
    /// Set if the server may let the answer wait.
    block: Option<Duration>,
}

impl Command {
    pub(crate) fn new(name: &'static str) -> Self {
        Self::named(Bytes::from_static(name.as_bytes()))
    }

    pub(crate) fn named(name: Bytes) -> Self {
        Self { name, args: Vec::with_capacity(8), key: None, block: None }
    }

    pub(crate) fn arg(mut self, arg: impl Into<Bytes>) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.arg(Bytes::copy_from_slice(text.as_bytes()))
    }

    pub(crate) fn number(self, number: impl ToString + Copy) -> Self {
        self.arg(number.to_string())
    }

    pub(crate) fn id(self, id: EntryId) -> Self {
        self.arg(id.to_string())
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = Bytes>) -> Self {
        self.args.extend(args);
        self
    }

    /// Many ids, cut out of one buffer.
    pub(crate) fn ids(self, ids: &[EntryId]) -> Self {
        let mut text = String::with_capacity(ids.len() * 20);
        let mut ends = Vec::with_capacity(ids.len());
        for id in ids {
            id.push(&mut text);
            ends.push(text.len());
        }
        let text = Bytes::from(text);
        let starts = std::iter::once(&0).chain(&ends);
        self.args(starts.zip(&ends).map(|(start, end)| text.slice(*start..*end)))
    }

    pub(crate) fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = self.key.or(Some(self.args.len()));
        self.arg(key)
    }

    pub(crate) fn stream(self, name: &str) -> Self {
        self.key(Bytes::copy_from_slice(name.as_bytes()))
    }

    pub(crate) fn blocking(mut self, block: Duration) -> Self {
        self.block = Some(block);
        self
    }

    /// How long the server may let the answer wait.
    pub(crate) fn block(&self) -> Option<Duration> {
        self.block
    }

    pub(crate) fn renamed(mut self, name: &'static str) -> Self {
        self.name = Bytes::from_static(name.as_bytes());
        self
    }

    /// Replaces the first argument.
    pub(crate) fn with_first(mut self, arg: Bytes) -> Self {
        self.args[0] = arg;
        self
    }

    pub(crate) fn into_parts(self) -> Result<(CustomCommand, Vec<Value>), Fault> {
        let name = std::str::from_utf8(&self.name).map_err(|_| Fault::new(FaultKind::Unsupported, "the name of a command is text"))?;
        let hash = self.key.map_or(ClusterHash::Random, ClusterHash::Offset);
        Ok((CustomCommand::new(name, hash, self.block.is_some()), self.args.into_iter().map(Value::Bytes).collect()))
    }

    /// Writes it as it goes over a socket of our own.
    pub(crate) fn write(&self, to: &mut BytesMut) {
        let words = || std::iter::once(&self.name).chain(&self.args);
        to.reserve(words().map(|word| word.len() + 16).sum());
        let mut digits = itoa::Buffer::new();
        let mut length = |to: &mut BytesMut, kind, number: usize| {
            to.put_u8(kind);
            to.extend_from_slice(digits.format(number).as_bytes());
            to.extend_from_slice(b"\r\n");
        };
        length(to, b'*', words().count());
        for word in words() {
            length(to, b'$', word.len());
            to.extend_from_slice(word);
            to.extend_from_slice(b"\r\n");
        }
    }
}

/// What the server answered, not yet looked into.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// From the client library.
    Frame(Frame),
    /// From a socket of our own.
    Own(resp::Answer),
}

impl Answer {
    /// The answer, or the fault if it is an error.
    pub(crate) fn accepted(self) -> Result<Self, Fault> {
        let fault = match &self {
            Self::Frame(Frame::SimpleError { data, .. }) => Some(Fault::from_server(data)),
            Self::Frame(Frame::BlobError { data, .. }) => Some(Fault::from_server(&String::from_utf8_lossy(data))),
            Self::Frame(_) => None,
            Self::Own(answer) => answer.fault(),
        };
        fault.map_or(Ok(self), Err)
    }

    pub(crate) fn reply(self) -> Result<Reply, Fault> {
        match self {
            Self::Frame(frame) => Ok(reply(frame)),
            Self::Own(answer) => answer.reply(),
        }
    }

    /// The entries of one stream in the answer to XREADGROUP and XREAD; none if the wait ended empty.
    pub(crate) fn read(self) -> Result<Vec<Entry>, Fault> {
        match self {
            Self::Frame(frame) => read(frame),
            Self::Own(answer) => answer.read(),
        }
    }

    /// The entries of a list as XRANGE and XCLAIM give it. Redis 6.2 claims entries without a body as bare nils, which say nothing: left out.
    pub(crate) fn entries(self) -> Result<Vec<Entry>, Fault> {
        match self {
            Self::Frame(frame) => entries(frame),
            Self::Own(answer) => answer.entries(),
        }
    }
}

pub(crate) fn malformed() -> Fault {
    Fault::new(FaultKind::Protocol, "expected an entry: an id and its fields")
}

type Frame = Resp3Frame;

fn reply(frame: Frame) -> Reply {
    match frame {
        Frame::Number { data, .. } => Reply::Int(data),
        Frame::BlobString { data, .. } | Frame::SimpleString { data, .. } => Reply::Bulk(data),
        Frame::SimpleError { data, .. } => Reply::Error(data.to_string()),
        Frame::BlobError { data, .. } => Reply::Error(String::from_utf8_lossy(&data).into_owned()),
        frame => items(frame).map_or(Reply::Nil, |items| Reply::Array(items.into_iter().map(reply).collect())),
    }
}

/// The elements of a list; `None` if it is none.
fn items(frame: Frame) -> Option<Vec<Frame>> {
    match frame {
        Frame::Array { data, .. } => Some(data),
        // A list of three or four that begins with `message`, `pmessage` or `smessage` looks like a message of a channel to fred, which
        // then puts one element before it. Within another list it is none: it is the fields of an entry, or a page of keys.
        Frame::Push { data, .. } => Some(data.into_iter().skip(1).collect()),
        _ => None,
    }
}

fn bytes(frame: Frame) -> Option<Bytes> {
    match frame {
        Frame::BlobString { data, .. } | Frame::SimpleString { data, .. } => Some(data),
        _ => None,
    }
}

fn read(frame: Frame) -> Result<Vec<Entry>, Fault> {
    let stream = items(frame).and_then(|mut streams| streams.pop());
    match stream.and_then(items).and_then(|mut stream| stream.pop()) {
        Some(list) => entries(list),
        None => Ok(Vec::new()),
    }
}

fn entries(frame: Frame) -> Result<Vec<Entry>, Fault> {
    let list = items(frame).unwrap_or_default();
    list.into_iter().filter_map(|frame| items(frame).map(entry)).collect()
}

fn entry(parts: Vec<Frame>) -> Result<Entry, Fault> {
    let mut parts = parts.into_iter();
    let id = parts.next().and_then(bytes).ok_or_else(malformed)?;
    let id = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok()).ok_or_else(malformed)?;
    let fields = match parts.next() {
        Some(Frame::Null) => None,
        Some(list) => Some(fields(items(list).ok_or_else(malformed)?).ok_or_else(malformed)?),
        None => return Err(malformed()),
    };
    Ok(Entry { id, fields })
}

fn fields(list: Vec<Frame>) -> Option<Fields> {
    let mut fields = Vec::with_capacity(list.len() / 2);
    let mut list = list.into_iter();
    while let Some(name) = list.next() {
        fields.push((bytes(name)?, bytes(list.next()?)?));
    }
    Some(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &'static str) -> Frame {
        Frame::BlobString { data: Bytes::from_static(text.as_bytes()), attributes: None }
    }

    fn list(data: Vec<Frame>) -> Frame {
        Frame::Array { data, attributes: None }
    }

    #[test]
    fn entries_keep_order_repeated_names_and_trimmed_bodies() {
        let full = list(vec![bulk("7-1"), list(vec![bulk("a"), bulk("1"), bulk("a"), bulk("2")])]);
        let trimmed = list(vec![bulk("7-2"), Frame::Null]);
        let frame = list(vec![list(vec![bulk("stream"), list(vec![full, Frame::Null, trimmed])])]);
        let pair = |value: &'static str| (Bytes::from_static(b"a"), Bytes::from_static(value.as_bytes()));
        assert_eq!(
            read(frame).unwrap(),
            [
                Entry { id: EntryId { ms: 7, seq: 1 }, fields: Some(vec![pair("1"), pair("2")]) },
                Entry { id: EntryId { ms: 7, seq: 2 }, fields: None }
            ]
        );
        assert_eq!(read(Frame::Null).unwrap(), []);
        assert_eq!(read(Frame::Push { data: Vec::new(), attributes: None }).unwrap(), []);
    }

    #[test]
    fn malformed_entries_are_faults_that_show_no_content() {
        for frame in [
            list(vec![list(vec![bulk("secret"), list(vec![])])]),
            list(vec![list(vec![bulk("1-1"), list(vec![bulk("secret")])])]),
            list(vec![list(vec![bulk("1-1")])]),
        ] {
            let fault = entries(frame).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Protocol);
            assert!(!fault.text.contains("secret"));
        }
        assert!(!Reply::Bulk(Bytes::from_static(b"secret")).int().unwrap_err().text.contains("secret"));
    }
}
