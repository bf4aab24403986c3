//! The command line: what can be asked for, and with which exit code it ends.
//!
//! Only words; what the commands do is in [`crate::commands`].

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use unstale_events::{Code, EntryId};

use crate::config::Sources;
use crate::demo::Demo;
use crate::demo::api::DemoApi;
use crate::release;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// Failed.
    Failed,
    /// Wrong use of the command line.
    Usage,
    /// The drain deadline passed; work is left pending.
    Undrained,
    /// The configuration is bad.
    Configuration,
}

impl Exit {
    /// The exit code, as documented.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Undrained => 3,
            Self::Configuration => 64,
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

/// Keeps every copy of a cached value fresh: domain events in, stale copies gone everywhere.
#[derive(Debug, Parser)]
#[command(name = "unstale", version = release::both(), propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct Global {
    /// The configuration file [default: unstale.toml in the working directory, if there].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Add a shipped preset of caches and routes, such as llm-gateway; may be repeated.
    #[arg(long, global = true, value_name = "NAME")]
    pub preset: Vec<String>,
    /// Set one setting, as in --set batching.window=50ms; wins over environment and file; may be repeated.
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl Global {
    /// With the environment of this process.
    pub fn sources(&self) -> Sources {
        Sources { file: self.config.clone(), presets: self.preset.clone(), set: self.set.clone(), environment: Sources::environment() }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the sidecar until SIGTERM or SIGINT.
    Run(Run),
    /// Check configuration, server, rights, eviction policy and streams. Changes nothing.
    Check(Check),
    /// Publish one event.
    Publish(Publish),
    /// Ask for keys and patterns to be deleted, everywhere.
    Invalidate(Invalidate),
    /// Tell every instance to drop whole caches.
    Flush(Flush),
    /// Show what an event would do. Nothing is done, and no server is needed.
    Explain(Explain),
    /// Follow notices, events or dead letters as they happen. Takes nothing from anybody.
    Tail(Tail),
    /// Ask one sidecar how it is, as a probe does: 0 if it works, else 1.
    Health(Health),
    /// Show the counts of one sidecar.
    Stats(Stats),
    /// Watch one sidecar on the terminal, as it moves.
    Top(Top),
    /// Look at what could not be carried out, give it back to its stream, or drop it.
    #[command(subcommand)]
    DeadLetters(DeadLetters),
    /// Show when, how and why a key was last dropped, by the log of notices.
    Why(Why),
    /// Show the configuration, or the schema of its file.
    #[command(subcommand)]
    Config(Config),
    /// Print a script that completes commands and flags in a shell.
    Completions(Completions),
    /// Print the manual page, or write those of all commands.
    Man(Man),
    /// See it at work: a private Redis, two APIs with a sidecar each, 10,000 events, and what is stale at the end. Reads no configuration.
    Demo(Demo),
    /// One of the demo's API instances.
    #[command(hide = true)]
    DemoApi(DemoApi),
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Only show what it would do with the events that come, and which keys are still there when it would have deleted them. Deletes, announces and
    /// acknowledges nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How.
    #[command(flatten)]
    pub how: DryRun,
}

/// `run --dry-run`.
#[derive(Debug, Args)]
pub struct DryRun {
    /// Begin with so many events that are there already, of each stream.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "dry_run")]
    pub last: usize,
    /// End after so long, as in 10m [default: when it is told to].
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration, requires = "dry_run")]
    pub length: Option<Duration>,
    /// Show keys instead of fingerprints.
    #[arg(long, requires = "dry_run")]
    pub reveal: bool,
    /// Print a JSON object for each event, for each key that is still there, and one at the end.
    #[arg(long, requires = "dry_run")]
    pub json: bool,
}

/// `check`.
#[derive(Debug, Args)]
pub struct Check {
    /// Print the least rights that each server must grant, as ACL commands. Connects to nothing.
    #[arg(long)]
    pub acl: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `publish`.
#[derive(Debug, Args)]
pub struct Publish {
    /// The event's type, such as `VirtualKeyDeleted`.
    #[arg(value_name = "TYPE")]
    pub kind: String,
    /// Attributes, as in `key_hash=abc`; a value that is a JSON array or object is taken as such.
    #[arg(value_name = "KEY=VALUE", value_parser = attribute)]
    pub attributes: Vec<(String, String)>,
    /// More attributes, as a JSON object.
    #[arg(long, value_name = "JSON")]
    pub data: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("an attribute is written NAME=VALUE".to_owned()),
    }
}

/// `invalidate`.
#[derive(Debug, Args)]
pub struct Invalidate {
    /// Keys to delete.
    #[arg(required_unless_present = "pattern")]
    pub keys: Vec<String>,
    /// A Redis glob whose keys are deleted; may be repeated.
    #[arg(long, value_name = "GLOB")]
    pub pattern: Vec<String>,
    /// The cache that they belong to [default: whichever owns each].
    #[arg(long, value_name = "NAME")]
    pub cache: Option<String>,
    /// A name for it, carried to logs and notices.
    #[arg(long, value_name = "TEXT")]
    pub operation: Option<String>,
    /// How urgent it is.
    #[arg(long, value_enum)]
    pub priority: Option<Urgency>,
    /// Wait until it is deleted in Redis, or until every instance has told its receivers.
    #[arg(long, value_enum)]
    pub wait: Option<Wait>,
    /// How long to wait at most.
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration, requires = "wait")]
    pub timeout: Duration,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wait {
    /// Until it is deleted in Redis.
    Deleted,
    /// Until every instance has told its receivers, too.
    Everywhere,
}

/// `flush`.
#[derive(Debug, Args)]
pub struct Flush {
    /// The caches to drop [default: all].
    #[arg(value_name = "CACHE")]
    pub caches: Vec<String>,
    /// Also delete all their keys in Redis.
    #[arg(long)]
    pub clear: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// How urgent something is.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Urgency {
    /// Never waits.
    Critical,
    /// Waits a quarter of the window.
    High,
    /// Waits the window.
    Normal,
    /// Waits ten windows.
    Low,
}

/// `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// A file with the event as one JSON object; `-` is standard input.
    #[arg(value_name = "EVENT.json", required_unless_present = "expect")]
    pub event: Option<PathBuf>,
    /// Test the routes: each line is {"event": {…}, "expect": {…}}, where expect is a part of what explain prints.
    #[arg(long, value_name = "CASES.jsonl")]
    pub expect: Option<PathBuf>,
}

/// `tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// What to follow [default: notices].
    #[arg(value_enum)]
    pub what: Vec<Followed>,
    /// Begin with so many that are there already, of each stream.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub last: usize,
    /// Show keys and values instead of fingerprints.
    #[arg(long)]
    pub reveal: bool,
    /// Print a JSON object for each.
    #[arg(long)]
    pub json: bool,
}

/// What `tail` follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Followed {
    /// What was dropped.
    Notices,
    /// What is published, on both streams.
    Events,
    /// What could not be carried out.
    DeadLetters,
}

/// Which sidecar is asked.
#[derive(Debug, Args)]
pub struct Sidecar {
    /// Its HTTP address [default: `http.bind`].
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    pub sidecar: Option<SocketAddr>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().map_err(|error| format!("write it as 127.0.0.1:7863 or localhost:7863 ({error})"))?;
    found.into_iter().next().ok_or_else(|| "this name has no address".to_owned())
}

/// `health`.
#[derive(Debug, Args)]
pub struct Health {
    /// Which one.
    #[command(flatten)]
    pub sidecar: Sidecar,
    /// Ask whether it takes part in the work yet, and still: from the first connection to Redis until it is told to end.
    #[arg(long)]
    pub ready: bool,
    /// Fail unless all is well.
    #[arg(long)]
    pub strict: bool,
    /// Print JSON, as `GET /healthz` answers it.
    #[arg(long)]
    pub json: bool,
}

/// `stats`.
#[derive(Debug, Args)]
pub struct Stats {
    /// Which one.
    #[command(flatten)]
    pub sidecar: Sidecar,
    /// Print JSON, as `GET /v1/stats` answers it.
    #[arg(long)]
    pub json: bool,
}

/// `top`.
#[derive(Debug, Args)]
pub struct Top {
    /// Which one.
    #[command(flatten)]
    pub sidecar: Sidecar,
}

/// `dead-letters`.
#[derive(Debug, Subcommand)]
pub enum DeadLetters {
    /// The newest, with their reasons.
    List {
        /// Which of them.
        #[command(flatten)]
        matching: Matching,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 20)]
        last: usize,
        /// Print a JSON object for each.
        #[arg(long)]
        json: bool,
    },
    /// One of them, with the fields of its event.
    Show {
        /// Its id.
        id: EntryId,
        /// Show values instead of fingerprints.
        #[arg(long)]
        reveal: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Add the events to their streams again, and take the letters away. A repetition does no harm.
    Replay {
        /// Which of them.
        #[command(flatten)]
        chosen: Chosen,
        /// Print a JSON object for each, and one at the end.
        #[arg(long)]
        json: bool,
    },
    /// Take letters away for good.
    Drop {
        /// Which of them.
        #[command(flatten)]
        chosen: Chosen,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Which dead letters are meant.
#[derive(Debug, Args)]
pub struct Matching {
    /// Only those with this code in their reason, such as `missing_attribute`.
    #[arg(long, value_name = "CODE", value_parser = Code::ALL.map(Code::name))]
    pub reason: Option<String>,
    /// Only events of this type.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
}

/// Which dead letters something is done to: those named, or all that are there now.
#[derive(Debug, Args)]
pub struct Chosen {
    /// Their ids.
    #[arg(required_unless_present = "all", conflicts_with_all = ["all", "reason", "kind"])]
    pub ids: Vec<EntryId>,
    /// All that are there now; with --reason or --type, all of those.
    #[arg(long)]
    pub all: bool,
    /// Which of all.
    #[command(flatten)]
    pub matching: Matching,
}

/// `why`.
#[derive(Debug, Args)]
pub struct Why {
    /// The key, as it stands in Redis.
    pub key: String,
    /// How many to show, the newest first.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub last: usize,
    /// Show patterns instead of fingerprints.
    #[arg(long)]
    pub reveal: bool,
    /// Print a JSON object for each.
    #[arg(long)]
    pub json: bool,
}

/// `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    pub shell: clap_complete::Shell,
}

/// `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page for each command into this directory.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum Config {
    /// Every value in force and where it came from; secrets are hidden.
    Show {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The JSON schema of the configuration file.
    Schema,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn flags_are_taken_before_and_after_the_command() {
        for line in [["unstale", "--preset", "a", "run"], ["unstale", "run", "--preset", "a"]] {
            assert_eq!(Cli::parse_from(line).global.preset, ["a"]);
        }
    }

    #[test]
    fn attributes_may_hold_equals_signs() {
        assert_eq!(attribute("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(attribute("a").is_err() && attribute("=a").is_err());
    }
}
