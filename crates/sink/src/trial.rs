//! Answers of the delivery script, of any kind, for fuzzing: no part of the interface.

use unstale_connect::Reply;
use unstale_connect::trial::discreet;

use crate::request::Answer;

/// Gives what a server answered to everything here that looks into answers.
///
/// # Panics
/// If what must hold doesn't.
pub fn look_into(reply: &Reply) {
    discreet(Answer::of(reply.clone()));
}
