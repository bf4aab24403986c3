//! What holds for every system: the batch settings of each profile, and the statistics.
//!
//! Windows, lanes, sizes and the figures for them are shown by the end-to-end tests of batching, which `docs/conformance.md` names, too.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use unstale_testkit::wait_until_sync;
use unstale_tests::{Notice, PATIENCE, World, ages};

use crate::kit::figure;

/// Batch settings, as these systems set them.
struct Profile {
    window_ms: i64,
    max_size: usize,
    coalescing: bool,
}

impl Profile {
    fn start(&self) -> World {
        let config = "presets = ['llm-gateway']\n[preset.llm-gateway.cache.virtual_key]\nsecond_delete = '0s'\n";
        World::with(|setup| {
            let setup = setup.config(config).set(&format!("batching.window={}ms", self.window_ms));
            setup.set(&format!("batching.max_size={}", self.max_size)).set(&format!("batching.coalescing={}", self.coalescing))
        })
    }

    /// Three times as many events as a batch may have, each key in three of them; then pairs, whose second event finds the window open.
    #[track_caller]
    fn holds(&self) {
        let mut world = self.start();
        let count = self.max_size * 3;
        let events: Vec<_> = (0..count).map(|n| created(n / 3)).collect();
        world.seed((0..self.max_size).map(|key| format!("vkey:h{key}")));
        world.add_all(&events);
        world.wait_done();
        assert_eq!(world.keys(), [].into());
        let notices = world.notices();
        let sizes: Vec<usize> = notices.iter().map(|notice| notice.keys().len()).collect();
        assert!(sizes.iter().all(|size| *size <= self.max_size), "{sizes:?}");
        let told: Vec<String> = notices.iter().flat_map(Notice::keys).collect();
        assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), self.max_size);
        let totals = totals(&world, |totals| totals["pending"] == 0);
        assert_eq!((totals["queued"].as_u64(), totals["failed"].as_u64()), (u64::try_from(count).ok(), Some(0)));
        assert_eq!(totals["coalesced"].as_u64(), u64::try_from(count - told.len()).ok());
        assert_eq!(told.len() < count, self.coalescing, "{} of {count} announced", told.len());

        let waited = waits(&mut world);
        let (median, most) = (waited[waited.len() / 2], waited[waited.len() - 1]);
        assert!((self.window_ms * 8 / 10..=self.window_ms + 300).contains(&median), "{waited:?}");
        let largest = sizes.iter().max().copied().unwrap_or_default();
        figure(format_args!(
            "window {} ms: done after {median} ms in the median, {most} ms at most; batches of at most {largest} of {}; {count} events, {} deletes",
            self.window_ms,
            self.max_size,
            told.len()
        ));
    }
}

/// How long the second events of pairs took. One of them may have gone with the first, when both were read at once.
fn waits(world: &mut World) -> Vec<i64> {
    let mut ids = Vec::new();
    for pair in 0..8 {
        let both = [world.add(&created(10_000 + pair)), world.add(&created(20_000 + pair))];
        world.wait_notice("of the pair", |notice| notice.events().contains(&both[1]));
        ids.push(both[1].clone());
    }
    ages(&world.notices(), &ids)
}

/// The fields of an event of the normal lane that makes one key stale.
fn created(key: usize) -> Vec<String> {
    ["type", "VirtualKeyCreated", "KeyId", &key.to_string(), "KeyHash", &format!("h{key}")].map(str::to_owned).to_vec()
}

fn totals(world: &World, wanted: impl Fn(&Json) -> bool) -> Json {
    wait_until_sync("the totals", PATIENCE, || {
        let totals = world.sidecar.stats()["totals"].take();
        if wanted(&totals) { Ok(totals) } else { Err(totals.to_string()) }
    })
}

#[test]
fn the_profile_for_development() {
    Profile { window_ms: 50, max_size: 50, coalescing: true }.holds();
}

#[test]
fn the_profile_for_throughput() {
    Profile { window_ms: 200, max_size: 500, coalescing: true }.holds();
}

#[test]
fn the_profile_for_low_latency() {
    Profile { window_ms: 20, max_size: 20, coalescing: true }.holds();
}

#[test]
fn the_profile_for_debugging() {
    Profile { window_ms: 50, max_size: 10, coalescing: false }.holds();
}

#[test]
fn the_statistics_tell_what_was_done_by_cache_and_by_lane() {
    let mut world = Profile { window_ms: 2000, max_size: 100, coalescing: true }.start();
    world.seed(["vkey:h1", "vkey:h2", "provider:3", "conduit-tasks:async:task:t-1"]);
    // The opener goes at once; of the others four name two keys in one window.
    world.add(&created(0));
    world.wait_done();
    let events = [1, 1, 2, 1].map(created).to_vec();
    let provider = ["type", "ProviderUpdated", "ProviderId", "3", "ChangedProperties", "[]"].map(str::to_owned).to_vec();
    let task = ["type", "AsyncTaskUpdated", "TaskId", "t-1"].map(str::to_owned).to_vec();
    world.add_all(&[events, vec![provider, task]].concat());
    world.wait_done();
    let stats = wait_until_sync("the statistics", PATIENCE, || {
        let stats = world.sidecar.stats();
        if stats["totals"]["pending"] == 0 && stats["depth"] == 0 { Ok(stats) } else { Err(stats.to_string()) }
    });
    let counts =
        |stats: &Json| ["queued", "processed", "coalesced", "failed", "keys_deleted"].map(|name| stats[name].as_u64().unwrap_or(u64::MAX));
    assert_eq!(counts(&stats["totals"]), [7, 5, 2, 0, 4], "{stats}");
    assert_eq!(counts(&stats["caches"]["virtual_key"]), [5, 3, 2, 0, 2], "{stats}");
    assert_eq!(counts(&stats["caches"]["provider"]), [1, 1, 0, 0, 1], "{stats}");
    assert_eq!(counts(&stats["caches"]["async_task"]), [1, 1, 0, 0, 1], "{stats}");
    assert_eq!(counts(&stats["caches"]["ip_filter"]), [0; 5], "{stats}");
    assert_eq!(counts(&stats["priorities"]["normal"]), [6, 4, 2, 0, 3], "{stats}");
    assert_eq!(counts(&stats["priorities"]["low"]), [1, 1, 0, 0, 1], "{stats}");
    assert_eq!(stats["caches"]["virtual_key"]["coalescing_rate"].as_f64(), Some(0.4), "{stats}");
    assert!(
        stats["last_processed"].as_i64().is_some_and(|at| at > 0)
            && stats["totals"]["average_batch_ms"].as_f64().is_some_and(|ms| ms > 0.0)
    );
    // What waits is counted as such.
    world.add(&["type", "AsyncTaskUpdated", "TaskId", "t-2"]);
    wait_until_sync("an event to be counted that waits for its window", PATIENCE, || {
        let stats = world.sidecar.stats();
        if stats["depth"] == 1 && stats["totals"]["pending"] == 1 { Ok(()) } else { Err(stats.to_string()) }
    });
    figure("7 targets queued = 5 processed + 2 coalesced (rate 0.4 of virtual keys), by cache and by lane; depth 1 while one waits");
}

/// The codes of what is wrong, once the sidecar says this of itself.
#[track_caller]
fn wait_health(world: &World, status: &str, code: &str) -> Json {
    wait_until_sync(&format!("health to be {status} for its {code}"), PATIENCE, || {
        let (_, body) = world.sidecar.get("/healthz");
        let health: Json = serde_json::from_str(&body).map_err(|error| format!("{error}: {body}"))?;
        let reasons = health["reasons"].as_array().into_iter().flatten();
        if health["status"] == status && (code.is_empty() || reasons.clone().any(|reason| reason["code"] == code)) {
            Ok(health)
        } else {
            Err(body)
        }
    })
}

#[test]
fn a_queue_of_more_than_ten_thousand_is_degraded() {
    // Room for 20,000 entries in an open window.
    let mut world = Profile { window_ms: 600_000, max_size: 2000, coalescing: true }.start();
    world.add(&created(0));
    world.wait_done();
    let events: Vec<_> = (0..10_001).map(|_| created(1)).collect();
    world.add_all(&events[..10_000]);
    wait_until_sync("all to be read", PATIENCE, || {
        let depth = world.sidecar.stats()["depth"].take();
        if depth == 10_000 { Ok(()) } else { Err(depth.to_string()) }
    });
    wait_health(&world, "ok", "");
    world.add_all(&events[10_000..]);
    wait_health(&world, "degraded", "depth");
    world.sidecar.terminate();
    assert_eq!(world.sidecar.wait(), Some(0));
    assert_eq!(world.notices().len(), 2);
    figure("10,000: ok; 10,001: degraded; all done in one batch at the end");
}

#[test]
fn errors_of_more_than_5_percent_are_unhealthy() {
    let mut world = World::with(|setup| setup.preset("llm-gateway").set("retry.budget=300ms"));
    for n in 0..10 {
        world.add(&created(n));
        world.wait_done();
    }
    wait_health(&world, "ok", "");
    let user = world.sidecar.name().to_owned();
    world.cmd(&["ACL", "SETUSER", &user, "resetkeys", "~unstale:*"]);
    world.add(&created(1));
    let health = wait_health(&world, "unhealthy", "errors");
    world.cmd(&["ACL", "SETUSER", &user, "~vkey:*"]);
    world.wait_settled();
    let reason = health["reasons"].as_array().into_iter().flatten().find(|reason| reason["code"] == "errors");
    figure(format_args!("unhealthy: {}", reason.and_then(|reason| reason["detail"].as_str()).unwrap_or_default()));
}
