//! Hearing the log itself: what a cache drops, and when it is trusted.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use unstale_client::{Feed, News, Notices, Settings, Site, TieredCache};
use unstale_testkit::{Fault, FaultProxy, Redis, wait_until};

use crate::{PATIENCE, Source, settings, through};

/// Writes a notice to the log as a sidecar does.
fn log(redis: &Redis, seq: u64, notice: &str) {
    redis.cmd(&["XADD", "unstale:notices", "*", "seq", &seq.to_string(), "notice", &format!(r#"{{"v":1,"seq":{seq},{notice}}}"#)]);
}

fn drop_key(redis: &Redis, seq: u64, key: &str) {
    log(redis, seq, &format!(r#""drop":[{{"cache":"c","keys":["{key}"]}}]"#));
}

/// A cache of a process alone, that hears the log.
async fn hearing(url: &str) -> (TieredCache, Feed) {
    let cache = TieredCache::local(Settings { silence: Duration::from_secs(3600), ..settings() });
    let site = Site::open(&url.parse().unwrap()).unwrap();
    let feed = Notices::of_log(&site, "unstale").unwrap().feed([Arc::new(cache.clone()) as _]);
    trusted(&cache).await;
    (cache, feed)
}

async fn trusted(cache: &TieredCache) {
    wait_until("somebody to vouch", PATIENCE, || async {
        let health = cache.health().await;
        if health.is_ok() { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
}

async fn gone(cache: &TieredCache, key: &str) {
    wait_until("the key to be dropped", PATIENCE, || async {
        match cache.get::<u64>(key).await.unwrap() {
            None => Ok(()),
            Some(value) => Err(format!("{key} is {value}")),
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_logged_is_dropped_and_the_rest_stays() {
    let redis = Redis::start().await;
    drop_key(&redis, 1, "of before");
    let (cache, _feed) = hearing(&redis.url()).await;
    for key in ["a", "b", "p:1", "z"] {
        through(&cache, key, &Source::default()).await;
    }
    drop_key(&redis, 2, "a");
    gone(&cache, "a").await;
    log(&redis, 3, r#""drop":[{"cache":"c","patterns":["p:*"]}]"#);
    gone(&cache, "p:1").await;
    assert!(cache.get::<u64>("z").await.unwrap().is_some());
    log(&redis, 4, r#""flush":["*"]"#);
    gone(&cache, "z").await;
}

#[tokio::test]
async fn after_a_break_what_was_missed_is_dropped_and_nothing_else() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    let (cache, _feed) = hearing(&proxy.url()).await;
    drop_key(&redis, 1, "none");
    for key in ["a", "b"] {
        through(&cache, key, &Source::default()).await;
    }
    wait_until("the first notice to be heard", PATIENCE, || async {
        let heard = cache.stats().local.invalidations;
        if heard == 1 { Ok(()) } else { Err(format!("{heard} heard")) }
    })
    .await;
    proxy.set(Fault::Refuse);
    proxy.cut();
    for seq in 2..1002 {
        drop_key(&redis, seq, if seq == 500 { "a" } else { "none" });
    }
    proxy.set(Fault::None);
    gone(&cache, "a").await;
    wait_until("all to be heard", PATIENCE, || async {
        let heard = cache.stats().local.invalidations;
        if heard == 1001 { Ok(()) } else { Err(format!("{heard} heard")) }
    })
    .await;
    assert!(cache.get::<u64>("b").await.unwrap().is_some());
    assert_eq!(cache.stats().flushes, 1, "at the beginning");
}

#[tokio::test]
async fn lost_history_drops_everything() {
    let redis = Redis::start().await;
    drop_key(&redis, 1, "none");
    let (cache, _feed) = hearing(&redis.url()).await;
    through(&cache, "a", &Source::default()).await;
    redis.cmd(&["DEL", "unstale:notices"]);
    drop_key(&redis, 1, "none");
    gone(&cache, "a").await;
}

#[tokio::test]
async fn news_of_the_log_begin_with_nothing_to_trust() {
    let redis = Redis::start().await;
    let site = Site::open(&redis.url().parse().unwrap()).unwrap();
    let mut notices = Notices::of_log(&site, "unstale").unwrap();
    assert_eq!(notices.next().await, News::Lost);
    assert_eq!(notices.next().await, News::Beat);
    drop_key(&redis, 1, "a");
    assert!(matches!(notices.next().await, News::Notice(notice) if notice.drop[0].keys == ["a"]));
}

#[tokio::test]
async fn a_break_that_lasts_is_told() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    let site = Site::open(&proxy.url().parse().unwrap()).unwrap();
    let mut notices = Notices::of_log(&site, "unstale").unwrap();
    assert_eq!((notices.next().await, notices.next().await), (News::Lost, News::Beat));
    for is_told in [false, true] {
        if is_told {
            proxy.set(Fault::Refuse);
        }
        proxy.cut();
        if is_told {
            assert_eq!(timeout(PATIENCE, notices.next()).await, Ok(News::Broken));
            proxy.set(Fault::None);
        }
        assert_eq!(timeout(PATIENCE, notices.next()).await, Ok(News::Resumed), "told: {is_told}");
    }
}
