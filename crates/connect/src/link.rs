//! Keeps one connection alive for ever.
//!
//! Each connection is a fred client of its own that never reconnects by itself: when it ends, all of it goes, with every command still
//! queued in it. What fred does on its own (replaying commands, queues that outlive a connection) would hide lost reads and hang commands.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::ClientLike;
use fred::types::config::{Config, ConnectionConfig, PerformanceConfig};
use fred::types::{ClusterHash, CustomCommand, Value};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fault::{Fault, FaultKind};

/// How long an attempt to connect may take, in connect timeouts: it has several steps, each with its own, and none may hang for ever.
const ATTEMPT: u32 = 4;
/// The longest pause between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whether a connection is up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is, and it is the `generation`th, counted from 1.
    Up {
        /// Grows with each connection. Who remembers another number has had a connection lost in between, and with it perhaps an answer.
        generation: u64,
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

    fn down(why: Fault) -> Self {
        Self::Down { since: Instant::now(), why }
    }
}

/// What every connection is made with. Not for printing: the password is in it.
pub(crate) struct Plan {
    pub(crate) config: Config,
    pub(crate) connection: ConnectionConfig,
    pub(crate) performance: PerformanceConfig,
    /// Shown by CLIENT LIST.
    pub(crate) name: String,
    /// Shown to people: the URL without the password.
    pub(crate) place: String,
}

/// What the supervisor and the handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    link: watch::Sender<Link>,
    current: RwLock<Current>,
    /// The newest generation that a command found dead.
    dead: watch::Sender<u64>,
}

#[derive(Debug)]
enum Current {
    None,
    One(Client, u64),
    /// For good.
    Closed,
}

impl Shared {
    pub(crate) fn new() -> Self {
        let link = watch::Sender::new(Link::down(Fault::new(FaultKind::Unreachable, "not connected yet")));
        Self { link, current: RwLock::new(Current::None), dead: watch::Sender::new(0) }
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    /// The connection that is up, and its generation; or that and why there is none.
    pub(crate) fn current(&self) -> Result<(Client, u64), Fault> {
        match &*self.current.read().unwrap_or_else(PoisonError::into_inner) {
            Current::One(client, generation) => Ok((client.clone(), *generation)),
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
        let is_other = |link: &Link| !matches!(link, Link::Up { generation: other } if *other == generation);
        // It can't be closed: this has the sender.
        let _ = self.link().wait_for(is_other).await;
        self.lost()
    }

    /// Gives a connection up that doesn't answer any more.
    pub(crate) fn give_up(&self, generation: u64) {
        self.dead.send_modify(|dead| *dead = generation.max(*dead));
    }

    pub(crate) fn close(&self) {
        self.set(Current::Closed, |link| *link = Link::down(Fault::new(FaultKind::Unreachable, "this client was closed")));
    }

    fn up(&self, client: Client, generation: u64) {
        self.set(Current::One(client, generation), |link| *link = Link::Up { generation });
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

/// Connects again and again; dropped, it takes the connection with it.
pub(crate) async fn supervise(plan: Plan, shared: Arc<Shared>) {
    let mut pauses = pauses();
    let mut generation = 0;
    loop {
        let began = Instant::now();
        let why = match Connection::open_in_time(&plan).await {
            Ok(connection) => {
                generation += 1;
                tracing::debug!(name = plan.name, generation, "connected to Redis");
                shared.up(connection.client.clone(), generation);
                connection.ended(shared.dead.subscribe(), generation).await
            }
            Err(fault) => fault,
        };
        let why = Fault::new(why.kind, format!("{}: {}", plan.place, why.text));
        tracing::debug!(name = plan.name, generation, kind = why.kind.name(), text = why.text, "no connection to Redis");
        shared.down(why);
        if began.elapsed() > LONGEST_PAUSE * 5 {
            pauses = self::pauses();
        }
        tokio::time::sleep(pauses.next().unwrap_or(LONGEST_PAUSE)).await;
    }
}

/// Doubling pauses, each with a random part, without end.
fn pauses() -> ExponentialBackoff {
    let bounds = ExponentialBuilder::default().with_min_delay(Duration::from_millis(50)).with_max_delay(LONGEST_PAUSE / 2);
    bounds.with_factor(2.0).without_max_times().with_jitter().build()
}

/// One connection; dropped, it is closed, even if it is stuck in a write.
pub(crate) struct Connection {
    pub(crate) client: Client,
    task: JoinHandle<Result<(), Error>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Connection {
    /// Connects, or gives up.
    pub(crate) async fn open_in_time(plan: &Plan) -> Result<Self, Fault> {
        let limit = plan.connection.connection_timeout * ATTEMPT;
        let late = |_| Fault::new(FaultKind::Timeout, format!("not connected within {limit:?}"));
        tokio::time::timeout(limit, Self::open(plan)).await.map_err(late)?
    }

    async fn open(plan: &Plan) -> Result<Self, Fault> {
        let (performance, settings) = (plan.performance.clone(), plan.connection.clone());
        let client = Client::new(plan.config.clone(), Some(performance), Some(settings), None);
        let up = client.clone();
        let mut up = Box::pin(async move { up.wait_for_connect().await });
        // It subscribes to the outcome when it is first polled, which must be before there is one.
        let _ = futures_util::poll!(up.as_mut());
        let task = client.connect();
        let mut connection = Self { client, task };
        tokio::select! {
            result = up => result.map_err(Fault::from)?,
            end = &mut connection.task => return Err(ended(end)),
        }
        connection.set_name(&plan.name).await?;
        Ok(connection)
    }

    /// For people who look at CLIENT LIST; a user without that right has to do without it. A connection that ends meanwhile may leave
    /// the command in its queue, without an answer.
    async fn set_name(&mut self, name: &str) -> Result<(), Fault> {
        let name = name.replace(|c: char| !c.is_ascii_graphic(), "_");
        let command = CustomCommand::new_static("CLIENT", ClusterHash::Random, false);
        tokio::select! {
            result = self.client.custom_raw::<Value>(command, vec!["SETNAME".into(), name.into()]) => tracing::trace!(?result, "CLIENT SETNAME"),
            end = &mut self.task => return Err(ended(end)),
        }
        Ok(())
    }

    /// Waits until it ends by itself. Cancel-safe.
    pub(crate) async fn end(&mut self) -> Fault {
        ended((&mut self.task).await)
    }

    /// Waits until it ends, by itself or because a command found it dead.
    async fn ended(mut self, mut dead: watch::Receiver<u64>, generation: u64) -> Fault {
        tokio::select! {
            fault = self.end() => fault,
            _ = dead.wait_for(|dead| *dead >= generation) => Fault::new(FaultKind::Timeout, "a command wasn't answered in time"),
        }
    }
}

fn ended(end: Result<Result<(), Error>, tokio::task::JoinError>) -> Fault {
    match end {
        Ok(Err(error)) => error.into(),
        Ok(Ok(())) => Fault::new(FaultKind::Unreachable, "the connection was closed"),
        Err(error) => Fault::new(FaultKind::Unreachable, error.to_string()),
    }
}
