//! Lanes, windows and coalescing: from the targets of single events to batches that are delivered together.
//!
//! A [`Batcher`] has one lane for each priority. Entries are pushed with what the routes made of them; batches are popped, the most urgent first,
//! when they are due. A [`Batch`] names each target once and remembers which entry asked for which target, so [`Batch::settle`] can tell from what
//! became of the targets which entries may be acknowledged.
//!
//! Pure: no I/O, no async, no clock. Time is an argument of every call that needs it, and nothing happens between calls.

mod batch;
mod batcher;
mod fold;
mod labels;
mod lane;
mod open;
mod seen;
mod settings;
mod settle;

pub use batch::{Batch, BatchEntry, Count, DeadLetter, Load, Source};
pub use batcher::{Batcher, Item};
pub use labels::Labels;
pub use settings::Settings;
pub use settle::{Buried, Settled, Settlement, TargetState, Verdict};
