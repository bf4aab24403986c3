//! A connection that events pass through: a socket of our own that speaks RESP2. Commands are sent as they come, those that come together in
//! one write, and none waits for the answer to another.
//!
//! What reads has one, for its answers are the bulk of what a sidecar takes in, and [`crate::resp`] takes them apart at a fraction of what the
//! client library needs; and so has what sends commands of hundreds of keys or ids, for the same reason. Where the server is, who we are to
//! it, and what happens when it ends is as with the library.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot};

use crate::client::keepalive;
use crate::credentials::Identity;
use crate::fault::{Fault, FaultKind};
use crate::link::{Address, Plan};
use crate::resp::Scan;
use crate::wire::{Answer, Command, Reply};

/// How much room there is for what arrives: as much as the last answer took, within these bounds.
const ROOM: usize = 32 * 1024;
const MOST_ROOM: usize = 1024 * 1024;

/// Commands go in here; clones are the same connection.
#[derive(Clone)]
pub(crate) struct Socket {
    orders: mpsc::UnboundedSender<Order>,
    about: Arc<About>,
}

/// What it takes to end a blocked read from outside.
struct About {
    plan: Arc<Plan>,
    address: Address,
    /// What the server knows this connection by.
    id: Result<i64, Fault>,
}

/// A command, and where its answer is awaited.
struct Order {
    command: Command,
    answer: oneshot::Sender<Answer>,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket").field("address", &self.about.address).finish_non_exhaustive()
    }
}

impl Socket {
    /// Connects, and becomes who we are to this server. The future is the connection: it does the work, and says in the end why it ended.
    pub(crate) async fn open(plan: &Arc<Plan>, address: &Address) -> Result<(Self, BoxFuture<'static, Fault>), Fault> {
        let mut speech = Speech::begin(plan, address).await?;
        let id = speech.in_time(plan, Command::new("CLIENT").text("ID")).await.and_then(|id| id.int());
        if let Err(fault) = &id
            && fault.kind == FaultKind::Unreachable
        {
            return Err(fault.clone());
        }
        let (orders, taken) = mpsc::unbounded_channel();
        let about = About { plan: Arc::clone(plan), address: address.clone(), id };
        Ok((Self { orders, about: Arc::new(about) }, serve(speech, taken).boxed()))
    }

    /// Sends a command and waits for its answer, for at most so long. One that nobody waits for any more is carried out all the same. Commands go
    /// out in the order in which their futures are first polled, and don't wait for one another's answers.
    pub(crate) async fn ask(&self, command: Command, limit: Duration) -> Result<Answer, Fault> {
        let (answer, awaited) = oneshot::channel();
        let ended = || Fault::new(FaultKind::Unreachable, "the connection ended before the answer came");
        self.orders.send(Order { command, answer }).map_err(|_| ended())?;
        let late = |_| Fault::new(FaultKind::Timeout, format!("no answer within {limit:?}"));
        tokio::time::timeout(limit, awaited).await.map_err(late)?.map_err(|_| ended())
    }

    /// Ends a blocked read as if its time had passed, over a connection for just that.
    pub(crate) async fn unblock(&self) -> Result<(), Fault> {
        let About { plan, address, id } = &*self.about;
        let id = id.clone()?;
        let mut other = Speech::begin(plan, address).await?;
        other.in_time(plan, Command::new("CLIENT").text("UNBLOCK").number(id).text("TIMEOUT")).await.map(drop)
    }
}

/// Carries out what is ordered, until the connection ends.
async fn serve(speech: Speech, orders: mpsc::UnboundedReceiver<Order>) -> Fault {
    let Speech { stream, buffer, room } = speech;
    let (read, write) = tokio::io::split(stream);
    let (sent, awaited) = mpsc::unbounded_channel();
    tokio::select! {
        fault = send(write, orders, sent) => fault,
        fault = receive(Speech { stream: read, buffer, room }, awaited) => fault,
    }
}

/// Sends what is ordered; what was ordered meanwhile goes out together.
async fn send(
    mut stream: impl AsyncWrite + Unpin,
    mut orders: mpsc::UnboundedReceiver<Order>,
    sent: mpsc::UnboundedSender<oneshot::Sender<Answer>>,
) -> Fault {
    while let Some(first) = orders.recv().await {
        let mut commands = BytesMut::new();
        let mut next = Some(first);
        while let Some(Order { command, answer }) = next {
            command.write(&mut commands);
            // Who receives ends together with who sends.
            let _ = sent.send(answer);
            // Whether none is there yet or none can come any more, the loop around this is told.
            next = orders.try_recv().ok();
        }
        if let Err(error) = write_out(&mut stream, &commands).await {
            return error.into();
        }
    }
    Fault::new(FaultKind::Unreachable, "the client was dropped")
}

async fn write_out(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Hands out the answers, which come in the order of the commands.
async fn receive(mut speech: Speech<impl AsyncRead + Unpin>, mut awaited: mpsc::UnboundedReceiver<oneshot::Sender<Answer>>) -> Fault {
    loop {
        let next = tokio::select! {
            biased;
            next = awaited.recv() => next,
            fault = speech.ended() => return fault,
        };
        let Some(awaited) = next else {
            // Whoever sends has ended, and says why.
            return std::future::pending().await;
        };
        match speech.answer().await {
            // Whoever waited for it may be gone.
            Ok(answer) => drop(awaited.send(answer)),
            Err(fault) => return fault,
        }
    }
}

/// A socket of whichever kind.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What is said over a stream, as it is taken apart.
struct Speech<S = Box<dyn Stream>> {
    stream: S,
    /// What has arrived of the next answers.
    buffer: BytesMut,
    room: usize,
}

impl Speech {
    async fn begin(plan: &Plan, address: &Address) -> Result<Self, Fault> {
        let identity = plan.credentials.identity()?;
        let limit = plan.connection.connection_timeout;
        let late = |_| Fault::new(FaultKind::Timeout, format!("not connected within {limit:?}"));
        let stream = tokio::time::timeout(limit, dial(address, &identity)).await.map_err(late)??;
        let mut speech = Self { stream, buffer: BytesMut::new(), room: ROOM };
        let hello = match (identity.password, identity.username) {
            (Some(password), Some(username)) => Command::new("AUTH").text(&username).text(&password),
            (Some(password), None) => Command::new("AUTH").text(&password),
            (None, _) => Command::new("PING"),
        };
        speech.in_time(plan, hello).await?;
        if identity.database > 0 {
            speech.in_time(plan, Command::new("SELECT").number(identity.database)).await?;
        }
        Ok(speech)
    }

    /// Asks while connecting, which has a time of its own.
    async fn in_time(&mut self, plan: &Plan, command: Command) -> Result<Reply, Fault> {
        let limit = plan.connection.internal_command_timeout;
        let late = |_| Fault::new(FaultKind::Unreachable, format!("no answer within {limit:?}"));
        let answer = tokio::time::timeout(limit, self.exchange(&command)).await.map_err(late)?;
        answer?.accepted()?.reply()
    }

    async fn exchange(&mut self, command: &Command) -> Result<Answer, Fault> {
        let mut bytes = BytesMut::new();
        command.write(&mut bytes);
        write_out(&mut self.stream, &bytes).await?;
        let answer = self.answer().await?;
        if self.buffer.is_empty() { Ok(answer) } else { Err(unasked()) }
    }
}

impl<S: AsyncRead + Unpin> Speech<S> {
    /// The next answer.
    async fn answer(&mut self) -> Result<Answer, Fault> {
        let mut scan = Scan::new();
        loop {
            if let Some(end) = scan.go_on(&self.buffer)? {
                self.room = end.clamp(ROOM, MOST_ROOM);
                return Ok(Answer::Own(scan.finish(self.buffer.split_to(end).freeze())));
            }
            self.read(scan.least()).await?;
        }
    }

    /// Waits for more of an answer that has at least so many bytes. Cancel-safe.
    async fn read(&mut self, least: usize) -> Result<(), Fault> {
        // What isn't there yet is only what the server speaks of, so it gets room bit by bit.
        let wanted = least.max(self.room).saturating_sub(self.buffer.len());
        self.buffer.reserve(wanted.clamp(1024, MOST_ROOM));
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(Fault::new(FaultKind::Unreachable, "the server closed the connection")),
            _ => Ok(()),
        }
    }

    /// Waits until it ends while nothing is asked. Cancel-safe.
    async fn ended(&mut self) -> Fault {
        self.read(1).await.err().unwrap_or_else(unasked)
    }
}

fn unasked() -> Fault {
    Fault::new(FaultKind::Protocol, "the server answered what it wasn't asked")
}

async fn dial(address: &Address, identity: &Identity) -> Result<Box<dyn Stream>, Fault> {
    let host = match address {
        Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
        Address::Tcp(host) => host,
    };
    let stream = TcpStream::connect((&*host.name, host.port)).await?;
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_keepalive(&keepalive())?;
    match &identity.tls {
        Some(tls) => Ok(Box::new(tls.connect(name(&host.name)?, stream).await?)),
        None => Ok(Box::new(stream)),
    }
}

/// What the server's certificate has to be for.
fn name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}
