//! Instances of applications in Rust, with the client's cache, beside real sidecars.

mod cluster;
mod hearing;
mod latency;
mod plans;
#[path = "../../../examples/race.rs"]
#[expect(dead_code, reason = "its own main isn't called here")]
mod race;
mod races;

use std::convert::Infallible;

use unstale_client::TieredCache;
use unstale_testkit::wait_until;
use unstale_tests::PATIENCE;

/// What a cache answers for a key if its source has this value.
async fn read(cache: &TieredCache, key: &str, value: u64) -> u64 {
    let source = move || std::future::ready(Ok::<_, Infallible>(Some(value)));
    *cache.get_or_load::<u64>(key, source).await.expect("a source that doesn't fail").expect("a value")
}

/// Waits until somebody vouches for the tier in the process.
async fn trusted(cache: &TieredCache) {
    wait_until("the cache to be trusted", PATIENCE, || async {
        let health = cache.health().await;
        if health.is_ok() { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
}

/// Waits until nobody does any more.
async fn doubted(cache: &TieredCache) {
    wait_until("the cache not to be trusted", PATIENCE, || async {
        let local = cache.health().await.local;
        if local.is_ok() { Err(format!("{local:?}")) } else { Ok(()) }
    })
    .await;
}
