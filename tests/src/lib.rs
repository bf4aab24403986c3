//! The harness of the end-to-end tests: the real program as a process, beside a real Redis, looked at from outside only.
//!
//! What it knows of the product is what the docs promise to other programs: names, wire formats, log lines, HTTP. It shares no code with it.
//! Tests wait for states, never for time to pass; failures of the harness itself panic with what was seen last.

mod browser;
mod bus;
pub mod monitor;
pub mod pages;
mod program;
mod rights;
pub mod scripts;
mod sidecar;
pub mod sse;
mod world;

pub use browser::Browser;
pub use bus::{Bus, Letter, Notice, Standing, ages};
pub use monitor::Line;
pub use program::{Outcome, example, program, run};
pub use rights::Installation;
pub use sidecar::{Setup, Sidecar};
pub use world::World;

use std::time::Duration;

/// Routes for most tests: `Changed` is of the normal lane, `Revoked` critical, and both are about a thing.
pub const THINGS: &str = r#"
[cache.thing]
prefixes = ["thing:"]
[[route]]
event = "Changed"
cache = "thing"
keys = ["thing:{id}"]
[[route]]
event = "Revoked"
cache = "thing"
priority = "critical"
keys = ["thing:{id}"]
"#;

/// How long a test waits for a state; a loaded machine is slow, and a state that never comes is rare.
pub const PATIENCE: Duration = Duration::from_secs(30);
