//! Stream entries as Redis gives them: an id, and fields that nobody has looked into yet.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};

/// The id of a stream entry: milliseconds of Redis' clock, and a sequence number within that millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct EntryId {
    /// Milliseconds since the Unix epoch, by the clock of the Redis server that took the entry.
    pub ms: u64,
    /// Tells apart the entries of one millisecond.
    pub seq: u64,
}

impl EntryId {
    /// `0-0`, which no entry has: the position before every entry.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };

    /// The highest id that an entry can have; a stream that holds it takes no more.
    pub const MAX: Self = Self { ms: u64::MAX, seq: u64::MAX };

    /// Reads what [`EntryId::from_str`] reads, from bytes.
    pub fn from_ascii(text: &[u8]) -> Option<Self> {
        match text.iter().position(|byte| *byte == b'-') {
            Some(dash) => Some(Self { ms: number(&text[..dash])?, seq: number(&text[dash + 1..])? }),
            None => Some(Self { ms: number(text)?, seq: 0 }),
        }
    }

    /// Appends what is displayed; a batch writes the ids of all its entries.
    pub fn push(self, out: &mut String) {
        let Ok(()) = self.write(|part| {
            out.push_str(part);
            Ok::<_, Infallible>(())
        });
    }

    fn write<E>(self, mut write: impl FnMut(&str) -> Result<(), E>) -> Result<(), E> {
        let mut digits = itoa::Buffer::new();
        write(digits.format(self.ms))?;
        write("-")?;
        write(digits.format(self.seq))
    }

    /// The smallest id above this one; above [`EntryId::MAX`] there is none, and it stays.
    #[must_use]
    pub fn next(self) -> Self {
        match (self.seq.checked_add(1), self.ms.checked_add(1)) {
            (Some(seq), _) => Self { ms: self.ms, seq },
            (None, Some(ms)) => Self { ms, seq: 0 },
            (None, None) => Self::MAX,
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(|part| f.write_str(part))
    }
}

/// A text that is no entry id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an entry id: expected `<milliseconds>-<sequence>`")]
pub struct BadEntryId(pub String);

impl FromStr for EntryId {
    type Err = BadEntryId;

    /// Reads `<ms>-<seq>`; a bare `<ms>` is `<ms>-0`, as in Redis.
    fn from_str(text: &str) -> Result<Self, BadEntryId> {
        Self::from_ascii(text.as_bytes()).ok_or_else(|| BadEntryId(text.to_owned()))
    }
}

/// One pass over the digits: each event's id is read and written several times.
fn number(digits: &[u8]) -> Option<u64> {
    let add = |number: u64, digit: &u8| {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

/// Which of the two event streams an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StreamKind {
    /// The stream that every sidecar reads.
    Critical,
    /// The stream that only the holder of the lease reads.
    Ordinary,
}

impl StreamKind {
    /// Both streams, the urgent one first.
    pub const ALL: [Self; 2] = [Self::Critical, Self::Ordinary];

    /// The name used in metric labels and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Ordinary => "ordinary",
        }
    }
}

/// The fields of an entry in the order in which they were added; names may repeat.
pub type Fields = Vec<(Bytes, Bytes)>;

/// The same fields in memory of their own. As they are read they are parts of one long answer, and what is kept of them keeps all of it.
pub fn detached(fields: &Fields) -> Fields {
    let mut memory = BytesMut::with_capacity(fields.iter().map(|(name, value)| name.len() + value.len()).sum());
    let mut copy = |bytes: &Bytes| {
        memory.extend_from_slice(bytes);
        memory.split().freeze()
    };
    fields.iter().map(|(name, value)| (copy(name), copy(value))).collect()
}

/// One entry of a stream, undecoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands in its stream.
    pub id: EntryId,
    /// What it holds, or `None` if it is pending but its body was trimmed away.
    pub fields: Option<Fields>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_detached_is_the_same_and_lets_the_answer_go() {
        let answer = Bytes::from(b"a long answer type Changed".to_vec());
        let fields: Fields = vec![(answer.slice(14..18), answer.slice(19..)), (answer.slice(14..18), answer.slice(0..0))];
        let kept = detached(&fields);
        assert_eq!(kept, fields);
        drop(fields);
        assert!(answer.is_unique());
    }

    #[test]
    fn the_next_id_is_the_smallest_above() {
        let id = |ms, seq| EntryId { ms, seq };
        assert_eq!(id(1, 2).next(), id(1, 3));
        assert_eq!(id(1, u64::MAX).next(), id(2, 0));
        assert_eq!(id(u64::MAX, 7).next(), id(u64::MAX, 8));
        assert_eq!(EntryId::MAX.next(), EntryId::MAX);
    }

    #[test]
    fn an_id_is_written_as_it_is_read() {
        for id in [EntryId::ZERO, EntryId::MAX, EntryId { ms: 1_789_000_000_123, seq: 40 }] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string(), format!("{}-{}", id.ms, id.seq));
            let mut pushed = String::from("id ");
            id.push(&mut pushed);
            assert_eq!(pushed, format!("id {id}"));
        }
        assert_eq!("7".parse(), Ok(EntryId { ms: 7, seq: 0 }));
        for text in ["", "-", "1-", "-1", "1-1-1", "+1-1", "1-x", "18446744073709551616-0", "1 -1"] {
            assert!(text.parse::<EntryId>().is_err(), "{text}");
        }
    }
}
