//! Patterns: keys first, one pass for all, and nothing deleted that is not the pattern's.

use std::time::Duration;

use unstale_batcher::TargetState;
use unstale_connect::FaultKind;
use unstale_events::{Priority, TargetKind};
use unstale_sink::Stage;
use unstale_testkit::{Fault, FaultProxy, Redis};

use crate::world::{World, in_scripts, is_done, sent, watched};

const KEY: TargetKind = TargetKind::Key;
const PATTERN: TargetKind = TargetKind::Pattern;
const BUMP: TargetKind = TargetKind::Bump;

#[tokio::test]
async fn a_sweep_leaves_what_is_protected_counted_or_another_caches() {
    let world = World::start().await;
    let kept = ["model:stats:hits", "model:epoch", "model:inner:a", "vkey:a", "plain"];
    world.set(&["model:a", "model:b:c", "model:", "model:stat"]);
    world.set(&kept);
    let delivery = world.deliver(&world.batch(Priority::Normal, &[("model", PATTERN, "model:*")])).await;
    assert!(is_done(&delivery));
    assert_eq!((world.deleted(&delivery, "model"), world.deleted(&delivery, "inner")), (4, 0));
    assert!(kept.iter().all(|key| world.exists(key)));
    assert_eq!(world.redis.cmd(&["DBSIZE"]).int(), i64::try_from(kept.len()).unwrap() + 1);
    assert_eq!(world.announced_patterns(), ["model:*"]);
}

#[tokio::test]
async fn keys_are_gone_and_announced_before_the_scan_begins() {
    let world = World::start().await;
    world.set(&["vkey:a", "model:a"]);
    world.fill("plain:", 20_000);
    let targets = [("model", PATTERN, "model:*"), ("vkey", KEY, "vkey:a"), ("model", BUMP, "model:epoch")];
    let (delivery, lines) = world.watched(world.deliver(&world.batch(Priority::Normal, &targets))).await;
    assert!(is_done(&delivery));
    let place = |text: &str| lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text} in {lines:#?}"));
    let last = |text: &str| lines.iter().rposition(|line| line.contains(text)).unwrap();
    assert!(place("\"PUBLISH\"") < place("\"SCAN\""));
    assert!(place("\"SCAN\"") < place("\"INCR\"") && place("\"INCR\"") < last("\"XADD\""));
    let log = world.log();
    assert!(log[0].1.at < log[1].1.at);
    assert_eq!(delivery.at_ms, Some(log[0].1.at), "the age of an event ends with its keys");
    assert_eq!((log[0].1.drop[0].keys.len(), log[1].1.drop[0].patterns.len(), log.len()), (1, 1, 2));
    assert_eq!(in_scripts(&lines).iter().filter(|command| *command == "INCR").count(), 1);
}

#[tokio::test]
async fn all_patterns_of_a_batch_share_one_pass_filtered_by_their_common_beginning() {
    let world = World::start().await;
    world.fill("model:filler:", 20_000);
    world.set(&["model:x:1", "model:y:1", "model:z:1"]);
    let targets = [("model", PATTERN, "model:x:*"), ("model", PATTERN, "model:y:?"), ("model", PATTERN, "model:[z]:*")];
    let (delivery, lines) = world.watched(world.deliver(&world.batch(Priority::Normal, &targets))).await;
    assert!(is_done(&delivery));
    assert_eq!(world.deleted(&delivery, "model"), 3);
    let scans: Vec<_> = sent(&lines).into_iter().filter(|line| line.contains("\"SCAN\"")).collect();
    assert!((20..=60).contains(&scans.len()), "{} pages", scans.len());
    assert_eq!(scans.iter().filter(|line| line.contains("\"SCAN\" \"0\"")).count(), 1);
    assert!(scans.iter().all(|line| line.contains("\"MATCH\" \"model:*\" \"COUNT\"")), "{}", scans[0]);
    // A server that seems far away for a while is one on a busy machine.
    assert!(scans[0].ends_with("\"COUNT\" \"500\""), "{}", scans[0]);
}

#[tokio::test]
async fn a_server_that_is_far_away_is_asked_for_larger_pages() {
    let far = Redis::start().await;
    let proxy = FaultProxy::start(far.address()).await;
    let world = World::split(&[(&["model"], &proxy.url())], |_| {}).await;
    (0..4000).for_each(|number| drop(far.cmd(&["SET", &format!("model:filler:{number}"), "old"])));
    proxy.set(Fault::Delay(Duration::from_millis(20)));
    let (delivery, lines) = watched(&far, world.deliver(&world.batch(Priority::Normal, &[("model", PATTERN, "model:none:*")]))).await;
    assert!(is_done(&delivery));
    let counts: Vec<_> = sent(&lines).iter().filter_map(|line| line.split_once("\"COUNT\" ").map(|(_, count)| count.to_owned())).collect();
    assert_eq!(counts[..2], ["\"500\"", "\"1000\""]);
    assert!(counts[1..].iter().all(|count| count == "\"1000\""), "{counts:?}");
}

#[tokio::test]
async fn wildcards_in_the_common_beginning_mean_themselves() {
    let world = World::start().await;
    world.set(&["model:a*b:1", "model:axb:1"]);
    let delivery = world.deliver(&world.batch(Priority::Normal, &[("model", PATTERN, "model:a\\*b:*")])).await;
    assert_eq!((world.deleted(&delivery, "model"), world.exists("model:axb:1")), (1, true));
}

#[tokio::test]
async fn the_counts_of_a_pass_are_kept_apart_by_cache() {
    let world = World::start().await;
    world.set(&["model:a", "model:b", "vkey:a", "model:inner:a"]);
    let targets = [("model", PATTERN, "model:*"), ("vkey", PATTERN, "vkey:*"), ("inner", PATTERN, "model:inner:*")];
    let delivery = world.deliver(&world.batch(Priority::Normal, &targets)).await;
    let deleted = ["model", "vkey", "inner"].map(|cache| world.deleted(&delivery, cache));
    assert_eq!((deleted, world.log().len()), ([2, 1, 1], 1));
}

#[tokio::test]
async fn a_local_caches_pattern_is_announced_without_a_scan() {
    let world = World::start().await;
    world.set(&["plan:a"]);
    let delivery = world.deliver(&world.batch(Priority::Normal, &[("plan", PATTERN, "plan:*")])).await;
    assert!(is_done(&delivery) && world.exists("plan:a"));
    assert_eq!((world.calls("scan"), world.announced_patterns()), (0, vec!["plan:*".to_owned()]));
}

#[tokio::test]
async fn every_lane_scans_on_a_connection_of_its_own() {
    let world = World::start().await;
    let address = |line: &str| line.split(['[', ']']).nth(1).unwrap().to_owned();
    let mut seen = Vec::new();
    for priority in [Priority::Critical, Priority::Normal] {
        let (_, lines) =
            world.watched(world.deliver(&world.batch(priority, &[("vkey", KEY, "vkey:x"), ("model", PATTERN, "model:*")]))).await;
        let of = |name: &str| sent(&lines).into_iter().find(|line| line.contains(name)).map(address).unwrap();
        seen.extend([of("\"EVALSHA\""), of("\"SCAN\"")]);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4);
}

#[tokio::test]
async fn a_critical_key_does_not_wait_for_a_critical_scan() {
    let world = World::start().await;
    world.fill("model:filler:", 300_000);
    let scanning = world.delivering(world.batch(Priority::Critical, &[("model", PATTERN, "model:none*")]));
    world.scanning().await;
    let delivery = world.deliver(&world.batch(Priority::Critical, &[("vkey", KEY, "vkey:a")])).await;
    assert!(is_done(&delivery) && !scanning.is_finished());
    assert!(is_done(&scanning.await.unwrap()));
}

#[tokio::test]
async fn a_pass_begins_again_on_a_new_connection() {
    let world = World::start().await;
    world.fill("model:filler:", 300_000);
    let scanning = world.delivering(world.batch(Priority::Normal, &[("model", PATTERN, "model:filler:1*")]));
    world.scanning().await;
    world.cut_scan();
    let delivery = scanning.await.unwrap();
    assert!(is_done(&delivery), "{delivery:?}");
    assert!(delivery.met(Stage::Scan, FaultKind::Unreachable) && delivery.retries > 0, "{delivery:?}");
    // The log is beside what is left: 1, 10 to 19, …, 100000 to 199999 are gone.
    assert_eq!(world.redis.cmd(&["DBSIZE"]).int(), 300_000 - 111_111 + 1);
    assert_eq!(world.announced_patterns(), ["model:filler:1*"]);
}

#[tokio::test]
async fn a_key_that_may_not_be_deleted_fails_its_pattern_only() {
    let rights = ["+@all", "~unstale:*", "~vkey:*", "~model:free:*", "allchannels"];
    let world = World::as_user(&rights, |_| {}).await;
    world.set(&["model:free:a", "model:free:b", "model:locked", "vkey:a"]);
    let targets = [("model", PATTERN, "model:*"), ("vkey", PATTERN, "vkey:*"), ("model", PATTERN, "model:free:*")];
    let delivery = world.deliver(&world.batch(Priority::Normal, &targets)).await;
    assert_eq!(delivery.states, [TargetState::Failed, TargetState::Done, TargetState::Done]);
    assert!(delivery.met(Stage::Scan, FaultKind::Denied));
    assert!(world.exists("model:locked") && !world.exists("model:free:a") && !world.exists("vkey:a"));
    assert_eq!(world.announced_patterns().len(), 2);
    assert!(!world.announced_patterns().contains(&"model:*".to_owned()));
}
