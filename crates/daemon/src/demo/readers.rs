//! The users of the demo's APIs: some read all keys all the while, some look after the one key that is revoked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::api::{Answer, Level};
use super::store::Store;
use super::{Trouble, plan};
use crate::web::Connection;

/// Between two reads of one user.
const PAUSE: Duration = Duration::from_millis(1);

/// Users who read until they are told to stop.
pub(super) struct Readers {
    stop: Arc<AtomicBool>,
    reads: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<Result<(), Trouble>>>,
}

impl Readers {
    pub(super) fn new() -> Self {
        Self { stop: Arc::default(), reads: Arc::default(), tasks: Vec::new() }
    }

    /// Reads these keys through one API, over and over.
    pub(super) fn read(&mut self, mut api: Connection, keys: Vec<usize>) {
        let (stop, reads) = (self.stop.clone(), self.reads.clone());
        self.tasks.push(tokio::spawn(async move {
            for key in keys.into_iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
                ask(&mut api, &plan::hash(key)).await?;
                reads.fetch_add(1, Ordering::Relaxed);
                sleep(PAUSE).await;
            }
            Ok(())
        }));
    }

    /// Looks for one key, without a pause as long as it is there.
    pub(super) fn watch(&mut self, mut eye: Eye) -> Sight {
        let (stop, (sender, receiver)) = (self.stop.clone(), watch::channel(None));
        self.tasks.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                match eye.look().await? {
                    Some(level) => drop(sender.send_replace(Some((Instant::now(), level)))),
                    None => sleep(PAUSE).await,
                }
            }
            Ok(())
        }));
        Sight(receiver)
    }

    /// Reads so far.
    pub(super) fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Ends them all. A read that failed is a failure of the demo.
    pub(super) async fn stop(self) -> Result<(), Trouble> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.map_err(|e| Trouble(format!("a reader broke off: {e}")))??;
        }
        Ok(())
    }
}

/// What one looks for a key with.
pub(super) enum Eye {
    /// Straight into the shared cache, for a Redis key.
    Cache(Store, String),
    /// Through an API, for a hash.
    Api(Connection, String),
}

impl Eye {
    async fn look(&mut self) -> Result<Option<Level>, Trouble> {
        match self {
            Self::Cache(store, key) => Ok(store.get(key).await?.map(|_| Level::L2)),
            Self::Api(api, hash) => Ok(ask(api, hash).await?.map(|answer| answer.from)),
        }
    }
}

/// When a key was last seen, and at which level.
pub(super) struct Sight(watch::Receiver<Option<(Instant, Level)>>);

impl Sight {
    /// Waits until the key is seen where it is cached.
    pub(super) async fn cached(&mut self) -> Result<(), Trouble> {
        let seen = self.0.wait_for(|seen| seen.is_some_and(|(_, level)| level != Level::Database)).await;
        seen.map(drop).map_err(|_| Trouble("the key to be revoked was never seen in a cache".to_owned()))
    }

    /// How long after `since` the key was last seen.
    pub(super) fn lasted(&self, since: Instant) -> Duration {
        self.0.borrow().map_or(Duration::ZERO, |(at, _)| at.saturating_duration_since(since))
    }
}

/// One `GET /keys/{hash}`; `None` if there is no such key.
pub(super) async fn ask(api: &mut Connection, hash: &str) -> Result<Option<Answer>, Trouble> {
    let path = format!("/keys/{hash}");
    let (status, body) = api.get(&path).await?;
    match status {
        StatusCode::OK => serde_json::from_slice(&body).map(Some).map_err(|e| Trouble(format!("GET {path}: {e}"))),
        StatusCode::NOT_FOUND => Ok(None),
        other => Err(Trouble(format!("GET {path} answered {other}: {}", String::from_utf8_lossy(&body).trim_end()))),
    }
}
