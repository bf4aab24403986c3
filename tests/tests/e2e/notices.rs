//! Every instance hears: `GET /v1/notices` from outside.

use std::time::{Duration, Instant};

use unstale_testkit::wait_until_sync;
use unstale_tests::sse::Stream;
use unstale_tests::{Bus, Setup, World};

/// How long a receiver believes silence.
const SILENCE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(30);

const ROUTES: &str = "[cache.c]
prefixes = ['c:']
[[route]]
event = 'Changed'
cache = 'c'
keys = ['c:{k}']
[[route]]
event = 'Revoked'
cache = 'c'
priority = 'critical'
keys = ['c:{k}']";

fn change(bus: &mut Bus, key: &str) {
    bus.publish("Changed", &[("k", key)]);
}

fn change_at_once(bus: &mut Bus, key: &str) {
    bus.publish_critical("Revoked", &[("k", key)]);
}

/// The numbers of the next notices, until one with this key has come.
fn until(stream: &mut Stream, key: &str) -> Vec<u64> {
    let mut seqs = Vec::new();
    loop {
        let event = stream.next_notice().expect("a notice");
        assert_eq!(event.name, "drop", "{event:?}");
        assert_eq!((event.data["seq"].as_u64(), event.data["v"].as_u64()), (Some(event.seq()), Some(1)), "{event:?}");
        assert_eq!(event.data["id"].as_str(), event.id.split_once('/').map(|(id, _)| id), "{event:?}");
        seqs.push(event.seq());
        if event.keys().iter().any(|heard| heard.contains(key)) {
            return seqs;
        }
    }
}

#[test]
fn p2_1_a_change_is_heard_after_the_delete_by_every_instance() {
    let mut world = World::start(ROUTES);
    let second = Setup::on(&world.redis).config(ROUTES).start(&world.redis);
    let (hello, mut one) = world.sidecar.notices("", None);
    assert_eq!((hello.resumed(), hello.id.as_str()), (false, "0-0/0"));
    let (_, mut other) = second.notices("", None);
    world.seed(["c:abc"]);
    change(&mut world, "abc");
    for stream in [&mut one, &mut other] {
        let event = stream.next_notice().expect("a notice");
        assert_eq!((event.name.as_str(), event.seq(), event.keys()), ("drop", 1, vec!["c:abc".to_owned()]));
        assert!(world.keys().is_empty());
    }
    for sidecar in [&world.sidecar, &second] {
        wait_until_sync("what was relayed to be counted", PATIENCE, || {
            let counts = ["unstale_notices_relayed_total", "unstale_subscribers"].map(|series| sidecar.metric(series));
            if counts == [1, 1] { Ok(()) } else { Err(format!("{counts:?}")) }
        });
    }
}

#[test]
fn p3_4_who_comes_back_hears_what_was_said_meanwhile() {
    let mut world = World::start(ROUTES);
    let (_, mut stream) = world.sidecar.notices("", None);
    change(&mut world, "a");
    let heard = stream.next_notice().expect("a notice");
    drop(stream);
    for key in ["b", "c", "d"] {
        change_at_once(&mut world, key);
        world.wait_done();
    }
    let (hello, mut stream) = world.sidecar.notices("", Some(&heard.id));
    assert_eq!((hello.resumed(), &hello.id), (true, &heard.id));
    assert_eq!(until(&mut stream, "d"), [2, 3, 4]);

    // Another process has read nothing of it, and finds it in the log.
    let second = Setup::on(&world.redis).config(ROUTES).start(&world.redis);
    let (hello, mut stream) = second.notices("", Some("0-0/0"));
    assert!(hello.resumed());
    assert_eq!(until(&mut stream, "d"), [1, 2, 3, 4]);
    for (unknown, gaps) in [("1-1/1", 1), ("rubbish", 2)] {
        let (hello, _) = second.notices("", Some(unknown));
        assert!(!hello.resumed() && hello.id.ends_with("/4"), "{hello:?}");
        wait_until_sync("the gap to be counted", PATIENCE, || {
            let count = second.metric("unstale_notice_gaps_total");
            if count == gaps { Ok(()) } else { Err(count.to_string()) }
        });
    }
}

#[test]
fn p3_5_a_restart_of_redis_that_kept_its_data_costs_no_flush_and_a_loss_costs_one() {
    let mut world = World::start(ROUTES);
    let (_, mut stream) = world.sidecar.notices("", None);
    change(&mut world, "a");
    until(&mut stream, ":a");
    world.wait_done();
    world.cmd(&["SAVE"]);
    world.redis.kill();
    world.redis.launch();
    world.redis.ready_sync();
    // The connection of before ends with an error.
    let _ = world.try_cmd(&["PING"]);
    change(&mut world, "b");
    assert_eq!(until(&mut stream, ":b"), [2]);
    world.cmd(&["FLUSHALL"]);
    let began = Instant::now();
    let flush = stream.next_notice().expect("a flush");
    assert_eq!((flush.name.as_str(), &flush.data["flush"][0]), ("flush", &"*".into()), "{flush:?}");
    assert!(began.elapsed() < SILENCE);
    // The streams are lost, too, which is answered by a flush in the new log.
    change_at_once(&mut world, "c");
    loop {
        let event = stream.next_notice().expect("a notice");
        if event.keys().iter().any(|key| key == "c:c") {
            break;
        }
        assert_eq!((event.name.as_str(), event.data["origin"].is_string()), ("flush", true), "only what was published: {event:?}");
    }
    world.sidecar.wait_metric("unstale_notice_gaps_total", 1);
}

#[test]
fn p3_10_a_log_that_was_written_anew_is_noticed_although_its_numbers_go_on() {
    // What the sidecars would have written, had they been as fast as a script: after the third of one log comes the fourth of another.
    const ANEW: &str = "redis.call('DEL', KEYS[1])
        local prev = '0-0'
        for seq = 1, 4 do
            prev = redis.call('XADD', KEYS[1], '*', 'seq', seq, 'notice', '{\"v\":1,\"seq\":' .. seq .. ',\"prev\":\"' .. prev .. '\",\"drop\":[]}')
        end
        redis.call('XTRIM', KEYS[1], 'MAXLEN', 1)
        return prev";
    let mut world = World::start(ROUTES);
    let (_, mut stream) = world.sidecar.notices("", None);
    for (key, seq) in [(":a", 1), (":b", 2), (":c", 3)] {
        change_at_once(&mut world, &key[1..]);
        assert_eq!(until(&mut stream, key), [seq]);
    }
    world.wait_done();
    let id = world.cmd(&["EVAL", ANEW, "1", "unstale:notices"]).text();
    let flush = stream.next_notice().expect("a flush");
    assert_eq!((flush.name.as_str(), flush.id, &flush.data["flush"][0]), ("flush", format!("{id}/4"), &"*".into()));
    // And it goes on from there.
    change_at_once(&mut world, "d");
    assert_eq!(until(&mut stream, ":d"), [5]);
    let prevs: Vec<_> = world.notices().into_iter().map(|notice| notice.json["prev"].clone()).collect();
    assert_eq!(prevs[1], id);
    world.sidecar.wait_metric("unstale_notice_gaps_total", 1);
}

#[test]
fn p3_6_silence_is_vouched_for_only_while_the_log_is_read() {
    let world = World::start(ROUTES);
    let (_, mut stream) = world.sidecar.notices("", None);
    let mut last = Instant::now();
    for _ in 0..2 {
        assert_eq!(stream.next().expect("a heartbeat").name, "beat");
        assert!(last.elapsed() < Duration::from_secs(8), "{:?}", last.elapsed());
        last = Instant::now();
    }
    world.redis.pause();
    stream.set_patience(SILENCE / 2).expect("a socket");
    // One may have been under way.
    let heard = [stream.next(), stream.next()];
    assert!(heard[1].is_err(), "{heard:?}");
    world.redis.resume();
}

#[test]
fn at_shutdown_streams_end_cleanly() {
    let mut world = World::start(ROUTES);
    let (_, mut stream) = world.sidecar.notices("", None);
    change(&mut world, "a");
    world.sidecar.terminate();
    let began = Instant::now();
    let heard = until(&mut stream, ":a");
    assert_eq!(heard, [1]);
    let end = stream.next().expect_err("the end");
    assert_eq!(end.kind(), std::io::ErrorKind::UnexpectedEof, "{end}");
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(world.sidecar.wait(), Some(0), "{}", world.sidecar.log());
}
