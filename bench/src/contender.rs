//! Who works events off: unstale, or a consumer written by hand, each as processes of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use unstale_testkit::Redis;
use unstale_tests::{Setup, Sidecar, scripts};

/// The preset of an LLM gateway. As it is shipped it deletes virtual keys once more half a second later; what is measured here is one delete.
pub const PRESET: &str = "presets = ['llm-gateway']\n[preset.llm-gateway.cache.virtual_key]\nsecond_delete = '0s'\n";

/// A consumer written by hand; their sources are in `bench/peers`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// C on hiredis, the whole job.
    C,
    /// The same without the log of notices.
    CWithoutLog,
    /// Python on redis-py with hiredis, in batches.
    Python,
    /// The same event by event.
    PythonSingle,
    /// Node on ioredis, in batches.
    Node,
}

impl Peer {
    fn command(self, redis: &Redis) -> Command {
        let script = peers().join("notice.lua");
        let mut command = match self {
            Self::C | Self::CWithoutLog => Command::new(scripts::fetched("UNSTALE_C_PEER", "c-peer")),
            Self::Python | Self::PythonSingle => Command::new(scripts::python()),
            Self::Node => Command::new("node"),
        };
        match self {
            Self::C | Self::CWithoutLog => {}
            Self::Python | Self::PythonSingle => drop(command.arg(peers().join("drain.py"))),
            Self::Node => drop(command.current_dir(scripts::node_modules()).arg(peers().join("drain.mjs"))),
        }
        command.arg(redis.port().to_string());
        match self {
            Self::C => command.arg("whole").arg(script),
            Self::CWithoutLog => command.arg("plain"),
            Self::Python => command.arg("batched").arg(script),
            Self::PythonSingle => command.arg("single"),
            Self::Node => command.arg(script),
        };
        command
    }
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

/// What a contender is started as.
#[derive(Debug, Clone)]
pub enum Kind {
    /// So many sidecars with this configuration.
    Unstale(String, usize),
    /// A process of this kind.
    Peer(Peer),
}

impl Kind {
    /// One sidecar with this configuration.
    pub fn unstale(config: impl Into<String>) -> Self {
        Self::Unstale(config.into(), 1)
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it can't be run.
    pub fn start(&self, redis: &Redis) -> Vec<Running> {
        match self {
            Self::Unstale(config, count) => (0..*count).map(|_| Running::Sidecar(sidecar(redis, config).spawn())).collect(),
            Self::Peer(peer) => vec![Running::Peer(Process::start(peer.command(redis), redis.dir().join("peer.log")))],
        }
    }
}

/// A sidecar on this server, not started yet. It comes as the user that peers come as, who may do everything: rights are looked up in Redis for each key, and so
/// cost time that the others would be spared.
pub fn sidecar(redis: &Redis, config: &str) -> Setup {
    sidecar_at(&redis.url(), config)
}

/// The same at a URL, as when a proxy stands before the server.
pub fn sidecar_at(url: &str, config: &str) -> Setup {
    Setup::at(url.replacen("://", "://default:any@", 1)).config(config)
}

/// A process at work; dropping it kills it.
#[derive(Debug)]
pub enum Running {
    /// unstale.
    Sidecar(Sidecar),
    /// Another.
    Peer(Process),
}

impl Running {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Sidecar(sidecar) => sidecar.pid(),
            Self::Peer(process) => process.child.id(),
        }
    }

    /// What it has said.
    pub fn log(&self) -> String {
        match self {
            Self::Sidecar(sidecar) => sidecar.log(),
            Self::Peer(process) => fs::read_to_string(&process.log).unwrap_or_default(),
        }
    }
}

/// A consumer that was written by hand.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let stderr = File::create(&log).expect("a file can be written to the server's directory");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn();
        Self { child: child.unwrap_or_else(|error| panic!("{command:?}: {error}")), log }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself, which the log tells.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
