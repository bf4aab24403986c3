//! For applications in Rust: a cache of two tiers that never takes a value that was read before an invalidation.
//!
//! - [`TieredCache`]: values in the process over values in Redis.
//! - [`Entities`]: the same for a repository: entities, lists and counts of them.
//! - [`WriteBehind`]: a queue before it, for values that are written later.
//! - [`Notices`]: what the sidecars have dropped, told to the cache.
//! - [`Publisher`]: events, by which everybody hears of a change.
//!
//! What is not here: deciding which keys a change makes stale. Publish an event, and the sidecar's routes know.

mod cache;
mod entities;
#[cfg(feature = "metrics")]
mod metrics;
mod notices;
mod publisher;

pub use cache::{
    Batch, BehindSettings, Bound, Cached, Encoding, Error, Health, LocalHealth, Posture, PutError, Raw, Settings, SharedHealth, Size,
    Source, SourceError, Stats, TierStats, TieredCache, WriteBehind,
};
pub use entities::Entities;
pub use notices::{BadAddress, Feed, News, Notices, Receiver};
pub use publisher::{Lane, Publish, PublishError, Publisher, PublisherSettings, routes};
pub use unstale_connect::{Fault, FaultKind, Password, Secret, Server, Site, Store};
pub use unstale_events::catalogue;
pub use unstale_events::{EntryId, Event, EventType, Notice};

/// Where this URL points to.
fn site(url: &str) -> Result<Site, Fault> {
    let server: Server = url.parse().map_err(|error: unstale_connect::BadUrl| Fault::new(FaultKind::Config, error.to_string()))?;
    Site::open(&server)
}
