//! What an instance does when the sidecar that it hears is restarted, cut off, or silent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use unstale_client::{Feed, News, Notices, Posture, Settings, TieredCache};
use unstale_testkit::{Fault, FaultProxy, wait_until};
use unstale_tests::{PATIENCE, Setup, World};

use super::{doubted, read, trusted};

const ROUTES: &str = "[cache.c]
prefixes = ['c:']
[[route]]
event = 'Changed'
cache = 'c'
keys = ['c:{k}']";

/// Caches of a process alone, one for each posture, that hear this sidecar.
fn hearing<const N: usize>(address: &str, postures: [Posture; N]) -> ([TieredCache; N], Feed) {
    let local_life = Duration::from_secs(3600);
    let caches = postures.map(|posture| TieredCache::local(Settings { posture, local_life, ..Settings::default() }));
    let notices = Notices::of_sidecar(address).expect("an address");
    let feed = notices.feed(caches.each_ref().map(|cache| Arc::new(cache.clone()) as _));
    (caches, feed)
}

/// Waits until the cache answers what the source has.
async fn until(cache: &TieredCache, key: &str, value: u64) {
    wait_until("the key to be dropped", PATIENCE, || async {
        let answer = read(cache, key, value).await;
        if answer == value { Ok(()) } else { Err(format!("{key} is {answer}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_the_sidecar_what_was_missed_is_dropped_and_nothing_else() {
    let mut world = World::start(ROUTES);
    let address = world.sidecar.http();
    let ([cache], _feed) = hearing(&address, [Posture::Bypass]);
    trusted(&cache).await;
    for key in ["c:a", "c:b"] {
        assert_eq!(read(&cache, key, 1).await, 1);
    }
    world.sidecar.kill();
    doubted(&cache).await;
    assert_eq!(read(&cache, "c:b", 2).await, 2, "meanwhile the source is asked");
    world.publish("Changed", &[("k", "a")]);
    let bind = address.trim_start_matches("http://");
    world.sidecar = Setup::on(&world.redis).config(ROUTES).env("UNSTALE__HTTP__BIND", bind).start(&world.redis);
    trusted(&cache).await;
    until(&cache, "c:a", 2).await;
    assert_eq!(read(&cache, "c:b", 2).await, 1, "it was there all the time");
    assert_eq!(cache.stats().flushes, 1, "at the beginning");
}

/// The next that is no heartbeat.
async fn next(notices: &mut Notices) -> News {
    let news = async {
        loop {
            let news = notices.next().await;
            if news != News::Beat {
                return news;
            }
        }
    };
    timeout(PATIENCE, news).await.expect("there are news in time")
}

/// The bound is wide for loaded machines; what it took is printed.
#[tokio::test(flavor = "multi_thread")]
async fn a_break_is_noticed_within_a_second() {
    const BOUND: Duration = Duration::from_secs(5);
    let mut world = World::start(ROUTES);
    let address: SocketAddr = world.sidecar.http().trim_start_matches("http://").parse().expect("an address");
    let proxy = FaultProxy::start(address).await;
    let mut notices = Notices::of_sidecar(&format!("http://{}", proxy.address())).expect("an address");
    assert_eq!(next(&mut notices).await, News::Lost);

    let cut = Instant::now();
    proxy.cut();
    assert_eq!(next(&mut notices).await, News::Resumed, "a break that is over at once is nothing more");
    println!("a connection that was cut goes on after {:?}", cut.elapsed());
    assert!(cut.elapsed() < BOUND, "{:?}", cut.elapsed());

    proxy.set(Fault::Refuse);
    let cut = Instant::now();
    proxy.cut();
    assert_eq!(next(&mut notices).await, News::Broken);
    println!("one that doesn't come back is told after {:?}", cut.elapsed());
    assert!(cut.elapsed() < BOUND, "{:?}", cut.elapsed());

    world.publish("Changed", &[("k", "a")]);
    proxy.set(Fault::None);
    assert_eq!(next(&mut notices).await, News::Resumed);
    assert!(matches!(next(&mut notices).await, News::Notice(notice) if notice.drop[0].keys == ["c:a"]));
}

/// The sidecar is stopped, so that its connections stand and nothing comes.
#[tokio::test(flavor = "multi_thread")]
async fn after_fifteen_seconds_of_silence_each_posture_does_what_it_is_for() {
    let mut world = World::start(ROUTES);
    let (caches, _feed) = hearing(&world.sidecar.http(), [Posture::Bypass, Posture::Flush, Posture::Serve]);
    for cache in &caches {
        trusted(cache).await;
        assert_eq!(read(cache, "c:a", 0).await, 0);
    }
    world.sidecar.pause();
    let paused = Instant::now();
    for cache in &caches {
        doubted(cache).await;
    }
    println!("silence was noticed after {:?}", paused.elapsed());
    assert!(paused.elapsed() < Duration::from_secs(20), "fifteen, and what a loaded machine takes: {:?}", paused.elapsed());
    let mut answers = Vec::new();
    for value in [1, 2] {
        for cache in &caches {
            answers.push(read(cache, "c:a", value).await);
        }
    }
    assert_eq!(answers, [1, 1, 0, 2, 1, 0], "not used, dropped and filled again, served");

    world.publish("Changed", &[("k", "a")]);
    world.sidecar.resume();
    for cache in &caches {
        trusted(cache).await;
        until(cache, "c:a", 3).await;
    }
    let flushes = caches.each_ref().map(|cache| cache.stats().flushes);
    assert_eq!(flushes, [1, 2, 1], "at the beginning, and one by its posture");
}
