//! Answers of any kind, for fuzzing: no part of the interface.

use bytes::Bytes;
use redis_protocol::resp2::decode::decode_bytes;
use unstale_events::Entry;

use crate::fault::{Fault, FaultKind};
use crate::wire::{self, Reply};
use crate::{commands, streams};

/// What an answer's content is recognized by, should it be told.
const SECRET: &str = "secret";

/// What a server may send, in RESP, given to everything here that looks into answers. Returns it for others to look into; `None` if it is no
/// whole answer, or is an error.
///
/// # Panics
/// If what must hold doesn't.
pub fn look_into(bytes: &[u8]) -> Option<Reply> {
    let (frame, _) = decode_bytes(&Bytes::copy_from_slice(bytes)).ok()??;
    let frame = wire::accepted(frame.into_resp3()).ok()?;
    let reply = wire::reply(frame.clone());
    for entries in [wire::read(frame.clone()), wire::entries(frame)] {
        let size = |entry: &Entry| entry.fields.iter().flatten().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        if let Some(entries) = discreet(entries) {
            assert!(entries.iter().map(size).sum::<usize>() <= bytes.len(), "nothing is told twice");
        }
    }
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

/// Whatever is wrong with an answer is told without its content, which may be a key.
pub fn discreet<T>(looked: Result<T, Fault>) -> Option<T> {
    looked.inspect_err(|fault| assert!(fault.kind == FaultKind::Protocol && !fault.text.contains(SECRET), "{fault}")).ok()
}
