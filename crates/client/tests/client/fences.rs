//! No tier takes a value that was read before an invalidation, however the two fall together.

use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;
use unstale_client::{Notice, TieredCache};
use unstale_testkit::{Redis, Value, wait_until};

use crate::{PATIENCE, Source, cache, settings, through};

/// A reader who has read the source and waits to be let go.
struct SlowReader {
    answer: tokio::task::JoinHandle<u64>,
    go: Arc<Semaphore>,
}

impl SlowReader {
    /// Reads through the cache; when this returns, it has read the source.
    async fn begin(cache: &TieredCache, key: &'static str, source: &Source) -> Self {
        let (go, has_read) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let (cache, source, gate, read) = (cache.clone(), source.clone(), Arc::clone(&go), Arc::clone(&has_read));
        let load = move || async move {
            let value = source.read();
            read.add_permits(1);
            let _gone = gate.acquire().await;
            Ok::<_, io::Error>(Some(value))
        };
        let answer = tokio::spawn(async move { *cache.get_or_load::<u64>(key, load).await.unwrap().unwrap() });
        has_read.acquire().await.unwrap().forget();
        Self { answer, go }
    }

    /// Stores and answers what it read.
    async fn end(self) -> u64 {
        self.go.add_permits(1);
        self.answer.await.unwrap()
    }
}

fn notice(json: &str) -> Notice {
    Notice::from_json(json.as_bytes()).unwrap()
}

/// How the tier in the process hears of a change.
fn ways_to_hear() -> [(&'static str, Notice); 5] {
    [
        ("its key", notice(r#"{"v":1,"drop":[{"cache":"c","keys":["k"]}]}"#)),
        ("a pattern", notice(r#"{"v":1,"drop":[{"cache":"c","patterns":["k*"]}]}"#)),
        ("its cache", notice(r#"{"v":1,"flush":["c"]}"#)),
        ("all caches", notice(r#"{"v":1,"flush":["*"]}"#)),
        ("a version from the future", notice(r#"{"v":2}"#)),
    ]
}

#[tokio::test]
async fn a_value_read_before_a_delete_is_stored_nowhere() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    for (how, notice) in ways_to_hear() {
        let source = Source::default();
        let slow = SlowReader::begin(&one, "k", &source).await;
        source.set(1);
        redis.cmd(&["UNLINK", "k"]);
        one.hear(&notice);
        assert_eq!(slow.end().await, 0, "it answers what it read");
        assert_eq!(redis.cmd(&["EXISTS", "k"]), Value::Int(0), "{how}");
        assert_eq!(one.get::<u64>("k").await.unwrap(), None, "{how}");
        assert_eq!(through(&other, "k", &source).await, 1);
        redis.cmd(&["UNLINK", "k"]);
        one.flush();
        other.flush();
    }
    assert_eq!(one.stats().refused, 5);
}

#[tokio::test]
async fn it_is_not_stored_here_either_while_its_notice_is_on_the_way() {
    let redis = Redis::start().await;
    let one = cache(&redis, settings()).await;
    let source = Source::default();
    let slow = SlowReader::begin(&one, "k", &source).await;
    source.set(1);
    redis.cmd(&["UNLINK", "k"]);
    slow.end().await;
    assert_eq!(through(&one, "k", &source).await, 1);
}

#[tokio::test]
async fn a_delete_and_a_new_fetch_in_between_change_nothing() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    let source = Source::default();
    let slow = SlowReader::begin(&one, "k", &source).await;
    source.set(1);
    redis.cmd(&["UNLINK", "k"]);
    let newer = SlowReader::begin(&other, "k", &source).await;
    assert_eq!(slow.end().await, 0);
    assert_eq!(newer.end().await, 1);
    assert_eq!(redis.cmd(&["GET", "k"]).text(), "1");
}

#[tokio::test]
async fn readers_of_several_processes_share_a_fence() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    let source = Source::default();
    let slow = SlowReader::begin(&one, "k", &source).await;
    let fence = redis.cmd(&["GET", "k"]);
    let fast = SlowReader::begin(&other, "k", &source).await;
    assert_eq!(redis.cmd(&["GET", "k"]), fence);
    fast.end().await;
    assert_eq!(redis.cmd(&["GET", "k"]).text(), "0");
    slow.end().await;
    assert_eq!((one.stats().refused, other.stats().shared.sets), (1, 1), "the first to store is the only one");
}

#[tokio::test]
async fn a_fence_that_expired_lets_nothing_in() {
    let redis = Redis::start().await;
    let one = cache(&redis, settings()).await;
    let source = Source::default();
    let slow = SlowReader::begin(&one, "k", &source).await;
    redis.cmd(&["PEXPIRE", "k", "1"]);
    wait_until("the fence to expire", PATIENCE, || async {
        let exists = redis.cmd(&["EXISTS", "k"]);
        if exists == Value::Int(0) { Ok(()) } else { Err(format!("{exists:?}")) }
    })
    .await;
    assert_eq!(slow.end().await, 0);
    assert_eq!(redis.cmd(&["EXISTS", "k"]), Value::Int(0));
}

#[tokio::test]
async fn whoever_asks_after_a_drop_does_not_share_the_fetch_of_before() {
    let cache = TieredCache::local(settings());
    let source = Source::default();
    let slow = SlowReader::begin(&cache, "k", &source).await;
    source.set(1);
    cache.drop_key("k");
    assert_eq!(through(&cache, "k", &source).await, 1);
    assert_eq!(slow.end().await, 0);
    assert_eq!(through(&cache, "k", &source).await, 1);
}

#[tokio::test]
async fn a_refresh_that_began_before_a_delete_is_stored_nowhere() {
    let redis = Redis::start().await;
    let one = cache(&redis, unstale_client::Settings { refresh_ahead: 1.0, ..settings() }).await;
    redis.cmd(&["SET", "k", "0", "PX", "1000000"]);
    let source = Source::default();
    let (go, has_read) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (gate, read, from) = (Arc::clone(&go), Arc::clone(&has_read), source.clone());
    let load = move || async move {
        let value = from.read();
        read.add_permits(1);
        let _gone = gate.acquire().await;
        Ok::<_, io::Error>(Some(value))
    };
    one.get_or_load::<u64>("k", load).await.unwrap();
    has_read.acquire().await.unwrap().forget();
    source.set(1);
    redis.cmd(&["UNLINK", "k"]);
    // The value that was deleted comes again: its bytes are those of before, but the fence isn't.
    redis.cmd(&["SET", "k", "0"]);
    go.add_permits(1);
    wait_until("the refresh to be refused", PATIENCE, || async {
        let refused = one.stats().refused;
        if refused == 1 { Ok(()) } else { Err(format!("{refused}")) }
    })
    .await;
    assert_eq!(redis.cmd(&["GET", "k"]).text(), "0");
}

#[tokio::test]
async fn flushes_of_other_caches_are_not_ours() {
    let cache = TieredCache::local(unstale_client::Settings { caches: vec!["own".to_owned()], ..settings() });
    let source = Source::default();
    through(&cache, "k", &source).await;
    cache.hear(&notice(r#"{"v":1,"flush":["other"]}"#));
    assert_eq!(cache.get::<u64>("k").await.unwrap().as_deref(), Some(&0));
    cache.hear(&notice(r#"{"v":1,"flush":["other","own"]}"#));
    assert_eq!(cache.get::<u64>("k").await.unwrap(), None);
}
