//! `unstale run`: puts the parts together, runs the loop, and ends it when the process is told to.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::runtime::Handle as Runtime;
use unstale_batcher::Settings as Batching;
use unstale_connect::{Client, FaultKind};
use unstale_events::{CacheId, StreamKind};
use unstale_notices::{Bounds, Course, Follower, Hub, Log};
use unstale_pipeline::handle::{Handle, seat};
use unstale_pipeline::health::Thresholds;
use unstale_pipeline::stats::{Labels, Stats};
use unstale_pipeline::{Ended, Parts, Pipeline, Settings, Unrouted};
use unstale_router::Router;
use unstale_sink::{Budgets, Sink, Stage};
use unstale_source::{EntryLimit, Group, Letters, LettersConfig, Membership, Names, Reader, Start};

use crate::cli::Exit;
use crate::config::{self, Config, Loaded};
use crate::connections::{BLOCK, Connections};
use crate::http::{App, Lookout, Rules, Server as HttpServer};
use crate::prober::Prober;
use crate::release::{COMMIT, VERSION};
use crate::service;
use crate::signals::Signals;
use crate::telemetry;

/// How many of the latest notices are kept for receivers, and how many bytes of them.
const KEPT: (usize, usize) = (10_000, 8 << 20);
/// The stages outside deliveries that can meet an error.
const STAGES: [&str; 9] = ["read", "ack", "bury", "claim", "release", "beat", "survey", "flush", "tidy"];

/// Runs the sidecar until it is told to end. What concerns HTTP runs in a runtime of its own.
pub async fn run(loaded: Loaded, http: &Runtime) -> Exit {
    telemetry::init(&loaded.config.log);
    // All in one line: of several lines from one place only the first is written at once.
    if !loaded.warnings.is_empty() {
        tracing::warn!("{}", loaded.warnings.join("; "));
    }
    let Loaded { config, router, .. } = loaded;
    match serve(&config, Arc::new(router), http).await {
        Ok(Ended::Drained) => Exit::Done,
        Ok(Ended::Deadline { left }) => {
            tracing::warn!(left, "the drain deadline passed; what is left stays pending and will be taken over");
            Exit::Undrained
        }
        Err(error) => {
            tracing::error!("can't start: {error}");
            Exit::Configuration
        }
    }
}

/// Listens, works, and stops in the order in which others depend on it: health is told to the very end.
async fn serve(config: &Config, router: Arc<Router>, http: &Runtime) -> Result<Ended, String> {
    let signals = Signals::listen().map_err(|error| error.to_string())?;
    let Assembly { pipeline, handle, publisher, lookout, instance, names, hub, mut follower, log } = assemble(config, &router, http)?;
    let rules = Rules::new(config)?;
    let prober = (!config.probe.interval.is_zero()).then(|| Prober {
        publisher: publisher.clone(),
        log: log.clone(),
        hub: Arc::clone(&hub),
        handle: handle.clone(),
        names: names.clone(),
        namespace: config.namespace.clone(),
        interval: config.probe.interval,
        timeout: config.probe.timeout,
    });
    let app =
        App { router, handle: handle.clone(), publisher, lookout, instance: instance.clone(), names, hub: Arc::clone(&hub), log, rules };
    let servers = http.spawn(listen(config.http.bind, config.http.probe_bind, app, handle.clone()));
    let servers = servers.await.map_err(|error| error.to_string())?.map_err(|error| format!("http: {error}"))?;
    let urls: Vec<String> = servers.iter().map(|server| format!("http://{}", server.address())).collect();
    tracing::info!(version = VERSION, commit = COMMIT, instance, namespace = config.namespace, http = urls.join(" "), "unstale starts");
    service::tell(handle.clone());
    drain_on(signals, handle);
    // Beside HTTP, which is where its notices are heard.
    let following = http.spawn({
        let hub = Arc::clone(&hub);
        async move { hub.follow(&mut follower).await }
    });
    let probing = prober.map(|prober| tokio::spawn(prober.run()));
    // A task, for to wake the future that the runtime was begun with takes a system call each time.
    let ended = tokio::spawn(pipeline.run()).await.map_err(|error| format!("the loop ended: {error}"))?;
    following.abort();
    if let Some(probing) = probing {
        probing.abort();
    }
    hub.close();
    for server in servers {
        server.stop().await;
    }
    Ok(ended)
}

async fn listen(bind: SocketAddr, probes: Option<SocketAddr>, app: App, handle: Handle) -> io::Result<Vec<HttpServer>> {
    let mut servers = vec![HttpServer::start(bind, app).await?];
    if let Some(bind) = probes {
        servers.push(HttpServer::start_probes(bind, handle).await?);
    }
    Ok(servers)
}

/// Has the loop drain at the first signal; the second ends the process.
fn drain_on(mut signals: Signals, handle: Handle) {
    tokio::spawn(async move {
        let signal = signals.next().await;
        tracing::info!(signal, "told to end");
        service::stopping();
        handle.drain();
        signals.exit_on_next();
    });
}

/// A few letters that tell this process from the one that had its name before.
fn suffix() -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let random = RandomState::new().hash_one(std::process::id());
    random.to_le_bytes().iter().take(5).map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect()
}

/// A sidecar ready to run.
#[derive(Debug)]
pub struct Assembly {
    /// The loop.
    pub pipeline: Pipeline,
    /// What looks at it and asks it.
    pub handle: Handle,
    /// The connection for what others ask to be added to the streams.
    pub publisher: Client,
    /// What looks at what is shared in Redis.
    pub lookout: Lookout,
    /// This process's name among the sidecars.
    pub instance: String,
    /// The names of the namespace.
    pub names: Names,
    /// What receivers of notices hear: what the follower reads.
    pub hub: Arc<Hub>,
    /// Reads the log of notices for all receivers.
    pub follower: Follower,
    /// The log, for receivers that read it by themselves.
    pub log: Log,
}

/// Puts a sidecar together, part of it in the runtime of HTTP. It begins to connect at once, and reports what it can't reach rather than fail.
///
/// # Errors
/// What is wrong with the servers' settings or files.
pub fn assemble(config: &Config, router: &Arc<Router>, http: &Runtime) -> Result<Assembly, String> {
    let names = config.names();
    let instance = format!("{}-{}", config.instance.name, suffix());
    let connections = Connections::open(config, router, &instance, http)?;
    let stats = Stats::new(labels(router, connections.roles()));
    let Connections { read, read_critical, here, elsewhere, control, notices, replay, publisher, lines } = connections;
    let group = |kind, start| Group::new(control.clone(), kind, names.stream(kind), &names.group, &instance, start);
    let ordinary_start = if !names.owned && config.bus.start == config::Start::Now { Start::End } else { Start::Beginning };
    let sink = Sink::new(sink_config(config, router, &names, &instance), Arc::clone(router.caches()), here, elsewhere);
    let (kept, kept_bytes) = KEPT;
    let hub = Arc::new(Hub::new(Bounds { notices: kept, bytes: kept_bytes, receivers: config.http.subscribers }));
    let parts = Parts {
        router: Arc::clone(router),
        sink: Arc::new(sink),
        critical: Reader::new(read_critical, group(StreamKind::Critical, Start::Beginning), BLOCK),
        ordinary: Reader::new(read, group(StreamKind::Ordinary, ordinary_start), BLOCK),
        membership: Membership::new(control.clone(), &names, &instance),
        letters: Letters::new(control.clone(), letters_config(config, &names, &instance)),
        control: control.clone(),
        names: names.clone(),
        hub: Arc::clone(&hub),
        lines,
    };
    let (seat, handle) = seat(stats.clone());
    let pipeline = Pipeline::new(settings(config, router, &names), parts, stats, seat);
    let follower = Follower::waiting(Log::new(notices, &names.notices), Course::begin());
    let lookout = Lookout::new(replay.clone(), names.clone());
    let log = Log::new(replay, &names.notices);
    Ok(Assembly { pipeline, handle, publisher, lookout, instance, names, hub, follower, log })
}

/// What a sink is told by the configuration.
pub(crate) fn sink_config(config: &Config, router: &Router, names: &Names, instance: &str) -> unstale_sink::Config {
    unstale_sink::Config {
        notices: names.notices.clone(),
        publish: config.notices.publish,
        max_keys: config.notices.max_keys,
        retain: config.notices.retain,
        retain_bytes: config.notices.retain_bytes,
        origin: instance.to_owned(),
        budgets: Budgets { normal: config.retry.budget, critical: config.retry.critical_budget },
        republish: router.republish().to_vec(),
    }
}

fn letters_config(config: &Config, names: &Names, instance: &str) -> LettersConfig {
    LettersConfig {
        stream: names.dead.clone(),
        retain: config.dead_letters.retain,
        retain_bytes: config.dead_letters.retain_bytes,
        entry: EntryLimit::new(size(config.limits.entry)),
        origin: instance.to_owned(),
    }
}

fn settings(config: &Config, router: &Router, names: &Names) -> Settings {
    let health = &config.health;
    Settings {
        batching: batching(&config.batching, router),
        entry: EntryLimit::new(size(config.limits.entry)),
        memory: size(config.limits.memory),
        unrouted: match config.bus.unrouted {
            config::Unrouted::Ack => Unrouted::Acknowledge,
            config::Unrouted::DeadLetter => Unrouted::DeadLetter,
        },
        min_idle: config.reclaim.min_idle,
        critical_min_idle: config.reclaim.critical_min_idle,
        max_deliveries: config.reclaim.max_deliveries,
        trim: names.owned || config.bus.trim,
        clear_on_loss: config.bus.on_loss == config::OnLoss::Clear,
        drain: config.drain.deadline,
        health: Thresholds {
            depth: health.depth,
            ping: health.ping,
            error_rate: health.error_rate,
            lag: health.lag,
            oldest_pending: health.oldest_pending,
        },
    }
}

/// What a batcher is told by the configuration.
pub(crate) fn batching(batching: &config::Batching, router: &Router) -> Batching {
    let windows = &batching.windows;
    let repeated = router.caches().iter().filter(|(_, cache)| !cache.second_delete.is_zero());
    Batching {
        enabled: batching.enabled,
        window: batching.window,
        windows: [None, windows.high, windows.normal, windows.low],
        max_size: batching.max_size,
        coalescing: batching.coalescing,
        unfolded: repeated.map(|(id, _)| id).collect::<Vec<CacheId>>(),
    }
}

fn labels(router: &Router, roles: Vec<String>) -> Labels {
    Labels {
        caches: router.caches().all().map(|(_, cache)| cache.name.clone()).collect(),
        types: router.labels().to_vec(),
        stages: Stage::ALL.into_iter().map(Stage::name).chain(STAGES).collect(),
        kinds: FaultKind::ALL.into_iter().map(FaultKind::name).collect(),
        roles,
        version: VERSION.to_owned(),
        commit: COMMIT.to_owned(),
        routes: router.fingerprint().to_owned(),
    }
}

/// Sizes beyond the address space can't be reached anyway.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
