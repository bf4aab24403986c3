//! Connections to Redis, and the few commands that unstale uses, with the traps of the client library and of Redis handled.
//!
//! The only crate that names the client library (fred); no type of it appears in the public interface, so that it can be replaced here.
//! What is not here: which commands make up a read, a delivery or a heartbeat (`source`, `sink`), and when to try again (the callers; a
//! command is sent once).
//!
//! - A [`Client`] is one connection that is made again for ever. While it is down, commands fail at once with
//!   [`FaultKind::Unreachable`]; while it is up, they fail with [`FaultKind::Timeout`] when their time has passed.
//! - A lost connection ends every command on it: what was sent may have been carried out or not, which only the caller can judge.
//! - [`Client::link`] tells whether it is up, and numbers the connections.
//! - A [`Site`] is an installation: one server, the master that sentinels name, or a cluster. It knows where things are. Its clients go to
//!   one server each, wherever that is at the time.
//! - A [`Store`] is all the keys of a site, wherever they lie.
//!
//! Clients that send commands are the library's; those that read have a socket of their own (`socket.rs`).
//!
//! Every connection is to one server. The client library could follow sentinels and clusters by itself, but then it holds up everything
//! while one node is away, keeps on writing to a master that was replaced, and doesn't say when a master changed.

mod client;
mod cluster;
mod commands;
mod credentials;
mod fault;
mod link;
mod resp;
mod script;
mod sentinel;
mod server;
mod site;
mod slots;
mod socket;
mod store;
mod streams;
mod tls;
#[doc(hidden)]
pub mod trial;
mod values;
mod wire;

pub use client::{Client, Role};
pub use commands::Page;
pub use fault::{Fault, FaultKind};
pub use link::Link;
pub use script::Script;
pub use server::{BadUrl, Endpoint, Host, Password, Secret, Server, Url};
pub use site::{Place, Site};
pub use store::{Masters, Since, Store, Unlinked};
pub use streams::{ConsumerInfo, GroupInfo, GroupStart, PendingEntry, PendingQuery, PendingSummary, ReadFrom, ReadGroup, StreamInfo, Trim};
pub use values::Holdings;
pub use wire::Reply;
