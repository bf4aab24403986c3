//! The kit itself, against a real `redis-server`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use unstale_testkit::{Fault, FaultProxy, Listener, Redis, Resp, Tap, Value, Verdict, wait_until, wait_until_sync};

#[tokio::test]
async fn a_server_answers_until_it_is_dropped() {
    let redis = Redis::start().await;
    redis.cmd(&["SET", "k", "v"]);
    assert_eq!(redis.cmd(&["GET", "k"]), Value::Bulk(b"v".to_vec()));
    let address = redis.address();
    drop(redis);
    assert!(Resp::tcp(address).is_err());
}

#[tokio::test]
async fn a_restart_keeps_the_port_and_the_data_if_asked() {
    let mut redis = Redis::start().await;
    let port = redis.port();
    redis.cmd(&["SET", "k", "v"]);
    redis.restart_with_data().await;
    assert_eq!(redis.cmd(&["GET", "k"]).text(), "v");
    redis.restart_empty().await;
    assert!(redis.cmd(&["GET", "k"]).is_nil());
    assert_eq!(redis.port(), port);
}

#[tokio::test]
async fn a_paused_server_is_silent_until_it_goes_on() {
    let redis = Redis::start().await;
    let mut resp = redis.resp();
    resp.set_timeout(Some(Duration::from_millis(100)));
    redis.pause();
    assert!(resp.try_cmd(&["PING"]).is_err());
    redis.resume();
    resp.set_timeout(Some(Duration::from_secs(10)));
    assert_eq!(resp.read().unwrap().text(), "PONG");
}

#[tokio::test]
async fn it_listens_on_a_unix_socket_and_takes_arguments() {
    let redis = Redis::builder().unix().args(["--maxmemory", "3mb"]).start().await;
    let mut resp = Resp::unix(&redis.socket()).unwrap();
    assert_eq!(resp.cmd(&["CONFIG", "GET", "maxmemory"]).field("maxmemory").unwrap().int(), 3 << 20);
}

#[tokio::test]
async fn monitor_shows_what_ran() {
    let redis = Redis::start().await;
    let mut monitor = redis.resp();
    monitor.monitor();
    redis.cmd(&["SET", "seen", "1"]);
    redis.cmd(&["ECHO", "the end"]);
    let lines = monitor.monitored("the end");
    assert!(lines.iter().any(|line| line.contains("\"SET\" \"seen\"")), "{lines:?}");
}

#[tokio::test]
#[should_panic(expected = "last state: 3 of 4")]
async fn a_wait_that_fails_says_the_last_state() {
    wait_until("the impossible", Duration::from_millis(20), || async { Err::<(), _>("3 of 4".to_owned()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_passes_stalls_swallows_and_cuts() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    tokio::task::spawn_blocking(move || {
        let mut through = Resp::tcp(proxy.address()).unwrap();
        assert_eq!(through.cmd(&["PING"]).text(), "PONG");

        proxy.set(Fault::Stall);
        through.set_timeout(Some(Duration::from_millis(100)));
        assert!(through.try_cmd(&["INCR", "n"]).is_err());
        assert!(redis.cmd(&["GET", "n"]).is_nil());
        proxy.set(Fault::None);
        through.set_timeout(Some(Duration::from_secs(10)));
        assert_eq!(through.read().unwrap().int(), 1);

        proxy.set(Fault::SwallowReply);
        assert!(through.try_cmd(&["INCR", "n"]).is_err());
        assert_eq!(redis.cmd(&["GET", "n"]).int(), 2);
        assert_eq!(proxy.fault(), Fault::None);

        let mut through = Resp::tcp(proxy.address()).unwrap();
        through.cmd(&["PING"]);
        proxy.cut();
        assert!(through.try_cmd(&["PING"]).is_err());
        proxy.set(Fault::Refuse);
        assert!(Resp::tcp(proxy.address()).unwrap().try_cmd(&["PING"]).is_err());
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn late_replies_hold_up_no_others() {
    const DELAY: Duration = Duration::from_secs(2);
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    tokio::task::spawn_blocking(move || {
        proxy.set(Fault::Delay(DELAY));
        let mut through = Resp::tcp(proxy.address()).unwrap();
        let begun = Instant::now();
        for sent in 1..=2 {
            through.send(&["INCR", "n"]).unwrap();
            // So that each has a reply of its own.
            wait_until_sync("the server to have it", DELAY * 5, || {
                let n = redis.cmd(&["GET", "n"]);
                if !n.is_nil() && n.int() == sent { Ok(()) } else { Err(format!("{n:?}")) }
            });
        }
        assert_eq!(through.read().unwrap().int(), 1);
        let (first, heard) = (begun.elapsed(), Instant::now());
        assert_eq!(through.read().unwrap().int(), 2);
        let second = heard.elapsed();
        assert!(first >= DELAY && second < DELAY / 2, "the first came after {first:?}, the second {second:?} later");
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_connection_is_half_open_and_new_ones_pass() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    tokio::task::spawn_blocking(move || {
        let mut through = Resp::tcp(proxy.address()).unwrap();
        through.cmd(&["PING"]);
        proxy.freeze();
        through.set_timeout(Some(Duration::from_millis(100)));
        match through.try_cmd(&["INCR", "n"]) {
            Err(unstale_testkit::Error::Io(error)) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
            other => panic!("{other:?}"),
        }
        assert!(redis.cmd(&["GET", "n"]).is_nil());
        assert_eq!(Resp::tcp(proxy.address()).unwrap().cmd(&["PING"]).text(), "PONG");
        proxy.cut();
        assert_eq!(through.read().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
    })
    .await
    .unwrap();
}

/// Cuts at `BEFORE`, `AFTER` and `HEARD`, whatever the server thinks of these commands, and makes every ECHO say the same.
struct Scissors;

impl Listener for Scissors {
    fn asked(&self, command: &mut Vec<Vec<u8>>) -> Verdict {
        if command[0] == b"ECHO" {
            command[1] = b"rewritten".to_vec();
        }
        if command.ends_with(&[b"BEFORE".to_vec()]) { Verdict::Cut } else { Verdict::Pass }
    }

    fn answered(&self, command: &[Vec<u8>], _reply: &Value) -> Verdict {
        if command.ends_with(&[b"AFTER".to_vec()]) { Verdict::Cut } else { Verdict::Pass }
    }

    fn heard(&self, command: &[Vec<u8>]) -> Verdict {
        if command.ends_with(&[b"HEARD".to_vec()]) { Verdict::Cut } else { Verdict::Pass }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tap_rewrites_and_cuts_at_each_moment() {
    let redis = Redis::start().await;
    let tap = Tap::start(redis.address(), Arc::new(Scissors)).await;
    tokio::task::spawn_blocking(move || {
        let through = || Resp::tcp(tap.address()).unwrap();
        assert_eq!(through().cmd(&["ECHO", "said"]).text(), "rewritten");
        assert!(through().try_cmd(&["SET", "k", "BEFORE"]).is_err());
        assert!(redis.cmd(&["GET", "k"]).is_nil());
        assert!(through().try_cmd(&["SET", "k", "AFTER"]).is_err());
        assert_eq!(redis.cmd(&["GET", "k"]).text(), "AFTER");
        let mut heard = through();
        assert_eq!(heard.cmd(&["SET", "k", "HEARD"]).text(), "OK");
        assert!(heard.try_cmd(&["PING"]).is_err());
    })
    .await
    .unwrap();
}
