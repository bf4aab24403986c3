//! Claiming, releasing, acknowledging, looking, trimming, removing.

use std::time::Duration;

use unstale_connect::FaultKind;
use unstale_events::EntryId;

use crate::{World, ids};

const NOW: Duration = Duration::ZERO;

#[tokio::test]
async fn what_is_claimed_comes_with_its_body_and_what_has_none_is_lost() {
    let world = World::start().await;
    let (_, added) = world.group_with("dead", 3).await;
    let mine = world.group("me");
    world.redis.cmd(&["XDEL", "unstale:events", &added[1].to_string()]);
    let claimed = mine.claim(&added, NOW).await.unwrap();
    assert_eq!(ids(&claimed.entries), [added[0], added[2]]);
    assert_eq!(claimed.lost, [added[1]]);
    // The lost one is off the list, and lost once.
    let pending = mine.pending(None, EntryId::ZERO, NOW).await.unwrap();
    let seen: Vec<_> = pending.iter().map(|entry| (entry.id, entry.consumer.as_str(), entry.deliveries)).collect();
    assert_eq!(seen, [(added[0], "me", 2), (added[2], "me", 2)]);
    assert_eq!(mine.claim(&added, NOW).await.unwrap().lost, []);
}

#[tokio::test]
async fn what_was_acknowledged_and_trimmed_meanwhile_is_not_lost() {
    let world = World::start().await;
    let (owner, added) = world.group_with("owner", 2).await;
    owner.ack(added.clone()).await.unwrap();
    owner.trim(added[1].next()).await.unwrap();
    let claimed = world.group("me").claim(&added, NOW).await.unwrap();
    assert_eq!((claimed.entries, claimed.lost), (vec![], vec![]));
}

#[tokio::test]
async fn what_was_delivered_a_moment_ago_is_not_claimed() {
    let world = World::start().await;
    let (_, added) = world.group_with("alive", 1).await;
    let claimed = world.group("me").claim(&added, Duration::from_secs(60)).await.unwrap();
    assert_eq!((claimed.entries, claimed.lost), (vec![], vec![]));
}

#[tokio::test]
async fn releasing_sets_the_count_of_deliveries_back() {
    let world = World::start().await;
    let (group, added) = world.group_with("me", 1).await;
    for _ in 0..3 {
        group.claim(&added, NOW).await.unwrap();
    }
    let count = async || group.pending(Some("me"), EntryId::ZERO, NOW).await.unwrap()[0].deliveries;
    assert_eq!(count().await, 4);
    group.release(&added, 1).await.unwrap();
    assert_eq!(count().await, 1);
}

#[tokio::test]
async fn releasing_what_was_acknowledged_does_not_bring_it_back() {
    let world = World::start().await;
    let (group, added) = world.group_with("me", 1).await;
    group.ack(added.clone()).await.unwrap();
    group.release(&added, 1).await.unwrap();
    assert_eq!(group.pending(None, EntryId::ZERO, NOW).await.unwrap(), []);
}

#[tokio::test]
async fn an_ack_that_fails_gives_all_its_entries_back() {
    let mut world = World::start().await;
    let (group, added) = world.group_with("me", 3).await;
    world.redis.kill();
    let (left, fault) = group.ack(added.clone()).await.unwrap_err();
    assert_eq!((left, fault.kind), (added, FaultKind::Unreachable));
}

#[tokio::test]
async fn without_a_group_nothing_is_pending_and_nothing_fails() {
    let world = World::start().await;
    let (group, ids) = (world.group("me"), vec![EntryId { ms: 1, seq: 0 }]);
    assert_eq!(group.pending(None, EntryId::ZERO, NOW).await.unwrap(), []);
    assert_eq!(group.claim(&ids, NOW).await.unwrap().lost, []);
    assert_eq!(group.release(&ids, 1).await, Ok(()));
    assert_eq!(group.ack(ids.clone()).await, Ok(ids));
    assert_eq!(group.survey().await.unwrap().pending, 0);
}

#[tokio::test]
async fn a_survey_says_who_has_what_and_how_far_all_groups_are() {
    let world = World::start().await;
    let (group, added) = world.group_with("me", 3).await;
    world.deliver("idle");
    group.ack(vec![added[0]]).await.unwrap();
    let seen = group.survey().await.unwrap();
    assert_eq!((seen.pending, seen.oldest, seen.floor), (2, Some(added[1]), Some(added[1])));
    assert_eq!(seen.owners, [("me".to_owned(), 2)]);
    // A group that has everything before it holds the floor down.
    world.redis.cmd(&["XGROUP", "CREATE", "unstale:events", "other", "0"]);
    assert_eq!(group.survey().await.unwrap().floor, Some(EntryId::ZERO.next()));
    assert_eq!(group.trim(group.survey().await.unwrap().floor.unwrap()).await.unwrap(), 0);
    world.redis.cmd(&["XGROUP", "SETID", "unstale:events", "other", "$"]);
    assert_eq!(group.trim(group.survey().await.unwrap().floor.unwrap()).await.unwrap(), 1);
}

#[tokio::test]
async fn a_consumer_is_removed_only_without_pending_entries_and_without_a_beat() {
    let world = World::start().await;
    let (group, added) = world.group_with("them", 1).await;
    let (beats, since) = ("unstale:instances", 1000);
    let remove = async || group.remove_consumer("them", beats, since).await.unwrap();
    assert!(!remove().await, "it has a pending entry");
    group.ack(added).await.unwrap();
    world.redis.cmd(&["ZADD", beats, "1000", "them"]);
    assert!(!remove().await, "its beat is fresh");
    world.redis.cmd(&["ZADD", beats, "999", "them"]);
    assert!(remove().await);
    assert_eq!(group.survey().await.unwrap().consumers, [""; 0]);
}
