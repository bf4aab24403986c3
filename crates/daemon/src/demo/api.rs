//! `unstale demo-api`: an API instance as an application would write it, in small. It answers `GET /keys/{hash}` from its in-process
//! cache (L1), else from Redis (L2), else from the database, and fills what missed. It knows nothing of events: what it drops it hears.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use unstale_connect::Fault;

use crate::cli::Exit;

use super::Trouble;
use super::hearing::{Hearing, Progress};
use super::l1::{L1, Ticket};
use super::store::Store;

/// `demo-api`.
#[derive(Debug, Args)]
pub struct DemoApi {
    /// Where to listen.
    #[arg(long)]
    pub bind: SocketAddr,
    /// The sidecar beside it, which tells what to drop.
    #[arg(long)]
    pub sidecar: SocketAddr,
    /// The Redis that holds the shared cache.
    #[arg(long)]
    pub cache: String,
    /// The Redis that plays the database.
    #[arg(long)]
    pub database: String,
    /// A key whose drops are not heard: a fault on purpose.
    #[arg(long)]
    pub deaf_to: Option<String>,
}

/// Serves until it is ended.
pub async fn run(args: DemoApi) -> Exit {
    match serve(args).await {
        Ok(()) => Exit::Done,
        Err(trouble) => {
            eprintln!("unstale demo-api: {trouble}");
            Exit::Failed
        }
    }
}

async fn serve(args: DemoApi) -> Result<(), Trouble> {
    let l2 = Store::open(&args.cache, "demo-api").await?;
    let database = Store::open(&args.database, "demo-api-database").await?;
    let api = Arc::new(Api {
        l1: Mutex::new(L1::new()),
        l2,
        database,
        counts: Counts::default(),
        heard: AtomicBool::new(false),
        deaf_to: args.deaf_to,
    });
    let hearing = Hearing::new(args.sidecar, api.clone());
    let progress = hearing.progress();
    tokio::spawn(hearing.run());

    let routes = Router::new().route("/keys/{hash}", get(key)).route("/stats", get(stats)).with_state((api, progress));
    let listener = TcpListener::bind(args.bind).await.map_err(|e| Trouble(format!("can't listen on {}: {e}", args.bind)))?;
    axum::serve(listener, routes).await.map_err(|e| Trouble(e.to_string()))
}

/// The caches of this instance.
pub(super) struct Api {
    l1: Mutex<L1<u64>>,
    l2: Store,
    database: Store,
    counts: Counts,
    /// Whether somebody vouches for what is in L1.
    heard: AtomicBool,
    deaf_to: Option<String>,
}

#[derive(Default)]
struct Counts {
    l1: AtomicU64,
    l2: AtomicU64,
    database: AtomicU64,
    refused_fills: AtomicU64,
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    L1,
    L2,
    Database,
}

/// The answer to `GET /keys/{hash}`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer {
    pub(super) version: u64,
    pub(super) from: Level,
}

/// The answer to `GET /stats`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stats {
    /// Keys in the in-process cache.
    pub(super) l1_keys: usize,
    /// Answers by where they came from.
    pub(super) from_l1: u64,
    pub(super) from_l2: u64,
    pub(super) from_database: u64,
    /// Fetched values that were not stored, because their key was dropped meanwhile.
    pub(super) refused_fills: u64,
    /// The last notice that was applied.
    pub(super) seq: u64,
    /// How often the whole L1 was dropped.
    pub(super) flushes: u64,
}

impl Api {
    /// Reads through all levels, filling those that missed.
    async fn read(&self, hash: &str) -> Result<Option<Answer>, Fault> {
        let key = format!("vkey:{hash}");
        let ticket = match self.look(&key) {
            Ok(version) => return Ok(Some(self.answer(version, Level::L1))),
            Err(ticket) => ticket,
        };
        let Some((version, from)) = self.fetch(&key, hash).await? else { return Ok(None) };
        if !self.l1().fill(&key, ticket, version) {
            self.counts.refused_fills.fetch_add(1, Ordering::Relaxed);
        }
        Ok(Some(self.answer(version, from)))
    }

    /// The value in L1, or what to fill it with later.
    fn look(&self, key: &str) -> Result<u64, Ticket> {
        let l1 = self.l1();
        l1.get(key).filter(|_| self.heard.load(Ordering::Relaxed)).ok_or_else(|| l1.ticket(key))
    }

    /// From the shared cache, else from the database. Between the question to the database and the store into L2 the row may change, and
    /// then the old value lands in L2 after the delete: this is why the preset deletes these keys a second time.
    async fn fetch(&self, key: &str, hash: &str) -> Result<Option<(u64, Level)>, Fault> {
        if let Some(version) = self.l2.get(key).await? {
            return Ok(Some((version, Level::L2)));
        }
        let Some(version) = self.database.row(hash).await? else { return Ok(None) };
        self.l2.set(key, version).await?;
        Ok(Some((version, Level::Database)))
    }

    pub(super) fn drop_key(&self, key: &str) {
        if self.deaf_to.as_deref() != Some(key) {
            self.l1().drop_key(key);
        }
    }

    pub(super) fn drop_pattern(&self, pattern: &str) {
        self.l1().drop_pattern(pattern);
    }

    pub(super) fn flush(&self) {
        self.l1().flush();
    }

    /// Whether L1 may answer from now on.
    pub(super) fn trust(&self, heard: bool) {
        self.heard.store(heard, Ordering::Relaxed);
    }

    fn answer(&self, version: u64, from: Level) -> Answer {
        let count = match from {
            Level::L1 => &self.counts.l1,
            Level::L2 => &self.counts.l2,
            Level::Database => &self.counts.database,
        };
        count.fetch_add(1, Ordering::Relaxed);
        Answer { version, from }
    }

    fn l1(&self) -> MutexGuard<'_, L1<u64>> {
        self.l1.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Shared = State<(Arc<Api>, Arc<Progress>)>;

async fn key(State((api, _)): Shared, Path(hash): Path<String>) -> Response {
    match api.read(&hash).await {
        Ok(Some(answer)) => Json(answer).into_response(),
        Ok(None) => (StatusCode::NOT_FOUND, "no such key\n").into_response(),
        Err(fault) => (StatusCode::SERVICE_UNAVAILABLE, format!("{fault}\n")).into_response(),
    }
}

async fn stats(State((api, progress)): Shared) -> Json<Stats> {
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let counts = &api.counts;
    Json(Stats {
        l1_keys: api.l1().len(),
        from_l1: read(&counts.l1),
        from_l2: read(&counts.l2),
        from_database: read(&counts.database),
        refused_fills: read(&counts.refused_fills),
        seq: read(&progress.seq),
        flushes: read(&progress.flushes),
    })
}
