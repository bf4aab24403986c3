//! Keeps one connection alive for ever.
//!
//! Each connection is a fred client of its own that never reconnects by itself: when it ends, all of it goes, with every command still
//! queued in it. What fred does on its own (replaying commands, queues that outlive a connection) would hide lost reads and hang commands.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientInterface, ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{Config, ConnectionConfig, Options, PerformanceConfig, Server as Node, ServerConfig};
use fred::types::{ClientUnblockFlag, Message};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared as SharedFuture};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

use crate::credentials::Credentials;
use crate::fault::{Fault, FaultKind};
use crate::server::Host;
use crate::site::{Aim, Site};
use crate::socket::Socket;
use crate::wire::{Answer, Command, Reply};

/// How long an attempt to connect may take, in connect timeouts: it has several steps, each with its own, and none may hang for ever.
const ATTEMPT: u32 = 4;
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// After so long without a command a connection is asked whether it still leads anywhere.
const IDLE: Duration = Duration::from_secs(5);

/// Whether a connection is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is, and it is the `generation`th, counted from 1.
    Up {
        /// Grows with each connection. Who remembers another number has had a connection lost in between, and with it perhaps an answer.
        generation: u64,
        /// Grows, from 1, when the connection is to another server process than the one before: after a failover or a restart. What the
        /// one before confirmed last may be missing in this one.
        server: u64,
        /// Which process that is, to be compared with what other connections to the same server speak to; `None` where each connection has
        /// a node of its own.
        process: Option<Arc<str>>,
    },
    /// It isn't.
    Down {
        /// Since when.
        since: Instant,
        /// What the newest attempt, or the end of the last connection, said.
        why: Fault,
    },
}

impl Link {
    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        matches!(self, Self::Up { .. })
    }

    pub(crate) fn down(why: Fault) -> Self {
        Self::Down { since: Instant::now(), why }
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    Tcp(Host),
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host) => host.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl From<&Address> for ServerConfig {
    fn from(address: &Address) -> Self {
        match address {
            Address::Tcp(host) => Self::Centralized { server: Node::new(host.name.clone(), host.port) },
            Address::Unix(path) => Self::Unix { path: path.clone() },
        }
    }
}

/// What every connection is made with, but for the address. Not for printing: the password is in it.
pub(crate) struct Plan {
    /// Whether it is a socket of our own.
    pub(crate) is_own: bool,
    pub(crate) credentials: Credentials,
    pub(crate) connection: ConnectionConfig,
    pub(crate) performance: PerformanceConfig,
    /// Shown by CLIENT LIST.
    pub(crate) name: String,
    /// How long the answer to a command may take.
    pub(crate) answer: Duration,
    /// Shown to people: the URL without the password.
    pub(crate) place: String,
}

/// What the supervisor and the handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    link: watch::Sender<Link>,
    current: RwLock<Current>,
    /// The newest generation that a command found of no use, and why.
    dead: watch::Sender<(u64, Fault)>,
    /// Until when the server may take its time with what was sent last.
    used: Mutex<Instant>,
}

#[derive(Debug)]
enum Current {
    None,
    One(Line, u64),
    /// For good.
    Closed,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let fault = Fault::new(FaultKind::Unreachable, "not connected yet");
        let dead = watch::Sender::new((0, fault.clone()));
        Self { link: watch::Sender::new(Link::down(fault)), current: RwLock::new(Current::None), dead, used: Mutex::new(Instant::now()) }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// The connection that is up, and its generation; or that and why there is none.
    pub(crate) fn current(&self) -> Result<(Line, u64), Fault> {
        match &*self.current.read().unwrap_or_else(PoisonError::into_inner) {
            Current::One(line, generation) => Ok((line.clone(), *generation)),
            Current::None | Current::Closed => Err(self.lost()),
        }
    }

    /// What a command without a connection fails with.
    fn lost(&self) -> Fault {
        match &*self.link.borrow() {
            Link::Down { why, .. } => Fault::new(FaultKind::Unreachable, why.text.clone()),
            Link::Up { .. } => Fault::new(FaultKind::Unreachable, "the connection has just ended"),
        }
    }

    /// Waits until the connection of this generation is gone. A command that comes too late to be failed by it would else wait in its
    /// queue until its time has passed.
    pub(crate) async fn gone(&self, generation: u64) -> Fault {
        let is_other = |link: &Link| !matches!(link, Link::Up { generation: other, .. } if *other == generation);
        // It can't be closed: this has the sender.
        let _ = self.link().wait_for(is_other).await;
        self.lost()
    }

    /// Something is sent whose answer the server may keep back for so long.
    pub(crate) fn using(&self, block: Duration) {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        *used = (*used).max(Instant::now() + block);
    }

    /// Waits until nothing has been sent for long.
    async fn idle(&self) {
        loop {
            let until = *self.used.lock().unwrap_or_else(PoisonError::into_inner) + IDLE;
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until.into()).await;
        }
    }

    /// Gives a connection up that doesn't answer any more, or answers as the wrong server.
    pub(crate) fn give_up(&self, generation: u64, why: Fault) {
        self.dead.send_if_modified(|dead| {
            let is_news = generation > dead.0;
            if is_news {
                *dead = (generation, why);
            }
            is_news
        });
    }

    pub(crate) fn close(&self) {
        self.set(Current::Closed, |link| *link = Link::down(Fault::new(FaultKind::Unreachable, "this client was closed")));
    }

    fn up(&self, line: Line, generation: u64, server: u64, process: Option<Arc<str>>) {
        self.using(Duration::ZERO);
        self.set(Current::One(line, generation), |link| *link = Link::Up { generation, server, process });
    }

    fn down(&self, fault: Fault) {
        self.set(Current::None, |link| match link {
            Link::Down { why, .. } => *why = fault,
            Link::Up { .. } => *link = Link::down(fault),
        });
    }

    /// Both change together, and nothing changes once it is closed.
    fn set(&self, next: Current, link: impl FnOnce(&mut Link)) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !matches!(*current, Current::Closed) {
            *current = next;
            self.link.send_modify(link);
        }
    }
}

/// Connects again and again, each time to where the place is then; dropped, it takes the connection with it.
pub(crate) async fn supervise(plan: Plan, site: Site, aim: Aim, shared: Arc<Shared>) {
    let mut pauses = pauses();
    let plan = Arc::new(plan);
    let (mut generation, mut server, mut last) = (0, 0, None);
    for attempt in 0.. {
        let began = Instant::now();
        let why = match find(&plan, &site, &aim, attempt).await {
            Ok(Found { connection, address, process }) => {
                generation += 1;
                server += u64::from(last.as_ref() != Some(&process));
                last = Some(Arc::clone(&process));
                tracing::debug!(name = plan.name, generation, server, %address, "connected to Redis");
                let line = connection.line.clone();
                shared.up(line.clone(), generation, server, site.slots().is_none().then_some(process));
                tokio::select! {
                    fault = connection.ended(shared.dead.subscribe(), generation) => fault,
                    fault = site.moved(&aim, &address) => fault,
                    fault = silent(&shared, line, plan.answer) => fault,
                }
            }
            Err(fault) => fault,
        };
        let why = Fault::new(why.kind, format!("{}: {}", plan.place, why.text));
        tracing::debug!(name = plan.name, generation, kind = why.kind.name(), text = why.text, "no connection to Redis");
        shared.down(why);
        site.doubt();
        if began.elapsed() > LONGEST_PAUSE * 10 {
            pauses = self::pauses();
        }
        tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// A connection to the server that was looked for.
struct Found {
    connection: Connection,
    address: Address,
    /// What tells this process from any other that was or will be at this address, as far as the server says.
    process: Arc<str>,
}

async fn find(plan: &Arc<Plan>, site: &Site, aim: &Aim, attempt: usize) -> Result<Found, Fault> {
    in_time(plan, async {
        let address = site.locate(aim, attempt).await?;
        tokio::select! {
            found = meet(plan, site, aim, address.clone()) => found,
            // A server that stands still lets one wait; who has taken its place doesn't.
            fault = site.moved(aim, &address) => Err(fault),
        }
    })
    .await
}

async fn meet(plan: &Arc<Plan>, site: &Site, aim: &Aim, address: Address) -> Result<Found, Fault> {
    let at = |fault: Fault| if site.is_one() { fault } else { Fault::new(fault.kind, format!("{address}: {}", fault.text)) };
    let connection = Connection::open(plan, &address).await.map_err(at)?;
    connection.loaded(plan).await.map_err(at)?;
    let info = connection.info(plan).await.map_err(at)?;
    let is = |line: &str| info.lines().any(|known| known == line);
    if site.wants_master(aim) && is("role:slave") {
        return Err(at(Fault::new(FaultKind::ReadOnly, "this is a replica, though it was named as the master")));
    }
    let process = info.lines().find_map(|line| line.strip_prefix("run_id:")).map_or_else(|| address.to_string().into(), Arc::from);
    Ok(Found { connection, address, process })
}

/// Waits until a connection that nobody uses doesn't answer any more. A peer that vanished without a word would else be noticed by whoever
/// needs the connection next, which costs him the time of an answer. The system's own probes don't find a proxy that stands still.
async fn silent(shared: &Shared, line: Line, answer: Duration) -> Fault {
    loop {
        shared.idle().await;
        shared.using(Duration::ZERO);
        // Whatever it answers, it does; that a connection ended is told elsewhere.
        if line.ask(Command::new("PING"), answer).await.is_err_and(|fault| fault.kind == FaultKind::Timeout) {
            return Fault::new(FaultKind::Timeout, "nothing answers any more, though the connection is open");
        }
    }
}

/// What connecting takes as a whole has an end too.
async fn in_time<T>(plan: &Plan, connecting: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let limit = plan.connection.connection_timeout * ATTEMPT;
    let late = |_| Fault::new(FaultKind::Timeout, format!("not connected within {limit:?}"));
    tokio::time::timeout(limit, connecting).await.map_err(late)?
}

/// Doubling pauses, each with a random part, without end.
fn pauses() -> ExponentialBackoff {
    let bounds = ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(LONGEST_PAUSE / 2);
    bounds.with_factor(2.0).without_max_times().with_jitter().build()
}

/// What commands go over. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) enum Line {
    /// The client library, which sends what is there to be sent and doesn't wait for answers in between.
    Library(Client),
    /// A socket of our own.
    Own(Socket),
}

impl Line {
    /// Sends a command and waits for its answer, for at most so long.
    pub(crate) async fn ask(&self, command: Command, limit: Duration) -> Result<Answer, Fault> {
        let answer = match self {
            Self::Library(client) => {
                let (command, args) = command.into_parts()?;
                let client = client.with_options(&Options { timeout: Some(limit), ..Options::default() });
                // Of some size, and it would be within every future that waits for an answer.
                Answer::Frame(Box::pin(client.custom_raw(command, args)).await?)
            }
            Self::Own(socket) => socket.ask(command, limit).await?,
        };
        answer.accepted()
    }

    /// Ends a blocked read, if there is one, as if its time had passed.
    pub(crate) async fn unblock(&self) -> Result<(), Fault> {
        let client = match self {
            Self::Library(client) => client,
            Self::Own(socket) => return socket.unblock().await,
        };
        match client.unblock_self(Some(ClientUnblockFlag::Timeout)).await {
            Err(error) if error.details().contains("not blocked") || error.details().contains("are blocked") => Ok(()),
            other => other.map_err(Fault::from),
        }
    }
}

/// One connection; dropped, it is closed, even if it is stuck in a write.
pub(crate) struct Connection {
    pub(crate) line: Line,
    /// Why it ended, once it has. It does the work of a socket of our own; the library has a task for that.
    end: SharedFuture<BoxFuture<'static, Fault>>,
    task: Option<AbortHandle>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Connection {
    /// Connects, or gives up.
    pub(crate) async fn open_in_time(plan: &Arc<Plan>, address: &Address) -> Result<Self, Fault> {
        in_time(plan, Self::open(plan, address)).await
    }

    async fn open(plan: &Arc<Plan>, address: &Address) -> Result<Self, Fault> {
        let connection = if plan.is_own { Self::own(plan, address).await? } else { Self::of_library(plan, address).await? };
        connection.set_name(plan).await?;
        Ok(connection)
    }

    async fn own(plan: &Arc<Plan>, address: &Address) -> Result<Self, Fault> {
        let (socket, end) = Socket::open(plan, address).await?;
        Ok(Self { line: Line::Own(socket), end: end.shared(), task: None })
    }

    async fn of_library(plan: &Plan, address: &Address) -> Result<Self, Fault> {
        let config = Config { server: address.into(), ..plan.credentials.identity()?.into() };
        let client = Client::new(config, Some(plan.performance.clone()), Some(plan.connection.clone()), None);
        let up = client.clone();
        let mut up = Box::pin(async move { up.wait_for_connect().await });
        // It subscribes to the outcome when it is first polled, which must be before there is one.
        let _ = futures_util::poll!(up.as_mut());
        let task = client.connect();
        let handle = task.abort_handle();
        let connection = Self { line: Line::Library(client), end: task.map(ended).boxed().shared(), task: Some(handle) };
        tokio::select! {
            result = up => result.map_err(Fault::from)?,
            end = connection.end() => return Err(end),
        }
        Ok(connection)
    }

    /// What is said on a channel. A reader hears nothing.
    pub(crate) async fn subscribe(&self, channel: &str) -> Result<broadcast::Receiver<Message>, Fault> {
        let Line::Library(client) = &self.line else { return Err(Fault::new(FaultKind::Unsupported, "a reader hears no channels")) };
        let messages = client.message_rx();
        client.subscribe(channel).await?;
        Ok(messages)
    }

    /// For people who look at CLIENT LIST; a user without that right has to do without it.
    async fn set_name(&self, plan: &Plan) -> Result<(), Fault> {
        let name = plan.name.replace(|c: char| !c.is_ascii_graphic(), "_");
        let answer = self.ask(plan, Command::new("CLIENT").text("SETNAME").text(&name)).await;
        optional(answer).map(drop)
    }

    /// Refuses a server that is still loading its data: it takes a password and a name all the same, and then nothing else.
    async fn loaded(&self, plan: &Plan) -> Result<(), Fault> {
        match self.ask(plan, Command::new("PING")).await {
            Err(fault) if fault.kind == FaultKind::Loading => Err(fault),
            answer => optional(answer).map(drop),
        }
    }

    /// Which process this is, and of which role; nothing if the user lacks the right to ask, or the server is not ready to say.
    async fn info(&self, plan: &Plan) -> Result<String, Fault> {
        let mut text = String::new();
        for section in ["server", "replication"] {
            let answer = self.ask(plan, Command::new("INFO").text(section)).await;
            text.extend(optional(answer)?.as_ref().and_then(|reply| reply.text().ok()));
        }
        Ok(text)
    }

    /// Asks, but not for longer than connecting may take. A connection that ends meanwhile may leave the command in its queue, without an
    /// answer.
    pub(crate) async fn ask(&self, plan: &Plan, command: Command) -> Result<Reply, Fault> {
        tokio::select! {
            answer = self.line.ask(command, plan.connection.connection_timeout) => answer?.reply(),
            end = self.end() => Err(end),
        }
    }

    /// Waits until it ends by itself. Cancel-safe.
    pub(crate) async fn end(&self) -> Fault {
        self.end.clone().await
    }

    /// Waits until it ends, by itself or because a command found it dead.
    async fn ended(self, mut dead: watch::Receiver<(u64, Fault)>, generation: u64) -> Fault {
        tokio::select! {
            fault = self.end() => fault,
            dead = dead.wait_for(|(dead, _)| *dead >= generation) => {
                dead.map_or_else(|_| Fault::new(FaultKind::Unreachable, "the client was dropped"), |dead| dead.1.clone())
            }
        }
    }
}

/// Without what the server refuses to say; only to get no answer at all is a fault.
fn optional(answer: Result<Reply, Fault>) -> Result<Option<Reply>, Fault> {
    match answer {
        Err(fault) if matches!(fault.kind, FaultKind::Unreachable | FaultKind::Timeout) => Err(fault),
        answer => Ok(answer.ok()),
    }
}

fn ended(end: Result<Result<(), Error>, tokio::task::JoinError>) -> Fault {
    match end {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) => Fault::new(FaultKind::Unreachable, "the connection was closed"),
        Err(error) => Fault::new(FaultKind::Unreachable, error.to_string()),
    }
}
