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

/// A beat that the member takes note of.
async fn beat(member: &mut Membership, wants_lease: bool) -> Beat {
    let beat = member.beat(wants_lease, None).await.unwrap();
    member.heard(&beat);
    beat
}

#[tokio::test]
async fn one_of_two_holds_the_lease_until_it_gives_it_up() {
    let world = World::start().await;
    let (mut one, mut two) = (world.member("one"), world.member("two"));
    assert!(beat(&mut one, true).await.holds_lease);
    let second = beat(&mut two, true).await;
    assert!(!second.holds_lease);
    assert_eq!(second.alive, ["one", "two"]);
    assert!(beat(&mut one, true).await.holds_lease);
    assert!(!beat(&mut one, false).await.holds_lease);
    assert!(beat(&mut two, true).await.holds_lease);
    assert!(!beat(&mut one, true).await.holds_lease);
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_is_taken_over_within_two_seconds_and_its_holder_is_dead_within_three() {
    let world = World::start().await;
    let (mut one, mut two) = (world.member("one"), world.member("two"));
    let last = beat(&mut one, true).await.now_ms;
    let two = tokio::sync::Mutex::new(&mut two);
    let until = async |what: &str, wanted: fn(&Beat) -> bool| {
        wait_until(what, LONG, async || {
            let beat = beat(*two.lock().await, true).await;
            if wanted(&beat) { Ok(beat) } else { Err(format!("{beat:?}")) }
        })
        .await
    };
    let taken = until("the lease to be taken over", |beat| beat.holds_lease).await.now_ms - last;
    assert!((1990..3000).contains(&taken), "{taken} ms");
    let dead = until("the first to be dead", |beat| !beat.alive.contains(&"one".to_owned()) && beat.may_judge).await;
    assert!((3000..4500).contains(&(dead.now_ms - last)), "{dead:?}");
    assert!(last < dead.alive_since());
}

#[tokio::test]
async fn goodbye_hands_the_lease_on_at_once() {
    let world = World::start().await;
    let (mut one, mut two) = (world.member("one"), world.member("two"));
    beat(&mut one, true).await;
    one.goodbye().await.unwrap();
    let second = beat(&mut two, true).await;
    assert!(second.holds_lease);
    assert_eq!(second.alive, ["two"]);
    // Not another's lease.
    one.goodbye().await.unwrap();
    assert!(beat(&mut two, true).await.holds_lease);
}

#[tokio::test]
async fn after_a_pause_of_redis_nobody_is_judged() {
    let world = World::start().await;
    let mut server: Server = world.redis.url().parse().unwrap();
    server.command_timeout = Duration::from_secs(20);
    let client = Client::open(&server, Role::Commands, "test").unwrap();
    client.ready(LONG).await.unwrap();
    let mut member = Membership::new(client, &world.names, "one");
    let begun = beat(&mut member, false).await.now_ms;
    let steady = async |member: &mut Membership, milliseconds: u64| {
        let member = tokio::sync::Mutex::new(member);
        wait_until("beats to go on", LONG, async || {
            let beat = beat(*member.lock().await, false).await;
            if beat.now_ms - begun >= milliseconds { Ok(beat) } else { Err(format!("{beat:?}")) }
        })
        .await
    };
    assert!(!steady(&mut member, 2500).await.may_judge);
    assert!(steady(&mut member, 3001).await.may_judge);
    world.redis.pause();
    let paused = std::time::Instant::now();
    wait_until("two seconds to pass", LONG, async || if paused.elapsed().as_secs() >= 2 { Ok(()) } else { Err(String::new()) }).await;
    world.redis.resume();
    assert!(!beat(&mut member, false).await.may_judge);
}

#[tokio::test]
async fn beats_and_lease_need_no_memory() {
    let world = World::start().await;
    world.redis.cmd(&["CONFIG", "SET", "maxmemory", "1"]);
    let held = beat(&mut world.member("one"), true).await;
    assert!(held.holds_lease);
    assert_eq!(held.alive, ["one"]);
}

#[tokio::test]
async fn a_lease_set_by_hand_for_nobody_who_lives_is_removed() {
    let world = World::start().await;
    let mut one = world.member("one");
    let lease = world.names.lease.clone();
    let by_hand: [&[&str]; 4] =
        [&["SET", &lease, "nobody"], &["SET", &lease, "nobody", "EX", "3600"], &["SET", &lease, ""], &["RPUSH", &lease, "no", "text"]];
    for set in by_hand {
        world.redis.cmd(&["DEL", &lease]);
        world.redis.cmd(set);
        let found = beat(&mut one, true).await;
        assert_eq!((found.holds_lease, found.found_stray), (true, true), "{set:?}");
        let left = world.redis.cmd(&["PTTL", &lease]).int();
        assert!((1..=2000).contains(&left), "{set:?}: {left} ms");
        assert!(!beat(&mut one, true).await.found_stray);
    }
}

#[tokio::test]
async fn an_ordinary_lease_and_one_of_a_living_holder_are_left() {
    let world = World::start().await;
    let (mut one, mut two) = (world.member("one"), world.member("two"));
    let lease = world.names.lease.clone();
    // Its holder has no beat, but it runs out.
    world.redis.cmd(&["SET", &lease, "nobody", "PX", "1900"]);
    let found = beat(&mut one, true).await;
    assert_eq!((found.holds_lease, found.found_stray), (false, false));
    // It doesn't run out, but its holder lives, and renews it.
    world.redis.cmd(&["SET", &lease, "one"]);
    let found = beat(&mut two, true).await;
    assert_eq!((found.holds_lease, found.found_stray), (false, false));
    assert!(beat(&mut one, true).await.holds_lease);
    assert!((1..=2000).contains(&world.redis.cmd(&["PTTL", &lease]).int()));
}
