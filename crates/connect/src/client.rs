//! A connection that is made again for ever, and how a command goes over it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::ClientLike;
use fred::types::Value;
use fred::types::config::{ConnectionConfig, PerformanceConfig, TcpConfig, UnresponsiveConfig};
use socket2::TcpKeepalive;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::credentials::Credentials;
use crate::fault::{Fault, FaultKind, Redirect};
use crate::link::{self, Line, Link, Plan, Shared};
use crate::server::Server;
use crate::site::{Aim, Place, Site};
use crate::wire::{Answer, Command, Reply};

/// What a blocking read has beside its BLOCK, before the connection is given up.
const GRACE: Duration = Duration::from_secs(2);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Commands that are answered at once. Nothing on it may block.
    Commands,
    /// The same, of hundreds of keys or ids: on a socket of our own, which writes them at a tenth of the cost.
    Bulk,
    /// Reads that block, for at most this long, and nothing else: what comes behind a blocked read waits for it.
    Reader {
        /// The longest BLOCK.
        block: Duration,
    },
}

/// One connection to Redis that is made again whenever it ends, after a jittered pause of 50 to 500 ms. Clones share it; with the last
/// one it is closed.
///
/// - While it is down, a command fails at once with [`FaultKind::Unreachable`]; nothing is queued until it is up again.
/// - A command that gets no answer within its time fails with [`FaultKind::Timeout`], and the connection is given up, so that the answers
///   of other commands are not awaited from a server that is gone. Those fail with [`FaultKind::Unreachable`].
/// - One that nobody uses is asked every five seconds whether it still answers, and else given up as well.
/// - A command is sent once. Whether it was carried out, if there is no answer, is not known.
/// - It goes to where its [`Place`] is when it connects, and gives itself up when that is elsewhere: when sentinels name another master, the
///   map of a cluster another node, or the server answers as a replica or as a node that has lost the slot.
/// - Commands are written in the order in which their futures are first polled; futures polled together are written together.
#[derive(Debug, Clone)]
pub struct Client {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    site: Site,
    aim: Aim,
    supervisor: AbortHandle,
    timeout: Duration,
    /// Shows a change once the first attempt to connect has ended.
    first: watch::Receiver<Link>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Client {
    /// Begins to connect and returns at once, whether the server is there or not; on a cluster to any node. Needs a tokio runtime. `name`
    /// is shown by CLIENT LIST. For several connections to one installation, open a [`Site`].
    ///
    /// # Errors
    /// [`FaultKind::Config`] if a file for TLS can't be used.
    pub fn open(server: &Server, role: Role, name: &str) -> Result<Self, Fault> {
        Site::open(server)?.client(Place::Any, role, name)
    }

    pub(crate) fn at(site: &Site, aim: Aim, role: Role, name: &str) -> Result<Self, Fault> {
        let timeout = match role {
            Role::Commands | Role::Bulk => site.server().command_timeout,
            Role::Reader { block } => block + GRACE,
        };
        let shared = Arc::new(Shared::new());
        let first = shared.link();
        let plan = plan(site.server(), role, name)?;
        let supervisor = tokio::spawn(link::supervise(plan, site.clone(), aim.clone(), Arc::clone(&shared))).abort_handle();
        Ok(Self { handle: Arc::new(Handle { shared, site: site.clone(), aim, supervisor, timeout, first }) })
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
            Some(Link::Up { generation, .. }) => Ok(*generation),
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
        let (line, _) = self.handle.shared.current()?;
        tokio::time::timeout(self.handle.timeout, line.unblock()).await.map_err(|_| timed_out(self.handle.timeout))?
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
        self.send(command).await?.reply()
    }

    /// Sends a command and waits for its answer.
    pub(crate) async fn send(&self, command: Command) -> Result<Answer, Fault> {
        let timeout = command.block().map_or(self.handle.timeout, |block| block + GRACE);
        let (line, generation) = self.handle.shared.current()?;
        self.handle.shared.using(command.block().unwrap_or_default());
        let answer = tokio::select! {
            biased;
            answer = line.ask(command, timeout) => answer,
            fault = self.handle.shared.gone(generation) => Err(fault),
        };
        answer.map_err(|fault| self.judged(fault, generation, timeout))
    }

    /// Sends a command that another node asked to be sent here, while its slot is on its way: the two go in one piece. The answer is a number.
    pub(crate) async fn send_asking(&self, command: Command) -> Result<Reply, Fault> {
        let timeout = self.handle.timeout;
        let (line, generation) = self.handle.shared.current()?;
        let Line::Library(client) = line else {
            return Err(Fault::new(FaultKind::Unsupported, "only the client library sends two commands as one"));
        };
        self.handle.shared.using(Duration::ZERO);
        let pipeline = client.pipeline();
        for command in [Command::new("ASKING"), command] {
            let (command, args) = command.into_parts()?;
            // Only queues it.
            let () = pipeline.custom(command, args).await?;
        }
        let answer = tokio::select! {
            biased;
            answer = tokio::time::timeout(timeout, pipeline.last::<Value>()) => match answer {
                Ok(answer) => answer.map_err(Fault::from),
                Err(_) => Err(timed_out(timeout)),
            },
            fault = self.handle.shared.gone(generation) => Err(fault),
        };
        let answer = answer.map_err(|fault| self.judged(fault, generation, timeout))?;
        answer.as_i64().map(Reply::Int).ok_or_else(|| Fault::new(FaultKind::Protocol, "expected a number"))
    }

    /// The generation of the connection that is up.
    pub(crate) fn generation(&self) -> Result<u64, Fault> {
        self.handle.shared.current().map(|(_, generation)| generation)
    }

    /// Waits until it is known whether the server can be reached, unless that is known already.
    pub(crate) async fn tried(&self) {
        let mut first = self.handle.first.clone();
        // Late or closed, there is nothing more to wait for.
        let _ = tokio::time::timeout(self.handle.site.connect_timeout(), first.changed()).await;
    }

    /// What follows from a fault for the connection.
    fn judged(&self, fault: Fault, generation: u64, timeout: Duration) -> Fault {
        let Handle { shared, site, aim, .. } = &*self.handle;
        if fault.kind == FaultKind::Timeout {
            let why = Fault::new(FaultKind::Timeout, "a command wasn't answered in time");
            shared.give_up(generation, why);
            return timed_out(timeout);
        }
        let has_left = matches!(fault.redirect(), Some(Redirect::Moved { .. })) && matches!(aim, Aim::Slot(_));
        if has_left || fault.is_of_a_replica() {
            shared.give_up(generation, fault.clone());
            site.doubt();
        }
        fault
    }
}

fn timed_out(after: Duration) -> Fault {
    Fault::new(FaultKind::Timeout, format!("no answer within {after:?}"))
}

/// What connections are made with; an error now if the files can't be used.
pub(crate) fn plan(server: &Server, role: Role, name: &str) -> Result<Plan, Fault> {
    let unresponsive = match role {
        Role::Commands | Role::Bulk => Some(server.command_timeout + GRACE),
        Role::Reader { .. } => None,
    };
    let credentials = Credentials::new(server);
    credentials.identity()?;
    Ok(Plan {
        is_own: role != Role::Commands,
        credentials,
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
        answer: server.command_timeout,
        place: server.url.to_string(),
    })
}

/// Finds out a dead peer within some 11 s while nothing is sent.
pub(crate) fn keepalive() -> TcpKeepalive {
    let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(5)).with_interval(Duration::from_secs(2));
    #[cfg(target_os = "linux")]
    let keepalive = keepalive.with_retries(3);
    keepalive
}
