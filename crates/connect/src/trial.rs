//! Answers of any kind for fuzzing, and single steps for counting their instructions: no part of the interface.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes;
use unstale_events::Entry;

use crate::fault::{Fault, FaultKind};
use crate::resp::Scan;
use crate::script::Script;
use crate::wire::{Answer, Reply};
use crate::{commands, streams};

/// What an answer's content is recognized by, should it be told.
const SECRET: &str = "secret";

/// What a server may send, in RESP, given to everything here that looks into answers. Returns it for others to look into; `None` if it is no
/// whole answer, or is an error.
///
/// # Panics
/// If what must hold doesn't.
pub fn look_into(bytes: &[u8]) -> Option<Reply> {
    own(bytes);
    let (frame, _) = decode_bytes(&Bytes::copy_from_slice(bytes)).ok()??;
    let answer = Answer::Frame(frame.into_resp3()).accepted().ok()?;
    entries(&answer, bytes.len());
    let reply = discreet(answer.reply())?;
    let groups = discreet(streams::groups(reply.clone()));
    assert!(groups.is_none_or(|groups| groups.len() <= bytes.len()));
    discreet(streams::pending_summary(reply.clone()));
    discreet(streams::pending_entries(reply.clone()));
    discreet(streams::consumers(reply.clone()));
    discreet(streams::stream_info(reply.clone()));
    discreet(commands::page(reply.clone()));
    discreet(commands::time(reply.clone()));
    Some(reply)
}

/// The same, taken apart by ourselves: all at once, and byte by byte.
fn own(bytes: &[u8]) {
    let mut scan = Scan::new();
    let at_once = scan.go_on(bytes).map(|end| end.map(|end| scan.finish(Bytes::copy_from_slice(&bytes[..end]))));
    let mut scan = Scan::new();
    let ends: Result<Vec<_>, Fault> = (0..=bytes.len()).map(|end| scan.go_on(&bytes[..end])).collect();
    assert_eq!(at_once.as_ref().map_or(None, Option::as_ref).is_some(), ends.is_ok_and(|ends| ends.iter().any(Option::is_some)));
    let Some(Some(answer)) = discreet(at_once) else { return };
    let answer = Answer::Own(answer);
    if let Ok(answer) = answer.accepted() {
        entries(&answer, bytes.len());
        discreet(answer.reply());
    }
}

fn entries(answer: &Answer, bytes: usize) {
    for entries in [answer.clone().read(), answer.clone().entries()] {
        let size = |entry: &Entry| entry.fields.iter().flatten().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if let Some(entries) = discreet(entries) {
            assert!(entries.iter().map(size).sum::<usize>() <= bytes, "nothing is told twice");
        }
    }
}

/// Whatever is wrong with an answer is told without its content, which may be a key.
pub fn discreet<T>(looked: Result<T, Fault>) -> Option<T> {
    looked.inspect_err(|fault| assert!(fault.kind == FaultKind::Protocol && !fault.text.contains(SECRET), "{fault}")).ok()
}

/// The entries in an answer to XREADGROUP, as a reader takes it apart.
pub fn read(bytes: &Bytes) -> Result<Vec<Entry>, Fault> {
    let mut scan = Scan::new();
    scan.go_on(bytes)?;
    scan.finish(bytes.clone()).read()
}

/// A script's call, as it goes over a socket of our own.
pub fn call(script: &Script, keys: Vec<Bytes>, args: Vec<Bytes>) -> BytesMut {
    let mut written = BytesMut::new();
    script.call(keys, args).write(&mut written);
    written
}
