//! What a cache does while Redis is away, or nobody vouches for the tier in the process.

use std::time::Duration;

use unstale_client::{Error, Posture, Settings, TieredCache};
use unstale_testkit::{Redis, wait_until};

use crate::{PATIENCE, Source, cache, settings, through};

#[tokio::test]
async fn without_redis_the_source_is_asked() {
    let mut redis = Redis::start().await;
    let cache = cache(&redis, settings()).await;
    let source = Source::default();
    through(&cache, "k", &source).await;
    redis.kill();
    wait_until("the outage to be noticed", PATIENCE, || async {
        let health = cache.health().await;
        if health.is_ok() { Err(format!("{health:?}")) } else { Ok(()) }
    })
    .await;
    assert_eq!(through(&cache, "k", &source).await, 0, "from the process");
    assert_eq!(through(&cache, "new", &source).await, 0, "from the source");
    assert_eq!(through(&cache, "new", &source).await, 0);
    assert_eq!(source.reads(), 2);
    assert!(matches!(cache.get::<u64>("unknown").await, Err(Error::Shared(_))));
    assert!(matches!(cache.set("k", 5_u64).await, Err(Error::Shared(_))));
    assert_eq!(*cache.write_through("w", async { Ok::<_, std::io::Error>(9_u64) }).await.unwrap(), 9, "the write itself goes on");
    assert!(matches!(cache.delete("new").await, Err(Error::Shared(_))));
    assert_eq!(through(&cache, "new", &source).await, 0);
    assert_eq!(source.reads(), 3, "dropped here all the same");

    redis.launch();
    redis.ready().await;
    wait_until("Redis to be used again", PATIENCE, || async {
        cache.set("again", 1_u64).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
}

async fn heard(posture: Posture) -> (TieredCache, Source) {
    let cache = TieredCache::local(Settings { posture, local_life: Duration::from_secs(3600), ..settings() });
    cache.expect_notices();
    cache.vouch();
    let source = Source::default();
    through(&cache, "k", &source).await;
    source.set(1);
    (cache, source)
}

async fn silence(seconds: u64) {
    tokio::time::advance(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn in_silence_a_bypassed_tier_is_neither_read_nor_filled() {
    let (cache, source) = heard(Posture::Bypass).await;
    silence(14).await;
    assert_eq!(through(&cache, "k", &source).await, 0, "a little less than fifteen seconds are believed");
    silence(1).await;
    assert_eq!(through(&cache, "k", &source).await, 1);
    assert_eq!(through(&cache, "k", &source).await, 1);
    assert_eq!(source.reads(), 3);
    assert!(cache.health().await.local.silent_for.is_some());
    cache.drop_key("k");
    cache.vouch();
    assert_eq!(through(&cache, "k", &source).await, 1, "what was missed was applied first");
    assert_eq!(through(&cache, "k", &source).await, 1);
    assert_eq!(source.reads(), 4);
}

#[tokio::test(start_paused = true)]
async fn in_silence_a_flushed_tier_is_dropped_once_a_stretch() {
    let (cache, source) = heard(Posture::Flush).await;
    silence(16).await;
    assert_eq!(through(&cache, "k", &source).await, 1);
    source.set(2);
    silence(14).await;
    assert_eq!(through(&cache, "k", &source).await, 1);
    silence(2).await;
    assert_eq!(through(&cache, "k", &source).await, 2);
    assert_eq!(cache.stats().flushes, 2);
}

#[tokio::test(start_paused = true)]
async fn in_silence_a_served_tier_is_served() {
    let (cache, source) = heard(Posture::Serve).await;
    silence(1000).await;
    assert_eq!(through(&cache, "k", &source).await, 0);
    assert!(!cache.health().await.is_ok(), "but health says so");
}
