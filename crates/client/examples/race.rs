//! The race of a slow reader against a delete, forced as often as one likes on a Redis of its own, and how often it left a stale value there.
//!
//! Each attempt: a reader misses a key and reads version n of its source; the source becomes version n + 1 and the key is deleted; then the reader stores. It
//! lost if Redis holds version n afterwards. With a second delete the reader takes a random time, up to twice the time of that.
//!
//! `cargo run --release -p unstale-client --example race -- 1000000`

use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::oneshot;
use unstale_client::{Fault, Settings, Site, Store, TieredCache};
use unstale_testkit::{Redis, wait_until};

/// How many race at the same time, each for a key of its own.
const RUNNERS: u64 = 64;
/// When the second delete comes.
const SECOND: Duration = Duration::from_millis(5);
const LIFE: Duration = Duration::from_secs(600);

/// How the reader is kept from storing what is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It isn't: GET, then SET, as caches are filled everywhere.
    Unprotected,
    /// The key is deleted once more.
    SecondDelete,
    /// By the cache of this crate.
    Fences,
}

/// A failure of Redis or of a task.
pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Trouble> {
    let attempts = std::env::args().nth(1).map_or(Ok(10_000), |number| number.parse())?;
    for way in [Way::Unprotected, Way::SecondDelete, Way::Fences] {
        let began = Instant::now();
        let stale = stale(way, attempts).await?;
        println!("{way:?}: {stale} of {attempts} attempts left a stale value in Redis ({:.1?})", began.elapsed());
    }
    Ok(())
}

/// How many of so many attempts left a stale value in Redis.
///
/// # Errors
/// If Redis fails, which says nothing.
pub(crate) async fn stale(way: Way, attempts: u64) -> Result<u64, Trouble> {
    let redis = Redis::start().await;
    let store = Site::open(&redis.url().parse()?)?.store("race")?;
    wait_until("Redis", Duration::from_secs(20), || async { store.get("none".into()).await.map_err(|fault| fault.to_string()) }).await;
    let share = |number| attempts / RUNNERS + u64::from(number < attempts % RUNNERS);
    let runners = (0..RUNNERS).map(|number| tokio::spawn(run(way, store.clone(), format!("race:{number}"), share(number))));
    try_join_all(runners).await?.into_iter().sum()
}

async fn run(way: Way, store: Store, key: String, attempts: u64) -> Result<u64, Trouble> {
    let cache = TieredCache::over(store.clone(), Settings { local_life: Duration::ZERO, ..Settings::default() });
    let mut stale = 0;
    for version in 0..attempts {
        match way {
            Way::Fences => fenced(&cache, &store, &key, version).await?,
            Way::Unprotected | Way::SecondDelete => plain(way, &store, &key, version).await?,
        }
        let held = store.get(key.clone().into()).await?;
        stale += u64::from(held.is_some_and(|held| held == version.to_string()));
        delete(&store, &key).await?;
    }
    Ok(stale)
}

async fn plain(way: Way, store: &Store, key: &str, version: u64) -> Result<(), Trouble> {
    let has_second = way == Way::SecondDelete;
    assert!(store.get(key.to_owned().into()).await?.is_none(), "the reader misses, and reads version n");
    delete(store, key).await?;
    let reader = async {
        if has_second {
            tokio::time::sleep(SECOND.mul_f64(rand::random::<f64>() * 2.0)).await;
        }
        store.set(key.to_owned().into(), version.to_string().into(), LIFE).await
    };
    let second = async {
        if has_second {
            tokio::time::sleep(SECOND).await;
            delete(store, key).await?;
        }
        Ok(())
    };
    futures_util::try_join!(reader, second)?;
    Ok(())
}

async fn fenced(cache: &TieredCache, store: &Store, key: &str, version: u64) -> Result<(), Trouble> {
    let (read, has_read) = oneshot::channel();
    let (go, gate) = oneshot::channel::<()>();
    let load = move || async move {
        // Version n is read here. Nobody hears of it if the writer has failed.
        let _ = read.send(());
        let _ = gate.await;
        Ok::<_, io::Error>(Some(version))
    };
    let writer = async {
        has_read.await?;
        delete(store, key).await?;
        let _ = go.send(());
        Ok::<_, Trouble>(())
    };
    let (answer, written) = futures_util::join!(cache.get_or_load::<u64>(key, load), writer);
    assert_eq!(answer?.as_deref(), Some(&version));
    written
}

/// The same command as the sidecar's.
async fn delete(store: &Store, key: &str) -> Result<(), Fault> {
    let answers = store.unlink(vec![Bytes::copy_from_slice(key.as_bytes())]).await;
    answers.into_iter().try_for_each(|answer| answer.outcome.map(drop))
}
