//! Both tiers on a cluster, through the loss of a master.

use std::time::Duration;

use unstale_client::{Notice, Settings, TieredCache};
use unstale_testkit::{Cluster, slot_of, wait_until};

use crate::{PATIENCE, Source, settings, through};

const KEYS: [&str; 6] =
    ["atp:cache:user:1", "atp:cache:user:2", "atp:cache:user:list:all", "atp:cache:user:count:all", "atp:cache:role:1", "atp:cache:role:2"];

async fn whole(cache: &TieredCache) {
    wait_until("the cluster to be whole", PATIENCE, || async {
        let health = cache.health().await;
        if health.is_ok() { Ok(()) } else { Err(format!("{health:?}")) }
    })
    .await;
}

#[tokio::test]
async fn values_and_fences_survive_the_loss_of_a_master() {
    let mut cluster = Cluster::start(3, 1).await;
    let (one, other) = (
        TieredCache::connect(&cluster.url(), settings()).unwrap(),
        TieredCache::connect(&cluster.url(), Settings { local_life: Duration::ZERO, ..settings() }).unwrap(),
    );
    whole(&one).await;
    whole(&other).await;
    let source = Source::default();
    for key in KEYS {
        assert_eq!(through(&one, key, &source).await, 0);
        assert_eq!(through(&other, key, &source).await, 0);
    }
    assert_eq!(source.reads(), 6, "the other one found them in Redis");

    let lost = cluster.owner_of(KEYS[0]);
    cluster.node_mut(lost).kill();
    assert_eq!(through(&one, KEYS[0], &source).await, 0, "the process serves it meanwhile");
    assert_eq!(through(&other, KEYS[0], &source).await, 0, "and the source who hasn't got it");
    cluster.replaced(lost, slot_of(KEYS[0])).await;
    whole(&one).await;
    whole(&other).await;

    source.set(1);
    for key in KEYS {
        cluster.cmd(key, &["UNLINK", key]);
        one.hear(&Notice::from_json(format!(r#"{{"v":1,"drop":[{{"cache":"entity","keys":["{key}"]}}]}}"#).as_bytes()).unwrap());
        assert_eq!(through(&one, key, &source).await, 1, "{key}");
        assert_eq!(through(&other, key, &source).await, 1, "{key}");
        assert_eq!(cluster.cmd(key, &["GET", key]).text(), "1");
    }
}
