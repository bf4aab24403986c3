//! `unstale demo`: a private Redis, two API instances with an in-process cache each, a sidecar beside each, 10,000 spend updates on 500 keys,
//! and one key revoked in the middle. Then every key is read through every cache and compared with the database.
//!
//! Everything is real: the sidecars are this program's own `run`, the API instances (`api`) are processes of their own that know nothing of
//! events. What is a play is the story (`plan`, `scenario`) and the database, a hash in another database of the same Redis.
//!
//! - `stage`, `children`: the processes, and their certain end.
//! - `l1`, `hearing`, `store`: what an API instance is made of.
//! - `readers`, `http`: its users.
//! - `figures`, `verdict`, `report`, `screen`: what there is to say of it.

pub mod api;
mod children;
mod figures;
mod hearing;
mod l1;
mod plan;
mod readers;
mod report;
mod scenario;
mod screen;
mod stage;
mod store;
mod verdict;

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use unstale_connect::Fault;

use crate::cli::Exit;
use crate::signals::Signals;
use crate::web::NoAnswer;
use figures::Commands;
use report::Counted;
use screen::{Screen, thousands};
use stage::Stage;

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// The Redis or Valkey server to start.
    #[arg(long, value_name = "PATH", env = "UNSTALE_REDIS_SERVER", default_value = "redis-server")]
    pub redis_server: PathBuf,
    /// Leave everything running until Ctrl-C, and say where to look.
    #[arg(long)]
    pub keep: bool,
    /// How many spend updates there are.
    #[arg(long, hide = true, default_value_t = 10_000)]
    pub updates: usize,
    /// Suppress one delete: API b never hears of the busiest key. The demo must find it stale, and fail.
    #[arg(long, hide = true)]
    pub sabotage: bool,
}

/// What keeps the demo from going on, said to people.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Trouble(String);

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self(format!("the demo's Redis: {fault}"))
    }
}

impl From<NoAnswer> for Trouble {
    fn from(why: NoAnswer) -> Self {
        Self(why.to_string())
    }
}

/// Plays the demo. Whatever happens, nothing that it started outlives it.
pub async fn run(args: &Demo) -> Exit {
    let mut screen = Screen::stdout();
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return failed(&screen, &Trouble(format!("can't listen for signals: {error}"))),
    };
    let played = tokio::select! {
        played = play(args, &mut screen) => played,
        _ = signals.next() => Err(Trouble("interrupted; everything is stopped".to_owned())),
    };
    match played {
        Ok((stage, well)) => {
            if args.keep {
                tell_where_to_look(&screen, &stage);
                signals.next().await;
            }
            if well { Exit::Done } else { Exit::Failed }
        }
        Err(trouble) => failed(&screen, &trouble),
    }
}

fn failed(screen: &Screen, trouble: &Trouble) -> Exit {
    screen.end_progress();
    eprintln!("unstale demo: {trouble}");
    Exit::Failed
}

/// The demo from beginning to end: what is still running, and whether all is well.
async fn play(args: &Demo, screen: &mut Screen) -> Result<(Stage, bool), Trouble> {
    let began = Instant::now();
    let stage = Stage::raise(args).await?;
    introduce(screen, &stage, args);
    let before = Commands::now(&stage).await?;
    let mut played = scenario::play(&stage, args.updates, screen).await?;
    verdict::quiet(&stage).await?;
    played.reads = played.readers.reads();
    std::mem::replace(&mut played.readers, readers::Readers::new()).stop().await?;
    let counted = Counted::now(&stage, before).await?;
    let verdict = verdict::compare(&stage).await?;
    report::figures(screen, &played, &counted);
    let well = report::judgement(screen, &verdict, &counted);
    screen.remark(&format!("The demo took {:.1} s.", began.elapsed().as_secs_f64()));
    screen.blank();
    Ok((stage, well))
}

fn introduce(screen: &Screen, stage: &Stage, args: &Demo) {
    screen.heading("unstale demo");
    screen.row("Redis", &format!("{}, private, in memory", stage.redis));
    screen.row("API a, API b", &format!("{}, {}: an L1 in each process, the L2 in Redis", stage.apis[0], stage.apis[1]));
    screen.row("sidecars", &format!("{}, {}: unstale run --preset llm-gateway", stage.sidecars[0], stage.sidecars[1]));
    let updates = thousands(args.updates as u64);
    screen.row("story", &format!("{updates} spend updates on {} keys, one key revoked in the middle,", plan::KEYS));
    screen.row("", "and users who read all the keys through both APIs meanwhile");
    if args.sabotage {
        screen.row("sabotage", &format!("API b is deaf to drops of {}", plan::hash(plan::SABOTAGED)));
    }
    screen.blank();
}

fn tell_where_to_look(screen: &Screen, stage: &Stage) {
    screen.heading("Still running; Ctrl-C stops everything");
    for (name, sidecar) in ["sidecar a", "sidecar b"].iter().zip(stage.sidecars) {
        screen.row(name, &format!("http://{sidecar}/metrics   http://{sidecar}/v1/stats   http://{sidecar}/healthz"));
    }
    for (name, api) in ["API a", "API b"].iter().zip(stage.apis) {
        screen.row(name, &format!("http://{api}/keys/{}   http://{api}/stats", plan::hash(0)));
    }
    let redis = format!("redis-cli -p {}", stage.redis.port());
    screen.row("notices", &format!("{redis} subscribe unstale:notices"));
    let (kind, hash) = ("VirtualKeyUpdated", plan::hash(0));
    screen.row("publish", &format!("{redis} xadd unstale:events '*' type {kind} key_hash {hash} changed_properties '[\"IsEnabled\"]'"));
    screen.row("logs", &stage.logs().display().to_string());
    screen.blank();
}
