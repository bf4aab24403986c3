//! Claiming, releasing, acknowledging, looking, trimming, removing.

use std::time::Duration;

use unstale_connect::FaultKind;
use unstale_events::EntryId;
use unstale_source::{Body, Claimed, Delivered, EntryLimit, Group, Heavy, PendingAt, Size};

use crate::{World, anybodys, ids};

const NOW: Duration = Duration::ZERO;
const LIMIT: EntryLimit = EntryLimit { bytes: 1000, fields: 10 };

/// Takes over whatever it may.
async fn claim(group: &Group, ids: &[EntryId], min_idle: Duration) -> Claimed {
    group.claim(ids, &anybodys(min_idle), usize::MAX, LIMIT).await.unwrap()
}

fn of(consumer: &str) -> PendingAt {
    PendingAt { consumer: Some(consumer.to_owned()), min_idle: NOW }
}

#[tokio::test]
async fn what_is_claimed_comes_with_its_body_and_what_has_none_is_lost() {
    let world = World::start().await;
    let (_, added) = world.group_with("dead", 3).await;
    let mine = world.group("me");
    world.redis.cmd(&["XDEL", "unstale:events", &added[1].to_string()]);
    let claimed = claim(&mine, &added, NOW).await;
    assert_eq!(ids(&claimed.entries), [added[0], added[2]]);
    assert_eq!(claimed.lost, [added[1]]);
    // The lost one is off the list, and lost once.
    let pending = mine.pending(&anybodys(NOW), EntryId::ZERO).await.unwrap();
    let seen: Vec<_> = pending.iter().map(|entry| (entry.id, entry.consumer.as_str(), entry.deliveries)).collect();
    assert_eq!(seen, [(added[0], "me", 2), (added[2], "me", 2)]);
    assert_eq!(claim(&mine, &added, NOW).await.lost, []);
}

#[tokio::test]
async fn what_was_acknowledged_and_trimmed_meanwhile_is_not_lost() {
    let world = World::start().await;
    let (owner, added) = world.group_with("owner", 2).await;
    owner.ack(added.clone()).await.unwrap();
    owner.trim(added[1].next()).await.unwrap();
    let claimed = claim(&world.group("me"), &added, NOW).await;
    assert_eq!((claimed.entries, claimed.lost), (vec![], vec![]));
}

#[tokio::test]
async fn what_was_delivered_a_moment_ago_is_not_claimed() {
    let world = World::start().await;
    let (_, added) = world.group_with("alive", 1).await;
    let claimed = claim(&world.group("me"), &added, Duration::from_secs(60)).await;
    assert_eq!((claimed.entries, claimed.lost), (vec![], vec![]));
}

#[tokio::test]
async fn what_somebody_else_has_taken_over_is_left_to_him() {
    let world = World::start().await;
    let (_, added) = world.group_with("dead", 3).await;
    assert_eq!(claim(&world.group("quick"), &added[..1], NOW).await.entries.len(), 1);
    world.redis.cmd(&["XDEL", "unstale:events", &added[2].to_string()]);
    let claimed = world.group("me").claim(&added, &of("dead"), usize::MAX, LIMIT).await.unwrap();
    assert_eq!((ids(&claimed.entries), claimed.lost, claimed.looked_at), (vec![added[1]], vec![added[2]], 3));
    let pending = world.group("me").pending(&of("quick"), EntryId::ZERO).await.unwrap();
    assert_eq!(pending.iter().map(|entry| (entry.id, entry.deliveries)).collect::<Vec<_>>(), [(added[0], 2)]);
}

#[tokio::test]
async fn of_many_no_more_are_claimed_than_are_enough() {
    let world = World::start().await;
    let (_, added) = world.group_with("dead", 5).await;
    // Each has 7 bytes of text and one field.
    let claimed = world.group("me").claim(&added, &anybodys(NOW), 2 * 71, LIMIT).await.unwrap();
    assert_eq!((ids(&claimed.entries), claimed.looked_at), (added[..2].to_vec(), 2));
    let claimed = world.group("me").claim(&added[2..], &anybodys(NOW), 1, LIMIT).await.unwrap();
    assert_eq!(ids(&claimed.entries), added[2..3], "one always is");
    assert_eq!(world.group("me").pending(&of("dead"), EntryId::ZERO).await.unwrap().len(), 2);
}

#[tokio::test]
async fn of_what_is_over_the_limit_only_the_size_comes() {
    let world = World::start().await;
    let (_, mut added) = world.group_with("dead", 1).await;
    let xadd = |words: &[String]| {
        let words: Vec<String> =
            ["XADD", "unstale:events", "*"].iter().map(|word| (*word).to_owned()).chain(words.iter().cloned()).collect();
        world.redis.cmd(&words).text().parse::<EntryId>().unwrap()
    };
    added.push(xadd(&["a".to_owned(), "x".repeat(1000)]));
    added.push(xadd(&(0..22).map(|number| number.to_string()).collect::<Vec<_>>()));
    world.deliver("dead");
    let claimed = claim(&world.group("me"), &added, NOW).await;
    assert_eq!(ids(&claimed.entries), added[..1]);
    let heavy = |at: usize, bytes, fields| Heavy { id: added[at], size: Size { bytes, fields } };
    assert_eq!(claimed.heavy, [heavy(1, 1001, 1), heavy(2, 34, 11)]);
    // It is this consumer's now, and not counted as delivered: nothing was.
    let pending = world.group("me").pending(&of("me"), EntryId::ZERO).await.unwrap();
    assert_eq!(pending.iter().map(|entry| (entry.id, entry.deliveries)).collect::<Vec<_>>(), [(added[0], 2), (added[1], 1), (added[2], 1)]);
}

#[tokio::test]
async fn a_body_comes_whole_or_as_its_beginnings() {
    let world = World::start().await;
    let (group, added) = world.group_with("me", 1).await;
    let body = group.body(added[0], LIMIT).await.unwrap();
    assert_eq!((crate::fields(&[("number", "0")]), false), (body.fields, body.is_cut));
    let large = world.redis.cmd(&["XADD", "unstale:events", "*", "a", &"x".repeat(5000)]).text().parse().unwrap();
    let body = group.body(large, LIMIT).await.unwrap();
    assert_eq!((crate::fields(&[("a", &"x".repeat(4096))]), true), (body.fields, body.is_cut));
    assert_eq!(group.body(EntryId::MAX, LIMIT).await.unwrap(), Body::default());
}

#[tokio::test]
async fn what_is_delivered_without_bodies_is_pending_and_counts_as_not_delivered() {
    let world = World::start().await;
    let group = world.group("me");
    group.create().await.unwrap();
    let added: Vec<_> = (0..3).map(|number| world.add(number)).collect();
    world.redis.cmd(&["XADD", "unstale:events", "*", "a", &"x".repeat(1001)]);
    let some = group.deliver(2, usize::MAX, LIMIT).await.unwrap();
    assert_eq!(some, Delivered { entries: 2, heavy: 0, was_last: false });
    let pending = group.pending(&of("me"), EntryId::ZERO).await.unwrap();
    assert_eq!(pending.iter().map(|entry| (entry.id, entry.deliveries)).collect::<Vec<_>>(), [(added[0], 0), (added[1], 0)]);
    assert_eq!(group.deliver(9, 1, LIMIT).await.unwrap(), Delivered { entries: 1, heavy: 0, was_last: false });
    assert_eq!(group.deliver(9, usize::MAX, LIMIT).await.unwrap(), Delivered { entries: 1, heavy: 1, was_last: true });
    assert_eq!(group.deliver(9, usize::MAX, LIMIT).await.unwrap(), Delivered { entries: 0, heavy: 0, was_last: true });
}

#[tokio::test]
async fn what_is_kept_is_not_taken_for_stuck() {
    let world = World::start().await;
    let (group, added) = world.group_with("me", 2).await;
    let age = |id: &EntryId| {
        world.redis.cmd(&["XCLAIM", "unstale:events", "unstale", "me", "0", &id.to_string(), "IDLE", "50000", "JUSTID"]);
    };
    added.iter().for_each(age);
    let stuck = Duration::from_secs(40);
    assert_eq!(group.pending(&anybodys(stuck), EntryId::ZERO).await.unwrap().len(), 2);
    group.keep(&added[..1], Duration::from_secs(20)).await.unwrap();
    let left = group.pending(&anybodys(stuck), EntryId::ZERO).await.unwrap();
    assert_eq!(left.iter().map(|entry| entry.id).collect::<Vec<_>>(), added[1..]);
    let pending = group.pending(&anybodys(NOW), EntryId::ZERO).await.unwrap();
    assert!(pending.iter().all(|entry| entry.deliveries == 1), "{pending:?}");
    // What was acknowledged meanwhile doesn't come back, and what somebody has just taken isn't taken from him.
    group.ack(added.clone()).await.unwrap();
    group.keep(&added, NOW).await.unwrap();
    assert_eq!(group.pending(&anybodys(NOW), EntryId::ZERO).await.unwrap(), []);
}

#[tokio::test]
async fn releasing_sets_the_count_of_deliveries_back() {
    let world = World::start().await;
    let (group, added) = world.group_with("me", 1).await;
    for _ in 0..3 {
        claim(&group, &added, NOW).await;
    }
    let count = async || group.pending(&of("me"), EntryId::ZERO).await.unwrap()[0].deliveries;
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
    assert_eq!(group.pending(&anybodys(NOW), EntryId::ZERO).await.unwrap(), []);
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
    assert_eq!(group.pending(&anybodys(NOW), EntryId::ZERO).await.unwrap(), []);
    assert_eq!(claim(&group, &ids, NOW).await, Claimed { looked_at: 1, ..Claimed::default() });
    assert_eq!(group.release(&ids, 1).await, Ok(()));
    assert_eq!(group.ack(ids.clone()).await, Ok(ids));
    assert_eq!(group.survey(true).await.unwrap().pending, 0);
}

#[tokio::test]
async fn a_survey_says_who_has_what_and_how_far_all_groups_are() {
    let world = World::start().await;
    let (group, added) = world.group_with("me", 3).await;
    world.deliver("idle");
    group.ack(vec![added[0]]).await.unwrap();
    let seen = group.survey(true).await.unwrap();
    assert_eq!((seen.pending, seen.oldest, seen.floor), (2, Some(added[1]), Some(added[1])));
    assert_eq!(seen.owners, [("me".to_owned(), 2)]);
    // A group that has everything before it holds the floor down.
    world.redis.cmd(&["XGROUP", "CREATE", "unstale:events", "other", "0"]);
    assert_eq!(group.survey(true).await.unwrap().floor, Some(EntryId::ZERO.next()));
    assert_eq!(group.trim(group.survey(true).await.unwrap().floor.unwrap()).await.unwrap(), 0);
    world.redis.cmd(&["XGROUP", "SETID", "unstale:events", "other", "$"]);
    assert_eq!(group.trim(group.survey(true).await.unwrap().floor.unwrap()).await.unwrap(), 1);
}

/// That answers with whole entries, and those may be huge.
#[tokio::test]
async fn a_survey_asks_nothing_of_a_stream_itself_while_an_entry_is_pending() {
    let world = World::start().await;
    if world.redis.version() < (7, 0) {
        return;
    }
    let (group, added) = world.group_with("me", 1).await;
    let asked = || {
        let stats = world.redis.cmd(&["INFO", "commandstats"]).text();
        let calls = |line: &str| line.strip_prefix("cmdstat_xinfo")?.split_once("calls=")?.1.split_once(',')?.0.parse::<u64>().ok();
        stats.lines().filter_map(calls).sum::<u64>()
    };
    for lag in 0..3 {
        let before = asked();
        assert_eq!(group.survey(false).await.unwrap().lag, lag);
        assert_eq!(asked() - before, 1, "only its groups, with {lag} unread");
        world.add(0);
    }
    group.ack(added).await.unwrap();
    world.redis.cmd(&["XTRIM", "unstale:events", "MAXLEN", "1"]);
    let before = asked();
    assert!(group.survey(false).await.unwrap().suspicious, "three were unread and one is there");
    assert_eq!(asked() - before, 2);
}

#[tokio::test]
async fn what_was_trimmed_away_unread_is_lost_once_and_a_new_group_has_lost_nothing() {
    let world = World::start().await;
    let (group, _) = world.group_with("me", 1).await;
    for _ in 0..3 {
        world.redis.cmd(&["XADD", "unstale:events", "*", "type", "A"]);
    }
    assert_eq!(group.survey(true).await.unwrap().lag, 3);
    world.redis.cmd(&["XTRIM", "unstale:events", "MAXLEN", "0"]);
    assert!(group.survey(true).await.unwrap().suspicious);
    assert!(group.lost_unread(false).await.unwrap() > 0);
    assert_eq!((group.lost_unread(false).await.unwrap(), group.survey(true).await.unwrap().lag), (0, 0));
    world.redis.cmd(&["XGROUP", "DESTROY", "unstale:events", group.name()]);
    group.create().await.unwrap();
    assert_eq!((group.lost_unread(false).await.unwrap(), group.survey(true).await.unwrap().lag), (0, 0));
}

#[tokio::test]
async fn what_is_delivered_and_not_trimmed_yet_is_not_counted_as_unread() {
    let world = World::start().await;
    let (group, added) = world.group_with("me", 3).await;
    if world.redis.version() < (7, 0) {
        return;
    }
    world.deliver("idle");
    world.redis.cmd(&["XADD", "unstale:events", "*", "type", "A"]);
    // As a server counts that was started again from a file of before: too few.
    let delivered = added[2].to_string();
    let miscount = || world.redis.cmd(&["XGROUP", "SETID", "unstale:events", group.name(), &delivered, "ENTRIESREAD", "0"]);
    miscount();
    assert_eq!(group.lost_unread(true).await.unwrap(), 0, "there the count is no evidence");
    assert_eq!(group.survey(true).await.unwrap().lag, 1);

    // One of those delivered is trimmed, and the count is too low still: what looks like a loss is told once.
    miscount();
    world.redis.cmd(&["XTRIM", "unstale:events", "MINID", &added[1].to_string()]);
    assert_eq!(group.lost_unread(false).await.unwrap(), 1);
    assert_eq!(group.survey(true).await.unwrap().lag, 1);
    world.redis.cmd(&["XTRIM", "unstale:events", "MINID", &delivered]);
    assert!(!group.survey(true).await.unwrap().suspicious);
    assert_eq!(group.lost_unread(false).await.unwrap(), 0);
}

/// To look at each of them would keep Redis busy for as long as there are many, or large ones.
#[tokio::test]
async fn what_is_delivered_and_too_much_to_be_looked_at_is_not_counted() {
    let world = World::start().await;
    if world.redis.version() < (7, 0) {
        return;
    }
    let large = "x".repeat(3 << 20);
    let (group, _) = world.group_with("me", 1).await;
    (0..3).for_each(|_| drop(world.redis.cmd(&["XADD", "unstale:events", "*", "type", "A", "note", &large])));
    world.deliver("me");
    world.redis.cmd(&["XADD", "unstale:events", "*", "type", "A"]);
    assert_eq!(group.survey(true).await.unwrap().lag, 1);
    assert_eq!(group.lost_unread(true).await.unwrap(), 0);
    let seen = group.survey(true).await.unwrap();
    assert!(!seen.suspicious && seen.lag <= 5, "{seen:?}");
    let known =
        |world: &World| world.redis.cmd(&["XINFO", "GROUPS", "unstale:events"]).array()[0].field("entries-read").map(|read| !read.is_nil());
    assert_eq!(known(&world), Some(false));
    // Once it has delivered the newest it knows again.
    world.deliver("me");
    assert_eq!((known(&world), group.survey(true).await.unwrap().lag), (Some(true), 0));
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
    assert_eq!(group.survey(true).await.unwrap().consumers, [""; 0]);
}
