//! Writing behind: coalesced, bounded, flushed at the end, and right against readers and deletes.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;
use unstale_client::{Batch, BehindSettings, PutError, TieredCache, WriteBehind};
use unstale_testkit::{Redis, Value, wait_until};

use crate::{PATIENCE, Source, cache, settings, through};

/// What was written together.
type Written = Vec<(String, u64)>;

/// A database that writes only when it is let, and remembers the batches.
#[derive(Debug, Clone, Default)]
struct Database {
    batches: Arc<Mutex<Vec<Written>>>,
    failed: Arc<Mutex<Vec<String>>>,
    gate: Arc<Gate>,
}

#[derive(Debug)]
struct Gate(Semaphore);

impl Default for Gate {
    fn default() -> Self {
        Self(Semaphore::new(0))
    }
}

impl Database {
    fn open(&self) {
        self.gate.0.add_permits(1000);
    }

    fn behind(&self, cache: &TieredCache, settings: BehindSettings) -> WriteBehind<u64> {
        let (own, other) = (self.clone(), self.clone());
        let write = move |batch: Batch<u64>| {
            let own = own.clone();
            async move {
                own.gate.0.acquire().await.unwrap().forget();
                own.batches.lock().unwrap().push(batch.iter().map(|(key, value)| (key.to_string(), **value)).collect());
                Ok::<_, io::Error>(())
            }
        };
        let failed = move |batch: Batch<u64>, error| other.failed.lock().unwrap().push(format!("{}: {error}", batch.len()));
        WriteBehind::new(cache, settings, write, failed)
    }

    fn batches(&self) -> Vec<Written> {
        self.batches.lock().unwrap().clone()
    }
}

fn pairs(pairs: &[(&str, u64)]) -> Written {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect()
}

#[tokio::test]
async fn values_are_served_at_once_and_written_together_the_last_of_each_key() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    let database = Database::default();
    let behind = database.behind(&one, BehindSettings::default());
    for (key, value) in [("a", 1), ("b", 2), ("a", 3)] {
        behind.put(key, value).await.unwrap();
    }
    for cache in [&one, &other] {
        assert_eq!(cache.get::<u64>("a").await.unwrap().as_deref(), Some(&3));
    }
    database.open();
    behind.close(PATIENCE).await.unwrap();
    assert_eq!(database.batches(), [pairs(&[("a", 3), ("b", 2)])]);
    assert_eq!(redis.cmd(&["GET", "a"]).text(), "3", "the fence is down");
}

#[tokio::test]
async fn a_full_queue_waits_and_a_closed_one_takes_nothing() {
    let cache = TieredCache::local(settings());
    let database = Database::default();
    let bounded = BehindSettings { capacity: 2, batch: 1, ..BehindSettings::default() };
    let behind = Arc::new(database.behind(&cache, bounded));
    behind.put("writing", 0).await.unwrap();
    wait_until("the first to be taken", PATIENCE, || async {
        let state = format!("{behind:?}");
        if state.contains("waiting: 0") { Ok(()) } else { Err(state) }
    })
    .await;
    behind.put("a", 1).await.unwrap();
    behind.put("b", 2).await.unwrap();
    behind.put("a", 3).await.unwrap();
    let mut full = Box::pin(behind.put("c", 4));
    assert!(futures_util::poll!(full.as_mut()).is_pending());
    assert_eq!(behind.unwritten(), 3);
    database.open();
    full.await.unwrap();
    let mut behind = behind;
    let behind = loop {
        match Arc::try_unwrap(behind) {
            Ok(behind) => break behind,
            Err(shared) => behind = shared,
        }
    };
    behind.close(PATIENCE).await.unwrap();
    assert_eq!(database.batches().concat(), pairs(&[("writing", 0), ("a", 3), ("b", 2), ("c", 4)]));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_is_reported_and_dropped() {
    let cache = TieredCache::local(settings());
    let failures = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&failures);
    let write = |_: Batch<u64>| async { Err::<(), _>(io::Error::other("no database")) };
    let failed = move |batch: Batch<u64>, error: unstale_client::Error| told.lock().unwrap().push((batch.len(), error.to_string()));
    let behind = WriteBehind::new(&cache, BehindSettings::default(), write, failed);
    behind.put("a", 1).await.unwrap();
    assert!(cache.get::<u64>("a").await.unwrap().is_some());
    behind.close(Duration::from_secs(60)).await.unwrap();
    assert_eq!(*failures.lock().unwrap(), [(1, "the source failed: no database".to_owned())]);
    assert_eq!(cache.get::<u64>("a").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn closing_says_how_much_is_left() {
    let cache = TieredCache::local(settings());
    let database = Database::default();
    let behind = database.behind(&cache, BehindSettings { batch: 1, ..BehindSettings::default() });
    behind.put("a", 1).await.unwrap();
    behind.put("b", 2).await.unwrap();
    assert_eq!(behind.close(Duration::from_secs(1)).await, Err(2));
}

#[tokio::test]
async fn an_old_value_that_was_fetched_meanwhile_goes() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    let (database, source) = (Database::default(), Source::default());
    let behind = database.behind(&one, BehindSettings::default());
    behind.put("k", 1).await.unwrap();
    redis.cmd(&["UNLINK", "k"]);
    assert_eq!(through(&other, "k", &source).await, 0, "the source has the old value still");
    assert_eq!(redis.cmd(&["GET", "k"]).text(), "0");
    source.set(1);
    database.open();
    behind.close(PATIENCE).await.unwrap();
    assert_eq!(redis.cmd(&["EXISTS", "k"]), Value::Int(0));
    assert_eq!(through(&one, "k", &source).await, 1);
}

#[tokio::test]
async fn a_dropped_queue_is_written_and_takes_nothing() {
    let cache = TieredCache::local(settings());
    let database = Database::default();
    let behind = database.behind(&cache, BehindSettings { delay: Duration::from_secs(3600), ..BehindSettings::default() });
    behind.put("a", 1).await.unwrap();
    drop(behind);
    database.open();
    wait_until("it to be written", PATIENCE, || async {
        let batches = database.batches();
        if batches.len() == 1 { Ok(()) } else { Err(format!("{batches:?}")) }
    })
    .await;
    assert!(PutError::Closed.to_string().contains("closed"));
}
