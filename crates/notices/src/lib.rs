//! The notice log as a reader sees it: followed without a consumer group, resumed after any break, and never missed silently.
//!
//! - [`Course`] decides, without I/O, whether an answer of the log is a continuation, a gap or lost history.
//! - A [`Follower`] is a course with a connection: it reads the log for as long as it is asked to.
//! - A [`Hub`] is what one follower has read lately, for many [`Receiver`]s; one that comes back after more than that reads the log by itself.
//! - [`everywhere`] waits until every instance has passed a notice on.
//!
//! What is not here: writing notices (`sink`), HTTP (the daemon), and caches that drop what they are told (`client`).

mod course;
mod everywhere;
mod follower;
mod hub;
mod log;
mod receiver;
mod ring;
mod told;

pub use course::{Course, Followed, IDLE, Looked, Order, Sight};
pub use everywhere::{Behind, Company, Late, SILENCE, behind, everywhere};
pub use follower::{Follower, News};
pub use hub::{Bounds, Counts, Hub};
pub use log::Log;
pub use receiver::{Frame, Hello, Receiver, Unheard};
pub use told::{Filter, Kind, Told};
