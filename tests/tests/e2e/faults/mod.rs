//! Faults: processes killed, servers gone, rights missing, memory full. Nothing is lost, nothing stands still for longer than said, and the
//! log says what happened.

mod drain;
mod dropped;
mod figures;
mod fleet;
mod flood;
mod full_speed;
mod kills;
pub(crate) mod kit;
mod outages;
mod poison;
mod rights;
mod start;
mod states;
mod trimming;
mod urgent;
