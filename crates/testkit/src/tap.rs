//! A proxy that understands what passes it: it shows each command and its reply to a listener, who may rewrite the command, act at that very
//! moment, or end the connection.
//!
//! For faults at named points ("the script has run and the process hasn't heard of it"), without hooks in the program under test.
//! [`crate::FaultProxy`] knows bytes only, and is what to take for everything else.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use crate::resp::{self, Value};

/// A command: its name and its arguments.
type Command = Vec<Vec<u8>>;

/// What becomes of what passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It doesn't, and its connection is closed.
    Cut,
}

/// Who listens. Called from the proxy's tasks: what it does, it does while this connection waits.
pub trait Listener: Send + Sync + 'static {
    /// A command, before it reaches the server; what is changed in it reaches the server changed.
    fn asked(&self, _command: &mut Vec<Vec<u8>>) -> Verdict {
        Verdict::Pass
    }

    /// The server has answered, and the client doesn't know it yet.
    fn answered(&self, _command: &[Vec<u8>], _reply: &Value) -> Verdict {
        Verdict::Pass
    }

    /// The answer was written to the client.
    fn heard(&self, _command: &[Vec<u8>]) -> Verdict {
        Verdict::Pass
    }
}

/// A proxy before one server.
#[derive(Debug)]
pub struct Tap {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Tap {
    /// Listens on a port of its own, passing to `upstream`. Needs a runtime with more than one thread if the listener blocks.
    ///
    /// # Panics
    /// If it can't listen.
    pub async fn start(upstream: SocketAddr, listener: Arc<dyn Listener>) -> Self {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let address = socket.local_addr().expect("a listener has an address");
        Self { address, accepting: tokio::spawn(accept(socket, upstream, listener)) }
    }

    /// `redis://` and where it listens.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(socket: TcpListener, upstream: SocketAddr, listener: Arc<dyn Listener>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = socket.accept().await {
        while connections.try_join_next().is_some() {}
        connections.spawn(serve(client, upstream, Arc::clone(&listener)));
    }
}

/// What one connection's two directions have in common.
struct Wire {
    listener: Arc<dyn Listener>,
    /// Commands without an answer so far: answers come in the same order.
    open: Mutex<VecDeque<Command>>,
}

impl Wire {
    fn open(&self) -> MutexGuard<'_, VecDeque<Command>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(client: TcpStream, upstream: SocketAddr, listener: Arc<dyn Listener>) -> io::Result<()> {
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let wire = Wire { listener, open: Mutex::default() };
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    tokio::select! {
        end = requests(client_in, server_out, &wire) => end,
        end = replies(server_in, client_out, &wire) => end,
    }
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wire: &Wire) -> io::Result<()> {
    let (mut buffer, mut out) = (Vec::new(), Vec::new());
    while more(&mut from, &mut buffer).await? {
        let mut verdict = Verdict::Pass;
        while let Some(mut command) = next_command(&mut buffer)? {
            verdict = wire.listener.asked(&mut command);
            if verdict == Verdict::Cut {
                break;
            }
            resp::encode(&command, &mut out);
            wire.open().push_back(command);
        }
        to.write_all(&out).await?;
        out.clear();
        if verdict == Verdict::Cut {
            return Ok(());
        }
    }
    Ok(())
}

async fn replies(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, wire: &Wire) -> io::Result<()> {
    let mut buffer = Vec::new();
    while more(&mut from, &mut buffer).await? {
        while let Some((reply, length)) = resp::parse(&buffer)? {
            // Without a command it is a message of a subscription.
            let command = wire.open().pop_front().unwrap_or_default();
            if wire.listener.answered(&command, &reply) == Verdict::Cut {
                return Ok(());
            }
            to.write_all(&buffer[..length]).await?;
            buffer.drain(..length);
            if wire.listener.heard(&command) == Verdict::Cut {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// Reads on; `false` at the end.
async fn more(from: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> io::Result<bool> {
    buffer.reserve(64 * 1024);
    Ok(from.read_buf(buffer).await? > 0)
}

/// Takes the first whole command out of the buffer.
fn next_command(buffer: &mut Vec<u8>) -> io::Result<Option<Command>> {
    let Some((Value::Array(words), length)) = resp::parse(buffer)? else { return Ok(None) };
    buffer.drain(..length);
    let bytes = |word| match word {
        Value::Bulk(bytes) => Ok(bytes),
        other => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no command: {other:?}"))),
    };
    words.into_iter().map(bytes).collect::<io::Result<_>>().map(Some)
}
