//! Beats and the lease.

use std::time::Duration;

use unstale_connect::{Client, Role, Server};
use unstale_source::{Beat, Membership};
use unstale_testkit::wait_until;

use crate::{LONG, World};

impl World {
    fn member(&self, instance: &str) -> Membership {
        Membership::new(self.client.clone(), &self.names, instance)
    }
}

async fn beat(member: &Membership, wants_lease: bool) -> Beat {
    member.beat(wants_lease, None).await.unwrap()
}

/// Beats of this member until one is as it should be.
async fn beat_until(what: &str, member: &Membership, wanted: impl Fn(&Beat) -> bool) -> Beat {
    wait_until(what, LONG, async || {
        let beat = beat(member, true).await;
        if wanted(&beat) { Ok(beat) } else { Err(format!("{beat:?}")) }
    })
    .await
}

#[tokio::test]
async fn one_of_two_holds_the_lease_until_it_gives_it_up() {
    let world = World::start().await;
    let (one, two) = (world.member("one"), world.member("two"));
    assert!(beat(&one, true).await.holds_lease);
    let second = beat(&two, true).await;
    assert!(!second.holds_lease);
    assert_eq!(second.alive, ["one", "two"]);
    assert!(beat(&one, true).await.holds_lease);
    assert!(!beat(&one, false).await.holds_lease);
    assert!(beat(&two, true).await.holds_lease);
    assert!(!beat(&one, true).await.holds_lease);
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_is_taken_over_within_two_seconds_and_its_holder_is_dead_within_three() {
    let world = World::start().await;
    let (one, two) = (world.member("one"), world.member("two"));
    let last = beat(&one, true).await.now_ms;
    let taken = beat_until("the lease to be taken over", &two, |beat| beat.holds_lease).await.now_ms - last;
    assert!((1990..3000).contains(&taken), "{taken} ms");
    let dead = beat_until("the first to be dead", &two, |beat| !beat.alive.contains(&"one".to_owned()) && beat.may_judge).await;
    assert!((3001..4500).contains(&(dead.now_ms - last)), "{dead:?}");
    assert!(last < dead.alive_since());
}

#[tokio::test]
async fn goodbye_hands_the_lease_on_at_once() {
    let world = World::start().await;
    let (one, two) = (world.member("one"), world.member("two"));
    beat(&one, true).await;
    one.goodbye().await.unwrap();
    let second = beat(&two, true).await;
    assert!(second.holds_lease);
    assert_eq!(second.alive, ["two"]);
    // Not another's lease.
    one.goodbye().await.unwrap();
    assert!(beat(&two, true).await.holds_lease);
}

#[tokio::test]
async fn after_a_pause_of_redis_nobody_is_judged_for_three_seconds() {
    let world = World::start().await;
    let mut server: Server = world.redis.url().parse().unwrap();
    server.command_timeout = Duration::from_secs(20);
    let client = Client::open(&server, Role::Commands, "test").unwrap();
    client.ready(LONG).await.unwrap();
    let member = Membership::new(client, &world.names, "one");
    let begun = beat(&member, false).await.now_ms;
    let early = beat_until("beats to go on", &member, |beat| beat.now_ms >= begun + 2500).await;
    assert!(!early.may_judge);
    assert!(beat_until("three seconds", &member, |beat| beat.now_ms >= begun + 3000).await.may_judge);
    world.redis.pause();
    let paused = std::time::Instant::now();
    wait_until("two seconds to pass", LONG, async || if paused.elapsed().as_secs() >= 2 { Ok(()) } else { Err(String::new()) }).await;
    world.redis.resume();
    assert!(!beat(&member, false).await.may_judge);
}

/// Else it would take the lease of the one that it replaces, and leave that one's entries for as long as it takes to get to know Redis.
#[tokio::test]
async fn who_has_just_come_judges_by_the_beats_of_others() {
    let world = World::start().await;
    let old = world.member("old");
    beat_until("the old one to judge", &old, |beat| beat.may_judge).await;
    assert!(beat(&world.member("new"), true).await.may_judge);
}

#[tokio::test]
async fn it_is_told_when_the_next_may_be_dead() {
    let world = World::start().await;
    let (one, two) = (world.member("one"), world.member("two"));
    let alone = beat(&one, false).await;
    assert_eq!(alone.next_death, Duration::from_millis(3001));
    let (last, next) = (alone.now_ms, beat(&two, false).await);
    assert_eq!(next.next_death, Duration::from_millis(last + 3001 - next.now_ms));
    let alive = |beat: &Beat| beat.alive.contains(&"one".to_owned());
    assert!(alive(&next) && !alive(&beat_until("it to be dead", &two, |beat| beat.now_ms > last + 3000).await));
}

/// As after a failover to a machine whose clock is behind.
#[tokio::test]
async fn a_clock_that_was_set_back_keeps_nobody_alive() {
    let world = World::start().await;
    let (one, beats) = (world.member("one"), world.names.beats.clone());
    let now = beat(&one, true).await.now_ms;
    let late = (now + 3_600_000).to_string();
    world.redis.cmd(&["ZADD", &beats, &late, "dead"]);
    world.redis.cmd(&["SET", &world.names.pulse, &late, "PX", "3600000"]);
    let found = beat(&one, true).await;
    assert_eq!((found.alive.contains(&"dead".to_owned()), found.may_judge), (true, false));
    let dead = beat_until("the dead to be dead", &one, |beat| beat.alive == ["one"]).await;
    assert!((3000..4500).contains(&(dead.now_ms - found.now_ms)) && dead.may_judge, "{dead:?}");
    assert!((1..=1500).contains(&world.redis.cmd(&["PTTL", &world.names.pulse]).int()));
}

#[tokio::test]
async fn a_pulse_set_by_hand_is_set_right() {
    let world = World::start().await;
    world.redis.cmd(&["RPUSH", &world.names.pulse, "no", "text"]);
    assert!(!beat(&world.member("one"), true).await.may_judge);
    assert_eq!(world.redis.cmd(&["TYPE", &world.names.pulse]).text(), "string");
}

#[tokio::test]
async fn beats_and_lease_need_no_memory() {
    let world = World::start().await;
    world.redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]);
    let held = beat(&world.member("one"), true).await;
    assert!(held.holds_lease);
    assert_eq!(held.alive, ["one"]);
}

#[tokio::test]
async fn a_lease_set_by_hand_for_nobody_who_lives_is_removed() {
    let world = World::start().await;
    let one = world.member("one");
    let lease = world.names.lease.clone();
    let by_hand: [&[&str]; 4] =
        [&["SET", &lease, "nobody"], &["SET", &lease, "nobody", "EX", "3600"], &["SET", &lease, ""], &["RPUSH", &lease, "no", "text"]];
    for set in by_hand {
        world.redis.cmd(&["DEL", &lease]);
        world.redis.cmd(set);
        let found = beat(&one, true).await;
        assert_eq!((found.holds_lease, found.found_stray), (true, true), "{set:?}");
        let left = world.redis.cmd(&["PTTL", &lease]).int();
        assert!((1..=2000).contains(&left), "{set:?}: {left} ms");
        assert!(!beat(&one, true).await.found_stray);
    }
}

#[tokio::test]
async fn an_ordinary_lease_and_one_of_a_living_holder_are_left() {
    let world = World::start().await;
    let (one, two) = (world.member("one"), world.member("two"));
    let lease = world.names.lease.clone();
    // Its holder has no beat, but it runs out.
    world.redis.cmd(&["SET", &lease, "nobody", "PX", "1900"]);
    let found = beat(&one, true).await;
    assert_eq!((found.holds_lease, found.found_stray), (false, false));
    // It doesn't run out, but its holder lives, and renews it.
    world.redis.cmd(&["SET", &lease, "one"]);
    let found = beat(&two, true).await;
    assert_eq!((found.holds_lease, found.found_stray), (false, false));
    assert!(beat(&one, true).await.holds_lease);
    assert!((1..=2000).contains(&world.redis.cmd(&["PTTL", &lease]).int()));
}
