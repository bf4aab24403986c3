//! Answers of scripts, of any kind, for fuzzing: no part of the interface.

use unstale_connect::Reply;
use unstale_connect::trial::discreet;

use crate::{group, membership};

/// Gives what a server answered to everything here that looks into answers.
///
/// # Panics
/// If what must hold doesn't.
pub fn look_into(reply: &Reply) {
    discreet(group::claimed(reply.clone()));
    discreet(group::delivered(reply.clone()));
    discreet(group::body(reply.clone()));
    if let Some(beat) = discreet(membership::beat(reply.clone())) {
        assert!(beat.alive_since() <= beat.now_ms);
    }
}
