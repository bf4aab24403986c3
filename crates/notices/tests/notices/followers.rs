//! A follower on a real server that loses connections, data, and itself.

use std::time::{Duration, Instant};

use unstale_events::Position;
use unstale_notices::{Course, Follower, Kind, News};
use unstale_testkit::{Fault, FaultProxy, Redis};

use crate::kit::{LOG, add, add_many, add_numbered, follower, log, told};

/// It has found its position and waits for what comes.
async fn begun(url: &str) -> (Follower, Position) {
    let mut follower = follower(url, Course::begin());
    loop {
        if let Ok(News::Began(at)) = follower.next().await {
            return (follower, at);
        }
    }
}

#[tokio::test]
async fn it_hears_what_comes_from_where_the_log_ended() {
    let redis = Redis::start().await;
    add(&redis, "a", "a:1");
    let before = add(&redis, "a", "a:2");
    let (mut follower, at) = begun(&redis.url()).await;
    assert_eq!(at, before);
    let (third, fourth) = (add(&redis, "a", "a:3"), add(&redis, "b", "b:4"));
    let mut heard = told(&mut follower).await;
    if heard.len() < 2 {
        heard.extend(told(&mut follower).await);
    }
    assert_eq!(heard.iter().map(|told| told.at).collect::<Vec<_>>(), [third, fourth]);
    assert_eq!(heard[1].caches, ["b"]);
}

#[tokio::test]
async fn it_resumes_after_its_connection_was_cut() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    add(&redis, "a", "a:1");
    let (mut follower, _) = begun(&proxy.url()).await;
    for number in 2..6 {
        let at = add(&redis, "a", "a:2");
        assert_eq!(at.seq, number);
        proxy.cut();
        let heard = told(&mut follower).await;
        assert_eq!(heard.iter().map(|told| (told.at, told.is_gap)).collect::<Vec<_>>(), [(at, false)]);
    }
}

#[tokio::test]
async fn a_swallowed_answer_is_read_again() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    let (mut follower, at) = begun(&proxy.url()).await;
    assert_eq!(at, Position::START);
    assert_eq!(follower.next().await, Ok(News::Told(Vec::new())), "nothing came");
    proxy.set(Fault::SwallowReply);
    let at = add(&redis, "a", "a:1");
    assert_eq!(told(&mut follower).await[0].at, at);
}

#[tokio::test]
async fn a_server_that_kept_its_data_costs_no_flush() {
    let mut redis = Redis::start().await;
    let before = add(&redis, "a", "a:1");
    let (mut follower, _) = begun(&redis.url()).await;
    redis.restart_with_data().await;
    let at = add(&redis, "a", "a:2");
    let heard = told(&mut follower).await;
    assert_eq!((heard[0].at, heard[0].is_gap, heard.len()), (at, false, 1));
    assert!(at.seq == before.seq + 1);
}

#[tokio::test]
async fn a_deleted_log_is_noticed_in_silence() {
    let redis = Redis::start().await;
    add(&redis, "a", "a:1");
    let (mut follower, _) = begun(&redis.url()).await;
    redis.cmd(&["FLUSHALL"]);
    let begun = Instant::now();
    let heard = told(&mut follower).await;
    assert_eq!((heard[0].at, heard[0].kind, heard[0].is_gap, heard.len()), (Position::START, Kind::Flush, true, 1));
    assert!(begun.elapsed() < Duration::from_secs(15));
    let first = add(&redis, "a", "a:1");
    assert_eq!((first.seq, told(&mut follower).await[0].at), (1, first), "and then the new log is followed");
}

#[tokio::test]
async fn a_log_that_begins_anew_is_a_loss_told_once() {
    let redis = Redis::start().await;
    add_many(&redis, 1, 3);
    let (mut follower, _) = begun(&redis.url()).await;
    redis.cmd(&["DEL", LOG]);
    let first = add(&redis, "a", "a:1");
    let heard = told(&mut follower).await;
    assert_eq!((heard[0].at, heard[0].is_gap, heard.len()), (first, true, 1));
    let second = add(&redis, "a", "a:2");
    assert_eq!((told(&mut follower).await[0].at, second.seq), (second, 2));
}

#[tokio::test]
async fn a_lost_tail_is_noticed_although_the_numbers_go_on() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    add(&redis, "a", "a:1");
    let lost = add(&redis, "a", "a:2");
    let (mut follower, at) = begun(&proxy.url()).await;
    assert_eq!(at, lost);
    proxy.set(Fault::Refuse);
    proxy.cut();
    redis.cmd(&["XDEL", LOG, &lost.id.to_string()]);
    add_numbered(&redis, 2, "a", "a:x");
    let newest = add_numbered(&redis, 3, "a", "a:y");
    proxy.set(Fault::None);
    let heard = told(&mut follower).await;
    assert_eq!((heard[0].at, heard[0].is_gap, heard.len()), (newest, true, 1));
}

#[tokio::test]
async fn what_was_trimmed_while_it_was_away_is_a_loss() {
    let redis = Redis::start().await;
    let at = add(&redis, "a", "a:1");
    add_many(&redis, 2, 50);
    let mut follower = follower(&redis.url(), Course::resume(at));
    let mut heard = Vec::new();
    while heard.len() < 50 {
        heard.extend(told(&mut follower).await);
    }
    assert!(heard.iter().zip(2..).all(|(told, seq)| told.at.seq == seq && !told.is_gap));

    redis.cmd(&["XTRIM", LOG, "MAXLEN", "=", "10"]);
    let mut late = Follower::passing(log(&redis.url()), Course::resume(at));
    let heard = told(&mut late).await;
    assert_eq!((heard[0].at.seq, heard[0].is_gap, heard.len()), (51, true, 1));
}

#[tokio::test]
async fn a_key_that_is_no_log_is_a_fault_and_no_loss() {
    let redis = Redis::start().await;
    let at = add(&redis, "a", "a:1");
    let (mut follower, _) = begun(&redis.url()).await;
    redis.cmd(&["RENAME", LOG, "kept"]);
    redis.cmd(&["SET", LOG, "x"]);
    let fault = loop {
        if let Err(fault) = follower.next().await {
            break fault;
        }
    };
    assert!(fault.text.contains("WRONGTYPE"), "{fault}");
    redis.cmd(&["RENAME", "kept", LOG]);
    let next = add(&redis, "a", "a:2");
    assert_eq!((told(&mut follower).await[0].at, next.seq), (next, at.seq + 1));
}
