//! A master, its replicas and three sentinels that watch them, all processes of a test's own.

use std::path::Path;

use crate::cluster::{agreed, in_sync};
use crate::redis::{Builder, blocking};
use crate::{Error, Redis, Value};

/// The name by which the sentinels know the master.
const MASTER: &str = "main";

/// What the servers and their sentinels are started with.
#[derive(Debug)]
pub struct SentinelsBuilder {
    replicas: usize,
    server: Builder,
    sentinel: Builder,
    lines: Vec<String>,
}

impl SentinelsBuilder {
    /// More command line arguments for each server.
    #[must_use]
    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.server = self.server.args(args);
        self
    }

    /// Clients, servers and sentinels speak TLS, with the files given, and clients show a certificate. Tests still look at them without it.
    #[must_use]
    pub fn tls(mut self, cert: &Path, key: &Path, ca: &Path) -> Self {
        self.server = self.server.tls(cert, key, Some(ca));
        self.sentinel = self.sentinel.tls(cert, key, Some(ca));
        self
    }

    /// Every server wants this password.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.server = self.server.password(password);
        self.lines.push(format!("sentinel auth-pass {MASTER} {password}"));
        self
    }

    /// Every sentinel wants this password.
    #[must_use]
    pub fn sentinel_password(mut self, password: &str) -> Self {
        self.sentinel = self.sentinel.password(password);
        self.lines.push(format!("sentinel sentinel-pass {password}"));
        self
    }

    /// Starts all of them, and waits until the replicas are in sync and the sentinels know each other.
    ///
    /// # Panics
    /// If they don't get there.
    pub async fn start(self) -> Sentinels {
        let Self { replicas, server, sentinel, lines } = self;
        let servers = blocking(move || servers(&server, replicas)).await;
        let synced = || servers.iter().skip(1).try_for_each(in_sync);
        agreed("the replicas to be in sync", synced).await;
        let address = servers[0].public_address();
        let mut file = vec![
            format!("sentinel monitor {MASTER} {} {} 2", address.ip(), address.port()),
            format!("sentinel down-after-milliseconds {MASTER} 1500"),
            format!("sentinel failover-timeout {MASTER} 6000"),
        ];
        file.extend(lines);
        let file = file.join("\n");
        let sentinels = blocking(move || (0..3).map(|_| sentinel.clone().sentinel(&file).start_sync()).collect()).await;
        let all = Sentinels { servers, sentinels };
        agreed("the sentinels to know each other and the replicas", || all.acquainted()).await;
        all
    }
}

/// A master and its replicas.
fn servers(builder: &Builder, replicas: usize) -> Vec<Redis> {
    let mut servers = vec![builder.clone().start_sync()];
    let master = servers[0].public_address();
    let of = [master.ip().to_string(), master.port().to_string()];
    servers.extend((0..replicas).map(|_| {
        let replica = builder.clone().start_sync();
        replica.cmd(&["REPLICAOF", &of[0], &of[1]]);
        replica
    }));
    servers
}

/// Running servers and sentinels; dropping this kills them all. Servers go by their index; at first the master is 0.
#[derive(Debug)]
pub struct Sentinels {
    servers: Vec<Redis>,
    sentinels: Vec<Redis>,
}

impl Sentinels {
    /// Starts a master with so many replicas, and three sentinels.
    ///
    /// # Panics
    /// If they don't get to know each other.
    pub async fn start(replicas: usize) -> Self {
        Self::builder(replicas).start().await
    }

    /// The same with settings.
    pub fn builder(replicas: usize) -> SentinelsBuilder {
        let server = Redis::builder().args(["--repl-diskless-sync-delay", "0"]);
        SentinelsBuilder { replicas, server, sentinel: Redis::builder(), lines: Vec::new() }
    }

    /// `redis-sentinel://` (or `rediss-sentinel://`) with all sentinels, and the master's name.
    pub fn url(&self) -> String {
        let scheme = if self.sentinels[0].url().starts_with("rediss") { "rediss" } else { "redis" };
        let hosts: Vec<String> = self.sentinels.iter().map(|sentinel| sentinel.public_address().to_string()).collect();
        format!("{scheme}-sentinel://{}?master={MASTER}", hosts.join(","))
    }

    /// The servers.
    pub fn servers(&self) -> &[Redis] {
        &self.servers
    }

    /// One of them.
    pub fn server(&self, index: usize) -> &Redis {
        &self.servers[index]
    }

    /// One of them, to kill it and to start it again. One that starts again is a master, until the sentinels see to it.
    pub fn server_mut(&mut self, index: usize) -> &mut Redis {
        &mut self.servers[index]
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[Redis] {
        &self.sentinels
    }

    /// One of them, to kill it and to start it again.
    pub fn sentinel_mut(&mut self, index: usize) -> &mut Redis {
        &mut self.sentinels[index]
    }

    /// The server that all running sentinels call the master and that says so itself.
    ///
    /// # Errors
    /// Who says what instead.
    pub fn try_master(&self) -> Result<usize, String> {
        let said: Vec<u16> = self.running_sentinels().map(master_port).collect::<Result<_, _>>()?;
        let master = self.servers.iter().position(|server| said.iter().all(|port| server.public_address().port() == *port));
        let master = master.ok_or_else(|| format!("the sentinels name the ports {said:?}"))?;
        let role = ask(&self.servers[master], &["ROLE"])?.array()[0].text();
        if role == "master" { Ok(master) } else { Err(format!("{master} is a {role}")) }
    }

    /// [`Sentinels::try_master`], where there must be one.
    ///
    /// # Panics
    /// If they don't agree.
    pub fn master(&self) -> usize {
        self.try_master().unwrap_or_else(|why| panic!("there is no master that all agree on: {why}"))
    }

    /// Has a replica take over from the living master, and waits until all sentinels know. Returns the new master. The old one is still a
    /// master then, and answers as one, for some ten seconds.
    ///
    /// # Panics
    /// If it doesn't come about.
    pub async fn fail_over(&self) -> usize {
        let old = self.master();
        let state = || {
            // Refused while one is under way, and until the sentinel has asked a replica lately.
            let sentinel = self.running_sentinels().next().ok_or("no sentinel is running")?;
            let answer = sentinel.resp().try_cmd(&["SENTINEL", "FAILOVER", MASTER]);
            answer.map(drop).map_err(|error| error.to_string())
        };
        agreed("a sentinel to begin a failover", state).await;
        self.replaced(old).await
    }

    /// Waits until another server than this one, which was killed or is stopped, is the master for all. Returns it.
    ///
    /// # Panics
    /// If none is.
    pub async fn replaced(&self, old: usize) -> usize {
        let state = || self.try_master().and_then(|master| if master == old { Err(format!("{old} still")) } else { Ok(master) });
        agreed("another master", state).await
    }

    fn running_sentinels(&self) -> impl Iterator<Item = &Redis> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_running())
    }

    fn acquainted(&self) -> Result<(), String> {
        for sentinel in &self.sentinels {
            let about = sentinel.cmd(&["SENTINEL", "MASTER", MASTER]);
            let number = |name: &str| about.field(name).and_then(|value| usize::try_from(value.int()).ok());
            let known = (number("num-other-sentinels"), number("num-slaves"));
            if known != (Some(self.sentinels.len() - 1), Some(self.servers.len() - 1)) {
                return Err(format!("port {} knows of (sentinels, replicas) {known:?}", sentinel.port()));
            }
        }
        Ok(())
    }
}

fn master_port(sentinel: &Redis) -> Result<u16, String> {
    let address = ask(sentinel, &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER])?;
    let port = address.array().get(1).ok_or("a sentinel doesn't know the name")?.text();
    port.parse().map_err(|_| port)
}

fn ask(server: &Redis, words: &[&str]) -> Result<Value, String> {
    let answer = server.try_resp().map_err(Error::Io).and_then(|mut resp| resp.try_cmd(words));
    answer.map_err(|error| format!("port {}: {error}", server.port()))
}
