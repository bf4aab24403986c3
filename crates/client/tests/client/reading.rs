//! Reading through both tiers.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;
use unstale_client::{Bound, Encoding, Error, Raw, Settings, TieredCache};
use unstale_testkit::{Redis, Value, wait_until};

use crate::{PATIENCE, Source, cache, settings, through};

fn text(value: &Value) -> String {
    value.clone().text()
}

#[tokio::test]
async fn a_value_is_loaded_once_and_served_by_both_tiers() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    let source = Source::default();
    source.set(7);
    assert_eq!(through(&one, "k", &source).await, 7);
    assert_eq!(through(&one, "k", &source).await, 7);
    assert_eq!(through(&other, "k", &source).await, 7);
    assert_eq!(one.get::<u64>("k").await.unwrap().as_deref(), Some(&7));
    assert_eq!(source.reads(), 1);
    assert_eq!(text(&redis.cmd(&["GET", "k"])), "7", "as every other program would write it");
    let (one, other) = (one.stats(), other.stats());
    assert_eq!((one.local.hits, one.local.misses, one.shared.misses, one.shared.sets, one.loads), (2, 1, 1, 1, 1));
    assert_eq!((other.local.hits, other.local.misses, other.shared.hits, other.loads), (0, 1, 1, 0));
    assert!((one.local.hit_rate() - 2.0 / 3.0).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_misses_at_once_make_one_load() {
    let redis = Redis::start().await;
    for cache in [cache(&redis, settings()).await, TieredCache::local(settings())] {
        let (gate, source) = (Arc::new(Semaphore::new(0)), Source::default());
        let readers: Vec<_> = (0..10_000)
            .map(|_| {
                let (cache, gate, source) = (cache.clone(), Arc::clone(&gate), source.clone());
                tokio::spawn(async move {
                    let load = move || async move {
                        // Nobody is answered before all have asked.
                        let _open = gate.acquire().await;
                        Ok::<_, io::Error>(Some(source.read()))
                    };
                    cache.get_or_load::<u64>("k", load).await.unwrap()
                })
            })
            .collect();
        wait_until("all to have asked", PATIENCE, || async {
            let asked = cache.stats().local.misses;
            if asked == 10_000 { Ok(()) } else { Err(format!("{asked} asked")) }
        })
        .await;
        gate.add_permits(1);
        for reader in readers {
            assert_eq!(reader.await.unwrap().as_deref(), Some(&0));
        }
        assert_eq!((source.reads(), cache.stats().loads), (1, 1));
    }
}

#[tokio::test]
async fn what_does_not_exist_is_remembered_and_forgotten_by_a_delete() {
    let redis = Redis::start().await;
    let (one, other) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
    let nothing = || async { Ok::<Option<u64>, io::Error>(None) };
    assert_eq!(one.get_or_load("k", nothing).await.unwrap(), None);
    assert_eq!(other.get_or_load("k", nothing).await.unwrap(), None);
    assert_eq!((one.stats().loads, other.stats().loads), (1, 0));
    assert_eq!(other.get::<u64>("k").await.unwrap(), None);
    assert!(one.delete("k").await.unwrap());
    assert_eq!(through(&one, "k", &Source::default()).await, 0);

    let forgetful = cache(&redis, Settings { absent_life: Duration::ZERO, ..settings() }).await;
    for loads in 1..=2 {
        assert_eq!(forgetful.get_or_load("other", nothing).await.unwrap(), None);
        assert_eq!(forgetful.stats().loads, loads);
    }
    assert_eq!(redis.cmd(&["EXISTS", "other"]), Value::Int(0));
}

#[tokio::test]
async fn an_error_of_the_source_is_told_to_all_and_not_stored() {
    let cache = TieredCache::local(settings());
    let fail = || async { Err::<Option<u64>, _>(io::Error::other("no database")) };
    let failed = cache.get_or_load("k", fail).await.unwrap_err();
    assert_eq!(failed.to_string(), "the source failed: no database");
    let panics = || async { if true { panic!("on purpose") } else { Ok::<Option<u64>, io::Error>(None) } };
    assert!(matches!(cache.get_or_load("k", panics).await, Err(Error::Panicked)));
    assert_eq!(through(&cache, "k", &Source::default()).await, 0);
    assert_eq!((cache.stats().loads, cache.stats().load_errors), (3, 2));
}

#[tokio::test]
async fn who_gives_up_takes_nothing_from_others() {
    let cache = TieredCache::local(settings());
    let gate = Arc::new(Semaphore::new(0));
    let load = |gate: Arc<Semaphore>| {
        move || async move {
            let _open = gate.acquire().await;
            Ok::<_, io::Error>(Some(5_u64))
        }
    };
    let mut first = Box::pin(cache.get_or_load("k", load(Arc::clone(&gate))));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let mut second = Box::pin(cache.get_or_load("k", load(Arc::clone(&gate))));
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    drop(first);
    gate.add_permits(1);
    assert_eq!(second.await.unwrap().as_deref(), Some(&5));
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test]
async fn values_of_every_kind_come_back() {
    let redis = Redis::start().await;
    let structured: BTreeMap<String, Vec<u32>> = [("a".to_owned(), vec![1, 2])].into();
    for encoding in [Encoding::Json, Encoding::MessagePack] {
        let settings = || Settings { encoding, compress_above: Some(100), ..settings() };
        let (writer, reader) = (cache(&redis, settings()).await, cache(&redis, settings()).await);
        writer.set("map", structured.clone()).await.unwrap();
        writer.set("raw", Raw(Bytes::from_static(b"\0F looks like a fence"))).await.unwrap();
        writer.set("large", "x".repeat(10_000)).await.unwrap();
        writer.set("zero", 0_u8).await.unwrap();
        assert_eq!(reader.get("map").await.unwrap().as_deref(), Some(&structured));
        assert_eq!(reader.get::<Raw>("raw").await.unwrap().unwrap().0, "\0F looks like a fence");
        assert_eq!(reader.get::<String>("large").await.unwrap().unwrap().len(), 10_000);
        assert_eq!(reader.get::<u8>("zero").await.unwrap().as_deref(), Some(&0));
        let Value::Int(length) = redis.cmd(&["STRLEN", "large"]) else { panic!("STRLEN answers a number") };
        assert!(length < 200, "{length} bytes");
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_fetched_and_replaced() {
    let redis = Redis::start().await;
    let cache = cache(&redis, settings()).await;
    let source = Source::default();
    source.set(3);
    for rubbish in ["not a number", "\0?", "\0F", "\0Z\u{7f}\u{7f}\u{7f}\u{7f}"] {
        redis.cmd(&["SET", "k", rubbish]);
        assert_eq!(cache.get::<u64>("k").await.unwrap(), None, "{rubbish:?}");
        assert_eq!(through(&cache, "k", &source).await, 3, "{rubbish:?}");
        assert_eq!(text(&redis.cmd(&["GET", "k"])), "3", "{rubbish:?}");
        cache.flush();
    }
    let other_type: Option<Arc<String>> = cache.get("k").await.unwrap();
    assert_eq!(other_type, None);
}

#[tokio::test]
async fn a_key_of_another_type_of_redis_is_fetched_past() {
    let redis = Redis::start().await;
    let cache = cache(&redis, settings()).await;
    redis.cmd(&["LPUSH", "k", "x"]);
    assert!(matches!(cache.get::<u64>("k").await, Err(Error::Shared(_))));
    assert_eq!(through(&cache, "k", &Source::default()).await, 0);
    assert!(cache.stats().shared_errors >= 1);
}

#[tokio::test(start_paused = true)]
async fn lifetimes_end_and_are_spread() {
    let cache = TieredCache::local(Settings { jitter: 0.5, ..Settings::default() });
    let source = Source::default();
    for key in 0..200 {
        through(&cache, &key.to_string(), &source).await;
    }
    tokio::time::advance(Duration::from_secs(29)).await;
    for key in 0..200 {
        through(&cache, &key.to_string(), &source).await;
    }
    assert_eq!(source.reads(), 200, "none lives less than half its time");
    tokio::time::advance(Duration::from_secs(16)).await;
    let mut living = 0;
    for key in 0..200 {
        living += u64::from(cache.get::<u64>(&key.to_string()).await.unwrap().is_some());
    }
    assert!((40..160).contains(&living), "about half have expired at three quarters of their time: {living} live");
    tokio::time::advance(Duration::from_secs(15)).await;
    assert_eq!(cache.get::<u64>("0").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_value_near_its_end_is_served_and_fetched_anew() {
    let cache = TieredCache::local(Settings { refresh_ahead: 0.2, ..settings() });
    let source = Source::default();
    assert_eq!(through(&cache, "k", &source).await, 0);
    source.set(1);
    tokio::time::advance(Duration::from_secs(47)).await;
    assert_eq!(through(&cache, "k", &source).await, 0);
    assert_eq!(cache.stats().refreshes, 0, "not in the first four fifths");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(through(&cache, "k", &source).await, 0, "nobody waits");
    assert_eq!(through(&cache, "k", &source).await, 0);
    while cache.stats().local.sets < 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(through(&cache, "k", &source).await, 1);
    assert_eq!((cache.stats().refreshes, source.reads()), (1, 2));
}

#[tokio::test]
async fn of_many_processes_one_fetches_anew() {
    let redis = Redis::start().await;
    // In its last part from the beginning.
    let settings = Settings { refresh_ahead: 1.0, ..settings() };
    let caches = [cache(&redis, settings.clone()).await, cache(&redis, settings.clone()).await, cache(&redis, settings).await];
    redis.cmd(&["SET", "k", "0", "PX", "3000000"]);
    let (source, gate) = (Source::default(), Arc::new(Semaphore::new(0)));
    source.set(1);
    let slow = |gate: Arc<Semaphore>| {
        let source = source.clone();
        move || async move {
            let _open = gate.acquire().await;
            Ok::<_, io::Error>(Some(source.read()))
        }
    };
    assert_eq!(caches[0].get_or_load::<u64>("k", slow(Arc::clone(&gate))).await.unwrap().as_deref(), Some(&0));
    wait_until("a fence around the value", PATIENCE, || async {
        let length = redis.cmd(&["STRLEN", "k"]);
        if length == Value::Int(19) { Ok(()) } else { Err(format!("{length:?}")) }
    })
    .await;
    for other in &caches[1..] {
        assert_eq!(
            other.get_or_load::<u64>("k", slow(Arc::clone(&gate))).await.unwrap().as_deref(),
            Some(&0),
            "the value is there meanwhile"
        );
    }
    gate.add_permits(3);
    wait_until("the new value", PATIENCE, || async {
        let value = text(&redis.cmd(&["GET", "k"]));
        if value == "1" { Ok(()) } else { Err(value) }
    })
    .await;
    assert_eq!(source.reads(), 1);
}

#[tokio::test]
async fn a_bound_in_bytes_counts_what_is_stored() {
    let redis = Redis::start().await;
    let cache = cache(&redis, Settings { local_bound: Bound::Bytes(50_000), ..settings() }).await;
    for key in 0..100 {
        cache.set(&format!("k{key}"), "x".repeat(4000)).await.unwrap();
    }
    let local = cache.health().await.local;
    assert!(local.size.bytes.is_some_and(|bytes| bytes <= 50_000) && local.size.entries <= 12, "{local:?}");
}
