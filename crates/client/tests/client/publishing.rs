//! Publishing: what is confirmed is in the right stream, and what isn't is said.

use std::time::Duration;

use serde_json::json;
use unstale_client::catalogue::llm_gateway::{SpendUpdated, VirtualKeyDeleted};
use unstale_client::{Lane, Publish, PublishError, Publisher, PublisherSettings, Site, routes};
use unstale_testkit::{Redis, wait_until};

use crate::PATIENCE;

async fn publisher(redis: &Redis, settings: PublisherSettings) -> Publisher {
    let site = Site::open(&redis.url().parse().unwrap()).unwrap();
    let publisher = Publisher::over(&site, settings, Some(routes(None, &["llm-gateway"]).unwrap())).unwrap();
    wait_until("the publisher to be connected", PATIENCE, || async {
        let probe = Publish::named("Probe", &json!({})).unwrap();
        let both = publisher.send_all(vec![probe.clone(), probe.urgent()]).await;
        both.into_iter().collect::<Result<Vec<_>, _>>().map(drop).map_err(|error| error.to_string())
    })
    .await;
    redis.cmd(&["FLUSHALL"]);
    publisher
}

fn entries(redis: &Redis, stream: &str) -> String {
    format!("{:?}", redis.cmd(&["XRANGE", stream, "-", "+"]).array().iter().map(|entry| entry.array()[1].texts()).collect::<Vec<_>>())
}

#[tokio::test]
async fn events_go_to_the_stream_that_routes_or_callers_say() {
    let redis = Redis::start().await;
    let publisher = publisher(&redis, PublisherSettings::default()).await;
    let spend = SpendUpdated { key_hash: "a".to_owned(), ..SpendUpdated::default() };
    let revoked = VirtualKeyDeleted { key_id: 1, key_hash: "b".to_owned(), key_name: "n".to_owned() };
    publisher.publish(&spend).await.unwrap();
    publisher.publish(&revoked).await.unwrap();
    let own = Publish::named("Own", &json!({ "x": [1] })).unwrap();
    publisher.send(own.clone().urgent().correlation_id("c-1")).await.unwrap();
    publisher.send(Publish::of(&revoked).unwrap().on(Lane::Ordinary)).await.unwrap();
    publisher.invalidate(&["vkey:z"]).await.unwrap();
    let (ordinary, urgent) = (entries(&redis, "unstale:events"), entries(&redis, "unstale:events:critical"));
    for part in ["SpendUpdated", "VirtualKeyDeleted", "CacheInvalidationRequested", "vkey:z"] {
        assert!(ordinary.contains(part), "{part}: {ordinary}");
    }
    for part in ["VirtualKeyDeleted", r#"{\"x\":[1]}"#, "c-1"] {
        assert!(urgent.contains(part), "{part}: {urgent}");
    }
}

#[tokio::test]
async fn many_events_are_confirmed_in_their_order() {
    let redis = Redis::start().await;
    let publisher = publisher(&redis, PublisherSettings { in_flight: 16, patience: PATIENCE, ..PublisherSettings::default() }).await;
    let events = (0..1000).map(|number| Publish::named("Own", &json!({ "number": number })).unwrap()).collect();
    let ids: Vec<_> = publisher.send_all(events).await.into_iter().map(Result::unwrap).collect();
    assert!(ids.is_sorted() && ids.len() == 1000);
    assert_eq!(redis.cmd(&["XLEN", "unstale:events"]).int(), 1000);
}

#[tokio::test]
async fn an_event_without_replicas_is_not_safe_if_they_were_asked_for() {
    let redis = Redis::start().await;
    let patient = publisher(&redis, PublisherSettings::default()).await;
    drop(patient);
    let settings = PublisherSettings { replicas: Some((1, Duration::from_millis(50))), ..PublisherSettings::default() };
    let careful = Publisher::connect(&redis.url(), settings).unwrap();
    let event = Publish::named("Own", &json!({})).unwrap();
    let answer = careful.send(event).await;
    assert!(matches!(answer, Err(PublishError::Replicas { confirmed: 0, wanted: 1, .. })), "{answer:?}");
    assert_eq!(redis.cmd(&["XLEN", "unstale:events"]).int(), 1, "it is in the stream");
}

#[tokio::test]
async fn an_event_waits_for_redis_and_fails_when_its_time_has_passed() {
    let mut redis = Redis::start().await;
    let brief = publisher(&redis, PublisherSettings { patience: Duration::from_millis(200), ..PublisherSettings::default() }).await;
    let patient = publisher(&redis, PublisherSettings { patience: PATIENCE, ..PublisherSettings::default() }).await;
    redis.kill();
    let event = Publish::named("Own", &json!({})).unwrap();
    assert!(matches!(brief.send(event.clone()).await, Err(PublishError::Redis(_))));
    let waiting = tokio::spawn(async move { patient.send(event).await });
    redis.launch();
    redis.ready().await;
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn too_many_at_once_are_refused_and_mistakes_are_explained() {
    let redis = Redis::start().await;
    let none = PublisherSettings { in_flight: 0, patience: Duration::from_millis(10), ..PublisherSettings::default() };
    let full = Publisher::connect(&redis.url(), none).unwrap();
    let answer = full.send(Publish::named("Own", &json!({})).unwrap()).await;
    assert!(matches!(answer, Err(PublishError::Overloaded { in_flight: 0 })), "{answer:?}");
    assert!(Publish::named("Own", &7).unwrap_err().to_string().contains("no map"));
    assert!(routes(Some("[[route]]\nevent = 7"), &[]).unwrap_err().contains("event"));
}
