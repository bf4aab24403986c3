//! A TCP proxy in the test's own process that spoils a connection on demand.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// How many pieces of replies may be on the way; with more the server waits, as it would for a full socket.
const ON_THE_WAY: usize = 1024;

/// What the proxy does to the bytes that pass it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: passes them.
    None,
    /// Holds them back in both directions, without closing anything; what is held passes when the fault ends.
    Stall,
    /// Closes new connections at once. Those that stand go on; see [`FaultProxy::cut`].
    Refuse,
    /// Swallows the next bytes of a reply, closes that connection, and is [`Fault::None`] again.
    SwallowReply,
    /// Passes replies this much later.
    Delay(Duration),
    /// Passes this many more bytes of each new connection's requests, then closes it.
    CutAfter(usize),
}

#[derive(Debug, Clone, Copy)]
struct State {
    fault: Fault,
    /// Connections begun under an older number are closed.
    cuts: u64,
    /// Connections begun under an older number pass nothing any more.
    freezes: u64,
}

/// A proxy before one server.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

impl FaultProxy {
    /// Listens on a port of its own, passing to `upstream`.
    ///
    /// # Panics
    /// If it can't listen.
    pub async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let state = watch::Sender::new(State { fault: Fault::None, cuts: 0, freezes: 0 });
        let accepting = tokio::spawn(accept(listener, upstream, state.clone()));
        Self { address, state, accepting }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `redis://` and where it listens.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Begins or ends a fault, for the connections that stand and for new ones.
    pub fn set(&self, fault: Fault) {
        self.state.send_modify(|state| state.fault = fault);
    }

    /// The fault that is on; a swallowed reply shows here as [`Fault::None`].
    pub fn fault(&self) -> Fault {
        self.state.borrow().fault
    }

    /// Closes the connections that stand.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cuts += 1);
    }

    /// Leaves the connections that stand half open: they pass nothing any more and are not closed, as when a machine between vanishes.
    pub fn freeze(&self) {
        self.state.send_modify(|state| state.freezes += 1);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.cut();
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, upstream: SocketAddr, state: watch::Sender<State>) {
    while let Ok((client, _)) = listener.accept().await {
        if state.borrow().fault != Fault::Refuse {
            tokio::spawn(serve(client, upstream, state.clone()));
        }
    }
}

async fn serve(client: TcpStream, upstream: SocketAddr, state: watch::Sender<State>) -> io::Result<()> {
    let mut changes = state.subscribe();
    let State { cuts, freezes, .. } = *changes.borrow_and_update();
    let server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let mut frozen = state.subscribe();
    let passing = async {
        tokio::select! {
            end = requests(client_in, server_out, state.clone()) => end,
            end = replies(server_in, client_out, state.clone()) => end,
        }
    };
    tokio::pin!(passing);
    let frozen = frozen.wait_for(|state| state.freezes != freezes);
    tokio::pin!(frozen);
    // What was asked for comes first: nothing passes that was sent after it.
    tokio::select! {
        biased;
        _ = changes.wait_for(|state| state.cuts != cuts) => return Ok(()),
        _ = &mut frozen => {}
        end = &mut passing => return end,
    }
    // What stands stays as it is, neither read nor written nor closed, until it is cut.
    changes.wait_for(|state| state.cuts != cuts).await.map_or(Ok(()), |_| Ok(()))
}

async fn requests(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: watch::Sender<State>) -> io::Result<()> {
    let mut changes = state.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    loop {
        let read = from.read(&mut buffer).await?;
        let fault = past_stall(&mut changes).await;
        let length = if let Fault::CutAfter(limit) = fault { read.min(limit - passed) } else { read };
        to.write_all(&buffer[..length]).await?;
        passed += length;
        if read == 0 || length < read {
            return Ok(());
        }
    }
}

/// Reads and writes apart: what is late holds up nothing that comes after it, as on a long line.
async fn replies(from: OwnedReadHalf, to: OwnedWriteHalf, state: watch::Sender<State>) -> io::Result<()> {
    let (line, arriving) = mpsc::channel(ON_THE_WAY);
    tokio::try_join!(depart(from, line, state), arrive(arriving, to)).map(drop)
}

async fn depart(mut from: OwnedReadHalf, line: mpsc::Sender<(Instant, Vec<u8>)>, state: watch::Sender<State>) -> io::Result<()> {
    let mut changes = state.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        let delay = match past_stall(&mut changes).await {
            Fault::SwallowReply => {
                state.send_modify(|state| state.fault = Fault::None);
                return Ok(());
            }
            Fault::Delay(delay) => delay,
            _ => Duration::ZERO,
        };
        if read == 0 || line.send((Instant::now() + delay, buffer[..read].to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn arrive(mut line: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) -> io::Result<()> {
    while let Some((due, bytes)) = line.recv().await {
        sleep_until(due).await;
        to.write_all(&bytes).await?;
    }
    Ok(())
}

/// The fault that is on once nothing is held back.
async fn past_stall(changes: &mut watch::Receiver<State>) -> Fault {
    match changes.wait_for(|state| state.fault != Fault::Stall).await {
        Ok(state) => state.fault,
        Err(_) => Fault::None,
    }
}
