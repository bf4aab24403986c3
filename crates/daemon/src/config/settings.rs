//! The settings themselves, with their defaults. The comments here are the ones in the JSON schema and in the book.
//!
//! Routes, caches and presets are not here: `unstale_router` reads those sections of the file.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::human;

/// The largest share of memory, entries and so on are bytes; times are durations.
const MIB: u64 = 1 << 20;

/// Everything that can be set, except what the routes say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What every name in Redis begins with: streams, group, notice log, lease. One for each application and environment.
    pub namespace: String,
    /// This process.
    pub instance: Instance,
    /// Where events come from and notices go.
    pub bus: Bus,
    /// The Redis servers, by name. `main` is the default of the bus and of every cache.
    pub redis: BTreeMap<String, Redis>,
    /// How events are gathered into batches.
    pub batching: Batching,
    /// What receivers are told.
    pub notices: Notices,
    /// How many dead letters are kept.
    pub dead_letters: DeadLetters,
    /// The bounds on what is read.
    pub limits: Limits,
    /// How long a delivery is tried.
    pub retry: Retry,
    /// When entries that nobody finishes are taken over.
    pub reclaim: Reclaim,
    /// The HTTP server.
    pub http: Http,
    /// When `/healthz` calls the service degraded, or for its errors unhealthy.
    pub health: Health,
    /// The canaries that measure how long an invalidation takes.
    pub probe: Probe,
    /// The log on standard error.
    pub log: Log,
    /// The end of the process.
    pub drain: Drain,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            namespace: "unstale".to_owned(),
            instance: Instance::default(),
            bus: Bus::default(),
            redis: BTreeMap::from([("main".to_owned(), Redis { url: Some(Redis::DEFAULT_URL.to_owned()), ..Redis::default() })]),
            batching: Batching::default(),
            notices: Notices::default(),
            dead_letters: DeadLetters::default(),
            limits: Limits::default(),
            retry: Retry::default(),
            reclaim: Reclaim::default(),
            http: Http::default(),
            health: Health::default(),
            probe: Probe::default(),
            log: Log::default(),
            drain: Drain::default(),
        }
    }
}

/// This process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Instance {
    /// What consumer and origin names begin with; a short random suffix is added. Default: the host name.
    pub name: String,
}

impl Default for Instance {
    fn default() -> Self {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self { name: if name.is_empty() { "localhost".to_owned() } else { name } }
    }
}

/// Where events come from and notices go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// The server that holds the streams and the notice log, by its name.
    pub redis: String,
    /// An existing stream to read instead of `<namespace>:events`.
    pub stream: Option<String>,
    /// Where `bus.stream` is begun when its group is first made.
    pub start: Start,
    /// Whether `bus.stream` is trimmed, too.
    pub trim: bool,
    /// What becomes of events that no route names.
    pub unrouted: Unrouted,
    /// What follows when history was lost before it was read.
    pub on_loss: OnLoss,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            redis: "main".to_owned(),
            stream: None,
            start: Start::Beginning,
            trim: false,
            unrouted: Unrouted::Ack,
            on_loss: OnLoss::Flush,
        }
    }
}

/// Where a new group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Start {
    /// With the oldest entry.
    #[serde(rename = "0")]
    Beginning,
    /// With what is added from now on.
    #[serde(rename = "$")]
    Now,
}

/// What becomes of events that no route names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Unrouted {
    /// They are counted and acknowledged.
    Ack,
    /// They are kept as dead letters.
    DeadLetter,
}

/// What follows when history was lost before it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnLoss {
    /// Every receiver is told to flush.
    Flush,
    /// That, and all keys under the caches' prefixes are deleted.
    Clear,
}

/// One Redis server. `Debug` hides what may be secret.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// Such as `redis://127.0.0.1:6379/0`, `rediss://…` (TLS), `unix:///run/redis.sock?db=1`, `redis-sentinel://h1,h2,h3/0?master=main` or
    /// `redis-cluster://h1,h2,h3`.
    pub url: Option<String>,
    /// The ACL user.
    pub username: Option<String>,
    /// A file that holds the password, and nothing else.
    pub password_file: Option<PathBuf>,
    /// The ACL user for sentinels, which have users of their own.
    pub sentinel_username: Option<String>,
    /// A file that holds the password for sentinels, and nothing else. Without it they are given no password.
    pub sentinel_password_file: Option<PathBuf>,
    /// PEM file with the authorities to trust, instead of the system's.
    pub ca: Option<PathBuf>,
    /// PEM file with the client's certificate.
    pub cert: Option<PathBuf>,
    /// PEM file with the client's private key.
    pub key: Option<PathBuf>,
    /// How far back deletes of caches there are repeated after a failover, if they are apart from the bus; `0s` for not at all.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub failover_replay: Duration,
    /// How long connecting may take.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub connect_timeout: Duration,
    /// How long the answer to a command may take.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub command_timeout: Duration,
}

impl Redis {
    /// Where `main` is if nobody says.
    pub const DEFAULT_URL: &'static str = "redis://127.0.0.1:6379";
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: None,
            username: None,
            password_file: None,
            sentinel_username: None,
            sentinel_password_file: None,
            ca: None,
            cert: None,
            key: None,
            failover_replay: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(3),
            command_timeout: Duration::from_secs(3),
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_deref().map(super::secret::hide_userinfo);
        f.debug_struct("Redis").field("url", &url).field("username", &self.username).finish_non_exhaustive()
    }
}

/// How events are gathered into batches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Batching {
    /// The load that window, size and coalescing are for; those that are set by themselves win.
    pub profile: Profile,
    /// `false` delivers every event by itself.
    pub enabled: bool,
    /// How long an event of normal priority may wait for others. High waits a quarter of it, low ten times as long, critical not at all.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub window: Duration,
    /// How many targets make a batch full.
    pub max_size: usize,
    /// Whether equal targets in a batch are deleted once.
    pub coalescing: bool,
    /// Windows of single priorities.
    pub windows: Windows,
}

impl Default for Batching {
    fn default() -> Self {
        Self {
            profile: Profile::Default,
            enabled: true,
            window: Duration::from_millis(100),
            max_size: 100,
            coalescing: true,
            windows: Windows::default(),
        }
    }
}

/// A kind of load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A little of everything.
    Default,
    /// A developer's machine: small batches, soon.
    Development,
    /// As many events as Redis can take.
    Throughput,
    /// As soon as possible, at the price of more commands.
    LowLatency,
    /// Every event to be seen by itself: next to no batches, and no target dropped.
    Debugging,
}

/// Windows of single priorities; what is absent follows from `batching.window`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Windows {
    /// Default: a quarter of `batching.window`.
    #[serde(with = "human::optional_duration")]
    #[schemars(with = "Option<String>")]
    pub high: Option<Duration>,
    /// Default: `batching.window`.
    #[serde(with = "human::optional_duration")]
    #[schemars(with = "Option<String>")]
    pub normal: Option<Duration>,
    /// Default: ten times `batching.window`.
    #[serde(with = "human::optional_duration")]
    #[schemars(with = "Option<String>")]
    pub low: Option<Duration>,
}

/// What receivers are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Notices {
    /// A notice with more keys is split.
    pub max_keys: usize,
    /// How many entries the notice log keeps.
    pub retain: u64,
    /// How many bytes the notice log keeps; whichever bound is reached first.
    #[serde(with = "human::size")]
    #[schemars(with = "super::schema::Size")]
    pub retain_bytes: u64,
    /// Whether notices are also published on the channel.
    pub publish: bool,
}

impl Default for Notices {
    fn default() -> Self {
        Self { max_keys: 1000, retain: 100_000, retain_bytes: 64_000_000, publish: true }
    }
}

/// How many dead letters are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetters {
    /// How many dead letters are kept.
    pub retain: u64,
    /// How many bytes of them; whichever bound is reached first.
    #[serde(with = "human::size")]
    #[schemars(with = "super::schema::Size")]
    pub retain_bytes: u64,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self { retain: 100_000, retain_bytes: 64_000_000 }
    }
}

/// The bounds on what is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// A larger event becomes a dead letter, and so does one with more than one field for each 64 bytes of this: each takes memory beside its text.
    #[serde(with = "human::size")]
    #[schemars(with = "super::schema::Size")]
    pub entry: u64,
    /// An event with more targets becomes a dead letter.
    pub targets: usize,
    /// How much unfinished work is held; past it, nothing more is read or taken over.
    #[serde(with = "human::size")]
    #[schemars(with = "super::schema::Size")]
    pub memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { entry: MIB, targets: 10_000, memory: 48 * MIB }
    }
}

/// How long a delivery is tried before its entries are left pending for a later one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How long a delivery is tried before its events are left to be delivered again.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub budget: Duration,
    /// The same for critical batches.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub critical_budget: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { budget: Duration::from_secs(10), critical_budget: Duration::from_secs(2) }
    }
}

/// When entries that nobody finishes are taken over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Reclaim {
    /// When an event of the ordinary stream that an instance leaves unfinished is taken over from it. An instance that lives says of what it is at work on
    /// that it is, three times within this time. Must exceed `retry.budget` plus the longest `second_delete`.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub min_idle: Duration,
    /// `reclaim.min_idle` of the critical stream. Must exceed `retry.critical_budget` plus the longest `second_delete`.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub critical_min_idle: Duration,
    /// An event that was delivered this often, from the fourth time on alone, and never finished becomes a dead letter.
    pub max_deliveries: u64,
}

impl Default for Reclaim {
    fn default() -> Self {
        Self { min_idle: Duration::from_secs(30), critical_min_idle: Duration::from_secs(5), max_deliveries: 5 }
    }
}

/// The HTTP server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where everything is served; port 0 takes a free one. Beyond loopback it needs `http.token_file`.
    pub bind: SocketAddr,
    /// Where health and metrics alone are served, too; off by default.
    pub probe_bind: Option<SocketAddr>,
    /// Names that requests may give in `Host`, beside addresses and `localhost`.
    pub hosts: Vec<String>,
    /// A file that holds the bearer token, and nothing else.
    pub token_file: Option<PathBuf>,
    /// How large a request's body may be.
    #[serde(with = "human::size")]
    #[schemars(with = "super::schema::Size")]
    pub body: u64,
    /// How many may follow `/v1/notices` at once; more are refused with 503.
    pub subscribers: usize,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            bind: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7863),
            probe_bind: None,
            hosts: Vec::new(),
            token_file: None,
            body: MIB,
            subscribers: 256,
        }
    }
}

/// When `/healthz` calls the service degraded, or for its errors unhealthy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Health {
    /// More entries than this unread or unfinished, over both streams: degraded.
    pub depth: u64,
    /// Redis slower than this to answer a ping: degraded.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub ping: Duration,
    /// A larger share of failed deliveries in five minutes: unhealthy. 0.05 is 5 %.
    pub error_rate: f64,
    /// More entries than this unread in one stream: degraded.
    pub lag: u64,
    /// An entry that has been unfinished for longer: degraded.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub oldest_pending: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self { depth: 10_000, ping: Duration::from_millis(100), error_rate: 0.05, lag: 10_000, oldest_pending: Duration::from_secs(60) }
    }
}

/// The canaries that measure how long an invalidation takes: events for keys of the sidecar's own, which go the way of all others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Probe {
    /// How often a canary is sent, give or take a quarter; `0s` for never.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub interval: Duration,
    /// After how long a canary that has had no effect counts as lost.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub timeout: Duration,
}

impl Default for Probe {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), timeout: Duration::from_secs(30) }
    }
}

/// The log on standard error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// How it is written; it goes to standard error.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`; or such for single modules, as in `info,unstale_sink=debug`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// The end of the process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Drain {
    /// How long work in flight may take to finish; what is left stays pending and the exit code is 3.
    #[serde(with = "human::duration")]
    #[schemars(with = "String")]
    pub deadline: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(20) }
    }
}
