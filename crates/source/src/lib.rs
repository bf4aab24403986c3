//! The consumer group as one sidecar sees it: reading, claiming, acknowledging, dead letters, trimming; and the company of the other
//! sidecars: beats, and the lease of the one that reads.
//!
//! What is not here: any memory of entries in flight, and any decision about them. Who holds which entry, what is retried and when, is the
//! pipeline's.

mod group;
mod letters;
mod limit;
mod membership;
mod names;
mod reader;
#[doc(hidden)]
pub mod trial;

pub use group::{Body, Claimed, Delivered, Group, Heavy, PendingAt, Start, Survey};
pub use letters::{Letter, Letters, LettersConfig};
pub use limit::{EntryLimit, Size};
pub use membership::{Beat, Membership};
pub use names::Names;
pub use reader::{Read, Reader};
