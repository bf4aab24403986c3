//! The race of a slow reader against a delete, forced as often as one likes, on a Redis and a sidecar of its own, and how often it left a stale value.
//!
//! Each attempt: a reader misses a key and reads version n of its source; the source becomes version n + 1, an event says so, and the sidecar deletes the
//! key and announces that; then the reader stores. It lost if Redis holds version n afterwards. With a second delete the reader takes a random time, up to twice the
//! time of that, and it is looked when both deletes were announced.
//!
//! `cargo run --release -p unstale-tests --example race -- 1000000`

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::{Semaphore, oneshot};
use unstale_client::{Fault, News, Notices, Publish, Publisher, PublisherSettings, Settings, Site, Store, TieredCache};
use unstale_testkit::{Redis, wait_until};
use unstale_tests::{PATIENCE, Setup, Sidecar};

/// How many race at the same time, each for a key of its own.
const RUNNERS: u64 = 256;
/// When the second delete comes.
const SECOND: Duration = Duration::from_millis(5);
const LIFE: Duration = Duration::from_secs(600);

/// How the reader is kept from storing what is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It isn't: GET, then SET, as caches are filled everywhere.
    Unprotected,
    /// The sidecar deletes the key once more.
    SecondDelete,
    /// By the client's cache.
    Fences,
}

/// A failure of Redis, of the sidecar or of a task.
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
/// If something fails, which says nothing.
pub(crate) async fn stale(way: Way, attempts: u64) -> Result<u64, Trouble> {
    let redis = Redis::start().await;
    let sidecar = sidecar(&redis, way);
    let site = Site::open(&redis.url().parse()?)?;
    let store = site.store("race")?;
    wait_until("Redis", PATIENCE, || async { store.get("none".into()).await.map_err(|fault| fault.to_string()) }).await;
    let bells: Bells = (0..RUNNERS).map(|_| Semaphore::new(0)).collect();
    let mut notices = Notices::of_sidecar(&sidecar.http())?;
    assert_eq!(notices.next().await, News::Lost, "from now on everything is heard");
    let ringing = tokio::spawn(ring(notices, Arc::clone(&bells)));

    let publisher = Publisher::over(&site, PublisherSettings::default(), None)?;
    let share = |number| attempts / RUNNERS + u64::from(number < attempts % RUNNERS);
    let runner = |number| Runner {
        number,
        key: format!("race:{number}"),
        store: store.clone(),
        cache: TieredCache::over(store.clone(), Settings { local_life: Duration::ZERO, ..Settings::default() }),
        publisher: publisher.clone(),
        bells: Arc::clone(&bells),
    };
    let runners = (0..RUNNERS).map(|number| tokio::spawn(runner(number).run(way, share(number))));
    let stale = try_join_all(runners).await?.into_iter().sum();
    ringing.abort();
    stale
}

fn sidecar(redis: &Redis, way: Way) -> Sidecar {
    let second = if way == Way::SecondDelete { SECOND } else { Duration::ZERO };
    let cache = format!("[cache.race]\nprefixes = ['race:']\nsecond_delete = '{}ms'\n", second.as_millis());
    let route = "[[route]]\nevent = 'Changed'\ncache = 'race'\npriority = 'critical'\nkeys = ['race:{number}']";
    Setup::on(redis).config(&cache).config(route).start(redis)
}

/// A permit for each time that a runner's key was deleted.
type Bells = Arc<[Semaphore]>;

/// Tells the runners what the sidecar announces.
async fn ring(mut notices: Notices, bells: Bells) {
    loop {
        let news = notices.next().await;
        assert_ne!(news, News::Lost, "no history is lost");
        let News::Notice(notice) = news else { continue };
        for key in notice.drop.iter().flat_map(|dropped| &dropped.keys) {
            let number = key.strip_prefix("race:").and_then(|number| number.parse::<usize>().ok());
            bells[number.expect("keys are those of runners")].add_permits(1);
        }
    }
}

/// Who reads and writes one key.
struct Runner {
    number: u64,
    key: String,
    store: Store,
    cache: TieredCache,
    publisher: Publisher,
    bells: Bells,
}

impl Runner {
    async fn run(self, way: Way, attempts: u64) -> Result<u64, Trouble> {
        let mut stale = 0;
        for version in 0..attempts {
            match way {
                Way::Fences => self.fenced(version).await?,
                Way::Unprotected => self.plain(version).await?,
                Way::SecondDelete => self.deleted_twice(version).await?,
            }
            let held = self.store.get(self.key()).await?;
            stale += u64::from(held.is_some_and(|held| held == version.to_string()));
            self.clear().await?;
        }
        Ok(stale)
    }

    fn key(&self) -> Bytes {
        Bytes::copy_from_slice(self.key.as_bytes())
    }

    /// The source becomes another: returns when the key was deleted.
    async fn change(&self) -> Result<(), Trouble> {
        let event = Publish::named("Changed", &serde_json::json!({ "number": self.number }))?;
        self.publisher.send(event.urgent()).await?;
        self.deleted().await
    }

    async fn deleted(&self) -> Result<(), Trouble> {
        self.bells[usize::try_from(self.number)?].acquire().await?.forget();
        Ok(())
    }

    async fn misses(&self) -> Result<(), Trouble> {
        assert!(self.store.get(self.key()).await?.is_none(), "the reader misses, and reads version n");
        Ok(())
    }

    async fn plain(&self, version: u64) -> Result<(), Trouble> {
        self.misses().await?;
        self.change().await?;
        Ok(self.store.set(self.key(), version.to_string().into(), LIFE).await?)
    }

    async fn deleted_twice(&self, version: u64) -> Result<(), Trouble> {
        self.misses().await?;
        self.change().await?;
        let reader = async {
            tokio::time::sleep(SECOND.mul_f64(rand::random::<f64>() * 2.0)).await;
            Ok(self.store.set(self.key(), version.to_string().into(), LIFE).await?)
        };
        futures_util::try_join!(reader, self.deleted())?;
        Ok(())
    }

    async fn fenced(&self, version: u64) -> Result<(), Trouble> {
        let (read, has_read) = oneshot::channel();
        let (go, gate) = oneshot::channel::<()>();
        let load = move || async move {
            // Version n is read here. Nobody hears of it if the writer has failed.
            let _ = read.send(());
            // Opened or not: a writer that has failed ends the attempt by its own answer.
            let _ = gate.await;
            Ok::<_, io::Error>(Some(version))
        };
        let writer = async {
            has_read.await?;
            self.change().await?;
            let _ = go.send(());
            Ok::<_, Trouble>(())
        };
        let (answer, written) = futures_util::join!(self.cache.get_or_load::<u64>(&self.key, load), writer);
        assert_eq!(answer?.as_deref(), Some(&version));
        written
    }

    async fn clear(&self) -> Result<(), Fault> {
        let answers = self.store.unlink(vec![self.key()]).await;
        answers.into_iter().try_for_each(|answer| answer.outcome.map(drop))
    }
}
