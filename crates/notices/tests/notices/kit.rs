//! A log on a server of the test's own, written as the sink writes it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use unstale_connect::{Client, Role, Server};
use unstale_events::Position;
use unstale_notices::{Bounds, Course, Filter, Follower, Frame, Hello, Hub, IDLE, Log, News, Receiver, Told};
use unstale_testkit::Redis;

/// Long enough for anything on a loaded machine.
pub(crate) const LONG: Duration = Duration::from_secs(30);
pub(crate) const LOG: &str = "unstale:notices";
pub(crate) const BOUNDS: Bounds = Bounds { notices: 100, bytes: 1 << 20, receivers: 8 };

pub(crate) fn client(url: &str, role: Role) -> Client {
    Client::open(&url.parse::<Server>().unwrap(), role, "notices test").unwrap()
}

pub(crate) fn log(url: &str) -> Log {
    Log::new(client(url, Role::Commands), LOG)
}

pub(crate) fn follower(url: &str, course: Course) -> Follower {
    Follower::waiting(Log::new(client(url, Role::Reader { block: IDLE }), LOG), course)
}

/// Adds a notice of one key with the next number; returns its position.
pub(crate) fn add(redis: &Redis, cache: &str, key: &str) -> Position {
    let newest = redis.cmd(&["XREVRANGE", LOG, "+", "-", "COUNT", "1"]);
    let seq = newest.array().first().map_or(0, |entry| entry.array()[1].texts()[1].parse().unwrap());
    add_numbered(redis, seq + 1, cache, key)
}

pub(crate) fn add_numbered(redis: &Redis, seq: u64, cache: &str, key: &str) -> Position {
    let notice = format!(r#"{{"v":1,"seq":{seq},"drop":[{{"cache":"{cache}","keys":["{key}"],"patterns":[]}}]}}"#);
    let id = redis.cmd(&["XADD", LOG, "*", "seq", &seq.to_string(), "notice", &notice]).text();
    Position { id: id.parse().unwrap(), seq }
}

/// Adds many at once, numbered from `first` on.
pub(crate) fn add_many(redis: &Redis, first: u64, count: u64) {
    const MANY: &str = "for seq = ARGV[1], ARGV[1] + ARGV[2] - 1 do
        local n = string.format('%.0f', seq)
        redis.call('XADD', KEYS[1], '*', 'seq', n, 'notice', '{\"v\":1,\"seq\":' .. n .. ',\"drop\":[{\"cache\":\"a\",\"keys\":[\"a:' .. n .. '\"]}]}')
    end";
    redis.cmd(&["EVAL", MANY, "1", LOG, &first.to_string(), &count.to_string()]);
}

/// The next news that say something, whatever faults come before.
pub(crate) async fn told(follower: &mut Follower) -> Vec<Told> {
    let told = async {
        loop {
            match follower.next().await {
                Ok(News::Told(told)) if !told.is_empty() => return told,
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::time::timeout(LONG, told).await.expect("there are news")
}

/// A hub with its follower.
pub(crate) struct Ear {
    pub(crate) hub: Arc<Hub>,
    pub(crate) log: Log,
    following: JoinHandle<()>,
}

impl Ear {
    pub(crate) fn open(url: &str, bounds: Bounds) -> Self {
        let hub = Arc::new(Hub::new(bounds));
        let mut follower = follower(url, Course::begin());
        let following = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { hub.follow(&mut follower).await }
        });
        Self { hub, log: log(url), following }
    }

    pub(crate) async fn listen(&self, last: Option<&str>) -> (Hello, Receiver) {
        self.listen_to(last, Filter::all()).await
    }

    pub(crate) async fn listen_to(&self, last: Option<&str>, filter: Filter) -> (Hello, Receiver) {
        let open = async {
            loop {
                match Receiver::open(Arc::clone(&self.hub), self.log.clone(), last, filter.clone()).await {
                    Ok(open) => return open,
                    Err(unstale_notices::Unheard::Blind(_)) => {}
                    Err(full) => panic!("{full}"),
                }
            }
        };
        tokio::time::timeout(LONG, open).await.expect("the log is read")
    }

    /// Stops reading, as if the process were paused.
    pub(crate) fn stop(&self) {
        self.following.abort();
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The next frames that aren't heartbeats, as many as asked for at least.
pub(crate) async fn frames(receiver: &mut Receiver, count: usize) -> Vec<Frame> {
    let mut frames = Vec::new();
    let hear = async {
        while frames.len() < count {
            let heard = receiver.next().await.expect("the stream goes on");
            frames.extend(heard.into_iter().filter(|frame| frame.kind.is_some()));
        }
    };
    let heard = tokio::time::timeout(LONG, hear).await;
    assert!(heard.is_ok(), "{count} frames were to come, these did: {frames:?}");
    frames
}
