//! What a recorder of the `metrics` facade is told.

use metrics_exporter_prometheus::PrometheusBuilder;
use unstale_client::TieredCache;
use unstale_testkit::Redis;

use crate::{Source, cache, settings, through};

#[tokio::test]
async fn both_tiers_are_on_the_page() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    let _recorder = metrics::set_default_local_recorder(&recorder);
    let redis = Redis::start().await;
    let cache: TieredCache = cache(&redis, settings()).await;
    let source = Source::default();
    for _ in 0..2 {
        through(&cache, "k", &source).await;
    }
    cache.delete("k").await.unwrap();
    through(&cache, "k", &source).await;
    cache.flush();
    assert!(cache.health().await.is_ok());
    let page = page.render();
    let series = [
        "unstale_client_hits_total{tier=\"local\"} 1",
        "unstale_client_misses_total{tier=\"local\"} 2",
        "unstale_client_misses_total{tier=\"shared\"} 2",
        "unstale_client_sets_total{tier=\"local\"} 2",
        "unstale_client_sets_total{tier=\"shared\"} 2",
        "unstale_client_invalidations_total{tier=\"shared\"} 1",
        "unstale_client_loads_total 2",
        "unstale_client_flushes_total 1",
        "unstale_client_up{tier=\"local\"} 1",
        "unstale_client_up{tier=\"shared\"} 1",
        "unstale_client_entries{tier=\"local\"} 0",
        "unstale_client_entries{tier=\"shared\"} 1",
        "# HELP unstale_client_up Whether a tier can be used",
    ];
    let missing: Vec<_> = series.iter().filter(|series| !page.contains(**series)).collect();
    assert!(missing.is_empty(), "{missing:?} in\n{page}");
    assert!(page.contains("unstale_client_bytes{tier=\"shared\"}"), "{page}");
}
