//! The client's cache against a real Redis, with the races forced.
#![allow(clippy::unwrap_used, reason = "helpers fail the test that calls them")]

mod behind;
mod cluster;
mod fences;
mod hearing;
#[cfg(feature = "metrics")]
mod metrics;
mod outages;
mod publishing;
mod reading;
mod writing;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use unstale_client::{Settings, TieredCache};
use unstale_testkit::Redis;

/// How long a state may take to come about on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Settings without chance.
fn settings() -> Settings {
    Settings { jitter: 0.0, ..Settings::default() }
}

/// A cache on this server, connected.
async fn cache(redis: &Redis, settings: Settings) -> TieredCache {
    let cache = TieredCache::connect(&redis.url(), settings).unwrap();
    unstale_testkit::wait_until("the cache to be connected", PATIENCE, || async {
        let health = cache.health().await;
        if health.is_ok() { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
    cache
}

/// Stands for a database: one number, that counts how often it is read.
#[derive(Debug, Default, Clone)]
struct Source {
    value: Arc<AtomicU64>,
    reads: Arc<AtomicU64>,
}

impl Source {
    fn set(&self, value: u64) {
        self.value.store(value, Ordering::SeqCst);
    }

    fn read(&self) -> u64 {
        self.reads.fetch_add(1, Ordering::SeqCst);
        self.value.load(Ordering::SeqCst)
    }

    fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    /// What a cache calls on a miss.
    fn loader(&self) -> impl FnOnce() -> std::future::Ready<Result<Option<u64>, Infallible>> + Send + use<> {
        let source = self.clone();
        move || std::future::ready(Ok(Some(source.read())))
    }
}

/// Reads through the cache.
async fn through(cache: &TieredCache, key: &str, source: &Source) -> u64 {
    *cache.get_or_load::<u64>(key, source.loader()).await.unwrap().unwrap()
}
