//! `kill -9` of sidecars, at random moments and at each named point of what they say to Redis, under a flow of events. Afterwards no key may
//! be left, nothing be pending, every event be announced, and no number be missing in the log of notices.

mod campaign;
mod flow;
mod ledger;
mod points;
mod verdict;

pub use campaign::Kills;
pub use verdict::Verdict;
