//! Answers of the delivery script, of any kind, for fuzzing, and single steps of a delivery for counting their instructions: no part of the interface.

use bytes::BytesMut;
use unstale_batcher::Batch;
use unstale_connect::Reply;
use unstale_connect::trial::discreet;
use unstale_router::Caches;

use crate::notice;
use crate::place::Places;
use crate::plan::Plan;
use crate::request::{Announcement, Answer, Request, SCRIPT};

/// Gives what a server answered to everything here that looks into answers.
///
/// # Panics
/// If what must hold doesn't.
pub fn look_into(reply: &Reply) {
    discreet(Answer::of(reply.clone()));
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
    let (log, tail) = ("unstale:notices", Some(String::new()));
    let say = Announcement { log, bound: 0, measure: false, channel: Some(log), head: "", tail, republished: Vec::new() };
    let request = Request::new(say, &batch.targets, &keys, &places);
    unstale_connect::trial::call(&SCRIPT, request.keys, request.args)
}
