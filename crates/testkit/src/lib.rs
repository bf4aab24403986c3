//! Real Redis servers for tests, broken on purpose where a test asks for it, and waits that say what they saw.
//!
//! A development dependency only. What it offers speaks RESP by itself and shares no code with the product, so that the product is never
//! tested with the product. Failures of the kit itself (no `redis-server`, no free port) panic with a sentence: a test can't go on without.

mod beside;
mod certificates;
mod cluster;
mod fault;
mod port;
mod redis;
mod resp;
mod sentinels;
mod tap;
mod wait;

pub use beside::{now, runtime};
pub use certificates::Certificates;
pub use cluster::{Cluster, ClusterBuilder, Migration, SLOTS, slot_of};
pub use fault::{Fault, FaultProxy};
pub use redis::{Builder, Redis, server_binary, server_has_tls};
pub use resp::{Error, Resp, Value};
pub use sentinels::{Sentinels, SentinelsBuilder};
pub use tap::{Listener, Tap, Verdict};
pub use wait::{wait_until, wait_until_sync};
