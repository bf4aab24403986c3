//! Applies a batch: deletes in Redis, then logs and publishes the notice.
//!
//! [`Sink::deliver`] carries one batch through its steps and tells what became of each target; [`unstale_batcher::Batch::settle`] makes
//! of that what becomes of the entries. What is not here: reading, acknowledging, dead letters (`source`), and any memory of entries: a
//! delivery that fails is reported and forgotten.
//!
//! # Steps
//! 1. Keys: one script for each part of at most `max_keys` keys deletes them and writes the notice of exactly these. All parts are sent at
//!    once. Counters ride along if there is nothing to scan for.
//! 2. Patterns: one scan pass for all of the batch, and of all batches that wait for one, on a connection of its own; then the script again,
//!    with the counters and a second notice.
//!
//! Here the delivery ends, and with it whatever is counted or measured. Keys of caches with a second delete are left to [`Sink::repeat`]: once
//! more when the delay is over since their first delete, announced again, not counted again. The entries may be acknowledged only after that.
//!
//! # Faults
//! The deletes of a part and its notice are one script, so a part happened and was announced, or is repeated as a whole, with backoff, until
//! the budget is spent. A part that is denied is halved until the targets that may not be touched are alone; the others don't wait for them.
//!
//! # Elsewhere
//! Where log and caches share one database, deleting and announcing is one round trip: the script deletes what lies together with the log, and
//! announces everything that it is given. What is on another server or database (`place`) is deleted and counted there first (`apart`), and
//! then is to the script what a local cache is: announced only. The sites of a batch don't wait for each other, so each has its own notice.

mod apart;
mod attempt;
mod config;
mod delivery;
mod notice;
mod pass;
mod place;
mod plan;
mod replay;
mod republish;
mod request;
mod retention;
mod retry;
mod scan;
mod sink;
#[doc(hidden)]
pub mod trial;

pub use config::{Budgets, Clients, Config, Elsewhere, Lanes};
pub use delivery::{Delivery, Stage, Trouble};
pub use replay::{Replay, Replayer, Whose};
pub use sink::Sink;
