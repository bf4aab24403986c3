//! Many receivers of one hub.

use std::sync::Arc;
use std::time::{Duration, Instant};

use unstale_events::Position;
use unstale_notices::{Bounds, Filter, Hub, Kind, Receiver, Unheard};
use unstale_testkit::{Fault, FaultProxy, Redis, wait_until};

use crate::kit::{BOUNDS, Ear, LOG, LONG, add, add_many, frames, log};

/// The hub has read up to here.
async fn read(ear: &Ear, at: Position) {
    wait_until("the hub to read the log", LONG, async || match ear.hub.position() {
        Some(position) if position == at => Ok(()),
        other => Err(format!("{other:?}, not {at}")),
    })
    .await;
}

/// As when a backlog is worked off.
#[tokio::test(flavor = "multi_thread")]
async fn notices_that_come_one_upon_the_other_are_read_many_at_a_time() {
    const MANY: u64 = 400;
    let redis = Redis::start().await;
    let ear = Ear::open(&redis.url(), BOUNDS);
    ear.listen(None).await;
    let (mut resp, began) = (redis.resp(), Instant::now());
    for seq in 1..=MANY {
        let notice = format!(r#"{{"v":1,"seq":{seq},"drop":[]}}"#);
        let id = resp.cmd(&["XADD", LOG, "*", "seq", &seq.to_string(), "notice", &notice]).text();
        // Each comes as soon as the one before was read.
        while ear.hub.position() != Some(Position { id: id.parse().unwrap(), seq }) {
            tokio::task::yield_now().await;
        }
    }
    let gathered = u64::try_from(began.elapsed().as_millis()).unwrap() / 2;
    let stats = redis.cmd(&["INFO", "commandstats"]).text();
    let reads =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_xread:calls=")?.split(',').next()).unwrap().parse::<u64>().unwrap();
    assert!(reads <= 4 * gathered + 20, "{reads} reads for {MANY} notices, while there was time to gather them {gathered} times");
}

#[tokio::test]
async fn a_new_receiver_begins_at_the_end_and_hears_what_comes() {
    let redis = Redis::start().await;
    let before = add(&redis, "a", "a:1");
    let ear = Ear::open(&redis.url(), BOUNDS);
    let (hello, mut receiver) = ear.listen(None).await;
    assert_eq!((hello.resumed, hello.at, ear.hub.counts().gaps), (false, before, 0));
    let at = add(&redis, "a", "a:2");
    let heard = frames(&mut receiver, 1).await;
    assert_eq!((heard[0].at, heard[0].kind), (at, Some(Kind::Drop)));
    let counts = ear.hub.counts();
    assert_eq!((counts.relayed, counts.receivers), (1, 1));
    drop(receiver);
    assert_eq!(ear.hub.counts().receivers, 0);
}

#[tokio::test]
async fn who_was_away_shortly_resumes_from_what_is_kept() {
    let redis = Redis::start().await;
    let ear = Ear::open(&redis.url(), BOUNDS);
    let (hello, receiver) = ear.listen(None).await;
    assert_eq!(hello.at.to_string(), "0-0/0");
    drop(receiver);
    let (first, second) = (add(&redis, "a", "a:1"), add(&redis, "a", "a:2"));
    read(&ear, second).await;
    let (hello, mut receiver) = ear.listen(Some(&first.to_string())).await;
    assert_eq!((hello.resumed, hello.at), (true, first));
    assert_eq!(frames(&mut receiver, 1).await[0].at, second);
    let (hello, mut receiver) = ear.listen(Some("0-0/0")).await;
    assert!(hello.resumed);
    assert_eq!(frames(&mut receiver, 2).await.iter().map(|frame| frame.at).collect::<Vec<_>>(), [first, second]);
}

#[tokio::test]
async fn who_was_away_long_reads_the_log_and_then_joins_the_others() {
    let redis = Redis::start().await;
    let first = add(&redis, "a", "a:1");
    add_many(&redis, 2, 10_000);
    let ear = Ear::open(&redis.url(), BOUNDS);
    let (hello, mut receiver) = ear.listen(Some(&first.to_string())).await;
    assert!(hello.resumed);
    assert_eq!(ear.hub.position(), Some(first), "he holds the instance's position back");
    let begun = Instant::now();
    let heard = frames(&mut receiver, 10_000).await;
    println!("10,000 notices in {:?}", begun.elapsed());
    assert!(heard.iter().zip(2..).all(|(frame, seq)| frame.at.seq == seq));
    let next = add(&redis, "a", "a:x");
    assert_eq!(frames(&mut receiver, 1).await[0].at, next);
    let (hello, mut second) = ear.listen(Some("0-0/0")).await;
    assert!(hello.resumed, "the first notice is there still");
    assert_eq!(frames(&mut second, 10_002).await.len(), 10_002);
}

#[tokio::test]
async fn positions_that_nobody_knows_begin_anew() {
    let redis = Redis::start().await;
    let ear = Ear::open(&redis.url(), BOUNDS);
    add_many(&redis, 1, 200);
    let newest = add(&redis, "a", "a:1");
    read(&ear, newest).await;
    let wrong_number = Position { seq: newest.seq + 1, ..newest }.to_string();
    redis.cmd(&["XTRIM", LOG, "MAXLEN", "=", "50"]);
    for (gaps, last) in ["1-1/1", "nonsense", "", &wrong_number, "0-0/0"].into_iter().enumerate() {
        assert_eq!(ear.hub.counts().gaps, gaps as u64);
        let (hello, mut receiver) = ear.listen(Some(last)).await;
        assert_eq!((hello.resumed, hello.at), (false, newest), "{last}");
        drop(receiver.next());
    }
}

#[tokio::test]
async fn a_loss_is_told_to_all_once() {
    let redis = Redis::start().await;
    let before = add(&redis, "a", "a:1");
    let ear = Ear::open(&redis.url(), BOUNDS);
    let (_, mut one) = ear.listen(None).await;
    let (_, mut other) = ear.listen(None).await;
    redis.cmd(&["FLUSHALL"]);
    for receiver in [&mut one, &mut other] {
        let heard = frames(receiver, 1).await;
        assert_eq!((heard[0].at, heard[0].kind, heard.len()), (Position::START, Some(Kind::Flush), 1));
        assert_eq!(heard[0].json, r#"{"v":1,"id":"0-0","seq":0,"flush":["*"]}"#);
    }
    assert_eq!(ear.hub.counts().gaps, 1);
    let first = add(&redis, "a", "a:1");
    assert_eq!(frames(&mut one, 1).await[0].at, first);
    // Whom the loss found elsewhere hears of it when he comes back.
    let (hello, mut late) = ear.listen(Some(&before.to_string())).await;
    let heard = if hello.resumed { frames(&mut late, 2).await } else { Vec::new() };
    assert!(heard.first().is_none_or(|frame| frame.kind == Some(Kind::Flush)));
}

#[tokio::test]
async fn a_receiver_that_does_not_read_is_cut_off_and_hurts_nobody() {
    let redis = Redis::start().await;
    let ear = Ear::open(&redis.url(), Bounds { notices: 600, ..BOUNDS });
    let (hello, mut slow) = ear.listen(None).await;
    let (_, mut quick) = ear.listen(None).await;
    for first in [1, 501] {
        add_many(&redis, first, 500);
        assert_eq!(frames(&mut quick, 500).await.len(), 500);
    }
    assert!(quick.next().await.is_some());
    assert_eq!(ear.hub.position().unwrap().seq, 1000, "who is cut off holds nobody up");
    assert_eq!(slow.next().await, None);
    drop(slow);
    let (hello, mut again) = ear.listen(Some(&hello.at.to_string())).await;
    assert!(hello.resumed);
    assert_eq!(frames(&mut again, 1000).await.len(), 1000);
}

#[tokio::test]
async fn a_filter_passes_its_caches_and_beats_for_the_rest() {
    let redis = Redis::start().await;
    let ear = Ear::open(&redis.url(), BOUNDS);
    let (_, mut receiver) = ear.listen_to(None, Filter::only(["b".to_owned()])).await;
    let skipped = add(&redis, "a", "a:1");
    let heard = receiver.next().await.unwrap();
    assert_eq!((heard[0].at, heard[0].kind, &heard[0].json[..], heard.len()), (skipped, None, &b"{}"[..], 1));
    let wanted = add(&redis, "b", "b:1");
    let heard = receiver.next().await.unwrap();
    assert_eq!((heard[0].at, heard[0].kind), (wanted, Some(Kind::Drop)));
    assert_eq!(ear.hub.counts().relayed, 1);
}

#[tokio::test]
async fn only_a_log_that_is_read_beats() {
    let redis = Redis::start().await;
    let proxy = FaultProxy::start(redis.address()).await;
    let ear = Ear::open(&proxy.url(), BOUNDS);
    let (_, mut receiver) = ear.listen(None).await;
    let mut last = Instant::now();
    for _ in 0..2 {
        let heard = receiver.next().await.unwrap();
        assert_eq!((heard[0].kind, heard[0].at), (None, Position::START));
        assert!(last.elapsed() < Duration::from_secs(8), "{:?}", last.elapsed());
        last = Instant::now();
    }
    proxy.set(Fault::Stall);
    let beat = tokio::time::timeout(Duration::from_secs(8), receiver.next()).await;
    assert!(beat.is_err(), "{beat:?}");
    let refused = Receiver::open(Arc::clone(&ear.hub), log(&redis.url()), None, Filter::all()).await;
    assert!(matches!(refused, Err(Unheard::Blind(_))), "{refused:?}");
    proxy.set(Fault::None);
    let beat = tokio::time::timeout(LONG, receiver.next()).await;
    assert!(matches!(beat.unwrap().as_deref(), Some([frame]) if frame.kind.is_none()));
}

#[tokio::test]
async fn there_may_be_only_so_many() {
    let redis = Redis::start().await;
    let ear = Ear::open(&redis.url(), Bounds { receivers: 1, ..BOUNDS });
    let (_, receiver) = ear.listen(None).await;
    let open = async || Receiver::open(Arc::clone(&ear.hub), ear.log.clone(), None, Filter::all()).await;
    assert_eq!(open().await.unwrap_err(), Unheard::Full);
    drop(receiver);
    assert!(open().await.is_ok());
}

#[tokio::test]
async fn a_closed_hub_ends_every_stream() {
    let redis = Redis::start().await;
    let ear = Ear::open(&redis.url(), BOUNDS);
    let (_, mut receiver) = ear.listen(None).await;
    let hub: Arc<Hub> = Arc::clone(&ear.hub);
    let waiting = tokio::spawn(async move { receiver.next().await });
    hub.close();
    assert_eq!(waiting.await.unwrap(), None);
    let refused = Receiver::open(hub, ear.log.clone(), None, Filter::all()).await;
    assert!(matches!(refused, Err(Unheard::Blind(_))));
}
