//! A connection that is made again for ever, and how a command goes over it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::{ClientInterface, ClientLike};
use fred::types::ClientUnblockFlag;
use fred::types::config::{
    ClusterDiscoveryPolicy, Config, ConnectionConfig, Options, PerformanceConfig, Server as Node, ServerConfig, TcpConfig, TlsConfig,
    TlsConnector, UnresponsiveConfig,
};
use socket2::TcpKeepalive;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::fault::{Fault, FaultKind};
use crate::link::{self, Link, Plan, Shared};
use crate::server::{Endpoint, Host, Server};
use crate::tls;
use crate::wire::{self, Command, Frame, Reply};

/// What a blocking read has beside its BLOCK, before the connection is given up.
const GRACE: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Commands that are answered at once. Nothing on it may block.
    Commands,
    /// Reads that block, for at most this long, and nothing else: what comes behind a blocked read waits for it.
    Reader {
        /// The longest BLOCK.
        block: Duration,
    },
}

/// One connection to Redis that is made again whenever it ends, after a jittered pause of 50 ms to 1 s. Clones share it; with the last
/// one it is closed.
///
/// - While it is down, a command fails at once with [`FaultKind::Unreachable`]; nothing is queued until it is up again.
/// - A command that gets no answer within its time fails with [`FaultKind::Timeout`], and the connection is given up, so that the answers
///   of other commands are not awaited from a server that is gone. Those fail with [`FaultKind::Unreachable`].
/// - A command is sent once. Whether it was carried out, if there is no answer, is not known.
/// - Commands are written in the order in which their futures are first polled; futures polled together are written together.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    supervisor: AbortHandle,
    timeout: Duration,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Client {
    /// Begins to connect and returns at once, whether the server is there or not. Needs a tokio runtime. `name` is shown by CLIENT LIST.
    ///
    /// # Errors
    /// [`FaultKind::Config`] if a file for TLS can't be used.
    pub fn open(server: &Server, role: Role, name: &str) -> Result<Self, Fault> {
        let timeout = match role {
            Role::Commands => server.command_timeout,
            Role::Reader { block } => block + GRACE,
        };
        let shared = Arc::new(Shared::new());
        let plan = plan(server, role, name)?;
        let supervisor = tokio::spawn(link::supervise(plan, Arc::clone(&shared))).abort_handle();
        Ok(Self { handle: Arc::new(Handle { shared, supervisor, timeout }) })
    }

    /// Whether it is up, as it changes.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.handle.shared.link()
    }

    /// Waits until it is up, and returns its generation.
    ///
    /// # Errors
    /// Why it is down, if it still is after `within`.
    pub async fn ready(&self, within: Duration) -> Result<u64, Fault> {
        let mut link = self.link();
        let up = tokio::time::timeout(within, link.wait_for(Link::is_up)).await;
        match up.ok().and_then(Result::ok).as_deref() {
            Some(Link::Up { generation }) => Ok(*generation),
            _ => Err(self.handle.shared.current().err().unwrap_or_else(|| Fault::new(FaultKind::Timeout, "not connected in time"))),
        }
    }

    /// Ends the connection for good. Commands on it fail, so await them first; a blocked read is ended by [`Client::unblock`].
    pub fn close(&self) {
        self.handle.supervisor.abort();
        self.handle.shared.close();
    }

    /// Ends a blocked read as if its BLOCK had passed, so that its answer is not lost. Does nothing if none is blocked: a read that is
    /// just being sent goes on to block, so ask again until it has ended. Uses a connection of its own; needs the right `+client|unblock`.
    pub async fn unblock(&self) -> Result<(), Fault> {
        let (client, _) = self.handle.shared.current()?;
        let unblocked = tokio::time::timeout(self.handle.timeout, client.unblock_self(Some(ClientUnblockFlag::Timeout))).await;
        match unblocked.map_err(|_| timed_out(self.handle.timeout))? {
            Err(error) if error.details().contains("not blocked") || error.details().contains("are blocked") => Ok(()),
            other => other.map_err(Fault::from),
        }
    }

    /// Any command, for tests and tools. A reply that is a flat list beginning with `message` or the like never arrives: see
    /// [`crate::Script::new`].
    pub async fn raw(&self, words: Vec<Bytes>) -> Result<Reply, Fault> {
        let mut words = words.into_iter();
        let name = words.next().ok_or_else(|| Fault::new(FaultKind::Unsupported, "a command has a name"))?;
        let mut command = Command::named(name);
        if let Some(first) = words.next() {
            command = command.key(first);
        }
        self.reply(command.args(words)).await
    }

    pub(crate) async fn reply(&self, command: Command) -> Result<Reply, Fault> {
        self.send(command).await.map(wire::reply)
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn send(&self, command: Command) -> Result<Frame, Fault> {
        let timeout = command.block().map_or(self.handle.timeout, |block| block + GRACE);
        let (client, generation) = self.handle.shared.current()?;
        let (command, args) = command.into_parts()?;
        let client = client.with_options(&Options { timeout: Some(timeout), ..Options::default() });
        let answer = tokio::select! {
            biased;
            answer = client.custom_raw(command, args) => answer.map_err(Fault::from).and_then(wire::accepted),
            fault = self.handle.shared.gone(generation) => Err(fault),
        };
        if matches!(&answer, Err(fault) if fault.kind == FaultKind::Timeout) {
            self.handle.shared.give_up(generation);
            return Err(timed_out(timeout));
        }
        answer
    }
}

fn timed_out(after: Duration) -> Fault {
    Fault::new(FaultKind::Timeout, format!("no answer within {after:?}"))
}

pub(crate) fn plan(server: &Server, role: Role, name: &str) -> Result<Plan, Fault> {
    let unresponsive = match role {
        Role::Commands => Some(server.command_timeout + GRACE),
        Role::Reader { .. } => None,
    };
    Ok(Plan {
        config: config(server)?,
        connection: ConnectionConfig {
            connection_timeout: server.connect_timeout,
            internal_command_timeout: server.connect_timeout,
            max_command_attempts: 1,
            // Above 0 it makes the client hang for good once it is reached.
            max_command_buffer_len: 0,
            unresponsive: UnresponsiveConfig { max_timeout: unresponsive, interval: Duration::from_secs(1) },
            tcp: TcpConfig { nodelay: Some(true), keepalive: Some(keepalive()), ..TcpConfig::default() },
            ..ConnectionConfig::default()
        },
        performance: PerformanceConfig::default(),
        name: name.to_owned(),
        place: server.url.to_string(),
    })
}

/// Finds out a dead peer within some 11 s while nothing is sent.
fn keepalive() -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2));
    #[cfg(target_os = "linux")]
    let keepalive = keepalive.with_retries(3);
    keepalive
}

fn config(server: &Server) -> Result<Config, Fault> {
    let tls = server.url.tls.then(|| tls::config(server)).transpose().map_err(|text| Fault::new(FaultKind::Config, text))?;
    Ok(Config {
        server: endpoint(server),
        username: server.user().map(str::to_owned),
        password: server.secret().map(|secret| secret.reveal().to_owned()),
        database: Some(server.url.database).filter(|number| *number > 0),
        tls: tls.map(|config| TlsConfig::from(TlsConnector::from(config))),
        ..Config::default()
    })
}

fn endpoint(server: &Server) -> ServerConfig {
    let node = |host: &Host| Node::new(host.name.clone(), host.port);
    match &server.url.endpoint {
        Endpoint::Standalone(host) => ServerConfig::Centralized { server: node(host) },
        Endpoint::Unix(path) => ServerConfig::Unix { path: path.clone() },
        Endpoint::Sentinel { hosts, master } => {
            let hosts = hosts.iter().map(node).collect();
            ServerConfig::Sentinel { hosts, service_name: master.clone(), username: None, password: None }
        }
        Endpoint::Cluster { hosts } => {
            ServerConfig::Clustered { hosts: hosts.iter().map(node).collect(), policy: ClusterDiscoveryPolicy::default() }
        }
    }
}
