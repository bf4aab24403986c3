//! Writing through both tiers, alone and against others.

use std::io;

use tokio::sync::oneshot;
use unstale_client::{Error, TieredCache};
use unstale_testkit::{Redis, Value};

use crate::{Source, cache, settings, through};

/// Writes a value to the source through the cache; the future ends when it is told to.
fn slow_write(
    cache: &TieredCache,
    source: &Source,
    value: u64,
) -> (tokio::task::JoinHandle<u64>, oneshot::Receiver<()>, oneshot::Sender<()>) {
    let (written, has_written) = oneshot::channel();
    let (go, gate) = oneshot::channel::<()>();
    let (cache, source) = (cache.clone(), source.clone());
    let write = async move {
        source.set(value);
        written.send(()).unwrap();
        gate.await.unwrap();
        Ok::<_, io::Error>(value)
    };
    let task = tokio::spawn(async move { *cache.write_through("k", write).await.unwrap() });
    (task, has_written, go)
}

#[tokio::test]
async fn a_written_value_is_in_both_tiers() {
    let redis = Redis::start().await;
    let cache = cache(&redis, settings()).await;
    assert_eq!(*cache.write_through("k", async { Ok::<_, io::Error>(5_u64) }).await.unwrap(), 5);
    assert_eq!(redis.cmd(&["GET", "k"]).text(), "5");
    assert_eq!(cache.get::<u64>("k").await.unwrap().as_deref(), Some(&5));
    assert_eq!(cache.stats().local.hits, 1);
}

#[tokio::test]
async fn readers_during_a_write_store_nothing() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    let source = Source::default();
    through(&other, "k", &source).await;
    let (task, has_written, go) = slow_write(&one, &source, 1);
    has_written.await.unwrap();
    other.flush();
    for cache in [&one, &other] {
        assert_eq!(through(cache, "k", &source).await, 1);
        assert_eq!(cache.stats().local.sets, cache.stats().shared.sets, "not while it is being written");
    }
    go.send(()).unwrap();
    assert_eq!(task.await.unwrap(), 1);
    assert_eq!(redis.cmd(&["GET", "k"]).text(), "1");
}

#[tokio::test]
async fn of_two_writers_none_stores_what_the_other_has_replaced() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    for first_ends_first in [true, false] {
        let source = Source::default();
        let (first, has_written, go) = slow_write(&one, &source, 1);
        has_written.await.unwrap();
        let (second, has_written, go_second) = slow_write(&other, &source, 2);
        has_written.await.unwrap();
        let mut ends = [(first, go), (second, go_second)];
        if !first_ends_first {
            ends.reverse();
        }
        for (task, go) in ends {
            go.send(()).unwrap();
            task.await.unwrap();
        }
        assert_eq!(redis.cmd(&["EXISTS", "k"]), Value::Int(0), "nobody knows whose came last");
        for cache in [&one, &other] {
            assert_eq!(through(cache, "k", &source).await, 2);
            cache.flush();
        }
        redis.cmd(&["UNLINK", "k"]);
    }
}

#[tokio::test]
async fn a_write_that_fails_leaves_nothing() {
    let redis = Redis::start().await;
    let cache = cache(&redis, settings()).await;
    through(&cache, "k", &Source::default()).await;
    let failed = cache.write_through("k", async { Err::<u64, _>(io::Error::other("no database")) }).await;
    assert!(matches!(failed, Err(Error::Source(_))));
    assert_eq!(redis.cmd(&["EXISTS", "k"]), Value::Int(0));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_delete_during_a_write_wins() {
    let redis = Redis::start().await;
    let cache = cache(&redis, settings()).await;
    let source = Source::default();
    let (task, has_written, go) = slow_write(&cache, &source, 1);
    has_written.await.unwrap();
    redis.cmd(&["UNLINK", "k"]);
    go.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(redis.cmd(&["EXISTS", "k"]), Value::Int(0));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
}

#[tokio::test]
async fn a_cache_without_redis_writes_as_well() {
    let cache = TieredCache::local(settings());
    let source = Source::default();
    let (task, has_written, go) = slow_write(&cache, &source, 1);
    has_written.await.unwrap();
    go.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(cache.get::<u64>("k").await.unwrap().as_deref(), Some(&1));

    let (task, has_written, go) = slow_write(&cache, &source, 2);
    has_written.await.unwrap();
    cache.drop_key("k");
    go.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None, "dropped while it was written");
}
