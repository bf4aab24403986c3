//! Answers in RESP2, taken apart in one pass while they arrive, whatever pieces they come in.
//!
//! A value is a mark: where it begins and ends. No value has memory of its own; what is told of an answer are slices of the one buffer that it
//! was read into.

use bytes::Bytes;
use unstale_events::{Entry, EntryId, Fields};

use crate::fault::{Fault, FaultKind};
use crate::wire::{Reply, malformed};

/// How long the first line of a value may be; an error's text is one, and no server writes more.
const LONGEST_LINE: usize = 64 * 1024;
/// How deep lists may lie in one another where they are told as such. No answer has more than five.
const MAX_DEPTH: usize = 16;

/// One value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Nil,
    Int(i64),
    /// Bytes or a status, from here to there.
    Text(u32, u32),
    Error(u32, u32),
    /// So many of the values behind it are its own.
    List(u32),
}

/// Takes one answer apart.
#[derive(Debug)]
pub(crate) struct Scan {
    marks: Vec<Mark>,
    /// Where the next value begins.
    at: usize,
    /// How many values are still to come, as far as is known.
    missing: usize,
    /// How many bytes the answer has at least.
    least: usize,
}

impl Scan {
    pub(crate) fn new() -> Self {
        Self { marks: Vec::new(), at: 0, missing: 1, least: 1 }
    }

    /// Goes on as far as the bytes reach, of which more have come since the last time. Returns the answer's length once all of it is there.
    pub(crate) fn go_on(&mut self, bytes: &[u8]) -> Result<Option<usize>, Fault> {
        while self.missing > 0 {
            let Some((mark, end)) = value(bytes, self.at)? else {
                self.least = bytes.len() + 1;
                return Ok(None);
            };
            if end > bytes.len() {
                self.least = end;
                return Ok(None);
            }
            if !bytes[..end].ends_with(b"\r\n") {
                return Err(unreadable());
            }
            let inner = if let Mark::List(inner) = mark { inner as usize } else { 0 };
            self.missing = (self.missing - 1).checked_add(inner).ok_or_else(unreadable)?;
            self.marks.push(mark);
            self.at = end;
        }
        Ok(Some(self.at))
    }

    /// How many bytes the answer has at least, as far as is known.
    pub(crate) fn least(&self) -> usize {
        self.least
    }

    /// The answer, of which these are all the bytes.
    pub(crate) fn finish(self, bytes: Bytes) -> Answer {
        Answer { bytes, marks: self.marks }
    }
}

/// The value that begins at `at`, and where it ends, which may be further than the bytes reach; `None` if not even its first line is there.
fn value(bytes: &[u8], at: usize) -> Result<Option<(Mark, usize)>, Fault> {
    let Some(kind) = bytes.get(at) else { return Ok(None) };
    if matches!(kind, b'+' | b'-') {
        return line(bytes, *kind, at + 1);
    }
    let Some((number, next)) = number(bytes, at + 1)? else { return Ok(None) };
    let mark = || match kind {
        b'$' => match usize::try_from(number) {
            Ok(length) => {
                let end = next.checked_add(length)?;
                Some((Mark::Text(position(next)?, position(end)?), end + 2))
            }
            Err(_) => Some((Mark::Nil, next)),
        },
        b'*' => Some((u32::try_from(number).map_or(Mark::Nil, Mark::List), next)),
        b':' => Some((Mark::Int(number), next)),
        _ => None,
    };
    mark().map(Some).ok_or_else(unreadable)
}

/// A value that is one line of text.
fn line(bytes: &[u8], kind: u8, start: usize) -> Result<Option<(Mark, usize)>, Fault> {
    let rest = &bytes[start..];
    match rest.iter().take(LONGEST_LINE).position(|byte| *byte == b'\r') {
        Some(length) => {
            let end = start + length;
            let (from, to) = position(start).zip(position(end)).ok_or_else(unreadable)?;
            Ok(Some((if kind == b'+' { Mark::Text(from, to) } else { Mark::Error(from, to) }, end + 2)))
        }
        None if rest.len() < LONGEST_LINE => Ok(None),
        None => Err(unreadable()),
    }
}

/// The number that begins at `at`, and where the next line begins.
fn number(bytes: &[u8], at: usize) -> Result<Option<(i64, usize)>, Fault> {
    let negative = bytes.get(at) == Some(&b'-');
    let first = at + usize::from(negative);
    let (mut number, mut at) = (0_i64, first);
    loop {
        let digit = match bytes.get(at) {
            Some(byte @ b'0'..=b'9') => i64::from(byte - b'0'),
            Some(b'\r') if at > first => {
                let is_end = |byte: &u8| if *byte == b'\n' { Ok((number, at + 2)) } else { Err(unreadable()) };
                return bytes.get(at + 1).map(is_end).transpose();
            }
            None => return Ok(None),
            Some(_) => return Err(unreadable()),
        };
        let ten = number.checked_mul(10);
        let next = ten.and_then(|ten| if negative { ten.checked_sub(digit) } else { ten.checked_add(digit) });
        number = next.ok_or_else(unreadable)?;
        at += 1;
    }
}

/// Marks are small: no answer of four gigabytes is read.
fn position(at: usize) -> Option<u32> {
    u32::try_from(at).ok()
}

fn unreadable() -> Fault {
    Fault::new(FaultKind::Protocol, "the answer isn't RESP")
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    bytes: Bytes,
    marks: Vec<Mark>,
}

impl Answer {
    /// The fault that it tells of, if it does.
    pub(crate) fn fault(&self) -> Option<Fault> {
        match self.marks.first() {
            Some(Mark::Error(start, end)) => Some(Fault::from_server(&self.text(*start, *end))),
            _ => None,
        }
    }

    pub(crate) fn reply(&self) -> Result<Reply, Fault> {
        self.walk().reply(0)
    }

    /// The entries of one stream in the answer to XREADGROUP and XREAD; none if the wait ended empty.
    pub(crate) fn read(&self) -> Result<Vec<Entry>, Fault> {
        match self.marks[..] {
            [Mark::List(1), Mark::List(2), Mark::Text(..), ref list @ ..] => Walk { answer: self, marks: list.iter() }.entries(),
            [Mark::Nil | Mark::List(0)] => Ok(Vec::new()),
            _ => Err(malformed()),
        }
    }

    /// The entries of a list.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>, Fault> {
        self.walk().entries()
    }

    fn walk(&self) -> Walk<'_> {
        Walk { answer: self, marks: self.marks.iter() }
    }

    fn slice(&self, start: u32, end: u32) -> Bytes {
        self.bytes.slice(start as usize..end as usize)
    }

    fn text(&self, start: u32, end: u32) -> String {
        String::from_utf8_lossy(&self.bytes[start as usize..end as usize]).into_owned()
    }
}

/// The values of an answer, one after the other.
struct Walk<'a> {
    answer: &'a Answer,
    marks: std::slice::Iter<'a, Mark>,
}

impl Walk<'_> {
    fn reply(&mut self, depth: usize) -> Result<Reply, Fault> {
        Ok(match *self.marks.next().ok_or_else(malformed)? {
            Mark::Nil => Reply::Nil,
            Mark::Int(number) => Reply::Int(number),
            Mark::Text(start, end) => Reply::Bulk(self.answer.slice(start, end)),
            Mark::Error(start, end) => Reply::Error(self.answer.text(start, end)),
            Mark::List(_) if depth == MAX_DEPTH => return Err(unreadable()),
            Mark::List(count) => Reply::Array((0..count).map(|_| self.reply(depth + 1)).collect::<Result<_, _>>()?),
        })
    }

    fn entries(&mut self) -> Result<Vec<Entry>, Fault> {
        match self.marks.next() {
            Some(Mark::List(count)) => (0..*count).filter_map(|_| self.entry().transpose()).collect(),
            Some(Mark::Nil) => Ok(Vec::new()),
            _ => Err(malformed()),
        }
    }

    /// `None` for what has no id: see [`crate::wire::Answer::entries`].
    fn entry(&mut self) -> Result<Option<Entry>, Fault> {
        match self.marks.next() {
            Some(Mark::List(2)) => {}
            Some(Mark::Nil) => return Ok(None),
            _ => return Err(malformed()),
        }
        let Some(Mark::Text(start, end)) = self.marks.next() else { return Err(malformed()) };
        let id = EntryId::from_ascii(&self.answer.bytes[*start as usize..*end as usize]).ok_or_else(malformed)?;
        match self.marks.next() {
            Some(Mark::Nil) => Ok(Some(Entry { id, fields: None })),
            Some(Mark::List(count)) if count % 2 == 0 => Ok(Some(Entry { id, fields: Some(self.fields(*count as usize / 2)?) })),
            _ => Err(malformed()),
        }
    }

    fn fields(&mut self, count: usize) -> Result<Fields, Fault> {
        // All of them have arrived, so no memory is asked for that only an answer's number speaks of.
        let mut fields = Vec::with_capacity(count);
        for _ in 0..count {
            let (Some(Mark::Text(name, name_end)), Some(Mark::Text(value, value_end))) = (self.marks.next(), self.marks.next()) else {
                return Err(malformed());
            };
            fields.push((self.answer.slice(*name, *name_end), self.answer.slice(*value, *value_end)));
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Takes bytes apart that come in pieces; `None` if they are no whole answer. What is behind it is not looked at.
    fn answer(pieces: &[&[u8]]) -> Option<Answer> {
        let (mut scan, mut bytes) = (Scan::new(), Vec::new());
        for piece in pieces {
            bytes.extend_from_slice(piece);
            if let Some(end) = scan.go_on(&bytes).ok()? {
                bytes.truncate(end);
                return Some(scan.finish(bytes.into()));
            }
            assert!(scan.least() > bytes.len(), "it waits for more");
        }
        None
    }

    fn write(reply: &Reply, out: &mut Vec<u8>) {
        match reply {
            Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
            Reply::Int(number) => out.extend_from_slice(format!(":{number}\r\n").as_bytes()),
            Reply::Bulk(bytes) => {
                out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
                out.extend_from_slice(bytes);
                out.extend_from_slice(b"\r\n");
            }
            Reply::Error(text) => out.extend_from_slice(format!("-{text}\r\n").as_bytes()),
            Reply::Array(items) => {
                out.extend_from_slice(format!("*{}\r\n", items.len()).as_bytes());
                for item in items {
                    write(item, out);
                }
            }
        }
    }

    fn written(reply: &Reply) -> Vec<u8> {
        let mut out = Vec::new();
        write(reply, &mut out);
        out
    }

    fn bulk(bytes: impl Into<Bytes>) -> Reply {
        Reply::Bulk(bytes.into())
    }

    fn replies() -> impl Strategy<Value = Reply> {
        let leaf = prop_oneof![
            Just(Reply::Nil),
            any::<i64>().prop_map(Reply::Int),
            any::<Vec<u8>>().prop_map(bulk),
            "[a-zA-Z ]{0,20}".prop_map(Reply::Error),
        ];
        leaf.prop_recursive(4, 64, 8, |inner| prop::collection::vec(inner, 0..8).prop_map(Reply::Array))
    }

    /// What XREADGROUP answers, and the entries in it.
    fn streams() -> impl Strategy<Value = (Reply, Vec<Entry>)> {
        let fields = prop::collection::vec((any::<Vec<u8>>(), any::<Vec<u8>>()), 0..4);
        let entry = (any::<u64>(), any::<u64>(), prop::option::of(fields)).prop_map(|(ms, seq, fields)| Entry {
            id: EntryId { ms, seq },
            fields: fields.map(|fields| fields.into_iter().map(|(name, value)| (name.into(), value.into())).collect()),
        });
        prop::collection::vec(entry, 0..8).prop_map(|entries| {
            let list = entries.iter().map(|entry| {
                let fields = |fields: &Fields| {
                    Reply::Array(fields.iter().flat_map(|(name, value)| [bulk(name.clone()), bulk(value.clone())]).collect())
                };
                Reply::Array(vec![bulk(entry.id.to_string()), entry.fields.as_ref().map_or(Reply::Nil, fields)])
            });
            (Reply::Array(vec![Reply::Array(vec![bulk("s"), Reply::Array(list.collect())])]), entries)
        })
    }

    /// The pieces into which cuts divide the bytes.
    fn cut<'b>(bytes: &'b [u8], cuts: &[prop::sample::Index]) -> Vec<&'b [u8]> {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        at.windows(2).map(|ends| &bytes[ends[0]..ends[1]]).collect()
    }

    proptest! {
        #[test]
        fn any_answer_in_any_pieces_is_what_was_sent(reply in replies(), cuts: Vec<prop::sample::Index>) {
            let bytes = written(&reply);
            prop_assert_eq!(answer(&cut(&bytes, &cuts)).unwrap().reply().unwrap(), reply);
        }

        #[test]
        fn entries_in_any_pieces_are_those_that_were_sent((reply, entries) in streams(), cuts: Vec<prop::sample::Index>) {
            let bytes = written(&reply);
            prop_assert_eq!(answer(&cut(&bytes, &cuts)).unwrap().read().unwrap(), entries);
        }

        #[test]
        fn an_answer_ends_where_the_next_begins(reply in replies(), next: Vec<u8>) {
            let bytes = [written(&reply), next].concat();
            prop_assert_eq!(answer(&[&bytes]).unwrap().reply().unwrap(), reply);
        }

        #[test]
        fn a_line_that_ends_otherwise_is_a_fault(before in replies(), text: Vec<u8>, end in any::<u8>().prop_filter("an end", |end| *end != b'\n')) {
            let rest = [&text, &b"\r\n"[..]].concat();
            for line in [format!("${}", text.len()), "$-1".to_owned(), "*1".to_owned(), ":1".to_owned(), "+a".to_owned(), "-a".to_owned()] {
                let bytes = [b"*2\r\n", &written(&before)[..], line.as_bytes(), &[b'\r', end], &rest].concat();
                prop_assert!(Scan::new().go_on(&bytes).is_err(), "{line}");
            }
        }

        #[test]
        fn rubbish_is_an_error_or_waits_for_more(bytes: Vec<u8>, reply in replies(), at: prop::sample::Index, byte: u8) {
            let mut spoilt = written(&reply);
            let at = at.index(spoilt.len());
            spoilt[at] = byte;
            for bytes in [bytes, spoilt] {
                if let Some(answer) = answer(&[&bytes]) {
                    let _ = (answer.fault(), answer.reply(), answer.read(), answer.entries());
                }
            }
        }
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        for bytes in ["$3\r\nabcde", "$x\r\n", "*\r\n", ":1x\r\n", "?\r\n", ":99999999999999999999\r\n", "$4294967295\r\n", "\r\n"] {
            assert_eq!(Scan::new().go_on(bytes.as_bytes()).unwrap_err().kind, FaultKind::Protocol, "{bytes:?}");
        }
        let endless = [b"+".to_vec(), vec![b'a'; LONGEST_LINE]].concat();
        assert!(Scan::new().go_on(&endless).is_err());
        let deep = ["*1\r\n".repeat(100_000), ":1\r\n".to_owned()].concat();
        assert!(answer(&[deep.as_bytes()]).unwrap().reply().is_err());
        let many = ["*4294967295\r\n".repeat(1000), ":1\r\n".to_owned()].concat();
        assert!(answer(&[many.as_bytes()]).is_none(), "the rest is still to come");
    }

    #[test]
    fn answers_that_are_no_entries_are_faults_that_show_no_content() {
        for bytes in [
            "*1\r\n*2\r\n$6\r\nsecret\r\n*0\r\n",
            "*1\r\n*2\r\n$3\r\n1-1\r\n*1\r\n$6\r\nsecret\r\n",
            "*1\r\n*1\r\n$3\r\n1-1\r\n",
            "$6\r\nsecret\r\n",
        ] {
            let fault = answer(&[bytes.as_bytes()]).unwrap().entries().unwrap_err();
            assert!(fault.kind == FaultKind::Protocol && !fault.text.contains("secret"), "{fault}");
        }
        for nothing in ["*-1\r\n", "$-1\r\n", "*0\r\n"] {
            assert_eq!(answer(&[nothing.as_bytes()]).unwrap().read().unwrap(), []);
        }
        assert_eq!(answer(&[b"-NOGROUP gone\r\n"]).unwrap().fault().unwrap().kind, FaultKind::NoGroup);
    }
}
