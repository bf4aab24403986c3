//! Answers of the delivery script, of any kind, for fuzzing, and single steps of a delivery for counting their instructions: no part of the interface.

use bytes::{Bytes, BytesMut};
use unstale_batcher::Batch;
use unstale_connect::Reply;
use unstale_connect::trial::discreet;
use unstale_router::Caches;

use crate::notice;
use crate::place::Places;
use crate::plan::Plan;
use crate::request::{Answers, Log, Request, SCRIPT};
use crate::retention::Retention;

/// Gives what a server answered to everything here that looks into answers.
///
/// # Panics
/// If what must hold doesn't.
pub fn look_into(reply: &Reply) {
    discreet(Answers::of(reply.clone()));
}

/// The notice that names all targets of a batch, without what only the script knows.
pub fn notice(batch: &Batch, caches: &Caches) -> Option<String> {
    let part: Vec<usize> = (0..batch.targets.len()).collect();
    notice::tail(batch, &part, caches, &notice::about(batch))
}

/// The script's call for the keys of a batch, with an empty notice, as it is sent.
pub fn call(batch: &Batch, caches: &Caches) -> BytesMut {
    let places = Places::together(caches);
    let keys: Vec<usize> = Plan::of(batch, &places).into_iter().flat_map(|plan| plan.keys).collect();
    let name = Bytes::from_static(b"unstale:notices");
    let log = Log { key: name.clone(), channel: name, head: Bytes::new(), retention: Retention::new(0, 0) };
    let request = Request::new(&batch.targets, &keys, &places, Some(String::new()), Vec::new());
    let (keys, args) = log.words(&[request]);
    unstale_connect::trial::call(&SCRIPT, keys, args)
}
