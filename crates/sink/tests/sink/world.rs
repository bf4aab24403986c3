//! A server, a sink, and batches for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use unstale_batcher::{Batch, Batcher, Item, Settings, Source, TargetState};
use unstale_connect::{Link, Place, Role, Server, Site, Store};
use unstale_events::{CacheId, EntryId, Notice, Priority, StreamKind, Target, TargetKind, Targets};
use unstale_router::{Caches, Input, Router, compile};
use unstale_sink::{Budgets, Clients, Config, Delivery, Elsewhere, Lanes, Sink};
use unstale_testkit::{Redis, wait_until};

pub(crate) const LOG: &str = "unstale:notices";

const ROUTES: &str = r#"
protected = ["model:stats:"]
[cache.vkey]
prefixes = ["vkey:"]
[cache.model]
prefixes = ["model:"]
[cache.inner]
prefixes = ["model:inner:"]
[cache.plan]
prefixes = ["plan:"]
store = "local"
[cache.price]
prefixes = ["price:"]
second_delete = "300ms"
[[route]]
event = "ModelChanged"
cache = "model"
keys = ["model:all"]
bump = ["model:epoch", "model:other-epoch"]
[[republish]]
cache = "vkey"
channel = "vkey_batch_invalidated"
format = "json"
fields = { keys = "KeyHashes", time = "Timestamp" }
strip = "vkey:"
[[republish]]
cache = "vkey"
channel = "vkey_invalidated"
format = "key"
strip = "vkey:"
"#;

/// A server and a sink on it.
pub(crate) struct World {
    pub(crate) redis: Redis,
    pub(crate) sink: Arc<Sink>,
    pub(crate) clients: Clients,
    pub(crate) router: Router,
}

impl World {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// With other settings than the usual.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Redis::start().await, None, &[], change).await
    }

    /// As an ACL user with these rights.
    pub(crate) async fn as_user(rights: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let redis = Redis::start().await;
        set_user(&redis, rights);
        Self::on(redis, Some("limited"), &[], change).await
    }

    /// With some caches on other servers, by their URLs.
    pub(crate) async fn split(elsewhere: &[(&[&str], &str)], change: impl FnOnce(&mut Config)) -> Self {
        Self::on(Redis::start().await, None, elsewhere, change).await
    }

    async fn on(redis: Redis, user: Option<&str>, elsewhere: &[(&[&str], &str)], change: impl FnOnce(&mut Config)) -> Self {
        let file = unstale_router::Source { name: "unstale.toml".to_owned(), text: ROUTES.to_owned() };
        let router =
            compile(&Input { file: Some(file), ..Input::default() }).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
        let mut config = config();
        change(&mut config);
        let clients = clients(&redis.url(), user).await;
        let mut others = Vec::new();
        for (caches, url) in elsewhere {
            let caches = caches.iter().map(|name| router.caches().by_name(name).unwrap()).collect();
            others.push(self::elsewhere(caches, url).await);
        }
        let sink = Arc::new(Sink::new(config, Arc::clone(router.caches()), clients.clone(), others));
        Self { redis, sink, clients, router }
    }

    pub(crate) fn caches(&self) -> &Caches {
        self.router.caches()
    }

    /// A batch of one event for each element, all with the same priority.
    pub(crate) fn batch(&self, priority: Priority, targets: &[(&str, TargetKind, &str)]) -> Batch {
        let settings = Settings { max_size: 100_000, ..Settings::default() };
        let mut batcher = Batcher::new(settings);
        let now = Instant::now();
        for (index, (cache, kind, text)) in targets.iter().enumerate() {
            let mut one = Targets::default();
            one.push(Target { cache: self.caches().by_name(cache).unwrap(), kind: *kind, text });
            let id = EntryId { ms: 1_789_000_000_000, seq: index as u64 };
            let source = Source::Entry(StreamKind::Ordinary, id);
            let item = Item { source, priority, targets: &one, dead: None, correlation_id: Some("trace-1"), operation: Some("revoke") };
            batcher.push(item, now);
        }
        batcher.close();
        let batch = batcher.pop(|_| true, now).unwrap();
        assert!(batcher.is_empty(), "these targets are more than one batch");
        batch
    }

    /// A normal batch of keys.
    pub(crate) fn keys(&self, cache: &str, keys: &[&str]) -> Batch {
        let targets: Vec<_> = keys.iter().map(|key| (cache, TargetKind::Key, *key)).collect();
        self.batch(Priority::Normal, &targets)
    }

    /// Makes keys: a beginning and a number from 0 on.
    pub(crate) fn fill(&self, beginning: &str, count: u32) {
        const AT_ONCE: u32 = 20_000;
        let script = "for i = ARGV[2], ARGV[3] - 1 do redis.call('SET', ARGV[1] .. i, 'old') end";
        for from in (0..count).step_by(AT_ONCE as usize) {
            let to = count.min(from + AT_ONCE);
            self.redis.cmd(&["EVAL", script, "0", beginning, &from.to_string(), &to.to_string()]);
        }
    }

    /// Waits until a scan is on its way.
    pub(crate) async fn scanning(&self) {
        self.scanning_since(0).await;
    }

    /// Waits for three pages of a scan more than these.
    pub(crate) async fn scanning_since(&self, pages: u64) {
        let state = || async { if self.calls("scan") > pages + 2 { Ok(()) } else { Err(self.calls("scan").to_string()) } };
        wait_until("three pages of a scan", Duration::from_secs(10), state).await;
    }

    /// Ends the connection that ordinary scans go over.
    pub(crate) fn cut_scan(&self) {
        let clients = self.redis.cmd(&["CLIENT", "LIST"]).text();
        let scan = clients.lines().find(|line| line.contains(" name=scan ")).unwrap();
        let id = scan.split(' ').next().unwrap().strip_prefix("id=").unwrap();
        self.redis.cmd(&["CLIENT", "KILL", "ID", id]);
    }

    pub(crate) async fn deliver(&self, batch: &Batch) -> Delivery {
        self.sink.deliver(batch).await
    }

    /// Deletes once more, in the background.
    pub(crate) fn repeating(&self, batch: Batch, first: Delivery) -> tokio::task::JoinHandle<Delivery> {
        let sink = Arc::clone(&self.sink);
        tokio::spawn(async move { sink.repeat(&batch, first).await })
    }

    /// Delivers in the background.
    pub(crate) fn delivering(&self, batch: Batch) -> tokio::task::JoinHandle<Delivery> {
        let sink = Arc::clone(&self.sink);
        tokio::spawn(async move { sink.deliver(&batch).await })
    }

    pub(crate) fn set(&self, keys: &[&str]) {
        for key in keys {
            self.redis.cmd(&["SET", key, "old"]);
        }
    }

    pub(crate) fn exists(&self, key: &str) -> bool {
        self.redis.cmd(&["EXISTS", key]).int() == 1
    }

    /// All notices in the log: the number of the entry, and the notice.
    pub(crate) fn log(&self) -> Vec<(u64, Notice)> {
        let entries = self.redis.cmd(&["XRANGE", LOG, "-", "+"]);
        let read = |entry: &unstale_testkit::Value| {
            let fields = entry.array()[1].texts();
            assert_eq!((fields.len(), fields[0].as_str(), fields[2].as_str()), (4, "seq", "notice"));
            (fields[1].parse().unwrap(), Notice::from_json(fields[3].as_bytes()).unwrap())
        };
        entries.array().iter().map(read).collect()
    }

    /// Every key that was announced, in order, with repetitions.
    pub(crate) fn announced(&self) -> Vec<String> {
        self.log().into_iter().flat_map(|(_, notice)| notice.drop).flat_map(|drop| drop.keys).collect()
    }

    /// Every pattern that was announced.
    pub(crate) fn announced_patterns(&self) -> Vec<String> {
        self.log().into_iter().flat_map(|(_, notice)| notice.drop).flat_map(|drop| drop.patterns).collect()
    }

    /// The deleted counts, by the caches' names.
    pub(crate) fn deleted(&self, delivery: &Delivery, cache: &str) -> u64 {
        delivery.deleted[self.caches().by_name(cache).unwrap().index()]
    }

    /// The commands that reach the server while `work` is done, as MONITOR shows them.
    pub(crate) async fn watched<T>(&self, work: impl Future<Output = T>) -> (T, Vec<String>) {
        watched(&self.redis, work).await
    }

    /// How often the server was called with a command, by commandstats.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        calls(&self.redis, command)
    }
}

/// The commands that reach a server while `work` is done, as MONITOR shows them.
pub(crate) async fn watched<T>(redis: &Redis, work: impl Future<Output = T>) -> (T, Vec<String>) {
    let mut monitor = redis.resp();
    monitor.monitor();
    let done = work.await;
    redis.cmd(&["ECHO", "that-was-all"]);
    (done, monitor.monitored("that-was-all"))
}

/// How often a server was called with a command, by commandstats.
pub(crate) fn calls(redis: &Redis, command: &str) -> u64 {
    let info = redis.cmd(&["INFO", "commandstats"]).text();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.and_then(|line| line.split(',').next()).map_or(0, |calls| calls.parse().unwrap())
}

/// What clients sent, without what scripts did.
pub(crate) fn sent(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).filter(|line| !line.contains(" lua] ")).collect()
}

/// How many passes over the keys were begun.
pub(crate) fn passes(lines: &[String]) -> usize {
    sent(lines).iter().filter(|line| line.contains("\"SCAN\" \"0\"")).count()
}

/// The names of the commands that scripts ran, in order.
pub(crate) fn in_scripts(lines: &[String]) -> Vec<String> {
    let commands = lines.iter().filter_map(|line| line.split_once(" lua] \"")).map(|(_, command)| command);
    commands.map(|command| command.split('"').next().unwrap().to_uppercase()).collect()
}

pub(crate) fn is_done(delivery: &Delivery) -> bool {
    delivery.states.iter().all(|state| *state == TargetState::Done)
}

/// Makes the user `limited` anew, or changes it: `rights` as in ACL SETUSER.
pub(crate) fn set_user(redis: &Redis, rights: &[&str]) {
    let words = [&["ACL", "SETUSER", "limited", "on", ">secret"], rights].concat();
    redis.cmd(&words);
}

fn config() -> Config {
    Config {
        notices: LOG.to_owned(),
        publish: true,
        max_keys: 1000,
        retain: 100_000,
        retain_bytes: 64 << 20,
        origin: "api-3-x7f2".to_owned(),
        budgets: Budgets::default(),
        republish: Vec::new(),
    }
}

fn site(url: &str, user: Option<&str>) -> Site {
    let mut server: Server = url.parse().unwrap();
    server.command_timeout = Duration::from_millis(500);
    if let Some(user) = user {
        server.username = Some(user.to_owned());
        server.password = Some(unstale_connect::Secret::new("secret").into());
    }
    Site::open(&server).unwrap()
}

async fn stores(site: &Site, ordinary: &str, critical: &str) -> Lanes<Store> {
    let lanes = Lanes { ordinary: site.store(ordinary).unwrap(), critical: site.store(critical).unwrap() };
    for store in [&lanes.ordinary, &lanes.critical] {
        store.link().wait_for(Link::is_up).await.unwrap();
    }
    lanes
}

async fn clients(url: &str, user: Option<&str>) -> Clients {
    let site = site(url, user);
    let open = |name| site.client(Place::Any, Role::Commands, name).unwrap();
    let scripts = Lanes { ordinary: open("ordinary"), critical: open("critical") };
    for client in [&scripts.ordinary, &scripts.critical] {
        client.ready(Duration::from_secs(5)).await.unwrap();
    }
    Clients { scripts, scans: Some(stores(&site, "scan", "critical-scan").await) }
}

async fn elsewhere(caches: Vec<CacheId>, url: &str) -> Elsewhere {
    let site = site(url, None);
    let deletes = stores(&site, "delete", "critical-delete").await;
    let scans = stores(&site, "scan", "critical-scan").await;
    Elsewhere { server: "other".to_owned(), caches, deletes, scans, failover_replay: Duration::from_secs(30) }
}
