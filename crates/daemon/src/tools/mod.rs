//! The operators' commands: what is and was going on, and what to do about dead letters. Each looks at Redis, or at one sidecar, with the configuration
//! that `run` has.
//!
//! Texts from elsewhere are shown without what a terminal would obey; keys, and values of events, as fingerprints unless `--reveal` is given.

pub mod dead_letters;
pub mod dry_run;
pub mod flush;
mod follow;
pub mod health;
pub mod pages;
mod shown;
pub mod stats;
pub mod tail;
pub mod top;
pub mod why;

use unstale_connect::Client;
use unstale_source::Names;

use crate::check::{self, NoConnection};
use crate::config::Loaded;

/// The server with the streams.
struct Bus {
    client: Client,
    names: Names,
}

impl Bus {
    async fn open(loaded: &Loaded) -> Result<Self, NoConnection> {
        Ok(Self { client: check::connect(loaded, &loaded.config.bus.redis).await?, names: loaded.config.names() })
    }
}

/// What to say of a command that Redis refused or didn't answer.
fn said(fault: &unstale_connect::Fault) -> String {
    format!("Redis: {fault}\n  run `unstale check` for what is wrong with the server")
}
